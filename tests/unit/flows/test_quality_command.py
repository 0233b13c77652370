import importlib

import pytest
import typer
from typer.testing import CliRunner

from flows.console import quality
from flows.parameters import read_config
from storage.quality.limits import QualityLimits
from storage.quality.results import Level
from tasks.errors import BadConfiguration
from tasks.quality import QualityRef
from tasks.references import SnapshotRef


def outcome(level):
    return QualityRef(
        snapshot=SnapshotRef(store="s", survey="dr10/south", snapshot_id="SNAP"),
        worst=level,
        verdict="A verdict.",
        checks={"depth": level, "outliers": Level.NOT_MEASURED},
        found={"depth": "g 24.1 mag", "outliers": "too few"},
        path="/home/reports/dr10-south-SNAP.html",
    )


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs the command on an outcome; it returns result and arguments."""
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")  # nothing is asked of it
    app = typer.Typer()
    app.callback()(lambda: None)
    quality.register(app)

    def command(level, *options):
        asked = []

        def flow(*args):
            asked.append(args)
            return outcome(level)

        monkeypatch.setattr("flows.quality.check_survey_quality", flow)
        return CliRunner().invoke(app, ["quality", "dr10/south", *options]), asked

    return command


@pytest.mark.parametrize(
    ("level", "code"), [(Level.PASS, 0), (Level.WARN, 0), (Level.NOT_MEASURED, 0), (Level.FAIL, 1)]
)
def test_exit_code_is_1_only_when_a_gate_fails(run, level, code):
    result, _ = run(level)
    assert result.exit_code == code
    for text in ("depth", level.value, "g 24.1 mag", "A verdict.", "dr10-south-SNAP.html"):
        assert text in result.stdout


def test_options_reach_the_flow(run, tmp_path):
    config = tmp_path / "limits.toml"
    config.write_text("outlier_sigmas = 8\n[failed]\nwarn = 0.1\nfail = 0.2\n")
    table = tmp_path / "bricks.fits"
    _, [asked] = run(Level.PASS, "--tag", "one", "--bricks-table", str(table), "-c", str(config))
    survey, snapshot, tag, limits, bricks_table = asked
    assert (survey, snapshot, tag, bricks_table) == ("dr10/south", None, "one", str(table))
    assert (limits.outlier_sigmas, limits.failed.fail) == (8.0, 0.2)


@pytest.mark.parametrize(
    "text", ["outlier_sigma = 8", "[failed]\nwrn = 0.1", "[depth_least]\nq = 1"]
)
def test_misspelt_limits_are_refused(tmp_path, text):
    importlib.import_module("flows.quality")  # it forbids unknown keys

    config = tmp_path / "limits.toml"
    config.write_text(text)
    with pytest.raises(BadConfiguration):
        read_config(QualityLimits, config)
