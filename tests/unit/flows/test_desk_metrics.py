"""The desk's page for Prometheus: for whoever may look, also with an API token alone."""

import pytest
from desk_home import SURVEY, DeskHome, make_desk

from tasks import metrics_endpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> DeskHome:
    return make_desk(tmp_path_factory.mktemp("home") / "home")


class _NoServer:
    def value(self) -> None:
        return None


def test_a_token_reads_the_figures_and_nobody_does_not(made, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_endpoint, "PREFECT_API_URL", _NoServer())
    home = made.fresh(tmp_path)
    client = home.client()
    assert client.get("/metrics", follow_redirects=False).status_code == 303
    token = home.users.issue_token(home.users.find("vic"), "prometheus", 30)
    answer = client.get("/metrics", headers={"authorization": f"Bearer {token}"})
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'brickyard_bricks{{state="written",survey="{SURVEY}"}} 2.0' in answer.text
    wrong = {"authorization": "Bearer wrong"}
    assert client.get("/metrics", headers=wrong, follow_redirects=False).status_code == 401
