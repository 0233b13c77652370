"""What this machine has now: free disk, free memory, cores; and the peak memory of a process."""

import math
import os
import resource
import shutil
import sys
from pathlib import Path

from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from storage.budget import Machine
from storage.object_storage import is_object_storage
from tasks.settings import Settings

_MEMINFO = Path("/proc/meminfo")
_STATUS = Path("/proc/self/status")
_KIB = 1024


def cores() -> int:
    """Return the cores that this process may use."""
    return int(CPU_COUNT)


def look_at(settings: Settings) -> Machine:
    """Return what is free for the store, for fetched files and for workers."""
    staging = existing_parent(settings.staging_path)
    remote = is_object_storage(settings.store_path)  # has room: whoever lends it says when not
    store = staging if remote else existing_parent(settings.store_path)
    return Machine(
        store=settings.store_path,
        staging=str(settings.staging_path),
        store_free=math.inf if remote else shutil.disk_usage(store).free,
        staging_free=shutil.disk_usage(staging).free,
        one_disk=not remote and os.stat(store).st_dev == os.stat(staging).st_dev,
        memory_free=free_memory(),
        worker_limit=_limit_of_a_worker(settings) if is_here(settings) else None,
    )


def is_here(settings: Settings) -> bool:
    """Tell whether workers will be processes of this machine."""
    return not settings.scheduler and settings.cluster == "local"


def existing_parent(path: str | Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    folder = Path(path).resolve()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def free_memory() -> float:
    """Return the memory [bytes] that processes can take now, within the limit of a container."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:  # not Linux: what is installed
        return float(MEMORY_LIMIT)
    available = next(line for line in lines if line.startswith("MemAvailable:"))
    return min(float(available.split()[1]) * _KIB, float(MEMORY_LIMIT))


def peak_memory() -> int:
    """Return the largest resident memory [bytes] of this process so far."""
    if _STATUS.is_file():
        # ru_maxrss would include what the parent had when it started this process.
        peak = next(
            (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")), None
        )
        if peak is not None:
            return int(peak.split()[1]) * _KIB
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * _KIB


def _limit_of_a_worker(settings: Settings) -> float:
    """Return the memory limit that Dask gives a worker of a local cluster by default."""
    return float(MEMORY_LIMIT * min(1.0, settings.threads_per_worker / cores()))
