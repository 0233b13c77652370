"""Everything of the embedded default at once: Prefect, MLflow, two workers, the review desk.

`run_stack` starts them in order, watches them, starts again what dies, and stops them in reverse
order. What runs is recorded in the home folder, so that other terminals find it.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.deployments import POOLS, project_folder, register_deployments
from flows.processes import (
    Service,
    ServiceFailed,
    Tell,
    answers,
    is_free,
    signal_group,
    start,
    stop,
    wait_until_gone,
    wait_until_ready,
)
from flows.services import SERVER_RECORD, prefect_service
from tasks.alive import is_alive
from tasks.first_opening import first_opening
from tasks.whole_files import whole_file

STACK_RECORD = "services.json"
RESTARTS = 5  # of one service; one that keeps dying needs a person
PAUSE_SECONDS = 2.0  # before the first restart; doubled for each further one
WATCH_SECONDS = 1.0
QUIET_SECONDS = 600.0  # a service that ran this long has its restarts forgotten
# Of runs of deployments: flows/automations/crash-silent-runs.yaml ends those that fell silent.
HEARTBEAT_SECONDS = "30"


@dataclass(frozen=True)
class Ports:
    """Ports of 127.0.0.1 for the pages of the stack; each program's own default."""

    prefect: int = 4200
    mlflow: int = 5000
    desk: int = 8642


@dataclass
class _Running:
    """A service of the stack, its process, and how often it was started again."""

    service: Service
    process: "subprocess.Popen[bytes]"
    since: float = field(default_factory=time.monotonic)
    restarts: int = 0


def services_of(home: Path, ports: Ports) -> list[Service]:
    """Return the services of a home folder, in the order in which they are started."""
    prefect = prefect_service(home, ports.prefect)
    reach = {"PREFECT_API_URL": f"{prefect.url}/api", "BRICKYARD_HOME": str(home.resolve())}
    return [
        prefect,
        _mlflow(home, ports.mlflow),
        *(_worker(home, pool, reach) for pool in POOLS),
        _desk(home, ports, reach),
    ]


@contextmanager
def run_stack(home: Path, ports: Ports, tell: Tell) -> Iterator["Stack"]:
    """Run the stack of a home folder while the block runs.

    Parameters
    ----------
    tell : callable
        Given a sentence when something starts, dies or stops.

    Raises
    ------
    ServiceFailed
        If a stack of this home folder runs already, a port is taken, or a service does not start.
    """
    home.mkdir(parents=True, exist_ok=True)
    _refuse_second(home)
    _check_ports(ports)
    stack = Stack(home, tell)
    try:
        prefect, mlflow, *others = services_of(home, ports)
        stack.start(prefect)
        tell("registering deployments")
        register_deployments(home, f"{prefect.url}/api")
        with first_opening(home):  # it may create the database that a command opens meanwhile
            stack.start(mlflow)
        for service in others:
            stack.start(service)
        yield stack
    finally:
        stack.stop()


class Stack:
    """The services that run for a home folder."""

    def __init__(self, home: Path, tell: Tell) -> None:
        self._home, self._tell = home, tell
        self._running: list[_Running] = []

    def start(self, service: Service) -> None:
        """Start a service and return when it answers."""
        self._tell(f"starting {service.name}")
        item = _Running(service, start(service))
        self._running.append(item)
        self._record()
        wait_until_ready(item.process, service, self._tell)

    def watch(self, forever: Callable[[], bool]) -> None:
        """Start again what dies, as long as `forever()` is true.

        Raises
        ------
        ServiceFailed
            When a service died `RESTARTS` times.
        """
        while forever():
            for item in self._running:
                if item.process.poll() is not None:
                    self._restart(item)
            time.sleep(WATCH_SECONDS)

    def stop(self) -> None:
        """Stop all services, the last started first."""
        for item in reversed(self._running):
            self._tell(f"stopping {item.service.name}")
            stop(item.process)
        self._running.clear()
        for name in (STACK_RECORD, SERVER_RECORD):
            (self._home / name).unlink(missing_ok=True)

    def _restart(self, item: _Running) -> None:
        if time.monotonic() - item.since > QUIET_SECONDS:
            item.restarts = 0
        if item.restarts == RESTARTS:
            raise ServiceFailed(
                f"{item.service.name} died {RESTARTS + 1} times; see {item.service.log}"
            )
        self._tell(
            f"{item.service.name} ended with status {item.process.returncode}: starting it again"
        )
        stop(item.process)  # its children, if any are left
        time.sleep(PAUSE_SECONDS * 2**item.restarts)
        item.process, item.since = start(item.service), time.monotonic()
        item.restarts += 1
        self._record()
        try:
            wait_until_ready(item.process, item.service, self._tell)
        except ServiceFailed as error:
            if item.process.poll() is None:
                raise  # it lives and does not answer: another start would not help
            self._tell(str(error))  # it died once more, which `watch` sees

    def _record(self) -> None:
        found = {
            item.service.name: {
                "pid": item.process.pid,
                "url": item.service.url,
                "health": item.service.health,
                "log": str(item.service.log),
            }
            for item in self._running
        }
        _replace(self._home / STACK_RECORD, {"pid": os.getpid(), "services": found})
        if "Prefect" in found:
            server = found["Prefect"]
            record = {"api_url": f"{server['url']}/api", "pid": server["pid"]}
            _replace(self._home / SERVER_RECORD, record)


@dataclass(frozen=True)
class ServiceState:
    """A service that was started, and whether it runs and answers now."""

    name: str
    url: str
    log: str
    pid: int
    alive: bool
    answers: bool


def read_stack(home: Path) -> list[ServiceState]:
    """Return the services that are recorded for a home folder; none when no stack runs."""
    record = _read(home)
    return [
        ServiceState(
            name=name,
            url=found["url"],
            log=found["log"],
            pid=found["pid"],
            alive=is_alive(found["pid"]),
            answers=answers(found["health"]) if found["health"] else is_alive(found["pid"]),
        )
        for name, found in record.get("services", {}).items()
    ]


def stop_stack(home: Path, tell: Tell) -> bool:
    """Stop the stack of a home folder from another terminal; say whether there was one.

    One whose own process was killed leaves its services behind: they are stopped one by one.
    """
    record = _read(home)
    if not record:
        return False
    if is_alive(record["pid"]):
        os.kill(record["pid"], signal.SIGTERM)
        while is_alive(record["pid"]):
            time.sleep(0.2)
    for name, found in reversed(record["services"].items()):
        if is_alive(found["pid"]):
            tell(f"stopping {name}")
            signal_group(found["pid"], signal.SIGTERM)
            wait_until_gone(found["pid"])
    for name in (STACK_RECORD, SERVER_RECORD):
        (home / name).unlink(missing_ok=True)
    return True


def _mlflow(home: Path, port: int) -> Service:
    url = f"http://127.0.0.1:{port}"
    folder = home.resolve()
    return Service(
        name="MLflow",
        command=(
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", (folder / "mlartifacts").as_uri()),
        ),
        log=folder / "mlflow-server.log",
        url=url,
        health=f"{url}/health",
        # Its queues for generative models would be eight processes more, and minutes of a start.
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
    )


def _worker(home: Path, pool: str, reach: Mapping[str, str]) -> Service:
    return Service(
        name=f"worker of pool {pool}",
        command=(sys.executable, "-m", "prefect", "worker", "start", "--pool", pool),
        log=home.resolve() / f"worker-{pool}.log",
        environment=dict(reach) | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS},
        folder=project_folder(),
    )


def _desk(home: Path, ports: Ports, reach: Mapping[str, str]) -> Service:
    url = f"http://127.0.0.1:{ports.desk}"
    return Service(
        name="review desk",
        command=(sys.executable, "-m", "flows", "desk", "--port", str(ports.desk)),
        log=home.resolve() / "desk.log",
        url=url,
        health=f"{url}/login",
        environment=dict(reach) | {"BRICKYARD_MLFLOW_URL": f"http://127.0.0.1:{ports.mlflow}"},
    )


def _refuse_second(home: Path) -> None:
    alive = [state.name for state in read_stack(home) if state.alive]
    if alive:
        raise ServiceFailed(
            f"{', '.join(alive)} of {home} run already: `brickyard status` shows them, "
            "`brickyard down` stops them"
        )


def _check_ports(ports: Ports) -> None:
    for name, port in vars(ports).items():
        if not is_free(port):
            raise ServiceFailed(
                f"port {port} of 127.0.0.1 is taken: give another one with --{name}-port"
            )


def _replace(path: Path, document: Mapping[str, Any]) -> None:
    with whole_file(path) as aside:
        aside.write_text(json.dumps(document, indent=2))


def _read(home: Path) -> dict[str, Any]:
    path = home / STACK_RECORD
    return json.loads(path.read_text()) if path.is_file() else {}
