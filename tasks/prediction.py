"""Predict bricks with a champion: a file of rows for every brick, made once.

Below `<home>/predictions` lies one file for every brick, version of its cutouts and version of the
model, named by them, so what is there is done and what is not is stale. Workers read and write by
themselves; only names travel. `tasks.publication` makes catalogue releases of these files. Workers
on other machines need the home on a shared disk, as they do for encoders.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from distributed import Client
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.columns import meaning_of
from lvm.downstream import DownstreamModel, DownstreamTask
from lvm.forward import choose_device
from lvm.inference import predict
from storage.brick_store import ledger, ledger_of, read_objects
from storage.catalogue import ColumnNote, format_object_id, write_table
from storage.embedding_store import brick_version
from storage.schema import BrickState
from tasks import tracking
from tasks.cluster import connect, run_units
from tasks.embedding import calls_of
from tasks.errors import TaskError
from tasks.finetuning import load_model
from tasks.loaders import CutoutLoader
from tasks.progress import report
from tasks.references import ModelRef, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot

BATCH_SIZE = 64
# Of the files of bricks; another number makes all of them stale.
PREDICTION_VERSION = 1
DIGITS = 16
LEDGER_COLUMNS = ("state", "row_start", "n_objects", "content_digest", "config_digest")
ID_NOTES = {
    "object_id": ColumnNote("", "<release>-<brickid>-<objid>"),
    "release": ColumnNote("", "RELEASE code of the survey"),
    "brickid": ColumnNote("", "brick number"),
    "objid": ColumnNote("", "object number within the brick"),
    "brickname": ColumnNote("", "brick name"),
    "ra": ColumnNote("deg", "right ascension (ICRS)"),
    "dec": ColumnNote("deg", "declination (ICRS)"),
    "model_version": ColumnNote("", "version of the registered model that made this row"),
    "encoder_digest": ColumnNote("", "SHA-256 of the encoder that the model started from"),
    "content_digest": ColumnNote("", "SHA-256 of the files that the brick was cut out of"),
    "snapshot_id": ColumnNote("", "snapshot of the cutouts that this row was predicted from"),
}
_KEPT = {"int32", "uint8", "float64"}


class NoChampion(TaskError, LookupError):
    """No approved model exists for a downstream task."""


class PredictionIncomplete(TaskError, RuntimeError):
    """Some bricks could not be predicted; no catalogue was published."""


@task(name="find-champion", cache_policy=NO_CACHE)
def find_champion(settings: Settings, downstream: str) -> ModelRef:
    """Return the champion of a downstream task.

    Raises
    ------
    NoChampion
        If nobody has approved a model yet; a candidate is never used in its place.
    """
    champion = tracking.champion(settings, downstream)
    if champion is None:
        raise NoChampion(
            f"no model is approved for {downstream!r}: run `brickyard promote {downstream}` and "
            "decide with `brickyard approve`"
        )
    return champion


@task(name="plan-prediction", cache_policy=NO_CACHE)
def plan_prediction(settings: Settings, snapshot: SnapshotRef, model: ModelRef) -> tuple[str, ...]:
    """Return the bricks of a snapshot that this model has not predicted as they are now."""
    return stale_bricks(settings, snapshot, model, written_bricks(snapshot))


@task(name="predict-partition", cache_policy=NO_CACHE)
def predict_partition(
    settings: Settings,
    scheduler: str,
    snapshot: SnapshotRef,
    model: ModelRef,
    bricknames: tuple[str, ...],
) -> int:
    """Predict some bricks on the workers; every brick that is done stays, whatever comes later.

    Bricks that shared a failed call are tried again one by one, so that a bad one costs itself.

    Returns
    -------
    int
        The number of objects.

    Raises
    ------
    PredictionIncomplete
        If a brick failed; the message names the bricks and why.
    """
    columns = ("row_start", "n_objects")
    table = ledger_of(open_snapshot(snapshot), snapshot.survey, bricknames, columns)
    common = (settings, snapshot, model)
    with connect(scheduler) as client:
        calls = list(calls_of(table, workers=len(client.ncores())))
        failed = _run(client, common, calls, len(table))
        again = [(name,) for names in failed if len(names) > 1 for name in names]
        final = {names: why for names, why in failed.items() if len(names) == 1}
        final |= _run(client, common, again, len(table))
    if final:
        reasons = "; ".join(f"{names[0]}: {why}" for names, why in sorted(final.items()))
        raise PredictionIncomplete(
            f"{len(final)} of {len(table)} bricks failed, the others are kept; nothing is "
            f"published: {reasons}"
        )
    return int(table["n_objects"].sum())


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


def written_bricks(snapshot: SnapshotRef) -> pd.DataFrame:
    """Return the bricks of a snapshot that have objects: ``n_objects``, digests, ``version``."""
    table = ledger(open_snapshot(snapshot), snapshot.survey, LEDGER_COLUMNS)
    table = table[(table["state"] == int(BrickState.WRITTEN)) & (table["n_objects"] > 0)]
    return table.assign(version=brick_version(table)).sort_index()


def stale_bricks(
    settings: Settings, snapshot: SnapshotRef, model: ModelRef, bricks: pd.DataFrame
) -> tuple[str, ...]:
    """Return those of the written bricks without a file, in the order of their rows."""
    have = _files_below(prediction_folder(settings, snapshot.survey, model))
    missing = [file_name(str(name), str(v)) not in have for name, v in bricks["version"].items()]
    return tuple(map(str, bricks.loc[missing].sort_values("row_start").index))


def prediction_folder(settings: Settings, survey: str, model: ModelRef) -> Path:
    """Return the folder of all that one version of a model has predicted of a survey."""
    version = f"v{model.version}-{model.digest[:DIGITS]}"
    return settings.predictions_path / survey / model.downstream / version


def prediction_path(
    settings: Settings, survey: str, model: ModelRef, brickname: str, version: str
) -> Path:
    """Return the file of one version of a brick, from `storage.embedding_store.brick_version`."""
    folder = prediction_folder(settings, survey, model)
    return folder / brickname[:3] / file_name(brickname, version)


def file_name(brickname: str, version: str) -> str:
    """Return the name of the file of one version of a brick."""
    digest = hashlib.sha256(f"{PREDICTION_VERSION}:{version}".encode()).hexdigest()
    return f"{brickname}-{digest[:DIGITS]}.parquet"


def notes_of(columns: Iterable[str], task: DownstreamTask) -> dict[str, ColumnNote]:
    """Return unit and meaning of columns that identify objects or that a task presents."""
    return {
        name: ID_NOTES.get(name) or ColumnNote(*meaning_of(name, task.columns))
        for name in map(str, columns)
    }


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


def _run(
    client: Client,
    common: tuple[Settings, SnapshotRef, ModelRef],
    calls: list[tuple[str, ...]],
    total: int,
) -> dict[tuple[str, ...], str]:
    """Call the workers and return why calls failed."""
    failed, done = {}, 0
    for index, result in run_units(client, predict_bricks, [(*common, names) for names in calls]):
        if isinstance(result, BaseException):
            failed[calls[index]] = f"{type(result).__name__}: {result}"
        else:
            done += len(calls[index])
            report("bricks predicted", done, total)
    return failed


def _files_below(folder: Path) -> set[str]:
    """Return the names of the files in the sub-folders of a folder."""
    if not folder.is_dir():
        return set()
    found: set[str] = set()
    with os.scandir(folder) as parts:
        for part in parts:
            with os.scandir(part.path) as entries:
                found.update(entry.name for entry in entries)
    return found
