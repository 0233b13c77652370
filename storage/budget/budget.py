"""The arithmetic of a budget: from work, measurements and workers to objects, bytes and hours."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from storage.budget import facts
from storage.budget.estimates import Estimate, exactly, total_of
from storage.budget.facts import Measurements
from storage.ingest_config import IngestConfig
from storage.schema import SHARD_ROWS, padded_rows


@dataclass(frozen=True)
class Work:
    """Which bricks there are to do.

    Parameters
    ----------
    release : str
        Such as "dr10"; decides the published averages.
    listed : int
        Bricks asked for.
    left_out : mapping of str to int
        Of these, bricks that cannot hold a selected object, or were withdrawn, by reason.
    done : int
        Of these, bricks that the ledger has with the same configuration.
    candidates : ndarray, shape (brick,), float64
        For every brick to do, the objects of the right types by the bricks table; else ones.
    counted : bool
        Whether `candidates` are counts of a table.
    fetched : bool
        Whether files come from a remote source.
    absent : int
        Bricks to do that are not in the source's folder yet.
    """

    release: str
    listed: int
    left_out: Mapping[str, int]
    done: int
    candidates: NDArray[np.float64]
    counted: bool
    fetched: bool
    absent: int = 0

    @property
    def bricks(self) -> int:
        """Number of bricks to do."""
        return len(self.candidates)


@dataclass(frozen=True)
class Parallel:
    """How the work is spread: worker processes, threads of each, cores, bricks in a commit."""

    workers: int
    threads: int
    cores: int
    bricks_per_commit: int

    @property
    def lanes(self) -> int:
        """Bricks that are worked on at a time, as far as there are cores."""
        return max(1, min(self.workers * self.threads, self.cores))


@dataclass(frozen=True)
class Budget:
    """What an ingest will cost.

    ``seconds`` and ``worker_bytes`` are None where nothing was measured. ``staging_bytes`` is what
    fetched files take at a time; ``object_rows`` counts rows of the object axis with their padding,
    ``database_rows`` those of the Prefect database. ``notes`` say what each number rests on.
    """

    bricks: int
    objects: Estimate
    read_bytes: Estimate
    fetch_bytes: Estimate
    staging_bytes: Estimate
    store_bytes: Estimate
    seconds: Estimate | None
    worker_bytes: float | None
    commits: int
    ledger_rows: int
    object_rows: int
    database_rows: int
    notes: tuple[str, ...]


def budget_of(
    work: Work, config: IngestConfig, measured: Measurements, parallel: Parallel
) -> Budget:
    """Return what an ingest will cost; published averages stand in for what was not measured."""
    notes: list[str] = []
    objects = _objects(work, config, measured, notes)
    read_bytes = _read_bytes(work, measured, notes)
    if measured.costs:
        notes.append(f"time, memory and bytes to store: {_told(measured)}")
    parts = -(-work.bricks // parallel.bricks_per_commit)
    commits = 2 * parts  # rows are given in one commit, cutouts follow in the next
    in_hand = min(1.0, parallel.bricks_per_commit / max(work.bricks, 1))
    fetched = _with_neighbours(read_bytes, measured, notes) if work.fetched else exactly(0.0)
    return Budget(
        bricks=work.bricks,
        objects=objects,
        read_bytes=read_bytes,
        fetch_bytes=fetched,
        staging_bytes=fetched.times(in_hand),
        store_bytes=_store_bytes(work, config, measured, objects, commits),
        seconds=_seconds(work, measured, objects, parallel, parts),
        worker_bytes=_worker_bytes(measured, parallel),
        commits=commits,
        ledger_rows=work.bricks,
        object_rows=_object_rows(work, objects),
        # the flow, the comparison with the ledger, the partitions and the closing receipt
        database_rows=facts.PREFECT_ROWS_PER_RUN * (parts + 3),
        notes=tuple(notes),
    )


def _objects(
    work: Work, config: IngestConfig, measured: Measurements, notes: list[str]
) -> Estimate:
    """Return the cutouts to come: what the catalogues of a sample give, less what has no cutout."""
    if not work.bricks:
        return exactly(0.0)
    total = float(work.candidates.sum())
    if measured.catalogues:
        selected = [count.selected for count in measured.catalogues]
        sizes = [count.candidates for count in measured.catalogues]
        what = "objects of the bricks table" if work.counted else "bricks"
        notes.append(f"objects: catalogues of {len(sizes)} bricks, scaled by {what}")
        scaled = total_of(selected, sizes, total, work.bricks).times(*_kept_share(work, measured))
        cut = float(sum(cost.objects for cost in measured.costs))
        return replace(scaled, low=min(scaled.best, max(scaled.low, cut)))
    if measured.costs:  # no catalogue: only the pixels told
        found = [cost.objects for cost in measured.costs]
        notes.append(f"objects: found in the pixels of {len(found)} bricks")
        return total_of(found, [1.0] * len(found), float(work.bricks), work.bricks)
    magnitude = config.selection.max_mag
    share = facts.SELECTED_SHARE
    if magnitude is not None:
        share *= 10 ** (facts.COUNTS_SLOPE * (magnitude - facts.REFERENCE_MAG))
    catalogued = total if work.counted else work.bricks * _published(facts.CATALOGUED, work.release)
    most = catalogued if magnitude is None else min(catalogued, catalogued * share)
    notes.append(
        "objects: nothing was read; published averages (76.17 million with z < 20 among 1,970 "
        "million of DR9), good to a factor of 2"
    )
    return exactly(most).times(1 / facts.BLIND_FACTOR, 1.0, facts.BLIND_FACTOR)


def _kept_share(work: Work, measured: Measurements) -> tuple[float, float, float]:
    """Return the cutouts over the selected objects, of the bricks that were cut: edges cost some.

    There is no range where all were cut; else what is lost may be off by `facts.LOSS_FACTOR`.
    """
    selected = {count.brickname: count.selected for count in measured.catalogues}
    both = [(cost.objects, selected.get(cost.brickname, 0)) for cost in measured.costs]
    expected = sum(selected for _, selected in both)
    if not expected:
        return 1.0, 1.0, 1.0
    kept = sum(objects for objects, selected in both if selected) / expected
    if len(both) >= work.bricks:
        return kept, kept, kept
    lost = 1.0 - kept
    return max(0.0, 1.0 - lost * facts.LOSS_FACTOR), kept, 1.0 - lost / facts.LOSS_FACTOR


def _told(measured: Measurements) -> str:
    number = len(measured.costs)
    seconds = sum(c.plan_seconds + c.read_seconds + c.write_seconds for c in measured.costs)
    objects = sum(cost.objects for cost in measured.costs)
    return (
        f"{number} bricks read and written by one process, {seconds / number:.2g} s and "
        f"{objects / number:.0f} objects each, beside what else the machine was doing"
    )


def _with_neighbours(read_bytes: Estimate, measured: Measurements, notes: list[str]) -> Estimate:
    """Add the files of neighbouring bricks that cutouts at the edge take pixels from.

    Adjoining bricks of one commit share them: a row of bricks needs those above and below, two for
    each brick; far from one another, bricks share none.
    """
    if not any(measured.neighbours.values()):
        return read_bytes
    each = sum(measured.neighbours.values()) / len(measured.neighbours)
    notes.append(f"bytes to fetch: with neighbours for cutouts at the edge, {each:.2g} a brick")
    return read_bytes.times(1.0, 1.0 + min(each, 2.0), 1.0 + each)


def _read_bytes(work: Work, measured: Measurements, notes: list[str]) -> Estimate:
    sizes = [float(size) for size in measured.file_bytes.values()]
    if not work.bricks:
        return exactly(0.0)
    if sizes:
        notes.append(f"bytes to read: sizes of the files of {len(sizes)} bricks")
        return total_of(sizes, [1.0] * len(sizes), float(work.bricks), work.bricks)
    notes.append("bytes to read: published averages of the release's folders")
    coadds = exactly(_published(facts.COADD_BYTES, work.release)).times(*facts.COADD_SHARE)
    catalogue = exactly(_published(facts.TRACTOR_BYTES, work.release))
    return (coadds + catalogue).times(float(work.bricks))


def _store_bytes(
    work: Work, config: IngestConfig, measured: Measurements, objects: Estimate, commits: int
) -> Estimate:
    fixed = exactly(work.bricks * facts.LEDGER_BYTES + commits * facts.COMMIT_BYTES)
    stored = sum(cost.objects for cost in measured.costs)
    if stored:
        rates = [cost.store_bytes / cost.objects for cost in measured.costs if cost.objects]
        mean = sum(cost.store_bytes for cost in measured.costs) / stored
        spread = 0.0 if len(measured.costs) >= work.bricks else facts.RATE_SPREAD
        return objects.times(min(rates) * (1 - spread), mean, max(rates) * (1 + spread)) + fixed
    pixels = len(config.bands) * config.cutout.size**2
    low, best, high = (pixels * rate for rate in facts.STORED_BYTES_PER_PIXEL)
    return objects.times(low, best, high) + fixed


def _seconds(
    work: Work, measured: Measurements, objects: Estimate, parallel: Parallel, parts: int
) -> Estimate | None:
    """Return the wall time: bricks side by side, one after the other where they are fetched."""
    costs, number = measured.costs, work.bricks
    if not number:
        return exactly(0.0)
    if not costs:
        return None
    ones = [1.0] * len(costs)
    reading = [cost.plan_seconds + cost.read_seconds for cost in costs]
    read = total_of(reading, ones, float(number), number)
    # Reading goes with the bricks, writing with the rows: shards are compressed whole.
    written = sum(padded_rows(cost.objects) for cost in costs)
    a_row = sum(cost.write_seconds for cost in costs) / max(written, 1)
    rows_an_object = _object_rows(work, objects) / max(objects.best, 1.0)
    computing = read + objects.times(rows_an_object * a_row)
    fetching = total_of([cost.fetch_seconds for cost in costs], ones, float(number), number)
    committing = exactly(parts * sum(cost.commit_seconds for cost in costs) / len(costs))
    side_by_side = (computing + fetching).times(1 / parallel.lanes)
    # Workers share the connections to the server: all bricks take at least their fetching in turn.
    low = side_by_side.low * facts.WALL_OVER_PARTS[0]
    best = max(side_by_side.best * facts.WALL_OVER_PARTS[1], fetching.best)
    high = computing.high / parallel.lanes * facts.WALL_OVER_PARTS[2] + fetching.high
    return (
        Estimate(min(low, best), best, max(best, high))
        + committing
        + Estimate(*facts.START_SECONDS)
    )


def _worker_bytes(measured: Measurements, parallel: Parallel) -> float | None:
    """Return the memory of a worker; each of its threads holds a brick."""
    if not measured.peak_bytes or not measured.costs:
        return None
    return measured.peak_bytes * facts.PEAK_FACTOR * parallel.threads


def _object_rows(work: Work, objects: Estimate) -> int:
    """Return rows with padding: every brick owns whole shards."""
    total = float(work.candidates.sum())
    if total <= 0:
        return 0
    per_brick = work.candidates * (objects.best / total)
    return int((np.ceil(per_brick / SHARD_ROWS) * SHARD_ROWS).sum())


def _published(averages: Mapping[str, float], release: str) -> float:
    return averages.get(release, max(averages.values()))
