"""Lineage both ways, in a home whose bricks have changed since its catalogue was made."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from lineage_home import COUNT, DIGEST, ENCODER, LABELS, TAG, make_lineage_home
from small_survey import SURVEY, write_small_survey

from storage.catalogue import METADATA_KEY, ColumnNote, read_catalogue, write_table
from storage.catalogue_export import BrickFile, write_release_files
from tasks.lineage import (
    Kind,
    UnknownObject,
    UnknownSubject,
    UnreadableCatalogue,
    trace,
    trace_object,
)
from tasks.settings import Settings


@pytest.fixture(scope="module")
def made(empty_tracking, tmp_path_factory):
    home = tmp_path_factory.mktemp("lineage") / "home"
    shutil.copytree(empty_tracking, home)
    return make_lineage_home(Settings(home=home))


@pytest.fixture
def given_away(made, tmp_path):
    """Return the settings of another home that has the store and nothing else."""
    return Settings(home=tmp_path / "elsewhere", store=made.settings.store_path)


def copied(made, folder):
    """Return a catalogue file as somebody got it."""
    folder.mkdir(exist_ok=True)
    return shutil.copy(made.catalogue / "catalogue.parquet", folder / "from_a_friend.parquet")


def one(lineage, kind):
    [thing] = lineage.of_kind(kind)
    return thing


def kinds(lineage, ids):
    return {lineage.thing(name).kind for name in ids}


def test_a_row_goes_back_to_files_labels_run_encoder_and_decision(made):
    found = trace(made.settings, f"{made.catalogue}#0")
    origins = kinds(found, found.origins(found.subject))
    assert origins == {
        Kind.MODEL,
        Kind.RUN,
        Kind.DATASET,
        Kind.LABELS,
        Kind.ENCODER,
        Kind.DECISION,
        Kind.SNAPSHOT,
        Kind.OBJECT,
        Kind.BRICK,
        Kind.BRICKS,
        Kind.FILES,
        Kind.CONFIGURATION,
    }
    assert one(found, Kind.MODEL).facts["digest"] == DIGEST
    assert one(found, Kind.LABELS).facts["digest"] == LABELS
    assert one(found, Kind.ENCODER).facts["digest"] == ENCODER
    assert one(found, Kind.DECISION).facts["reviewer"] == "eve"
    assert one(found, Kind.DECISION).facts["moved"]
    assert one(found, Kind.SNAPSHOT).facts["tags"] == [TAG]
    assert one(found, Kind.BRICKS).facts["by_split"] == {"train": 3, "test": 1}
    assert [link.how for link in found.products(found.subject)] == ["lists"]


def test_a_row_names_the_version_of_its_brick_that_was_replaced_since(made):
    first, last = (trace(made.settings, f"{made.catalogue}#{row}") for row in (0, 2 * COUNT - 1))
    brick = one(first, Kind.BRICK)
    assert brick.facts["standing"] == "superseded"
    assert brick.facts["content_digest"] == "0"
    assert not brick.missing
    assert one(last, Kind.BRICK).facts["standing"] == "withdrawn"


def test_a_given_away_file_is_traced_with_the_store_alone(made, given_away, tmp_path):
    path = copied(made, tmp_path / "away")
    found = trace(given_away, f"{path}#10000-2-3")
    assert one(found, Kind.ROW).facts["answer"] == "spiral"
    assert one(found, Kind.BRICK).facts["standing"] == "withdrawn"
    assert not one(found, Kind.SNAPSHOT).missing
    model = one(found, Kind.MODEL)
    assert model.facts["told_by"] == "the catalogue"
    assert "no model registry" in model.missing
    assert one(found, Kind.ENCODER).facts["digest"] == ENCODER
    assert one(found, Kind.DECISION).facts["reviewer"] == "eve"
    assert one(found, Kind.LABELS).missing
    assert not given_away.home.exists()  # asking makes nothing


def test_a_fits_copy_tells_the_same(made, given_away, tmp_path):
    path = copied(made, tmp_path)
    table = pd.read_parquet(path)
    metadata = json.loads(pq.read_schema(path).metadata[METADATA_KEY])
    columns = [
        fits.Column(name, "K" if values.dtype.kind == "i" else "30A", array=values.to_numpy())
        for name, values in table.astype({"p_spiral": str}).items()
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header["PROVENAN"] = json.dumps(metadata)
    hdu.writeto(tmp_path / "copy.fits")
    by_parquet = trace(given_away, f"{path}#5")
    by_fits = trace(given_away, f"{tmp_path / 'copy.fits'}#5")
    for kind in (Kind.BRICK, Kind.MODEL, Kind.SNAPSHOT, Kind.OBJECT, Kind.DECISION):
        assert one(by_fits, kind) == one(by_parquet, kind)


def test_a_release_is_traced_by_its_tag_its_fits_table_and_its_hats_part(made, tmp_path):
    table, metadata = read_catalogue(made.catalogue)
    table["ra"] = table["dec"] = 1.0
    notes = {name: ColumnNote("", "of a test") for name in table}
    files = []
    for name, rows in table.groupby("brickid"):
        path = write_table(tmp_path / f"b{name}.parquet", [rows], metadata, notes)
        files.append(BrickFile(f"b{name}", path, len(rows)))
    home = Settings(home=tmp_path / "home", store=made.settings.store_path)
    tag = "dr10-south-morphology-0001"
    folder = home.catalogue_path / SURVEY / "morphology" / tag
    folder.mkdir(parents=True)
    formats = write_release_files(folder, files, metadata | {"release": tag})
    assert set(formats) == {"parquet", "hats", "fits"}
    (folder / "release.json").write_text(json.dumps({"decision": "let pass by eve"}))
    released = trace(home, tag)
    facts = released.thing(released.subject).facts
    assert (facts["rows"], facts["release"]) == (2 * COUNT, tag)
    assert facts["decision"] == "let pass by eve"
    [part] = (folder / "dataset").rglob("Npix=*.parquet")
    for place in (f"{tag}#1", f"{folder / 'catalogue.fits'}#1", f"{part}#10000-1-1"):
        found = trace(home, place)
        assert one(found, Kind.OBJECT).title == "object 10000-1-1"
        assert one(found, Kind.BRICK).facts["standing"] == "superseded"
        assert one(found, Kind.MODEL).facts["digest"] == DIGEST
    [listed] = trace(home, "b1").of_kind(Kind.CATALOGUE)  # once, though it is there three times
    assert listed.facts["rows"] == 2 * COUNT


def test_a_file_that_lost_its_metadata_says_so_and_uses_its_columns(made, given_away, tmp_path):
    path = tmp_path / "rewritten.parquet"
    pd.read_parquet(copied(made, tmp_path)).to_parquet(path)
    found = trace(given_away, f"{path}#0")
    assert "dropped" in one(found, Kind.CATALOGUE).missing
    assert one(found, Kind.BRICK).facts["standing"] == "superseded"
    assert found.of_kind(Kind.MODEL) == []


def test_a_row_of_another_store_names_what_is_missing(made, tmp_path):
    store = tmp_path / "store"
    write_small_survey(store, {"b1": COUNT})
    other = Settings(home=tmp_path / "home", store=str(store))
    found = trace(other, f"{copied(made, tmp_path)}#0")
    assert "not in the store" in one(found, Kind.SNAPSHOT).missing
    assert "not in the store" in one(found, Kind.OBJECT).missing
    hows = {link.how for link in found.links}
    assert "cut out of one of these versions" in hows


def test_a_brick_tells_what_it_went_into(made):
    found = trace(made.settings, f"{SURVEY}/b1")
    now = found.thing(found.subject)
    assert now.facts["standing"] == "current"
    [old] = [brick for brick in found.of_kind(Kind.BRICK) if brick.id != found.subject]
    assert old.facts["standing"] == "superseded"
    assert old.facts["tags"] == [TAG]
    products = {found.thing(link.made).kind: link.how for link in found.products(old.id)}
    assert products[Kind.EMBEDDINGS] == "made from"
    assert products[Kind.MODEL] == "has objects (3 train) of"
    assert products[Kind.CATALOGUE] == f"lists {COUNT} objects of"
    assert products[Kind.BRICK] == "replaces"
    [objects] = [found.thing(link.made) for link in found.products(now.id)]
    assert objects.facts["count"] == COUNT
    assert objects.facts["ids"][0] == "10000-1-0"
    assert one(found, Kind.DECISION).facts["outcome"] == "approved"


def test_a_withdrawn_brick_is_still_known(made):
    found = trace(made.settings, "b2")
    assert found.thing(found.subject).facts["standing"] == "withdrawn"
    assert found.of_kind(Kind.CATALOGUE)


def test_an_object_tells_its_labels_training_and_rows(made):
    found = trace(made.settings, "10000-1-0")
    products = {found.thing(link.made).kind: link.how for link in found.products(found.subject)}
    assert products == {
        Kind.ROW: "predicted from",
        Kind.LABELS: "answers about",
        Kind.MODEL: "has in its train split",
        Kind.EMBEDDINGS: "includes",
    }
    versions = {brick.facts["standing"] for brick in found.of_kind(Kind.BRICK)}
    assert versions == {"current", "superseded"}


def test_an_object_of_a_withdrawn_brick_is_found_through_its_catalogue(made):
    found = trace(made.settings, "10000-2-1")
    assert "not in the newest snapshot" in found.thing(found.subject).missing
    assert one(found, Kind.BRICK).facts["standing"] == "withdrawn"


def test_a_model_a_snapshot_and_a_tag_answer_both_ways(made):
    model = trace(made.settings, "morphology/1")
    assert {Kind.DATASET, Kind.BRICKS, Kind.LABELS} <= kinds(model, model.origins(model.subject))
    after = {model.thing(link.made).kind for link in model.products(model.subject)}
    assert after == {Kind.DECISION, Kind.CATALOGUE}
    tagged, by_id = (trace(made.settings, name) for name in (TAG, made.snapshot.snapshot_id))
    assert tagged == by_id
    after = {tagged.thing(link.made).kind for link in tagged.products(tagged.subject)}
    assert after == {Kind.EMBEDDINGS, Kind.MODEL, Kind.CATALOGUE}
    newest = trace(made.settings, made.newest.snapshot_id)
    assert newest.products(newest.subject) == []


def test_another_model_of_the_same_number_is_not_taken_for_it(made, tmp_path):
    path = copied(made, tmp_path)
    table = pq.read_table(path)
    metadata = json.loads(table.schema.metadata[METADATA_KEY])
    metadata["model"]["digest"] = "9" * 64
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata)})
    pq.write_table(table, path)
    model = one(trace(made.settings, f"{path}#0"), Kind.MODEL)
    assert "is another model" in model.missing
    assert "aliases" not in model.facts


@pytest.mark.parametrize(
    ("subject", "error", "words"),
    [
        ("nothing", UnknownSubject, "give an object"),
        ("", UnknownSubject, "give an object"),
        ("10000-9-9", UnknownObject, "10000-9-9"),
        ("morphology/9", LookupError, "no version 9"),
        ("morphology/champion", UnknownSubject, "champion"),
        ("gone.parquet#1", UnreadableCatalogue, "no file"),
        ("{catalogue}#99", UnreadableCatalogue, "numbered from 0"),
        ("{catalogue}#x", UnreadableCatalogue, "after #"),
        ("{catalogue}#10000-9-9", UnreadableCatalogue, "does not list"),
        ("{labels}", UnreadableCatalogue, "is no catalogue"),
    ],
)
def test_what_cannot_be_found_is_said_with_what_to_give(made, subject, error, words):
    name = subject.format(catalogue=made.catalogue, labels=made.settings.labels_path)
    with pytest.raises(error, match=words):
        trace(made.settings, name)


def test_a_page_reads_published_catalogues_by_name_and_no_other_file(made, tmp_path):
    name = made.catalogue.name
    assert trace(made.settings, f"{name}#0", files=False).subject.startswith("row ")
    with pytest.raises(UnknownSubject):
        trace(made.settings, str(copied(made, tmp_path)), files=False)


def test_the_tree_of_an_object_has_what_its_page_shows(made):
    tree = trace_object(made.settings, "10000-1-0")
    assert tree["brick"]["content_digest"] == "1"
    assert tree["cutout"]["snapshot_id"] == made.newest.snapshot_id
    assert tree["embeddings"][0]["made_from"] == "0:a"
    assert tree["labels"][0]["answer"] == "spiral"
    [prediction] = tree["predictions"]
    assert prediction["model"]["made_from"]["decision.reviewer"] == "eve"
    assert prediction["row"]["answer"] == "spiral"
    with pytest.raises(UnknownObject):
        trace_object(made.settings, "10000-9-9")
