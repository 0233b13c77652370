"""How the command line talks: one console, progress bars of long work, tables of receipts."""

import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, ParamSpec, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from flows.processes import ServiceFailed
from flows.services import use_server
from storage.errors import StorageError
from tasks.errors import TaskError
from tasks.progress import report_to
from tasks.references import Outcome, Receipt

P = ParamSpec("P")
R = TypeVar("R")

console = Console()
errors = Console(stderr=True)

OUTCOME_STYLE = {
    Outcome.WRITTEN: "green",
    Outcome.ALREADY_PRESENT: "cyan",
    Outcome.EMPTY: "yellow",
    Outcome.SKIPPED: "yellow",
    Outcome.QUARANTINED: "red",
    Outcome.FAILED: "red",
}
LINE_SECONDS = 30.0  # between lines of progress, in a log or a pipe
ROWS_SHOWN = 40  # a receipt of thousands of bricks is read in its file, not in a terminal


def fail(message: str) -> NoReturn:
    """Print an error and leave with status 1."""
    errors.print(f"[bold red]error:[/] {escape(message)}", highlight=False)
    sys.exit(1)


@contextmanager
def progress_bars() -> Iterator[None]:
    """Show how far each kind of work is inside the block: bars, or lines for a log."""
    if not console.is_terminal:
        with report_to(_progress_lines()):
            yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, int] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = int(progress.add_task(what, total=total))
            progress.update(bars[what], completed=done, total=total)  # type: ignore[arg-type]

        with report_to(show):
            yield


def _progress_lines() -> Callable[[str, int, int], None]:
    """Return what prints a line at the end of each kind of work, and now and then before it."""
    told: dict[str, float] = {}

    def show(what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done == total or now - told.setdefault(what, now) >= LINE_SECONDS:
            told[what] = now
            console.print(f"   {what}: {done} of {total}", highlight=False)

    return show


def show_receipt(receipt: Receipt) -> None:
    """Print what became of every brick, failures first, and the totals."""
    table = Table(title=f"receipt of {receipt.survey}", title_justify="left")
    for heading in ("brick", "outcome", "objects"):
        table.add_column(heading, no_wrap=True)
    for heading in ("no cutout", "not selected", "checksums", "what happened"):
        table.add_column(heading, overflow="fold")
    for unit in receipt.units[:ROWS_SHOWN]:
        style = OUTCOME_STYLE[unit.outcome]
        table.add_row(
            unit.name,
            f"[{style}]{unit.outcome.value}[/]",
            str(unit.objects),
            _reasons(unit.without_cutout),
            _reasons(unit.not_selected),
            unit.verification,
            "; ".join(filter(None, (unit.message, *unit.notes))),
        )
    console.print(table)
    if receipt.total > ROWS_SHOWN:
        console.print(f"... and {receipt.total - ROWS_SHOWN} more, all in {receipt.log}")
    counts = ", ".join(f"{number} {outcome}" for outcome, number in receipt.counts.items())
    console.print(f"{receipt.total} in, {receipt.total} out: {counts}; {receipt.objects} objects")
    console.print(f"snapshot [bold]{receipt.snapshot_id}[/] {receipt.tag}")


def write_receipt(receipt: Receipt, path: Path) -> None:
    """Write the whole receipt as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(receipt.model_dump_json(indent=2))
    console.print(f"whole receipt: {path}")


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in counts.items()) or "-"


def fail_on_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Show errors that a user can put right as one message; others keep their traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (StorageError, TaskError, ServiceFailed) as error:
            fail(str(error))

    return run


def flow_command(command: Callable[P, R]) -> Callable[P, R]:
    """Run a sub-command that calls flows: with a Prefect server, errors as `fail_on_errors`."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with use_server():
            return command(*args, **kwargs)

    return fail_on_errors(run)
