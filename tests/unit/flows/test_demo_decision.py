"""What the demo decides when nobody is at its terminal: never more than anybody may."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from promotion_gate import evaluation

from flows.console import demo
from flows.console.terminal import console
from tasks.references import EvidencePacket, ModelRef
from tasks.settings import Settings
from tasks.users import open_users

MODEL = ModelRef(downstream="morphology", version="2", run_id="r", digest="2" * 64)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path))
    monkeypatch.delenv("BRICKYARD_TOKEN", raising=False)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    return Settings(home=tmp_path)


@pytest.fixture
def decisions(monkeypatch):
    """Collect what goes to the service."""
    made = []
    monkeypatch.setattr("tasks.deciding.decide", lambda *given: made.append(given[1:]))
    return made


def hold(monkeypatch, tmp_path, value=0.7, *, objects=100):
    packet = EvidencePacket(
        challenger=evaluation(MODEL, value, objects).model_copy(
            update={"baselines": {"colours": 0.6}}
        )
    )
    monkeypatch.setattr("tasks.evidence.evidence_of", lambda settings, digest: packet)
    item = SimpleNamespace(
        flow_run_id="f",
        downstream="morphology",
        evidence="# Evidence",
        evidence_digest="e" * 64,
        deadline=datetime.now(UTC) + timedelta(days=1),
        url="",
    )
    with console.capture() as caught:
        demo._hold(tmp_path, item)
    return caught.get()


@pytest.mark.parametrize(
    ("value", "objects", "approved", "why"),
    [
        (0.7, 100, True, "0.700 against 0.600 of colours"),
        (0.5, 100, False, "0.500 against 0.600 of colours"),
        (0.7, 3, False, "only 3 test objects"),
    ],
)
def test_the_demo_overrides_nothing(
    home, decisions, monkeypatch, tmp_path, value, objects, approved, why
):
    text = hold(monkeypatch, tmp_path, value, objects=objects)
    [(user, request)] = decisions
    assert (user.name, request.proof) == ("local", "single-user")
    assert (request.approve, request.override) == (approved, "")
    assert why in request.reason
    assert ("approves" if approved else "rejects") in text


def test_a_demo_in_a_home_with_users_leaves_it_to_them(home, decisions, monkeypatch, tmp_path):
    open_users(home).add("chief", "", ["admin"])
    text = hold(monkeypatch, tmp_path)
    assert decisions == []
    assert "may not decide" in text
    assert "approve" in text
