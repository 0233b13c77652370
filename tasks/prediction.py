"""Apply a champion to a snapshot and publish the result as a Parquet catalogue."""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from distributed import Client
from prefect import task
from prefect.cache_policies import NO_CACHE

from lvm.downstream import DownstreamModel
from lvm.inference import predict
from storage.brick_store import ledger, read_objects
from storage.catalogue import ColumnNote, format_object_id, write_catalogue
from storage.schema import BrickState
from tasks import tracking
from tasks.cluster import connect, run_units
from tasks.errors import TaskError
from tasks.finetuning import load_model
from tasks.loaders import CutoutLoader, open_snapshot
from tasks.progress import report
from tasks.references import CatalogueRef, ModelRef, SnapshotRef
from tasks.settings import Settings

BATCH_SIZE = 64
ID_NOTES = {
    "object_id": ColumnNote("", "<release>-<brickid>-<objid>"),
    "release": ColumnNote("", "RELEASE code of the survey"),
    "brickid": ColumnNote("", "brick number"),
    "objid": ColumnNote("", "object number within the brick"),
    "brickname": ColumnNote("", "brick name"),
    "ra": ColumnNote("deg", "right ascension (ICRS)"),
    "dec": ColumnNote("deg", "declination (ICRS)"),
    "model_version": ColumnNote("", "version of the registered model that made this row"),
    "snapshot_id": ColumnNote("", "snapshot of the cutouts that this row was predicted from"),
}
ACKNOWLEDGEMENT = (
    "Where the survey is a release of the DESI Legacy Imaging Surveys, acknowledge it as "
    "legacysurvey.org/acknowledgment says."
)


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


@task(name="publish-predictions", cache_policy=NO_CACHE)
def publish_predictions(
    settings: Settings, scheduler: str, snapshot: SnapshotRef, model: ModelRef
) -> CatalogueRef:
    """Predict every object of a snapshot and publish one catalogue, all rows or none.

    Returns
    -------
    CatalogueRef
        A folder `<home>/catalogues/<survey>/<downstream>-v<version>-<snapshot>`.

    Raises
    ------
    PredictionIncomplete
        If a brick failed; the message names the bricks and why.
    """
    table = ledger(open_snapshot(snapshot), snapshot.survey)
    names = tuple(table.index[table["state"] == int(BrickState.WRITTEN)])
    expected = int(table.loc[list(names), "n_objects"].sum())
    folder = _folder(settings, snapshot, model)
    metadata = _metadata(settings, snapshot, model)
    with connect(scheduler) as client:
        parts = _parts(client, settings, snapshot, model, names)
        first = next(parts, None)
        if first is None:
            raise PredictionIncomplete(f"{snapshot.survey} has no object to predict")
        path = write_catalogue(folder, _counted(first, parts, expected), metadata, _notes(first))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    reference = CatalogueRef(
        path=str(path), digest=digest, rows=expected, model=model, snapshot=snapshot
    )
    tracking.open_run(settings, model.run_id).log_json(f"catalogue-{digest[:12]}.json", reference)
    return reference


def predict_brick(
    settings: Settings, snapshot: SnapshotRef, model: ModelRef, brickname: str
) -> pd.DataFrame:
    """Predict the objects of one brick; runs on a worker.

    Returns
    -------
    DataFrame
        One row an object: ids, position and what the downstream task presents.
    """
    objects = read_objects(
        open_snapshot(snapshot), snapshot.survey, bricknames=[brickname], catalogue=False
    )
    loader = CutoutLoader(snapshot, objects["row"].to_numpy())
    loaded = _model(settings, model)
    found = [columns for _, columns in predict(loaded, loader.batches(BATCH_SIZE))]
    presented = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    keys = zip(objects["release"], objects["brickid"], objects["objid"], strict=True)
    frame = objects[["release", "brickid", "objid", "brickname", "ra", "dec"]].copy()
    frame.insert(0, "object_id", [format_object_id(*map(int, key)) for key in keys])
    for name, values in presented.items():
        frame[name] = values
    frame["model_version"] = model.version
    frame["snapshot_id"] = snapshot.snapshot_id
    return frame


_LOADED: dict[str, DownstreamModel] = {}


def _model(settings: Settings, reference: ModelRef) -> DownstreamModel:
    """Load a model once a process; `load_model` checks its digest."""
    if reference.digest not in _LOADED:
        _LOADED.clear()
        _LOADED[reference.digest] = load_model(settings, reference)
    return _LOADED[reference.digest]


def _parts(
    client: Client,
    settings: Settings,
    snapshot: SnapshotRef,
    model: ModelRef,
    names: tuple[str, ...],
) -> Iterator[pd.DataFrame]:
    units = [(settings, snapshot, model, name) for name in names]
    failed = {}
    for count, (index, result) in enumerate(run_units(client, predict_brick, units), 1):
        report("bricks predicted", count, len(names))
        if isinstance(result, BaseException):
            failed[names[index]] = f"{type(result).__name__}: {result}"
        else:
            yield result
    if failed:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in sorted(failed.items()))
        raise PredictionIncomplete(
            f"{len(failed)} of {len(names)} bricks failed, nothing was published: {reasons}"
        )


def _counted(
    first: pd.DataFrame, rest: Iterator[pd.DataFrame], expected: int
) -> Iterator[pd.DataFrame]:
    """Pass parts on, and refuse to end with another number of rows than there are objects."""
    rows = len(first)
    yield first
    for part in rest:
        rows += len(part)
        yield part
    if rows != expected:
        raise PredictionIncomplete(f"{expected} objects went in, {rows} rows came out")


def _folder(settings: Settings, snapshot: SnapshotRef, model: ModelRef) -> Path:
    name = f"{model.downstream}-v{model.version}-{snapshot.snapshot_id}"
    return settings.catalogue_path / snapshot.survey / name


def _metadata(settings: Settings, snapshot: SnapshotRef, model: ModelRef) -> dict[str, Any]:
    return {
        "survey": snapshot.survey,
        "snapshot": snapshot.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "lineage": tracking.version_tags(settings, model),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": tracking.code_version(),
        "acknowledgement": ACKNOWLEDGEMENT,
    }


def _notes(frame: pd.DataFrame) -> Mapping[str, ColumnNote]:
    notes = dict(ID_NOTES)
    for name in frame.columns:
        if name.startswith("p_"):
            notes[name] = ColumnNote("1", f"probability of the class {name[2:].replace('_', '-')}")
        elif name not in notes:
            notes[name] = ColumnNote("", "what the downstream task answers")
    return notes
