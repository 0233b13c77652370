"""What `ingest` and `ingest-images` refuse before any service is started."""

import pytest
import typer
from typer.testing import CliRunner

from flows.console import data


@pytest.fixture
def run(monkeypatch):
    """Return a function that runs a command and returns its exit status and output."""

    def no_server():
        raise AssertionError("a server was asked for")

    monkeypatch.setattr(data, "use_server", no_server)
    app = typer.Typer()
    data.register(app)

    def command(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(arguments))
        assert not isinstance(result.exception, AssertionError)
        return result.exit_code, " ".join(result.output.replace("│", " ").split())

    return command


def test_a_release_that_is_not_there_is_refused_at_once(run, tmp_path):
    status, output = run("ingest", str(tmp_path / "nowhere"))
    assert status == 2
    assert "no folder" in output
    assert "coadd/ and tractor/" in output


def test_pictures_that_are_not_there_are_refused_at_once(run, tmp_path):
    status, output = run("ingest-images", str(tmp_path / "nowhere"))
    assert status == 2
    assert "no folder" in output
    assert "JPEG or PNG" in output
