"""One at a time opens the tracking database of a home for the first time.

Who opens an absent `mlflow.db` creates and migrates it, and MLflow lets two do that at once: both
fail. Nothing here imports MLflow, so that `brickyard up` can hold the lock while its server starts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.locks import held

LOCK = "mlflow.lock"
LOCK_SECONDS = 600.0  # creating and migrating takes seconds, minutes on a machine that is busy


@contextmanager
def first_opening(home: Path) -> Iterator[None]:
    """Hold the right to open the tracking database of a home; made where the home is absent.

    Raises
    ------
    HomeBusy
        If another process holds it for `LOCK_SECONDS`.
    """
    with held(
        home.resolve() / LOCK,
        LOCK_SECONDS,
        "opens the MLflow database of this home",
        "end it (`brickyard down` ends services), then try again",
    ):
        yield
