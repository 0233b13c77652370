"""Progress of long work, told to whoever listens: a bar in the terminal, or nobody.

Tasks report counts; they do not know how, or whether, they are shown.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]

_listener: ContextVar[Listener | None] = ContextVar("brickyard_progress", default=None)


@contextmanager
def report_to(listener: Listener) -> Iterator[None]:
    """Send the progress of everything inside this block to `listener(what, done, total)`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def report(what: str, done: int, total: int) -> None:
    """Tell the listener, if there is one, that `done` of `total` units of `what` are finished."""
    listener = _listener.get()
    if listener is not None:
        listener(what, done, total)
