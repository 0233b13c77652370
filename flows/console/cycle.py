"""Sub-commands of a survey in use: cycle, releases, diff."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console.plan import number_text, time_text
from flows.console.terminal import (
    console,
    fail,
    fail_on_errors,
    flow_command,
    progress_bars,
    show_receipt,
)
from flows.console.users import Name, Token, identify

if TYPE_CHECKING:
    from tasks.release_diff import ReleaseDiff
    from tasks.reprocessing import CyclePlan

Source = Annotated[
    str, typer.Argument(help="Folder or address of a release; without one nothing is ingested.")
]
Survey = Annotated[str, typer.Option(help="Survey in the store, such as dr10/south.")]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Downstream task to predict; default: all with a champion."),
]
Tag = Annotated[str, typer.Argument(help="Tag of a release, as `brickyard releases` lists them.")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why (recorded).")]

releases_app = typer.Typer(
    help="List catalogue releases and what waits to become one; decide on those that wait.",
    invoke_without_command=True,
)


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    app.command()(cycle)
    app.command()(diff)
    releases_app.callback()(releases)
    for command in (approve, reject, verify):
        releases_app.command()(command)
    app.add_typer(releases_app, name="releases")


@fail_on_errors
def cycle(
    source: Source = "",
    survey: Survey = "dr10/south",
    task: Tasks = None,
    encoder: Annotated[
        str, typer.Option(help="Embed with this one; default: those of the champions.")
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help="TOML file of the ingest, as for `ingest`."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and what it costs.")
    ] = False,
    calibrate: Annotated[
        int, typer.Option(min=0, help="With --dry-run: bricks to read, to measure the ingest.")
    ] = 0,
) -> None:
    """Ingest what is new, embed and predict what that makes stale, publish new releases.

    A release that differs from the one before by more than the limits waits for
    `brickyard releases approve`.
    """
    if dry_run:
        _dry_run((source, survey, config, calibrate), task, encoder)
    else:
        _cycle(source, survey, config, task, encoder)


@fail_on_errors
def releases(context: typer.Context) -> None:
    """List catalogue releases and what waits to become one."""
    if context.invoked_subcommand is not None:
        return
    from tasks.release_decisions import waiting_cases
    from tasks.releases import list_releases
    from tasks.settings import load_settings

    settings = load_settings()
    table = Table(title="catalogue releases", title_justify="left")
    for heading in ("tag", "rows", "bricks", "model", "snapshot", "published"):
        table.add_column(heading, no_wrap=True)
    found = list_releases(settings)
    for one in found:
        model, snapshot = f"v{one.model.version}", one.snapshot.snapshot_id
        row = (one.tag, f"{one.rows:,}", f"{one.bricks:,}", model, snapshot, one.created_at)
        table.add_row(*row)
    console.print(table if found else "no catalogue was published yet")
    for case, folder in waiting_cases(settings):
        console.print(f"[yellow]{case.tag} waits[/] until {case.deadline:%Y-%m-%d %H:%M} UTC")
        _show_broken(case.broken)
        console.print(f"  {folder}/changes.html")


@fail_on_errors
def approve(tag: Tag, reason: Reason = "", user: Name = "", token: Token = "") -> None:
    """Let a release pass that waits because a limit was passed."""
    _decide(tag, True, reason, (user, token))


@fail_on_errors
def reject(tag: Tag, reason: Reason = "", user: Name = "", token: Token = "") -> None:
    """Do not publish a release that waits; the one before it stays the newest."""
    _decide(tag, False, reason, (user, token))


@fail_on_errors
def verify(tag: Tag) -> None:
    """Compare the files of a release with the checksums that it was published with."""
    from tasks.releases import find_release, verify_release
    from tasks.settings import load_settings

    release = verify_release(find_release(load_settings(), tag)[1])
    console.print(f"{release.tag}: {len(release.files)} files are as they were published")


@fail_on_errors
def diff(
    before: Annotated[str, typer.Argument(help="Tag or folder of a release.")],
    after: Annotated[str, typer.Argument(help="Tag or folder of another one.")],
    page: Annotated[
        Path | None, typer.Option("--html", help="Write the differences to this page.")
    ] = None,
    document: Annotated[
        Path | None, typer.Option("--json", help="Write the differences to this JSON file.")
    ] = None,
) -> None:
    """Count what is other in a release than in another: objects, classes, numbers."""
    from tasks.release_diff import compare_sides, side_of_release
    from tasks.release_page import html_diff
    from tasks.releases import find_release
    from tasks.settings import load_settings
    from tasks.whole_files import whole_file

    settings = load_settings()
    sides = [side_of_release(*find_release(settings, name)) for name in (before, after)]
    with console.status("comparing"):
        found = compare_sides(sides[0], sides[1])
    show_diff(found)
    for path, text in ((page, html_diff(found)), (document, found.model_dump_json(indent=1))):
        if path is not None:
            with whole_file(path) as partial:
                partial.write_text(text, encoding="utf-8")


def show_diff(found: "ReleaseDiff") -> None:
    """Print what is other after than before."""
    from tasks.release_page import verdict

    console.print(f"from {found.before} to {found.after}: {verdict(found)}", highlight=False)
    _show_broken(found.broken)
    counts = ", ".join(f"{number:,} {name}" for name, number in found.objects.items())
    bricks = ", ".join(f"{number:,} {name}" for name, number in found.bricks.items())
    console.print(f"objects: {counts}\nbricks: {bricks}", highlight=False)
    if not found.classes:
        return
    table = Table()
    for heading in ("class", "before", "after", "shift", "95 % interval"):
        table.add_column(heading)
    for one in found.classes:
        shares = (f"{one.before:.4f}", f"{one.after:.4f}", f"{one.shift:+.4f}")
        table.add_row(one.name, *shares, f"{one.low:+.4f} to {one.high:+.4f}")
    console.print(table)


def show_plan(found: "CyclePlan") -> None:
    """Print what a cycle would do, step by step."""
    table = Table(title=f"a cycle of {found.survey} would do", title_justify="left")
    for heading in ("step", "bricks", "objects", "at most", "time", "note"):
        table.add_column(heading, overflow="fold")
    for step in found.steps:
        seconds = "not measured" if step.seconds is None else time_text(step.seconds)
        numbers = (f"{step.bricks:,}", number_text(step.objects), number_text(step.at_most))
        table.add_row(step.step, *numbers, seconds if step.at_most else "-", step.note)
    console.print(table)
    for note in found.notes:
        console.print(f"- {note}", highlight=False, markup=False)
    if found.nothing:
        console.print("nothing to do")


@flow_command
def _cycle(
    source: str, survey: str, config: Path | None, tasks: list[str] | None, encoder: str
) -> None:
    from flows.parameters import IngestConfig, read_config
    from flows.survey_cycle import CycleConfig, run_survey_cycle

    chosen = CycleConfig(ingest=config and read_config(IngestConfig, config), encoder=encoder)
    with progress_bars():
        result = run_survey_cycle(source, survey, tasks, chosen)
    if result.receipt is not None:
        show_receipt(result.receipt)
    for receipt in result.embedded:
        console.print(f"embedded: {receipt.counts['written']} bricks, {receipt.objects} objects")
    for note in result.record.notes:
        console.print(f"- {note}", highlight=False, markup=False)
    for catalogue in result.catalogues:
        console.print(f"{catalogue.rows} rows in [bold]{Path(catalogue.path).parent}[/]")
    if result.refused:
        fail("; ".join(result.refused))
    if result.receipt and (broken := result.receipt.counts["failed"]):
        fail(f"{broken} bricks failed; everything else is done")


def _dry_run(
    what: tuple[str, str, Path | None, int], tasks: list[str] | None, encoder: str
) -> None:
    from flows.parameters import IngestConfig, read_config
    from tasks.planning import PlanRequest
    from tasks.reprocessing import plan_cycle
    from tasks.settings import load_settings

    source, survey, config, calibrate = what
    release, _, region = survey.partition("/")
    request = None
    if source:
        chosen = read_config(IngestConfig, config)
        request = PlanRequest(source, (release, region), chosen, calibrate=calibrate)
    with console.status("looking"):
        found = plan_cycle(load_settings(), survey, request, tasks, encoder)
    show_plan(found)


def _decide(tag: str, approve: bool, reason: str, who: tuple[str, str]) -> None:
    from tasks.release_decisions import decide_release
    from tasks.settings import load_settings

    user, proof = identify(*who)
    if not reason and not sys.stdin.isatty():
        fail("say why with --reason")
    text = reason or typer.prompt("reason")
    decision = decide_release(load_settings(), user, proof, tag, (approve, text))
    console.print(f"{tag} was {decision.sentence}; the run that waits carries it out")


def _show_broken(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(f"  - {line}", highlight=False, markup=False)
