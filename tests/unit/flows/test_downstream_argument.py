"""A downstream task that is not registered is refused before anything is looked for or started."""

import pytest
from typer.testing import CliRunner

from flows.__main__ import app


@pytest.mark.parametrize("command", ["finetune", "predict", "promote", "round"])
def test_an_unknown_task_is_named_with_those_there_are(command, tmp_path):
    result = CliRunner().invoke(app, ["--home", str(tmp_path / "home"), command, "nosuch"])
    assert result.exit_code == 2
    assert "no downstream task is called 'nosuch'" in result.output
    assert "morphology" in result.output
