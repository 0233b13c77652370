"""Runs that count as running are told from those whose processes are gone."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from tasks import lost_runs as module
from tasks.alive import is_alive
from tasks.lost_runs import LostRun, lost_runs, process_of


@pytest.fixture
def gone() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def run(name: str, process: str | None):
    return SimpleNamespace(id=name, name=name, infrastructure_pid=process)


def test_only_runs_of_processes_that_are_gone_are_lost(monkeypatch, gone):
    runs = [
        run("alive", str(os.getpid())),
        run("lost", str(gone)),
        run("with host", f"{socket.gethostname()}:{gone}"),
        run("elsewhere", f"another-host:{gone}"),
        run("by hand", None),
    ]

    @contextmanager
    def client(sync_client: bool):
        yield SimpleNamespace(read_flow_runs=lambda **_: runs)

    monkeypatch.setattr(module, "get_client", client)
    assert lost_runs() == tuple(
        LostRun(id=name, name=name, process=gone) for name in ("lost", "with host")
    )


def test_a_process_that_ended_and_that_nobody_asked_about_is_gone(monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "print('x')"], stdout=subprocess.PIPE)
    process.stdout.read()
    while is_alive(process.pid):
        pass
    assert process_of(run("zombie", str(process.pid))) == process.pid
    process.stdout.close()
    process.wait()
