"""How hard all processes of a user on this host press one server: slots, and a pace.

The limits live in small files that the processes share, held by locks of the operating system, so
a killed process gives its slot back. They lie in the system's folder of temporary files, one folder
a server, since planning asks servers too and knows no staging folder. Several hosts share nothing:
divide the limits of `FetchConfig` by their number.
"""

import os
import random
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from storage.errors import StorageError
from storage.fetch.config import FetchConfig

#: A pace further ahead than this is from another limit or another time: no server is waited for
#: longer than an hour (`storage.fetch.http_remote`), and a reservation is worth some seconds.
HORIZON_SECONDS = 3700.0
_POLL_SECONDS = 0.002


class Pace:
    """Amounts a second, shared by the processes that name the same file.

    The file holds the moment at which all that was reserved will be through; up to `burst`
    seconds of it may be used at once.
    """

    def __init__(self, path: Path, per_second: float, burst: float = 1.0) -> None:
        self._path = path
        self._per_second = per_second
        self._burst = burst
        # Not reentrant for another thread: each call makes its own lock object.
        self._lock_path = path.with_suffix(".lock")

    def reserve(self, amount: float) -> float:
        """Take `amount` and return the seconds to wait before it may be used."""
        with self._held() as (now, through):
            wait = max(through - now, 0.0)
            self._store(max(through, now - self._burst) + amount / self._per_second)
        return wait

    def postpone(self, seconds: float) -> None:
        """Let nobody start for some seconds: the server asked for it."""
        with self._held() as (now, through):
            self._store(max(through, now + seconds))

    @contextmanager
    def _held(self) -> Iterator[tuple[float, float]]:
        with FileLock(self._lock_path, poll_interval=_POLL_SECONDS):
            now = time.time()  # not monotonic: processes share it, and it outlives a reboot
            try:
                through = float(self._path.read_text(encoding="ascii"))
            except (OSError, ValueError):
                through = 0.0
            yield now, 0.0 if through > now + HORIZON_SECONDS else through

    def _store(self, through: float) -> None:
        self._path.write_text(repr(through), encoding="ascii")


class Manners:
    """The limits of one server."""

    def __init__(self, url: str, config: FetchConfig) -> None:
        folder = _shared_folder(url)
        self._slots = [folder / f"slot-{number}.lock" for number in range(config.connections)]
        self._requests = Pace(folder / "requests", config.requests_per_second)
        limit = config.bytes_per_second
        self._bytes = Pace(folder / "bytes", limit) if limit is not None else None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a slot and for the pace of requests; hold the slot inside the block."""
        lock = self._free_slot()
        try:
            time.sleep(self._requests.reserve(1.0))
            yield
        finally:
            lock.release()

    def take(self, size: int) -> None:
        """Wait as long as bytes that have come need to keep the pace."""
        if self._bytes is not None:
            time.sleep(self._bytes.reserve(size))

    def postpone(self, seconds: float) -> None:
        """Let no request to this server start for some seconds."""
        self._requests.postpone(seconds)

    def _free_slot(self) -> FileLock:
        while True:
            for path in random.sample(self._slots, len(self._slots)):
                lock = FileLock(path, timeout=0)
                try:
                    lock.acquire()
                except Timeout:
                    continue
                return lock
            time.sleep(random.uniform(0.01, 0.05))


class NoManners(Manners):
    """No limits: for a local folder."""

    def __init__(self) -> None:
        self._bytes = None

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold nothing."""
        yield

    def postpone(self, seconds: float) -> None:
        """Do nothing: nobody else is asked to wait."""


def _shared_folder(url: str) -> Path:
    parts = urlsplit(url)
    server = re.sub(r"[^\w.-]", "_", f"{parts.scheme}-{parts.hostname or ''}-{parts.port or ''}")
    user = os.getuid()
    top = Path(tempfile.gettempdir()) / f"brickyard-fetch-{user}"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_uid != user:
        raise StorageError(f"{top} belongs to another user; remove it, or set TMPDIR to a folder")
    folder = top / server
    folder.mkdir(exist_ok=True)
    return folder
