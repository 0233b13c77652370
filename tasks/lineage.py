"""Where a row came from: object → brick, files and checksums, labels, predictions, model, decision.

Every answer is read from what was recorded when the thing was made; nothing is guessed. The result
is a tree of plain values, shown by the command line and written as JSON.
"""

from typing import Any

from storage import embedding_store
from storage.brick_store import ledger, read_objects, receipts
from storage.catalogue import find_row, parse_object_id, read_metadata
from storage.label_store import read_object_labels
from storage.repository import (
    EMBEDDING_REPOSITORY,
    SURVEY_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
    snapshot_id,
)
from storage.survey_group import list_surveys
from tasks import tracking
from tasks.errors import TaskError
from tasks.references import ModelRef
from tasks.settings import Settings

Tree = dict[str, Any]


class UnknownObject(TaskError, LookupError):
    """No survey of the store has such an object."""


def trace_object(settings: Settings, object_id: str) -> Tree:
    """Return everything that is recorded about one object.

    Parameters
    ----------
    object_id : str
        `<release>-<brickid>-<objid>`, as in the catalogues.

    Returns
    -------
    dict
        Keys `object`, `brick`, `cutout`, `embeddings`, `labels` and `predictions`.

    Raises
    ------
    UnknownObject
        If no brick of the store and no catalogue holds the object.
    """
    key = parse_object_id(object_id)
    store = settings.store_path
    found = _find_object(store, key)
    predictions = _predictions(settings, object_id)
    if found is None and not predictions:
        raise UnknownObject(
            f"object {object_id} is in no survey of {store} and in no catalogue of "
            f"{settings.catalogue_path}; an id is <release>-<brickid>-<objid>"
        )
    tree: Tree = {"object": {"object_id": object_id}}
    if found is not None:
        tree = found | {"embeddings": _embeddings(store, found)}
        tree["labels"] = _labels(settings, found["object"]["survey"], key)
    return tree | {"predictions": predictions}


def _find_object(store: str, key: tuple[int, int, int]) -> Tree | None:
    path = repository_place(store, SURVEY_REPOSITORY)
    if not repository_exists(path):
        return None
    repository = open_repository(path)
    session = read_session(repository)
    for survey in list_surveys(session):
        table = ledger(session, survey)
        names = table.index[table["brickid"] == key[1]]
        objects = read_objects(session, survey, bricknames=list(names), catalogue=False)
        match = objects[(objects["objid"] == key[2]) & (objects["release"] == key[0])]
        if len(match):
            row = match.iloc[0]
            brick = _brick(session, survey, str(row["brickname"]), table)
            return {
                "object": {
                    "object_id": "-".join(map(str, key)),
                    "survey": survey,
                    "ra": float(row["ra"]),
                    "dec": float(row["dec"]),
                },
                "brick": brick,
                "cutout": {"snapshot_id": snapshot_id(repository), "row": int(row["row"])},
            }
    return None


def _brick(session: Any, survey: str, brickname: str, table: Any) -> Tree:
    record = table.loc[brickname]
    receipt = receipts(session, survey, [brickname])[brickname]
    return {
        "brickname": brickname,
        "objects": int(record["n_objects"]),
        "content_digest": str(record["content_digest"]),
        "config_digest": str(record["config_digest"]),
        **receipt,
    }


def _embeddings(store: str, found: Tree) -> list[Tree]:
    """Return by which encoders the object's brick is embedded, and from which snapshot."""
    path = repository_place(store, EMBEDDING_REPOSITORY)
    if not repository_exists(path):
        return []
    session = read_session(open_repository(path))
    survey, brickname = found["object"]["survey"], found["brick"]["brickname"]
    result = []
    for digest in embedding_store.encoders_of(session, survey):
        table = embedding_store.embedding_ledger(session, digest, survey)
        if brickname in table.index:
            result.append(
                {
                    "encoder_digest": digest,
                    "survey_snapshot": str(table.at[brickname, "survey_snapshot"]),
                    "made_from": str(table.at[brickname, "content_digest"]),
                }
            )
    return result


def _labels(settings: Settings, survey: str, key: tuple[int, int, int]) -> list[Tree]:
    if not settings.labels_path.is_file():
        return []
    rows = read_object_labels(settings.labels_path, survey, *key)
    names = ["question", "answer", "count", "annotator", "created_at"]
    return [dict(row) for row in rows[names].to_dict("records")]


def _predictions(settings: Settings, object_id: str) -> list[Tree]:
    """Return the rows of every catalogue that lists the object, each with its model."""
    result = []
    for file in sorted(settings.catalogue_path.rglob("catalogue.parquet")):
        row = find_row(file.parent, object_id)
        if row is None:
            continue
        metadata = read_metadata(file.parent)
        result.append(
            {
                "catalogue": str(file),
                "row": row,
                "snapshot_id": metadata["snapshot"]["snapshot_id"],
                "created_at": metadata["created_at"],
                "model": trace_model(settings, ModelRef.model_validate(metadata["model"])),
            }
        )
    return result


def trace_model(settings: Settings, model: ModelRef) -> Tree:
    """Return what made a registered model: data, labels, encoder, code, run, and who decided."""
    tree: Tree = model.model_dump(mode="json")
    try:
        tree["made_from"] = dict(sorted(tracking.version_tags(settings, model).items()))
    except tracking.UnknownModel as error:
        tree["made_from"] = {"missing": str(error)}
    return tree
