"""Lineage on the desk and in the terminal, over a small survey without a model registry."""

import json
import re
from xml.etree import ElementTree as ET

import pytest
from desk_home import SURVEY, make_desk
from typer.testing import CliRunner

from flows.__main__ import app


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_desk(tmp_path_factory.mktemp("desk-home"))


@pytest.fixture
def desk(small, tmp_path):
    return small.fresh(tmp_path)


def test_the_page_shows_a_picture_and_every_thing_without_script_or_style(desk):
    client = desk.client("vic")
    asked = client.get("/lineage")
    assert asked.status_code == 200
    assert 'name="of"' in asked.text
    page = client.get("/lineage", params={"of": desk.ids[0]})
    assert page.status_code == 200
    [picture] = re.findall(r"<svg.*?</svg>", page.text, re.DOTALL)
    words = {item.text for item in ET.fromstring(picture).iter() if item.text}
    assert f"object {desk.ids[0]}" in words
    assert "morphology version 1" in words
    assert "style=" not in page.text
    assert "superseded" not in page.text
    for kind in ("brick b1", "Came from", "Went into", "Missing: there is no model registry"):
        assert kind in page.text
    for target in set(re.findall(r'href="#(thing-\d+)"', page.text)):
        assert f'id="{target}"' in page.text


def test_the_page_gives_the_lineage_as_a_file(desk):
    answer = desk.client("vic").get("/lineage.json", params={"of": "b1"})
    found = json.loads(answer.text)
    assert found["subject"].startswith(f"brick {SURVEY}/b1@")
    assert {link["how"] for link in found["links"]} >= {"cut out of", "lists 8 objects of"}


def test_the_page_reads_no_file_that_is_named_and_only_for_users(desk, tmp_path):
    [file] = (desk.settings.catalogue_path).rglob("*.parquet")
    client = desk.client("vic")
    assert client.get("/lineage", params={"of": "morphology-v1#0"}).status_code == 200
    refused = client.get("/lineage", params={"of": str(file)})
    assert refused.status_code == 404
    assert client.get("/lineage", params={"of": "<b>x</b>"}).text.count("<b>x") == 0
    assert desk.client().get("/lineage", params={"of": "b1"}).url.path == "/login"


@pytest.fixture
def brickyard(small):
    def run(*arguments):
        home = ["--home", str(small.settings.home)]
        return CliRunner().invoke(app, [*home, "lineage", *map(str, arguments)])

    return run


def test_the_command_prints_a_tree_json_and_a_picture(brickyard, small, tmp_path):
    [folder] = {path.parent for path in small.settings.catalogue_path.rglob("*.parquet")}
    tree = brickyard(f"{folder}#0")
    assert tree.exit_code == 0, tree.output
    for word in ("came from", "predicted by", "cut out of", "brick b1", "went into"):
        assert word in tree.output
    found = json.loads(brickyard(small.ids[0], "--json").output)
    assert found["subject"] == f"object {small.ids[0]}"
    picture = tmp_path / "lineage.svg"
    assert brickyard("b1", "--picture", picture).exit_code == 0
    ET.parse(picture)
    assert not (small.settings.home / "mlflow.db").exists()


def test_the_command_says_what_it_understands(brickyard):
    answer = brickyard("no-such-thing")
    assert answer.exit_code == 1
    assert "tag of a snapshot" in " ".join(answer.output.split())
