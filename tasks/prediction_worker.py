"""What a worker does to predict bricks: read them, apply the model, write a file for each.

Imports no Prefect, and MLflow only where the model is not in the home yet.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lvm.downstream import DownstreamModel
from lvm.forward import choose_device
from lvm.inference import predict
from storage.brick_store import ledger_of, read_objects
from storage.catalogue import format_object_id, write_table
from storage.embedding_store import brick_version
from tasks.loaders import CutoutLoader
from tasks.models import load_model
from tasks.prediction_files import ID_NOTES, LEDGER_COLUMNS, notes_of, prediction_path
from tasks.references import ModelRef, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot

BATCH_SIZE = 64
_KEPT = {"int32", "uint8", "float64"}


def predict_bricks(
    settings: Settings, snapshot: SnapshotRef, model: ModelRef, bricknames: tuple[str, ...]
) -> int:
    """Predict the objects of some bricks and write a file for each; runs on a worker.

    Returns
    -------
    int
        The number of rows written.

    Raises
    ------
    RuntimeError
        If there are not as many rows as objects.
    """
    session, survey = open_snapshot(snapshot), snapshot.survey
    table = ledger_of(session, survey, bricknames, LEDGER_COLUMNS)
    objects = read_objects(session, survey, bricknames=list(bricknames), catalogue=False)
    if len(objects) != int(table["n_objects"].sum()):
        raise RuntimeError(f"{len(objects)} objects in the store, {table['n_objects'].sum()} known")
    loader = CutoutLoader(snapshot, objects["row"].to_numpy())
    loaded = _model(settings, model)
    device = choose_device("auto")
    rows: list[np.ndarray] = []
    found: list[Mapping[str, np.ndarray]] = []
    for place, columns in predict(loaded, loader.batches(BATCH_SIZE), device=device):
        rows.append(place)
        found.append(columns)
    if not np.array_equal(np.concatenate(rows), objects["row"].to_numpy()):
        raise RuntimeError("the rows that came out are not those that went in")
    presented = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    frame = _frame(objects, presented)
    frame["model_version"] = model.version
    frame["encoder_digest"] = loaded.encoder_digest
    contents = table["content_digest"].reindex(frame["brickname"]).to_numpy(dtype=str)
    frame["content_digest"] = contents.astype(object)
    frame["snapshot_id"] = snapshot.snapshot_id
    versions = brick_version(table)
    for name, part in frame.groupby("brickname", sort=False):
        path = prediction_path(settings, survey, model, str(name), str(versions[name]))
        write_table(
            path, [part], {"model": model.model_dump(mode="json")}, notes_of(part, loaded.task)
        )
    return len(frame)


def _frame(objects: pd.DataFrame, presented: Mapping[str, np.ndarray]) -> pd.DataFrame:
    keys = zip(objects["release"], objects["brickid"], objects["objid"], strict=True)
    frame = objects[["release", "brickid", "objid", "brickname", "ra", "dec"]].copy()
    frame.insert(0, "object_id", [format_object_id(*map(int, key)) for key in keys])
    for name, values in presented.items():
        if name in ID_NOTES:
            raise RuntimeError(f"the downstream task presents a column {name!r}, which is taken")
        frame[name] = _plain(np.asarray(values))
    return frame


def _plain(values: np.ndarray) -> np.ndarray:
    """Return values in one of the types that all kinds of catalogue files have."""
    if values.dtype.name in _KEPT:
        return values
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    return values.astype(np.float32) if values.dtype.kind == "f" else values.astype(object)


_LOADED: dict[str, DownstreamModel] = {}


def _model(settings: Settings, reference: ModelRef) -> DownstreamModel:
    """Load a model once a process; `load_model` checks its digest."""
    if reference.digest not in _LOADED:
        _LOADED.clear()
        _LOADED[reference.digest] = load_model(settings, reference)
    return _LOADED[reference.digest]
