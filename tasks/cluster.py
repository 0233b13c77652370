"""Dask: where thousands of small units of work run. Clusters, clients and their errors.

A flow opens a cluster and passes its *address* on; tasks connect to the address, submit one call
per brick or partition and read the results as they come. Pixels never travel: workers get names
and references, and read and write by themselves.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from distributed import Client, KilledWorker, as_completed
from distributed.client import FutureCancelledError
from prefect.artifacts import create_link_artifact
from prefect.context import FlowRunContext

from tasks.clusters import HOUSEKEEPING, WORKER_ENVIRONMENT, start_cluster
from tasks.errors import TaskError
from tasks.logs import current_run, in_run
from tasks.settings import Settings

logger = logging.getLogger(__name__)
DASHBOARD_ARTIFACT = "dask-dashboard"
T = TypeVar("T")

# A brick is megabytes of FITS decoded by libraries that hold the GIL for seconds; the default
# warnings about unresponsive event loops would only be noise.
DASK_CONFIG = {
    "distributed.admin.tick.limit": "60s",
    "distributed.worker.daemon": False,
    # A unit that waits on a worker that is busy with another is lost with that worker.
    "distributed.scheduler.worker-saturation": 1.0,
    # A result that was lost with its worker is made again at once. Each retry would ask the dead
    # worker for another 30 s, and nobody else is heard meanwhile.
    "distributed.comm.retry.count": 0,
    # A killed worker is started again by its nanny. On a busy machine that takes longer than the
    # 15 s after which a cluster gives the nanny up, and nobody would do what is left.
    "distributed.deploy.lost-worker-timeout": "120s",
    **HOUSEKEEPING,
} | {f"distributed.nanny.pre-spawn-environ.{name}": v for name, v in WORKER_ENVIRONMENT.items()}


class SchedulerUnreachable(TaskError, ConnectionError):
    """No Dask scheduler answers at the configured address, or it was lost during work."""


class NoWorkers(TaskError, TimeoutError):
    """A scheduler answers, but has no worker to give work to."""


@contextmanager
def open_cluster(settings: Settings, *, needed: bool = True) -> Iterator[str]:
    """Yield the address of a scheduler that has workers.

    Parameters
    ----------
    settings : Settings
        `scheduler` names an address; when it is empty, a cluster of the kind `cluster` with
        `workers` workers is started, and stopped again on leaving.
    needed : bool
        Where there is no work, start nothing and yield an empty address.

    Raises
    ------
    SchedulerUnreachable
        If the configured scheduler does not answer within `connect_timeout` seconds.
    NoWorkers
        If no worker has come within `worker_timeout` seconds.
    """
    if not needed:
        yield ""
        return
    if settings.scheduler:
        _await_worker(settings.scheduler, settings)
        yield settings.scheduler
        return
    with dask.config.set(DASK_CONFIG), start_cluster(settings) as cluster:
        _await_worker(cluster.scheduler_address, settings)
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
    calls = dict(enumerate(units))
    suspects = []
    for index, result in _results(client, function, calls):
        if isinstance(result, KilledWorker):
            suspects.append(index)
        else:
            yield index, result
    # Workers died of one of these; the others waited in the same workers. Alone, each tells.
    for index in suspects:
        yield from _results(client, function, {index: calls[index]})


def _results(
    client: Client, function: Callable[..., T], calls: Mapping[int, tuple[Any, ...]]
) -> Iterator[tuple[int, T | BaseException]]:
    run = current_run()
    futures = {
        client.submit(in_run, run, function, *arguments, pure=False, retries=1): index
        for index, arguments in calls.items()
    }
    for future in as_completed(futures, loop=client.loop):
        try:
            error = future.exception()
            result = error if error is not None else future.result()
        except FutureCancelledError as lost:
            raise SchedulerUnreachable(
                f"the Dask scheduler was lost while work was under way ({lost.reason}): nothing of "
                "this commit was written, what was committed before is safe. Start the scheduler "
                "and its workers, then run the same command again"
            ) from lost
        yield futures[future], result
        future.release()


def _await_worker(address: str, settings: Settings) -> None:
    """Wait for the first worker: without one, work would be queued for ever and nobody told."""
    with connect(address, settings.connect_timeout) as client:
        try:
            client.wait_for_workers(1, timeout=settings.worker_timeout)
            _tell_dashboard(client.dashboard_link)
        except TimeoutError as error:
            raise NoWorkers(
                f"the scheduler at {address} has no worker after {settings.worker_timeout:g} s: "
                "start one (`dask worker`), look into the job queue, or raise "
                "BRICKYARD_WORKER_TIMEOUT"
            ) from error


def _tell_dashboard(link: str) -> None:
    """Say in the log, and on the page of the flow run, where the work can be watched."""
    logger.info("Dask dashboard: %s", link)
    if link and FlowRunContext.get() is not None:
        create_link_artifact(link, key=DASHBOARD_ARTIFACT, description="while the run goes on")
