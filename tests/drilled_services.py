"""Services of `brickyard up` for failure drills: real processes, killed and started again.

The Dask worker lives in the process of the tests, so that a run can be held while it writes its
third brick: what is killed is always killed at the same place, and every call is counted.
"""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
from distributed import LocalCluster
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from tiny_bricks import TinyBrick

import tasks.brick_worker
import tasks.finetuning
from flows.deployments import register_deployments
from flows.processes import free_port
from flows.services import configure_environment
from flows.stack import Ports, ServiceState, Stack, read_stack, services_of
from storage.brick import IngestConfig
from storage.brick_store import ledger, read_objects
from storage.bricks import brick_at, brick_from_id
from storage.cutouts import CutoutConfig
from storage.repository import open_repository, read_session

SURVEY, BRICKS, PER_BRICK, HELD = "dr10/south", 4, 3, 3
CONFIG = IngestConfig(cutout=CutoutConfig(size=8, edge="drop"))
PARAMETERS = {
    "config": {"cutout": {"size": 8, "edge": "drop"}},
    "run": {"bricks_per_commit": 1},
}
PATIENCE = 180  # seconds; a busy machine needs half a minute to import a flow
SETTINGS = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "1",
    "OMP_NUM_THREADS": "1",
}
SILENCE = 50  # seconds without a heartbeat (one comes every 30) that this test calls a crash
WAITING = "AwaitingConcurrencySlot"


class Gate:
    """Stands in for the function that writes cutouts; holds the third brick, counts all."""

    def __init__(self) -> None:
        self._write = tasks.brick_worker.write_cutouts
        self.calls: Counter[int] = Counter()
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, session, survey, rows, dataset) -> None:
        self.calls[int(dataset["brickid"][0])] += 1
        if len(self.calls) == HELD:
            self.reached.set()
            self.opened.wait()
        self._write(session, survey, rows, dataset)


@dataclass
class Services:
    """What `brickyard up` runs for a home, and the store of the present drill."""

    home: Path
    source: Path
    prefect: str
    mlflow: str
    store: Path = field(default=Path())

    def kill(self, name: str) -> ServiceState:
        """Kill a service and its children, as a machine that runs out of memory may."""
        [found] = [state for state in read_stack(self.home) if state.name == name]
        os.killpg(found.pid, signal.SIGKILL)
        return found

    def is_back(self, before: ServiceState) -> bool:
        """Say whether a killed service was started again and answers."""
        return any(
            state.name == before.name and state.pid != before.pid and state.answers
            for state in read_stack(self.home)
        )

    def start_run(self) -> UUID:
        """Ask for an ingest by its deployment, as a schedule or a click in the browser does."""
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("ingest-bricks/ingest")
            run = client.create_flow_run_from_deployment(
                deployment.id,
                parameters={"source": str(self.source), **PARAMETERS},
                job_variables={"env": {"BRICKYARD_STORE": str(self.store)}},
            )
        return run.id

    def slots_taken(self) -> int:
        """Return how many runs of the deployment the server believes to be under way."""
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("ingest-bricks/ingest")
        return int(deployment.global_concurrency_limit.active_slots)

    def table(self):
        """Return the ledger of the store."""
        session = read_session(open_repository(self.store / "survey"))
        return ledger(session, SURVEY, ("state", "n_objects"))

    def done(self) -> int:
        """Return how many bricks are in the store with their objects."""
        return int((self.table()["n_objects"] > 0).sum())

    def assert_whole(self) -> None:
        """Every brick is there once, with its objects, each once."""
        session = read_session(open_repository(self.store / "survey"))
        objects = read_objects(session, SURVEY, catalogue=False)
        assert len(objects) == BRICKS * PER_BRICK
        assert not objects.duplicated(["brickid", "objid"]).any()
        counts = objects.groupby("brickname").size().to_dict()
        assert counts == dict.fromkeys(self.table().index, PER_BRICK)


def wait_until(what: str, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {PATIENCE} s: {what}")
        time.sleep(0.1)


def read_run(run_id: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_id)


def state_of(run_id: UUID) -> str:
    return str(read_run(run_id).state.name)


def wait_for_state(run_id: UUID, name: str) -> None:
    wait_until(f"the run is {name}", lambda: state_of(run_id) == name)


@contextmanager
def worker_in_this_process() -> Iterator[LocalCluster]:
    """Run a Dask worker in this process, where its functions can be replaced."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=4,
        processes=False,
        protocol="tcp://",
        dashboard_address=":0",
    ) as local:
        yield local


@contextmanager
def running_services(cluster: LocalCluster, folder: Path) -> Iterator[Services]:
    """Run Prefect, MLflow and a worker as `brickyard up` does, deployments and all."""
    home, source, ended = folder / "home", folder / "south", threading.Event()
    first = brick_at(150.0, 2.0).brickid
    for number in range(BRICKS):
        TinyBrick(source, brick=brick_from_id(first + number)).write()
    ports = Ports(free_port(), free_port(), free_port())
    prefect, mlflow, worker, *_ = services_of(home, ports)
    stack = Stack(home, lambda _: None)
    watching = threading.Thread(target=stack.watch, args=(lambda: not ended.is_set(),))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PREFECT_API_URL", "PREFECT_HOME", "BRICKYARD_TRACKING_URI"):
            patch.delenv(name, raising=False)
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        patch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
        patch.setattr("flows.processes.START_SECONDS", 300)  # on a machine that is overloaded
        configure_environment(home)
        try:
            stack.start(prefect)
            register_deployments(home, f"{prefect.url}/api")
            stack.start(worker)
            stack.start(mlflow)
            watching.start()
            with temporary_settings({PREFECT_API_URL: f"{prefect.url}/api"}):
                yield Services(home, source, prefect.url, mlflow.url)
        finally:
            ended.set()
            if watching.is_alive():
                watching.join()
            stack.stop()


def hold_a_run(services: Services, gate: Gate) -> UUID:
    """Start a run and return when it writes its third brick: two are committed."""
    run_id = services.start_run()
    wait_until("the run writes its third brick", gate.reached.is_set)
    assert services.done() == HELD - 1
    return run_id
