"""How far long work is, where no bar can be drawn: in a pipe, or in the log of CI."""

import io
from types import SimpleNamespace

from rich.console import Console

from flows.console import terminal
from tasks.progress import report


def shown(monkeypatch, work) -> list[str]:
    """Return the lines that a console without a terminal shows of some work."""
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=100, force_terminal=False))
    with terminal.progress_bars():
        work()
    return text.getvalue().split("\n")[:-1]


def test_the_end_of_each_kind_of_work_is_a_line(monkeypatch):
    def work():
        for done in (1, 2, 3):
            report("bricks written", done, 3)
        report("bricks embedded", 1, 2)

    assert shown(monkeypatch, work) == ["   bricks written: 3 of 3"]


def test_long_work_is_told_now_and_then(monkeypatch):
    times = iter([0.0, 10.0, 31.0, 40.0, 62.0, 70.0])
    clock = SimpleNamespace(monotonic=lambda: next(times))
    monkeypatch.setattr(terminal, "time", clock)  # other threads keep theirs

    def work():
        for done in range(1, 7):
            report("epochs", done, 9)

    assert shown(monkeypatch, work) == ["   epochs: 3 of 9", "   epochs: 5 of 9"]
