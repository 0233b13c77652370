"""The docs say what is there: commands parse, pages hang together, the site builds, code runs."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_lines import check_brickyard, command_lines
from desk_home import make_desk

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
LINES = [(page.name, line) for page in PAGES for line in command_lines(page)]
NOTEBOOK = DOCS / "how-to" / "open-the-store.ipynb"


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path / "home"))


def test_there_are_commands_in_the_docs():
    assert len(LINES) > 50


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_of_the_docs_parses(page, line):
    words = shlex.split(line)[1:]
    check_brickyard(words)


def test_a_command_that_does_not_exist_is_seen():
    with pytest.raises(Exception, match="No such command"):
        check_brickyard(["ingets", "release"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_reference_can_be_imported(page):
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.M):
        module, _, attribute = name.rpartition(".")
        found = importlib.import_module(module)
        assert hasattr(found, attribute) or importlib.import_module(name), name


def test_every_page_is_in_the_navigation():
    text = (REPOSITORY / "mkdocs.yml").read_text()
    listed = set(re.findall(r"[\w/-]+\.md", text))
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} == listed


def test_files_that_the_docs_name_are_there():
    for page in PAGES:
        for name in re.findall(
            r"`((?:deploy|tasks|flows|lvm|storage|tests)/[\w./-]+)`", page.read_text()
        ):
            assert (REPOSITORY / name).exists(), f"{page.name}: {name}"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    commands = (tmp_path / "site" / "reference" / "commands" / "index.html").read_text()
    assert "brickyard labels export" in commands
    settings = (tmp_path / "site" / "reference" / "settings" / "index.html").read_text()
    assert "BRICKYARD_STORE" in settings
    flows = (tmp_path / "site" / "reference" / "flows" / "index.html").read_text()
    assert "Cut out" in flows or "cut out" in flows
    names = [
        item["name"]
        for item in yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]
    ]
    schedule = (tmp_path / "site" / "how-to" / "reprocess" / "index.html").read_text()
    assert all(f"<code>{name}</code>" in schedule for name in names)


def test_the_notebook_runs_on_a_home(tmp_path):
    make_desk(tmp_path / "home", people=False)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert names["picture"].shape[-1] == 3
    assert len(names["catalogue"]) == len(names["objects"]) == 16


def test_the_cells_of_the_notebook_have_no_output():
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
