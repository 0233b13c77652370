"""An absent tracking database is created once, whoever opens it, and at whatever moment."""

import multiprocessing
import queue
from contextlib import suppress
from pathlib import Path

import pytest
from filelock import FileLock

from tasks import first_opening as opening
from tasks.first_opening import first_opening
from tasks.locks import HomeBusy
from tasks.settings import Settings
from tasks.tracking import client

PATIENCE = 240  # seconds; a busy machine imports for a minute


def open_with_others(home: Path, barrier, told) -> None:
    """Open the database of a home when all who shall do so are ready; tell what came of it."""
    from tasks.tracking import model_versions

    try:
        barrier.wait(PATIENCE)
        told.put(repr(model_versions(Settings(home=home), "morphology")))
    except BaseException as error:
        told.put(repr(error))


@pytest.mark.timeout(2 * PATIENCE)
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.drill)])
def test_processes_that_open_an_absent_database_together_all_find_it(tmp_path, count):
    context = multiprocessing.get_context("spawn")
    barrier, told = context.Barrier(count), context.Queue()
    given = (tmp_path / "home", barrier, told)
    processes = [context.Process(target=open_with_others, args=given) for _ in range(count - 1)]
    for process in processes:
        process.start()
    open_with_others(*given)  # this process is one of them, and has imported everything
    found = []
    with suppress(queue.Empty):
        found = [told.get(timeout=PATIENCE) for _ in range(count)]
    for process in processes:
        process.join(PATIENCE)
    assert found == ["[]"] * count


def test_a_process_asks_for_the_lock_once(tracking, monkeypatch):
    client._opened.discard(tracking.mlflow_uri)
    asked = []
    monkeypatch.setattr(
        client, "first_opening", lambda home: asked.append(home) or first_opening(home)
    )
    client.connect(tracking)
    client.connect(tracking)
    assert asked == [tracking.home]


def test_a_tracking_server_needs_no_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "first_opening", None)  # calling it would be an error
    client.connect(Settings(home=tmp_path / "home", tracking_uri="http://127.0.0.1:9"))
    assert not (tmp_path / "home").exists()


def test_one_that_never_ends_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LOCK_SECONDS", 0.1)
    with (
        FileLock(tmp_path / opening.LOCK),
        pytest.raises(HomeBusy, match=r"mlflow\.lock"),
        first_opening(tmp_path),
    ):
        pass


def test_the_lock_is_given_back_when_opening_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "LOCK_SECONDS", 0.1)
    with pytest.raises(ZeroDivisionError), first_opening(tmp_path):
        raise ZeroDivisionError
    with first_opening(tmp_path):
        pass
