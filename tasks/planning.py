"""What an ingest would cost here: which bricks are to do, a calibration, the machine, the budget.

Nothing is ingested and no flow is run: `brickyard plan` decides about that with what this returns.
"""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from storage.brick_ledger import COMPLETE, ledger
from storage.budget import (
    Budget,
    Machine,
    Measurements,
    Obstacle,
    RegionCounts,
    Work,
    budget_of,
    obstacles,
    read_region_counts,
)
from storage.budget.budget import Parallel
from storage.budget.facts import COORDINATOR_BYTES
from storage.errors import SchemaMismatch, StorageError
from storage.fetch import FetchConfig
from storage.ingest_config import IngestConfig
from storage.layouts import LAYOUTS
from storage.repository import (
    SURVEY_REPOSITORY,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
)
from storage.schema import BrickState
from storage.survey_group import list_surveys, read_layout
from tasks.brick_sources import BrickSource, RemoteBrickSource, open_bricks
from tasks.calibration import CalibrationJob, calibrate
from tasks.cluster import SchedulerUnreachable, connect
from tasks.machine import cores, is_here, look_at
from tasks.settings import Settings

CATALOGUES_PER_BRICK = 4  # catalogues read for every brick that the calibration reads whole
WITHDRAWN = "withdrawn earlier"


@dataclass(frozen=True)
class PlanRequest:
    """What would be ingested.

    Parameters
    ----------
    source : str
        Folder, or address of a release.
    survey : tuple of str
        Release and region.
    config : IngestConfig
    bricks : tuple of str
        Names; empty means all of `brick_list`, `bricks_table` or the source.
    brick_list, bricks_table : str or None
        File of brick names; table of the region's bricks, whose counts of objects are used and
        which also says which bricks there are where neither names nor a list do.
    calibrate : int
        Bricks read and written to measure; 0 takes published averages.
    again : bool
        Whether bricks that are done count as to do.
    bricks_per_commit : int
    fetch : FetchConfig, optional
        Limits and patience of transfers.
    """

    source: str
    survey: tuple[str, str]
    config: IngestConfig
    bricks: tuple[str, ...] = ()
    brick_list: str | None = None
    bricks_table: str | None = None
    calibrate: int = 2
    again: bool = False
    bricks_per_commit: int = 64
    fetch: FetchConfig | None = None


@dataclass(frozen=True)
class Plan:
    """A budget with what it rests on and what is in its way."""

    work: Work
    measured: Measurements
    parallel: Parallel
    budget: Budget
    machine: Machine
    obstacles: tuple[Obstacle, ...]

    @property
    def refused(self) -> bool:
        """Whether disk or memory would not do."""
        return any(obstacle.fatal for obstacle in self.obstacles)

    def document(self) -> dict[str, Any]:
        """Return the plan as a JSON document; the bricks themselves are only counted."""
        content = asdict(replace(self, work=replace(self.work, candidates=np.empty(0))))
        del content["work"]["candidates"]
        return content | {"refused": self.refused}


def plan_ingest(settings: Settings, request: PlanRequest) -> Plan:
    """Say what an ingest would cost, and whether it fits on this machine.

    Raises
    ------
    StorageError
        If the bricks cannot be listed, a table cannot be read, or the survey in the store has
        another layout.
    CalibrationFailed
        If bricks are to be measured and none can be read.
    SchedulerUnreachable
        If a Dask scheduler is configured and does not answer, or has no worker.
    """
    source = open_bricks(settings, request.source, request.survey, request.config, request.fetch)
    counts = _counts(settings, source, request)
    names, work = _work(settings, source, request, counts)
    here = _here(source, request, names)
    work = replace(work, absent=int((~here).sum()))
    measured = _measure(settings, request, names[here], work.candidates[here])
    parallel, machine = _workers(settings, request.bricks_per_commit)
    budget = budget_of(work, request.config, measured, parallel)
    found = obstacles(budget, machine, parallel)
    return Plan(work, measured, parallel, budget, machine, found)


def _workers(settings: Settings, bricks_per_commit: int) -> tuple[Parallel, Machine]:
    """Return the workers of the local cluster to come, or of the one that is configured."""
    machine = look_at(settings)
    if not settings.scheduler:
        threads = settings.threads_per_worker
        if is_here(settings):
            return Parallel(settings.workers, threads, cores(), bricks_per_commit), machine
        # Workers of a job queue get cores and memory of their own, which their options say.
        number = settings.workers * threads
        parallel = Parallel(settings.workers, threads, number, bricks_per_commit)
        return parallel, replace(machine, memory_free=None)
    with connect(settings.scheduler, settings.connect_timeout) as client:
        workers = list(client.scheduler_info(n_workers=-1)["workers"].values())
    if not workers:
        raise SchedulerUnreachable(
            f"the Dask scheduler at {settings.scheduler!r} has no worker: start some "
            "(`dask worker`), or unset BRICKYARD_SCHEDULER to use a local cluster"
        )
    threads = max(int(worker["nthreads"]) for worker in workers)
    limits = [float(worker["memory_limit"] or 0) for worker in workers]  # 0: there is none
    parallel = Parallel(len(workers), threads, len(workers) * threads, bricks_per_commit)
    if not all(limits):
        return parallel, replace(machine, memory_free=None, worker_limit=None)
    # what the flow itself takes is taken here, beside the memory of the workers elsewhere
    free = sum(limits) + COORDINATOR_BYTES
    return parallel, replace(machine, memory_free=free, worker_limit=min(limits))


def _counts(
    settings: Settings, source: BrickSource | RemoteBrickSource, request: PlanRequest
) -> RegionCounts | None:
    """Return the table that is given, else the source's own; None where there is none."""
    if request.bricks_table is not None:
        return read_region_counts(request.bricks_table)
    layout = LAYOUTS.get(request.survey)
    if layout is None:
        return None
    if isinstance(source, RemoteBrickSource):
        try:
            path = source.tree.fetch_file(layout.region_bricks_path, Path(source.staging))
        except StorageError:
            if request.bricks or request.brick_list:
                return None  # bricks are named, so that nothing but counts is missing
            raise
        return read_region_counts(path)
    table = Path(layout.region_bricks_path)
    for path in (Path(source.root) / table, Path(source.root) / table.name):
        if path.is_file():
            return read_region_counts(path)
    return None


def _work(
    settings: Settings,
    source: BrickSource | RemoteBrickSource,
    request: PlanRequest,
    counts: RegionCounts | None,
) -> tuple[npt.NDArray[Any], Work]:
    """Return the names of the bricks to do, and the account of all that were asked for."""
    wanted = list(request.bricks)
    if not wanted and request.brick_list is None and request.bricks_table and counts is not None:
        wanted = counts.bricknames.tolist()
    units = source.list_units(wanted or None, request.brick_list)
    names = np.array(units.names, dtype=object)
    done, withdrawn = _settled(settings, source, request, names)
    todo = names[~(done | withdrawn)]
    left_out = Counter(units.skipped.values())
    if withdrawn.any():
        left_out[WITHDRAWN] = int(withdrawn.sum())
    candidates = _candidates(request, counts, todo)
    work = Work(
        release=request.survey[0],
        listed=len(names) + len(units.skipped),
        left_out=dict(left_out),
        done=int(done.sum()),
        candidates=np.ones(len(todo)) if candidates is None else candidates,
        counted=candidates is not None,
        fetched=isinstance(source, RemoteBrickSource),
    )
    return todo, work


def _settled(
    settings: Settings,
    source: BrickSource | RemoteBrickSource,
    request: PlanRequest,
    names: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Tell which bricks the ledger has with this configuration, and which were withdrawn."""
    neither = np.zeros(len(names), bool)
    folder = repository_place(settings.store_path, SURVEY_REPOSITORY)
    if not repository_exists(folder):
        return neither, neither
    session, survey = read_session(open_repository(folder)), "/".join(request.survey)
    if survey not in list_surveys(session):
        return neither, neither
    stored, asked = read_layout(session, survey), source.layout()
    if stored != asked:
        raise SchemaMismatch(
            f"survey {survey} in {settings.store_path} has {stored.size} pixel cutouts in "
            f"{''.join(stored.bands)}, asked for are {asked.size} pixel in {''.join(asked.bands)}: "
            "use the survey's own settings, or another store (BRICKYARD_STORE)"
        )
    if request.again:
        return neither, neither
    table = ledger(session, survey, ("state", "config_digest"))
    state = table["state"].to_numpy()
    same = (table["config_digest"] == source.config_digest()).to_numpy()
    done, withdrawn = (
        pd.Index(names).isin(table.index[which])
        for which in (np.isin(state, COMPLETE) & same, state == int(BrickState.WITHDRAWN))
    )
    return np.asarray(done), np.asarray(withdrawn)


def _candidates(
    request: PlanRequest, counts: RegionCounts | None, names: npt.NDArray[Any]
) -> npt.NDArray[np.float64] | None:
    """Return the objects of the right types of every brick; one not in the table gets the mean."""
    counted = None if counts is None else counts.candidates(request.config.selection)
    if counts is None or counted is None:
        return None
    rows = counts.match(names)
    if (rows < 0).all():
        return None
    mean = float(counted[rows[rows >= 0]].mean())
    return np.where(rows >= 0, counted[rows], mean)


def _here(
    source: BrickSource | RemoteBrickSource, request: PlanRequest, names: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Tell which bricks the source has: a table may list some that are not in the folder yet."""
    if isinstance(source, RemoteBrickSource) or request.bricks_table is None or not len(names):
        return np.ones(len(names), bool)
    return np.asarray(pd.Index(names).isin(source.list_units(None).names))


def _measure(
    settings: Settings,
    request: PlanRequest,
    names: npt.NDArray[Any],
    candidates: npt.NDArray[np.float64],
) -> Measurements:
    if request.calibrate == 0 or not len(names):
        return Measurements()
    sample = _sample(candidates, request.calibrate * CATALOGUES_PER_BRICK)
    job = CalibrationJob(
        settings=settings,
        source=request.source,
        survey=request.survey,
        config=request.config,
        candidates={str(names[place]): float(candidates[place]) for place in sample},
        bricks=request.calibrate,
        fetch=request.fetch,
    )
    return calibrate(job)


def _sample(candidates: npt.NDArray[np.float64], number: int) -> list[int]:
    """Choose bricks evenly from poor to rich ones: the same every time, and spread over the sky."""
    order = np.argsort(candidates, kind="stable")
    if len(order) > number:
        order = order[((np.arange(number) + 0.5) * len(order) / number).astype(np.int64)]
    return [int(place) for place in order]
