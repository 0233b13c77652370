"""Locks of a home: what only one process at a time may do, and what to say to one that waits."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import TaskError


class HomeBusy(TaskError, TimeoutError):
    """Another process does for long what only one may do at a time in this home."""


@contextmanager
def held(path: Path, seconds: float, doing: str, advice: str) -> Iterator[None]:
    """Hold the lock of a file while the block runs; a holder that dies lets it go.

    Parameters
    ----------
    path : Path
        The lock file; its folder is made where it is absent.
    seconds : float
        How long to wait for another holder.
    doing : str
        What the holder does, as in "a process that ...".
    advice : str
        What a user can do about a holder that does not end.

    Raises
    ------
    HomeBusy
        If another process holds the lock for that long.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise HomeBusy(
            f"{path} has been held for {seconds:.0f} s by a process that {doing}: {advice}"
        ) from error
    try:
        yield
    finally:
        lock.release()
