"""One at a time opens the tracking database of a home for the first time.

Who opens an absent `mlflow.db` creates and migrates it, and MLflow lets two do that at once: both
fail. Nothing here imports MLflow, so that `brickyard up` can hold the lock while its server starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tasks.errors import TaskError

LOCK = "mlflow.lock"
LOCK_SECONDS = 600.0  # creating and migrating takes seconds, minutes on a machine that is busy


class TrackingBusy(TaskError, TimeoutError):
    """Another process is opening the tracking database of this home, and does not end."""


@contextmanager
def first_opening(home: Path) -> Iterator[None]:
    """Hold the right to open the tracking database of a home; made where the home is absent.

    Raises
    ------
    TrackingBusy
        If another process holds it for `LOCK_SECONDS`.
    """
    folder = home.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise TrackingBusy(
            f"{folder / LOCK} has been held for {LOCK_SECONDS:.0f} s by a process that opens the "
            "MLflow database of this home: end it (`brickyard down` ends services), then try again"
        ) from error
    try:
        yield
    finally:
        lock.release()
