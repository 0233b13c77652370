"""What this process tells Prefect: to the server that a test runs, and to no other.

Prefect sends events and logs from threads of its own. One of an earlier test tells an earlier
server, and to wait for one without a limit may take for ever: Prefect's `prefect_test_harness` does
(seen), so it is not used.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

SECONDS = 30


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
