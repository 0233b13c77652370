"""The command `brickyard up`: what signals do to it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from flows.console import services


@pytest.fixture(autouse=True)
def handlers(tmp_path, monkeypatch) -> Iterator[None]:
    """Give `up` a home, and the test session its handlers back."""
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path))
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def interrupted() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)  # broken off by the handler, if that raises
    raise AssertionError("the signal did not end the start")


def test_one_signal_ends_a_start_and_the_next_does_not_break_off_the_stopping(monkeypatch):
    stopped = []

    @contextmanager
    def slow_start(*_):
        try:
            interrupted()
            yield
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            stopped.append(True)

    monkeypatch.setattr(services, "run_stack", slow_start)
    services.up()
    assert stopped == [True]


def test_a_signal_ends_what_runs(monkeypatch):
    watched = []

    def watch(forever):
        assert forever()
        os.kill(os.getpid(), signal.SIGTERM)
        watched.append(forever())

    @contextmanager
    def stack(*_):
        yield SimpleNamespace(watch=watch)

    monkeypatch.setattr(services, "run_stack", stack)
    services.up()
    assert watched == [False]
