"""What the exploring pages show: an object, what is like it, what is rare, a map of a survey."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from storage.brick_store import read_objects
from storage.catalogue import parse_object_id
from storage.embedding_store import encoders_of
from storage.label_store import read_object_labels
from storage.repository import (
    EMBEDDING_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
)
from storage.schema import OBJECT_TYPE_NAMES, column_unit
from storage.search.objects import objects_at
from storage.search.vectors import sample_vectors
from tasks.anomaly import rank_anomalies
from tasks.embedded import open_embedded, report_path
from tasks.embedding_map import MapConfig, arrange, choose_cells
from tasks.encoders import NoEncoder, NotEmbedded, find_embeddings, find_encoder
from tasks.lineage import trace_object
from tasks.pictures import MOSAIC_CELL, PictureMaker
from tasks.references import EncoderRef, SnapshotRef
from tasks.search import SearchResult, search_like
from tasks.settings import Settings
from tasks.snapshots import find_snapshot
from tasks.survey_view import ShownObject, SurveyView
from tasks.whole_files import whole_file

RARE_SHOWN = 60
MAP_SIDE = 24  # cells in a row and in a column


def embedded_encoder(settings: Settings, survey: str) -> EncoderRef:
    """Return the encoder whose embeddings pages use: the newest of the home, else any that has.

    Raises
    ------
    NotEmbedded
        If no encoder has embedded the survey.
    """
    snapshot = find_snapshot(settings, survey, None)
    try:
        encoder = find_encoder(settings)
        find_embeddings(snapshot, encoder)
    except (NoEncoder, NotEmbedded):
        return _any_encoder(snapshot)
    return encoder


def is_embedded(settings: Settings, survey: str) -> bool:
    """Return whether there is an encoder that has embedded a survey."""
    try:
        embedded_encoder(settings, survey)
    except NotEmbedded:
        return False
    return True


def _any_encoder(snapshot: SnapshotRef) -> EncoderRef:
    path = repository_place(snapshot.store, EMBEDDING_REPOSITORY)
    digests: list[str] = []
    if repository_exists(path):
        digests = encoders_of(read_session(open_repository(path)), snapshot.survey)
    for digest in digests:
        encoder = EncoderRef(path="", digest=digest)
        try:
            find_embeddings(snapshot, encoder)
        except NotEmbedded:
            continue
        return encoder
    raise NotEmbedded(
        f"{snapshot.survey} has no embeddings: run `brickyard embed {snapshot.survey}`"
    )


def find_like(settings: Settings, survey: str, object_id: str, number: int) -> SearchResult:
    """Return the objects whose embeddings are nearest to that of an object."""
    return search_like.fn(
        settings, survey, embedded_encoder(settings, survey), object_id, number=number
    )


def describe_object(settings: Settings, view: SurveyView, found: ShownObject) -> dict[str, Any]:
    """Return what is known of an object: catalogue row, predictions, labels, where it came from."""
    table = read_objects(view.session, view.survey, bricknames=[found.brickname])
    row = table[table["row"] == found.row].iloc[0]
    columns = [
        (str(name), float(value), column_unit(str(name)))
        for name, value in row.items()
        if name not in ("row", "brickname", "type") and np.isfinite(float(value))
    ]
    tree = trace_object(settings, found.object_id)
    return {
        "type": OBJECT_TYPE_NAMES[int(row["type"])] if int(row["type"]) < 255 else "unknown",
        "columns": columns,
        "predictions": tree["predictions"],
        "labels": object_labels(settings, view.survey, found.object_id),
        "lineage": {name: tree[name] for name in ("brick", "cutout", "embeddings")},
    }


def object_labels(settings: Settings, survey: str, object_id: str) -> list[dict[str, Any]]:
    """Return all rows of the label ledger about an object, newest first."""
    if not settings.labels_path.is_file():
        return []
    rows = read_object_labels(settings.labels_path, survey, *parse_object_id(object_id))
    found: list[dict[str, Any]] = rows.iloc[::-1].to_dict("records")  # type: ignore[assignment]
    return found


def rare_objects(settings: Settings, survey: str) -> list[dict[str, Any]]:
    """Return the rarest objects as they were last ranked; none when they never were."""
    path = report_path(settings, "anomalies", survey, ".parquet")
    if not path.is_file():
        return []
    table = pd.read_parquet(path).head(RARE_SHOWN)
    found: list[dict[str, Any]] = table[["object_id", "rarity"]].to_dict("records")  # type: ignore[assignment]
    return found


def rank_rare(settings: Settings, survey: str) -> None:
    """Rank the objects of a survey by rarity; `rare_objects` then shows it."""
    rank_anomalies.fn(settings, survey, embedded_encoder(settings, survey))


def map_file(settings: Settings, survey: str, suffix: str) -> Path:
    """Return the file of the desk's map of a survey: its picture, or what is where on it."""
    return report_path(settings, "desk-map", survey, suffix)


def read_map(settings: Settings, survey: str) -> dict[str, Any] | None:
    """Return what is where on the map of a survey, or None when it was not drawn yet."""
    path = map_file(settings, survey, ".json")
    return dict(json.loads(path.read_text())) if path.is_file() else None


def draw_desk_map(settings: Settings, pictures: PictureMaker, survey: str) -> None:
    """Arrange a sample of a survey by likeness (UMAP), and write its picture and its index."""
    config = MapConfig(sample=3000, side=MAP_SIDE, cell=MOSAIC_CELL)
    source = open_embedded(settings, survey, embedded_encoder(settings, survey))
    rows, vectors = sample_vectors(source.vectors, source.rows, config.sample, config.seed)
    cells, chosen = choose_cells(arrange(vectors, config), config.side)
    table = objects_at(source.session, survey, rows[chosen])
    places = [(int(x) * MOSAIC_CELL, int(y) * MOSAIC_CELL) for y, x in cells]
    index = {
        "snapshot": source.snapshot.snapshot_id,
        "arranged": len(rows),
        "side": MAP_SIDE * MOSAIC_CELL,
        "cell": MOSAIC_CELL,
        "objects": _placed(table["object_id"].tolist(), places),
    }
    picture = pictures.mosaic(survey, rows[chosen].tolist(), places, index["side"])
    for suffix, content in ((".jpg", picture), (".json", json.dumps(index).encode())):
        with whole_file(map_file(settings, survey, suffix)) as partial:
            partial.write_bytes(content)


def _placed(names: Sequence[str], places: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    return [{"object_id": name, "x": x, "y": y} for name, (x, y) in zip(names, places, strict=True)]
