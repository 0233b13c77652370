"""Sub-commands up, down, status and doctor: the services of the embedded default."""

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console.terminal import console, fail_on_errors
from flows.stack import Ports, ServiceState, read_stack, run_stack, stop_stack

if TYPE_CHECKING:
    from tasks.desk_pages import ChampionSummary

MARKS = {"ok": "[green]ok[/]", "note": "[yellow]note[/]", "wrong": "[bold red]wrong[/]"}


class _StoppedEarly(BaseException):
    """A signal came while services were still starting; nothing on the way may catch it."""


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    for command in (up, down, status, doctor):
        app.command()(command)


def _home() -> Path:
    return Path(os.environ["BRICKYARD_HOME"])


@fail_on_errors
def up(
    prefect_port: Annotated[int, typer.Option(help="Port of Prefect's pages.")] = Ports.prefect,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's pages.")] = Ports.mlflow,
    desk_port: Annotated[int, typer.Option(help="Port of the review desk.")] = Ports.desk,
) -> None:
    """Start Prefect, its workers, MLflow and the review desk, until Ctrl-C; all on 127.0.0.1.

    Deployments are registered. A service that dies is started again. Other terminals that use the
    same home folder find the server by themselves; `brickyard down` stops it from there.
    """
    started, ended = threading.Event(), threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        if not ended.is_set():  # a second one must not break off the stopping
            ended.set()
            if not started.is_set():
                raise _StoppedEarly

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    ports = Ports(prefect_port, mlflow_port, desk_port)
    with suppress(_StoppedEarly), run_stack(_home(), ports, console.print) as stack:
        started.set()
        _show(read_stack(_home()))
        console.print("Ctrl-C stops them all.")
        stack.watch(lambda: not ended.is_set())


@fail_on_errors
def down() -> None:
    """Stop what `brickyard up` started for this home folder, also what a killed one left behind."""
    if not stop_stack(_home(), console.print):
        console.print(f"nothing runs for {_home()}")


@fail_on_errors
def status() -> None:
    """Show which services run, what is in the store, the champions and what waits for a person."""
    from tasks.desk_pages import champions_of, embedded_with, surveys_of
    from tasks.settings import load_settings

    states, settings = read_stack(_home()), load_settings()
    if states:
        _show(states)
    else:
        console.print("no services run here; `brickyard up` starts them")
    surveys = surveys_of(settings)
    if not surveys:
        console.print(f"no survey in {settings.store_path} yet; `brickyard ingest` makes one")
        return
    table = _folding("survey", "bricks", "objects", "embedded by", "snapshot")
    for survey in surveys:
        held = [f"{count} {state}" for state, count in survey.states.items() if count]
        bricks = ", ".join(held) or "none"
        encoder = embedded_with(settings, survey.survey)[:12] or "-"
        table.add_row(
            survey.survey, bricks, str(survey.objects), encoder, survey.tag or survey.snapshot_id
        )
    console.print(table)
    champions = champions_of(settings, surveys)
    if champions:
        _show_champions(champions)


@fail_on_errors
def doctor() -> None:
    """Look for what is wrong or will be: versions, disk, ports, GPU, store, registry; with advice.

    Ends with status 1 when something is wrong.
    """
    from tasks.doctor import examine
    from tasks.settings import load_settings

    table = Table("", "what", "found", "advice", show_lines=False)
    findings = examine(load_settings())
    for state in read_stack(_home()):
        table.add_row(*_service_row(state))
    for finding in findings:
        table.add_row(MARKS[finding.level], finding.what, finding.found, finding.advice)
    console.print(table)
    if any(finding.level == "wrong" for finding in findings):
        raise typer.Exit(1)


def _service_row(state: ServiceState) -> tuple[str, str, str, str]:
    if state.answers:
        return MARKS["ok"], state.name, state.url or f"process {state.pid}", ""
    found = "runs but does not answer" if state.alive else "is not running"
    return MARKS["wrong"], state.name, found, f"see {state.log}; `brickyard down`, then `up`"


def _show_champions(champions: "list[ChampionSummary]") -> None:
    table = _folding(
        "downstream task", "champion", "approved by", "catalogue", "undecided versions"
    )
    for model in champions:
        version = f"version {model.version}" if model.version else "none yet"
        decided = f"{model.decided_by}, {model.decided_at}" if model.decided_by else "-"
        table.add_row(
            model.downstream, version, decided, model.published or "-", str(model.undecided)
        )
    console.print(table)


def _folding(*headings: str) -> Table:
    """Return a table that cuts no name and no address, however narrow the terminal is."""
    table = Table(*headings)
    for column in table.columns:
        column.overflow = "fold"
    return table


def _show(states: list[ServiceState]) -> None:
    table = _folding("service", "where", "state", "log")
    for state in states:
        word = "[green]answers[/]" if state.answers else "[red]does not answer[/]"
        where = state.url or f"process {state.pid}"
        table.add_row(state.name, where, word, Path(state.log).name)
    console.print(table)
    for folder in sorted({str(Path(state.log).parent) for state in states}):
        console.print(f"logs in {folder}", soft_wrap=True, highlight=False)
