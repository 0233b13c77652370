"""Predict bricks with a champion: a file of rows for every brick, made once.

Below `<home>/predictions` lies one file for every brick, version of its cutouts and version of the
model, named by them, so what is there is done and what is not is stale. Workers read and write by
themselves; only names travel. `tasks.publication` makes catalogue releases of these files. Workers
on other machines need the home on a shared disk, as they do for encoders.
"""

import os
from pathlib import Path

import pandas as pd
from distributed import Client
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.brick_store import ledger, ledger_of
from storage.embedding_store import brick_version
from storage.schema import BrickState
from tasks import tracking
from tasks.cluster import connect, run_units
from tasks.embedding import calls_of
from tasks.errors import TaskError
from tasks.prediction_files import LEDGER_COLUMNS, file_name, prediction_folder
from tasks.prediction_worker import predict_bricks
from tasks.progress import report
from tasks.references import ModelRef, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot


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
    tracking.download_model(settings, model)  # workers need not ask MLflow
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
