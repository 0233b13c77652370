"""The stack of services: order, restarts, what other terminals see, stopping."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows import stack
from flows.processes import Service, ServiceFailed, free_port
from flows.stack import Ports, Stack, read_stack, run_stack, services_of, stop_stack
from tasks.alive import is_alive


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(stack, "WATCH_SECONDS", 0.05)


def sleeper(home: Path, name: str, code: str = "import time; time.sleep(60)") -> Service:
    return Service(name, (sys.executable, "-c", code), home / f"{name}.log")


def test_what_runs_is_recorded_and_forgotten_when_it_stops(home):
    running = Stack(home, lambda _: None)
    running.start(sleeper(home, "one"))
    (state,) = read_stack(home)
    assert (state.name, state.alive, state.answers) == ("one", True, True)
    running.stop()
    assert read_stack(home) == []


def test_services_stop_in_reverse_order(home):
    told: list[str] = []
    running = Stack(home, told.append)
    for name in ("one", "two"):
        running.start(sleeper(home, name))
    running.stop()
    assert told == ["starting one", "starting two", "stopping two", "stopping one"]


def test_a_killed_service_is_started_again(home):
    running = Stack(home, lambda _: None)
    running.start(sleeper(home, "one"))
    (before,) = read_stack(home)
    os.kill(before.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    running.watch(lambda: read_stack(home)[0].pid == before.pid and time.monotonic() < deadline)
    (after,) = read_stack(home)
    running.stop()
    assert after.pid != before.pid
    assert after.alive


def test_one_that_keeps_dying_is_given_up(home, monkeypatch):
    monkeypatch.setattr(stack, "RESTARTS", 2)
    monkeypatch.setattr(stack, "wait_until_ready", lambda process, service, tell: None)
    running = Stack(home, lambda _: None)
    running.start(sleeper(home, "one", "raise SystemExit(3)"))
    with pytest.raises(ServiceFailed, match="died 3 times"):
        running.watch(lambda: True)
    running.stop()


def test_one_that_dies_again_before_it_answers_is_started_again(home, monkeypatch):
    monkeypatch.setattr(stack, "RESTARTS", 2)
    told: list[str] = []
    running = Stack(home, told.append)
    with monkeypatch.context() as patch:
        patch.setattr(stack, "wait_until_ready", lambda process, service, tell: None)
        running.start(
            Service(
                "one",
                (sys.executable, "-c", "raise SystemExit(3)"),
                home / "one.log",
                health=f"http://127.0.0.1:{free_port()}/",
            )
        )
    with pytest.raises(ServiceFailed, match="died 3 times"):
        running.watch(lambda: True)
    running.stop()
    assert sum("starting it again" in line for line in told) == 2


def test_a_second_stack_of_a_home_is_refused(home):
    running = Stack(home, lambda _: None)
    running.start(sleeper(home, "one"))
    with pytest.raises(ServiceFailed, match="brickyard down"), run_stack(home, Ports(), print):
        pass
    running.stop()


def test_a_taken_port_is_named_with_its_option(home):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = Ports(mlflow=taken.getsockname()[1])
        with pytest.raises(ServiceFailed, match="--mlflow-port"), run_stack(home, ports, print):
            pass


def test_what_a_killed_stack_left_behind_can_be_stopped(home):
    code = (
        "import sys, time; from pathlib import Path;"
        "sys.path.insert(0, sys.argv[1]);"
        "from flows.processes import Service; from flows.stack import Stack;"
        "home = Path(sys.argv[2]); running = Stack(home, lambda text: None);"
        "running.start(Service('one', (sys.executable, '-c', 'import time; time.sleep(60)'),"
        " home / 'one.log')); time.sleep(60)"
    )
    root = str(Path(stack.__file__).parents[1])
    owner = subprocess.Popen([sys.executable, "-c", code, root, str(home)])
    deadline = time.monotonic() + 20
    while not read_stack(home):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (state,) = read_stack(home)
    owner.kill()
    owner.wait()
    assert read_stack(home)[0].alive
    assert stop_stack(home, lambda _: None)
    assert not is_alive(state.pid)
    assert not stop_stack(home, lambda _: None)


def test_the_services_find_each_other(home):
    ports = Ports(free_port(), free_port(), free_port())
    services = {service.name: service for service in services_of(home, ports)}
    assert list(services)[:2] == ["Prefect", "MLflow"]
    reach = f"http://127.0.0.1:{ports.prefect}/api"
    assert services["worker of pool cpu"].environment["PREFECT_API_URL"] == reach
    assert services["review desk"].environment["BRICKYARD_HOME"] == str(home.resolve())
    assert all("127.0.0.1" in service.url for service in services.values() if service.url)


def test_what_a_killed_server_must_not_forget_is_kept_in_files_and_runs_tell_that_they_live(home):
    services = {service.name: service for service in services_of(home, Ports())}
    leases = services["Prefect"].environment["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"]
    assert leases.endswith("filesystem")
    for pool in ("cpu", "gpu"):
        environment = services[f"worker of pool {pool}"].environment
        assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_the_record_of_the_server_serves_other_terminals(home):
    running = Stack(home, lambda _: None)
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    running.start(Service("Prefect", command, home / "p.log", url="http://127.0.0.1:9"))
    record = json.loads((home / "prefect-server.json").read_text())
    running.stop()
    assert record["api_url"] == "http://127.0.0.1:9/api"
    assert not (home / "prefect-server.json").exists()
