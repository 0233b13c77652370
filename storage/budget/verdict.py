"""Does it fit: a budget against the disk and memory of a machine, with advice where it does not."""

import math
from dataclasses import dataclass

from storage.budget import facts
from storage.budget.budget import Budget, Parallel

DISK_RESERVE = 0.02  # of the free space: a full disk harms more than this run
PAUSE_FRACTION = 0.8  # Dask stops giving work to a worker at this share of its limit


@dataclass(frozen=True)
class Machine:
    """What there is now, in bytes.

    Parameters
    ----------
    store, staging : str
        The folders.
    store_free, staging_free : float
        Free space of their disks.
    one_disk : bool
        Whether both folders are on the same disk.
    memory_free : float or None
        Memory that processes can take now; None where workers have no limit that is known here.
    worker_limit : float or None
        Memory at which Dask ends a worker; None where there is no such limit.
    """

    store: str
    staging: str
    store_free: float
    staging_free: float
    one_disk: bool
    memory_free: float | None
    worker_limit: float | None


@dataclass(frozen=True)
class Obstacle:
    """Something in the way. A fatal one refuses the run; the other may turn out harmless."""

    fatal: bool
    what: str
    advice: str


def obstacles(budget: Budget, machine: Machine, parallel: Parallel) -> tuple[Obstacle, ...]:
    """Return what is in the way of a run: none means that it fits.

    A disk that cannot take the best estimate is fatal; one that could not take the high end of the
    range is a warning. For memory the measured peak counts.
    """
    found = [*_disk(budget, machine), *_memory(budget, machine, parallel)]
    return tuple(sorted(found, key=lambda obstacle: not obstacle.fatal))


def size_text(number: float) -> str:
    """Return bytes in the unit that suits them, decimal as disks are sold: 1.5 GB."""
    if math.isinf(number):
        return "no limit known"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.4g} PB"


def _disk(budget: Budget, machine: Machine) -> list[Obstacle]:
    store, staging = budget.store_bytes, budget.staging_bytes
    if machine.one_disk:
        both = store + staging
        return _full(budget, both.best, both.high, machine.store_free, _STORE.format(machine.store))
    return [
        *_full(budget, store.best, store.high, machine.store_free, _STORE.format(machine.store)),
        *_full(
            budget,
            staging.best,
            staging.high,
            machine.staging_free,
            f"fetched files in {machine.staging} (BRICKYARD_STAGING names another folder)",
        ),
    ]


_STORE = "the store in {} (BRICKYARD_STORE names another folder)"


def _full(budget: Budget, best: float, high: float, free: float, where: str) -> list[Obstacle]:
    usable = free * (1 - DISK_RESERVE)
    if high <= usable or best <= 0:
        return []
    bricks = int(budget.bricks * usable / best)
    fatal = best > usable
    need = best if fatal else high
    what = f"disk: {size_text(free)} are free for {where}, "
    what += f"{size_text(need)} are needed" + ("" if fatal else " if the estimate is low")
    advice = (
        f"about {bricks} of {budget.bricks} bricks fit: take fewer (--bricks-from, a footprint, a "
        "brighter --max-mag, a smaller --size), free space, or use a larger disk"
    )
    return [Obstacle(fatal, what, advice)]


def _memory(budget: Budget, machine: Machine, parallel: Parallel) -> list[Obstacle]:
    each = budget.worker_bytes
    if each is None:
        return []
    found = []
    need = each * parallel.workers + facts.COORDINATOR_BYTES
    if machine.memory_free is not None and need > machine.memory_free:
        fit = int((machine.memory_free - facts.COORDINATOR_BYTES) / each)
        advice = (
            f"{fit} workers fit: use --workers {fit}"
            if fit >= 1
            else "not even one worker fits: end other programs, or use a machine with more memory"
        )
        what = (
            f"memory: {parallel.workers} workers of {size_text(each)} and "
            f"{size_text(facts.COORDINATOR_BYTES)} beside them are needed, "
            f"{size_text(machine.memory_free)} are free"
        )
        found.append(Obstacle(True, what, advice))
    if machine.worker_limit is not None and each > machine.worker_limit * PAUSE_FRACTION:
        what = (
            f"memory: a worker needs {size_text(each)}, and Dask stops one that takes "
            f"{size_text(machine.worker_limit * PAUSE_FRACTION)}"
        )
        advice = (
            "Dask gives every worker its threads' share of memory and cores: use a machine with "
            "more memory a core, or start a scheduler and workers with a higher --memory-limit "
            "and name it in BRICKYARD_SCHEDULER"
        )
        found.append(Obstacle(True, what, advice))
    return found
