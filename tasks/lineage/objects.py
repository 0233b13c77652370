"""One object as a plain tree: what the page of an object shows. The whole graph is `trace`."""

from typing import Any

from storage.catalogue import parse_object_id
from storage.label_store import read_object_labels
from tasks.lineage.catalogues import Key, published_catalogues
from tasks.lineage.models import trace_model
from tasks.lineage.store import FoundObject, StoreView
from tasks.lineage.subjects import UnknownObject
from tasks.settings import Settings

Tree = dict[str, Any]


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
    key, store = parse_object_id(object_id), StoreView(settings.store_path)
    found = store.find_object(key)
    predictions = _predictions(settings, key)
    if found is None and not predictions:
        raise UnknownObject(
            f"object {object_id} is in no survey of {settings.store_path} and in no catalogue of "
            f"{settings.catalogue_path}; an id is <release>-<brickid>-<objid>"
        )
    tree: Tree = {"object": {"object_id": object_id}}
    if found is not None:
        tree["object"] |= {"survey": found.survey, "ra": found.ra, "dec": found.dec}
        tree["brick"] = _brick(store, found)
        tree["cutout"] = {"snapshot_id": store.newest, "row": found.row}
        tree["embeddings"] = _embeddings(store, found)
        tree["labels"] = _labels(settings, found.survey, key)
    return tree | {"predictions": predictions}


def _brick(store: StoreView, found: FoundObject) -> Tree:
    version = store.brick(found.survey, found.brickname)
    if version is None:
        return {"brickname": found.brickname}
    return {
        "brickname": version.brickname,
        "objects": version.objects,
        "content_digest": version.content_digest,
        "config_digest": version.config_digest,
        **version.receipt,
    }


def _embeddings(store: StoreView, found: FoundObject) -> list[Tree]:
    """Return by which encoders the object's brick is embedded, and from which snapshot."""
    return [
        {
            "encoder_digest": digest,
            "survey_snapshot": str(table["survey_snapshot"].iloc[0]),
            "made_from": str(table["content_digest"].iloc[0]),
        }
        for digest, table in store.embedded(found.survey, found.brickname).items()
    ]


def _labels(settings: Settings, survey: str, key: Key) -> list[Tree]:
    if not settings.labels_path.is_file():
        return []
    rows = read_object_labels(settings.labels_path, survey, *key)
    names = ["question", "answer", "count", "annotator", "created_at"]
    return [dict(row) for row in rows[names].to_dict("records")]


def _predictions(settings: Settings, key: Key) -> list[Tree]:
    """Return the rows of every catalogue that lists the object, each with its model."""
    result = []
    for file in published_catalogues(settings):
        row, model = file.find(key), file.model
        if row is not None and model is not None:
            told = {"snapshot_id": file.snapshot_id, "created_at": file.metadata.get("created_at")}
            place = str(file.files[0] if len(file.files) == 1 else file.place)
            told |= {"catalogue": place, "row": row}
            result.append(told | {"model": trace_model(settings, model)})
    return result
