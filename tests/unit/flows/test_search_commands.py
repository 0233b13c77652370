"""The sub-commands on embeddings: what they print, and when they fail."""

import pytest
import typer
from embedded_survey import DIGEST, SURVEY, clustered, embed_bricks, make_survey
from typer.testing import CliRunner

from flows.console import search
from tasks.drift import DriftRef
from tasks.references import EmbeddingsRef
from tasks.settings import Settings

COUNT = 30
EMBEDDINGS = EmbeddingsRef(
    store="s", survey=SURVEY, encoder_digest=DIGEST, snapshot_id="E", survey_snapshot_id="S"
)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return a function that runs a sub-command in a home of its own."""
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")  # nothing is asked of it
    app = typer.Typer()
    app.callback()(lambda: None)
    search.register(app)
    return lambda *arguments: CliRunner().invoke(app, list(arguments), catch_exceptions=True)


@pytest.fixture
def bricks(run):
    settings = Settings()
    bricks = make_survey(settings, 2, 2, COUNT)
    values = clustered(bricks, COUNT)
    values.pop(bricks[3].brickname)
    embed_bricks(settings, values)
    return bricks


def test_search_prints_matches_and_what_was_not_searched(run, bricks, tmp_path):
    picture = tmp_path / "found.png"
    like = f"10000-{bricks[0].brickid}-4"
    result = run("search", SURVEY, "--like", like, "-k", "3", "--picture", str(picture))
    assert result.exit_code == 0, result.output
    assert f"most like {like}" in result.output
    assert result.output.count("10000-") == 4
    assert "90 objects searched; index built now" in result.output
    assert "1 bricks left out" in result.output
    assert picture.is_file()


def test_search_for_nothing_known_fails_with_a_message(run, bricks, capfd):
    result = run("search", SURVEY, "--like", "10000-1-1")
    assert result.exit_code == 1
    assert "10000-1-1 is not in dr10/south" in capfd.readouterr().err + result.output


def test_anomalies_prints_the_rarest(run, bricks, tmp_path):
    picture = tmp_path / "rare.png"
    options = ("--method", "neighbours", "--keep", "20", "--picture", str(picture))
    result = run("anomalies", SURVEY, *options)
    assert result.exit_code == 0, result.output
    assert "rarest of 90 objects" in result.output
    assert result.output.count("10000-") == search.TOP_SHOWN
    assert picture.is_file()


def test_a_map_of_an_unknown_kind_fails(run, bricks):
    assert run("map", SURVEY, "map.gif").exit_code == 1


@pytest.mark.parametrize(("alarm", "code"), [(False, 0), (True, 1)])
def test_drift_fails_only_on_an_alarm(run, bricks, monkeypatch, alarm, code):
    asked = []

    def flow(*arguments):
        asked.append(arguments)
        return DriftRef(
            first=EMBEDDINGS,
            second=None,
            alarm=alarm,
            verdict="A verdict.",
            difference={"p_value": 0.25},
            counterparts={},
            outliers=("1501p020",),
            path="/home/drift.html",
        )

    monkeypatch.setattr("flows.drift.check_drift", flow)
    result = run("drift", SURVEY, "dr9/north", "--seed", "3")
    assert result.exit_code == code
    for text in ("A verdict.", "p value: 0.25", "1501p020", "/home/drift.html"):
        assert text in result.output
    [(encoder, first, second, limits)] = asked
    assert (encoder.digest, first, second, limits.seed) == (DIGEST, SURVEY, "dr9/north", 3)
