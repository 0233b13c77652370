"""What the README says is there is there."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.__main__ import app

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()


def test_every_command_of_the_readme_exists():
    known = set(get_command(app).commands)
    named = set(re.findall(r"(?:^    |`)brickyard (?:--home \S+ )?([a-z][a-z-]*)", README, re.M))
    assert len(named) > 8
    assert named <= known


def test_every_command_has_a_help_text():
    commands = get_command(app).commands
    assert all(command.help for command in commands.values())


def test_no_help_text_loses_words_to_markup():
    commands = get_command(app).commands.values()
    texts = [getattr(param, "help", None) or "" for c in commands for param in c.params]
    assert not [text for text in texts if re.search(r"<[a-z]", text)]


def test_every_make_verb_of_the_readme_exists():
    makefile = (REPOSITORY / "Makefile").read_text()
    verbs = set(re.findall(r"make ([a-z]+)", README))
    assert {"demo", "test", "check", "bench"} <= verbs
    assert all(f"\n{verb}:" in makefile for verb in verbs)


@pytest.mark.parametrize("path", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_every_picture_and_link_exists(path):
    assert (REPOSITORY / path).is_file()


def test_every_deployment_names_a_flow_that_exists():
    deployments = yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    assert len(deployments) == 17
    for deployment in deployments:
        path, _, function = deployment["entrypoint"].partition(":")
        assert f"\ndef {function}(" in (REPOSITORY / path).read_text()
