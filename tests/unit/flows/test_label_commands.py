"""Labels through the command line: in, out, and how well people agree."""

import json
from pathlib import Path

import pytest
import typer
from small_survey import write_small_survey
from typer.testing import CliRunner

from flows.console import labels
from tasks.settings import Settings


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return how to call the command in a home with a small survey."""
    home = tmp_path / "home"
    monkeypatch.setenv("BRICKYARD_HOME", str(home))
    write_small_survey(Path(Settings(home=home).store_path), {"b1": 6})
    app = typer.Typer()
    app.callback()(lambda: None)
    labels.register(app)

    def call(*arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == status, result.output
        return " ".join(result.output.split())

    return call


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "votes.csv"
    path.write_text("brickid,objid,answer\n1,0,spiral\n1,1,spiral\n1,2,other\n7,7,other\n")
    return str(path)


def test_a_table_is_imported_with_and_without_naming_the_command(run, table):
    said = run("labels", table, "--annotator", "ann")
    assert said.startswith(
        "3 written, 0 corrected, 0 already present, 1 about objects that are not"
    )
    assert run("labels", "import", table, "--annotator", "ann").startswith("0 written")
    assert run("labels", "--annotator", "ann", table).startswith("0 written")


def test_labels_go_out_and_in_again(run, table, tmp_path):
    run("labels", table, "--annotator", "ann")
    target = str(tmp_path / "out.json")
    assert run("labels", "export", target, "--form", "label-studio").startswith("3 objects")
    assert len(json.loads(Path(target).read_text())) == 3
    assert run("labels", target, "--form", "label-studio").startswith("0 written, 0 corrected, 3")
    assert "no form" in run("labels", "export", target, "--form", "xml", status=1)


def test_agreement_is_shown(run, table):
    for who in ("ann", "bob", "gold"):
        run("labels", table, "--annotator", who)
    said = run("labels", "agreement")
    assert "3 of 3" in said
    assert "0 objects in dispute" in said


def test_no_rounds_is_an_empty_table(run):
    assert "campaign" in run("rounds")
