"""Search, rarity, map and drift of a small survey whose embeddings the test chose."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from embedded_survey import DIGEST, SURVEY, WIDTH, clustered, embed_bricks, make_survey
from measured_survey import objects_of
from PIL import Image

from storage.brick_store import BrickRecord, RowRange, ledger, record_bricks
from storage.repository import open_repository, read_session, snapshot_id, transaction
from storage.schema import BrickState
from storage.search.objects import ObjectNotFound
from tasks import drift, embedding_map
from tasks.anomaly import AnomalyConfig, rank_anomalies
from tasks.drift import measure_drift
from tasks.embedded import NothingEmbedded, open_embedded
from tasks.embedding_map import MapConfig, MapUnavailable, arrange, choose_cells, draw_map
from tasks.encoders import NotEmbedded
from tasks.search import BadQuery, SearchResult, build_search_index, search_like
from tasks.settings import Settings

COUNT = 30


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a home with a survey, and its bricks: a test copies what takes a second to write."""
    settings = Settings(home=tmp_path_factory.mktemp("made"))
    return settings.home, make_survey(settings, 2, 2, COUNT)


@pytest.fixture
def bricks(settings, made):
    home, bricks = made
    shutil.copytree(home, settings.home)
    return bricks


@pytest.fixture
def values(bricks):
    return clustered(bricks, COUNT)


@pytest.fixture
def encoder(settings, values):
    return embed_bricks(settings, values)


def object_id(brick, objid):
    return f"10000-{brick.brickid}-{objid}"


def test_objects_of_the_same_kind_are_found(settings, bricks, encoder):
    found = search_like.fn(settings, SURVEY, encoder, object_id(bricks[0], 4), 12)
    assert found.index.built
    assert (found.index.total, found.index.bricks_left_out) == (4 * COUNT, 0)
    assert len(found.matches) == 12
    names = [match.object_id for match in found.matches]
    assert found.query.object_id not in names
    assert {int(name.rsplit("-", 1)[1]) % 3 for name in names} == {4 % 3}
    similarity = [match.similarity for match in found.matches]
    assert similarity == sorted(similarity, reverse=True)
    assert SearchResult.model_validate_json(found.model_dump_json()) == found
    again = search_like.fn(settings, SURVEY, encoder, object_id(bricks[0], 4), 12)
    assert not again.index.built
    assert again.matches == found.matches


def test_a_place_stands_for_the_object_there(settings, bricks, encoder):
    truth = objects_of(bricks[1], COUNT).iloc[7]
    place = f"{truth['ra'] + 1 / 3600:.6f}, {truth['dec']:.6f}"
    by_place = search_like.fn(settings, SURVEY, encoder, place, 3)
    assert by_place.query.object_id == object_id(bricks[1], 7)


def test_the_picture_has_the_query_and_every_match(settings, bricks, encoder, tmp_path):
    path = tmp_path / "sheets" / "like.png"
    search_like.fn(settings, SURVEY, encoder, object_id(bricks[0], 0), 7, str(path))
    with Image.open(path) as sheet:  # two rows of up to six cells
        assert sheet.width > 5 * 128
        assert 2 * 128 < sheet.height < 3 * 128


@pytest.mark.parametrize(
    ("like", "number", "error"),
    [
        ("here,there", 5, BadQuery),
        ("1,2,3", 5, BadQuery),
        ("10000-1-1", 5, ObjectNotFound),
        ("10,10", 5, ObjectNotFound),
        ("10000-1-1", 0, BadQuery),
        ("10000-1-1", 1001, BadQuery),
    ],
)
def test_bad_queries_are_refused(settings, encoder, like, number, error):
    with pytest.raises(error):
        search_like.fn(settings, SURVEY, encoder, like, number)


def test_what_is_not_embedded_is_said(settings, bricks, values):
    encoder = embed_bricks(settings, {bricks[0].brickname: values[bricks[0].brickname]})
    index = build_search_index.fn(settings, SURVEY, encoder)
    assert (index.total, index.bricks_left_out) == (COUNT, 3)
    other = encoder.model_copy(update={"digest": "a" * 64})
    with pytest.raises(NotEmbedded, match="brickyard embed"):
        build_search_index.fn(settings, SURVEY, other)


def test_embeddings_that_grow_make_another_index(settings, bricks, values):
    first = bricks[0].brickname
    embed_bricks(settings, {first: values[first]})
    encoder = embed_bricks(settings, values)
    assert build_search_index.fn(settings, SURVEY, encoder).total == 4 * COUNT


@pytest.mark.parametrize("method", ["both", "neighbours", "forest"])
def test_planted_oddities_rank_first(settings, bricks, values, method):
    odd = []
    for number, brick in enumerate(bricks[:3]):
        values[brick.brickname][number] = 20 * np.random.default_rng(number).normal(size=WIDTH)
        odd.append(object_id(brick, number))
    encoder = embed_bricks(settings, values)
    config = AnomalyConfig(method=method, keep=50, sample=60, trees=50)
    found = rank_anomalies.fn(settings, SURVEY, encoder, config)
    assert {item.object_id for item in found.top[:3]} == set(odd)
    table = pd.read_parquet(found.table)
    assert len(table) == 50
    assert table["rarity"].is_monotonic_decreasing
    if method != "forest":  # whose scores end at 1
        assert table["rarity"].iloc[2] > 3 * abs(table["rarity"].iloc[3:]).median()
    assert table["object_id"].iloc[0] == found.top[0].object_id
    with Image.open(found.picture) as sheet:
        assert sheet.width > 500
    assert rank_anomalies.fn(settings, SURVEY, encoder, config) == found


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="choose one of"):
        AnomalyConfig(method="magic")


def test_cells_show_the_most_central_object_once():
    places = np.array([[0, 0], [0.4, 0.4], [10, 10], [10, 0], [0.55, 0.45]])
    cells, objects = choose_cells(places, 10)
    assert sorted(objects) == [2, 3, 4]
    assert cells.min() >= 0
    assert cells.max() <= 9
    where = {int(number): tuple(cell) for number, cell in zip(objects, cells, strict=True)}
    assert where == {4: (9, 0), 3: (9, 9), 2: (0, 9)}  # y upwards, x to the right


@pytest.fixture
def flat_map(monkeypatch):
    """Arrange by the first two features, without UMAP, which takes seconds to compile."""
    monkeypatch.setattr(
        embedding_map, "arrange", lambda vectors, _: np.asarray(vectors[:, :2], np.float64)
    )


@pytest.mark.parametrize("suffix", ["png", "html"])
def test_the_map_is_written_with_thumbnails(settings, encoder, tmp_path, flat_map, suffix):
    config = MapConfig(sample=100, side=8, cell=16)
    path = tmp_path / "maps" / f"map.{suffix}"
    found = draw_map.fn(settings, SURVEY, encoder, str(path), config)
    assert found.arranged == 100
    assert 3 <= found.shown <= 64
    content = path.read_bytes()
    if suffix == "png":
        with Image.open(path) as picture:
            assert picture.size == (8 * 17, 8 * 17)
    else:
        text = content.decode()
        assert text.count("data:image/jpeg") == found.shown
        assert "http://" not in text
        assert f"{found.shown} objects arranged" in text
    draw_map.fn(settings, SURVEY, encoder, str(path), config)
    assert path.read_bytes() == content


def test_maps_that_cannot_be_made_are_refused(settings, encoder, tmp_path, monkeypatch):
    with pytest.raises(MapUnavailable, match="end the name"):
        draw_map.fn(settings, SURVEY, encoder, str(tmp_path / "map.gif"))
    with pytest.raises(MapUnavailable, match="objects"):
        MapConfig(sample=1)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MapUnavailable, match=r"brickyard\[map\]"):
        arrange(np.zeros((5, 3)), MapConfig())


@pytest.fixture
def interpreted(monkeypatch):
    """Let Python interpret what numba would compile for half a minute; forget UMAP afterwards."""
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in ("umap", "pynndescent")]:
        del sys.modules[name]


def test_umap_keeps_a_few_of_a_kind_together_and_repeats(interpreted):
    check_umap(count=24, neighbours=4)


@pytest.mark.drill
def test_compiled_umap_keeps_kinds_together_and_repeats():
    check_umap(count=150, neighbours=10)


def check_umap(count, neighbours):
    pytest.importorskip("umap")
    rng = np.random.default_rng(0)
    kinds = np.arange(count) % 3
    vectors = 4 * rng.normal(size=(3, WIDTH))[kinds] + rng.normal(size=(count, WIDTH))
    places = arrange(vectors, MapConfig(neighbours=neighbours))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(axis=1)] == kinds).mean() > 0.95
    np.testing.assert_array_equal(arrange(vectors, MapConfig(neighbours=neighbours)), places)


@pytest.fixture
def artifacts(monkeypatch):
    """Collect what would go to Prefect's server."""
    made = []
    monkeypatch.setattr(
        drift,
        "create_markdown_artifact",
        lambda text, key, description: made.append((text, key, description)),
    )
    return made


def test_drift_between_snapshots_is_found_and_reported(settings, bricks, values, artifacts):
    encoder = embed_bricks(settings, values)
    before = snapshot_id(open_repository(settings.home / "store" / "survey"))
    found = measure_drift.fn(settings, encoder, SURVEY, f"{SURVEY}@{before}")
    assert not found.alarm
    assert found.counterparts["recall_at_1"] == 1
    assert found.difference["exchanged"] == "objects"  # four bricks are too few
    [(text, key, description)] = artifacts
    assert key.startswith("drift-dr10-south")
    assert description == found.verdict
    assert "No drift" in text
    page = Path(found.path).read_text(encoding="utf-8")
    assert "No drift" in page
    assert "data:image/png" in page
    assert drift.DriftRef.model_validate_json(found.model_dump_json()) == found


def test_embeddings_of_a_snapshot_that_was_replaced_are_found_again(settings, bricks, values):
    encoder = embed_bricks(settings, values)
    store = settings.home / "store"
    old = snapshot_id(open_repository(store / "survey"))
    old_embeddings = snapshot_id(open_repository(store / "embeddings"))
    reingest(settings, bricks[0])
    embed_bricks(settings, {bricks[0].brickname: values[bricks[0].brickname] + 3})
    assert open_embedded(settings, SURVEY, encoder).rows.left_out == 0
    source = open_embedded(settings, SURVEY, encoder, old)
    assert source.rows.left_out == 0
    assert source.embeddings.snapshot_id == old_embeddings


def test_only_bricks_are_compared_without_a_second_side(settings, bricks, encoder, artifacts):
    found = measure_drift.fn(settings, encoder, SURVEY)
    assert (found.second, found.difference, found.counterparts) == (None, {}, {})
    assert not found.alarm
    assert "of 4 bricks of dr10/south stand out" in found.verdict


def test_a_survey_with_nothing_up_to_date_is_refused(settings, bricks, values):
    name = bricks[0].brickname
    encoder = embed_bricks(settings, {name: values[name]})
    reingest(settings, bricks[0])
    with pytest.raises(NothingEmbedded, match="run `brickyard embed"):
        open_embedded(settings, SURVEY, encoder)
    assert encoder.digest == DIGEST


def reingest(settings, brick):
    """Record a brick with another content, on the same rows."""
    repository = open_repository(settings.home / "store" / "survey")
    row = ledger(read_session(repository), SURVEY).loc[brick.brickname]
    owned = RowRange(int(row["row_start"]), int(row["rows"]))
    record = BrickRecord(
        brick.brickname, brick.brickid, BrickState.WRITTEN, owned, COUNT, content_digest="other"
    )
    with transaction(repository, "again") as session:
        record_bricks(session, SURVEY, [record])
