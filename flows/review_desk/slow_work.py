"""Work that takes longer than a page may: done in the background, one piece after the other."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class SlowWork:
    """Pieces of work, each named by what it makes."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="desk-work")
        self._lock = threading.Lock()
        self._running: dict[str, Future[Any]] = {}

    def start(self, name: str, work: Callable[[], Any]) -> None:
        """Start a piece of work, unless it is going on."""
        with self._lock:
            known = self._running.get(name)
            if known is None or known.done():
                self._running[name] = self._pool.submit(work)

    def state(self, name: str) -> str:
        """Return "running", what went wrong, or nothing."""
        known = self._running.get(name)
        if known is None:
            return ""
        if not known.done():
            return "running"
        error = known.exception()
        return f"{type(error).__name__}: {error}" if error else ""
