"""A Prefect server of its own for tests, and what this process tells it and no other.

Prefect sends events and logs from threads of its own. One of an earlier test tells an earlier
server, and to wait for one without a limit may take for ever: Prefect's `prefect_test_harness` does
(seen), so it is not used.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.context import _temporary_global_settings_context, get_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOCAL_STORAGE_PATH,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)

from flows.services import prefect_server

SECONDS = 30


@contextmanager
def server_of_its_own(folder: Path) -> Iterator[str]:
    """Run a server that keeps everything in a folder; all threads of this process talk to it."""
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PREFECT_HOME", str(folder))
            patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
            url = running.enter_context(prefect_server(folder / "home"))
        places = {
            PREFECT_LOCAL_STORAGE_PATH: folder / "storage",
            PREFECT_SERVER_DATABASE_CONNECTION_URL: f"sqlite+aiosqlite:///{folder}/prefect.db",
        }
        running.enter_context(talking_to(url, places))
        running.enter_context(_temporary_global_settings_context(get_settings_context()))
        yield url


@contextmanager
def talking_to(api_url: str, more: Mapping[Any, object] | None = None) -> Iterator[None]:
    """Talk to a server, with `more` settings, while the block runs; all is said at its end."""
    with temporary_settings({PREFECT_API_URL: api_url, **(more or {})}):
        _drain()
        yield
        _drain()


def _drain() -> None:
    for sender in (APILogWorker, EventsWorker):
        sender.drain_all(timeout=SECONDS)
