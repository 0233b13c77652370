"""Dask: where thousands of small units of work run. Clusters, clients and their errors.

A flow opens a cluster and passes its *address* on; tasks connect to the address, submit one call
per brick or partition and read the results as they come. Pixels never travel: workers get names
and references, and read and write by themselves.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from distributed import Client, LocalCluster, as_completed

from tasks.errors import TaskError
from tasks.settings import Settings

T = TypeVar("T")

# A brick is megabytes of FITS decoded by libraries that hold the GIL for seconds; the default
# warnings about unresponsive event loops would only be noise.
DASK_CONFIG = {
    "distributed.admin.tick.limit": "60s",
    "distributed.worker.daemon": False,
    "distributed.scheduler.worker-saturation": 1.1,
    "distributed.comm.retry.count": 3,
}


class SchedulerUnreachable(TaskError, ConnectionError):
    """No Dask scheduler answers at the configured address."""


@contextmanager
def open_cluster(settings: Settings, *, needed: bool = True) -> Iterator[str]:
    """Yield the address of a scheduler: the configured one, else a local cluster of processes.

    Parameters
    ----------
    settings : Settings
        `scheduler` names an address; when it is empty, `workers` local processes are started and
        stopped again on leaving.
    needed : bool
        Where there is no work, start nothing and yield an empty address.

    Raises
    ------
    SchedulerUnreachable
        If the configured scheduler does not answer within `connect_timeout` seconds.
    """
    if not needed:
        yield ""
        return
    if settings.scheduler:
        with connect(settings.scheduler, settings.connect_timeout):
            pass
        yield settings.scheduler
        return
    with (
        dask.config.set(DASK_CONFIG),
        LocalCluster(
            n_workers=settings.workers,
            threads_per_worker=settings.threads_per_worker,
            processes=True,
            dashboard_address=":0",
        ) as cluster,
    ):
        yield cluster.scheduler_address


@contextmanager
def connect(address: str, timeout: float = 10.0) -> Iterator[Client]:
    """Yield a client of the scheduler at `address`.

    Raises
    ------
    SchedulerUnreachable
        If nothing answers within `timeout` seconds.
    """
    try:
        client = Client(address, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise SchedulerUnreachable(
            f"no Dask scheduler answers at {address!r} within {timeout:g} s ({error}). Start one "
            "(`dask scheduler`), correct BRICKYARD_SCHEDULER, or unset it to use a local cluster."
        ) from error
    try:
        yield client
    finally:
        client.close()


def run_units(
    client: Client, function: Callable[..., T], units: Iterable[tuple[Any, ...]]
) -> Iterator[tuple[int, T | BaseException]]:
    """Run `function(*unit)` for each unit on the workers and yield results as they come.

    Parameters
    ----------
    client : Client
        From `connect`.
    function : callable
        A top-level function; its arguments and result are pickled, so they are references.
    units : iterable of tuple
        Arguments, one tuple a call.

    Yields
    ------
    index, result : tuple
        The position of the unit and what the call returned, or the exception that it raised (a
        lost worker included): one bad unit never takes the others with it.
    """
    futures = {
        client.submit(function, *unit, pure=False, retries=1): index
        for index, unit in enumerate(units)
    }
    for future in as_completed(futures, loop=client.loop):
        error = future.exception()
        yield futures[future], (error if error is not None else future.result())
        future.release()
