"""Sub-command that says what an ingest will cost, and goes on with it if that is wanted."""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from flows.console.data import ConfigFile, ReceiptFile
from flows.console.ingest_options import (
    Again,
    Bands,
    Bricks,
    BricksFrom,
    Detect,
    Edge,
    MaxMag,
    Region,
    Release,
    Size,
    Source,
    Tag,
    config_overrides,
)
from flows.console.terminal import (
    console,
    errors,
    fail,
    fail_on_errors,
    progress_bars,
    show_receipt,
    write_receipt,
)
from flows.services import use_server

if TYPE_CHECKING:
    from flows.parameters import IngestRun
    from storage.budget import Estimate, Obstacle
    from tasks.planning import Plan, PlanRequest

REFUSED = 2  # exit status where disk or memory would not do


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(plan)


@fail_on_errors
def plan(
    source: Source,
    release: Release = "dr10",
    region: Region = "south",
    brick: Bricks = None,
    bands: Bands = None,
    max_mag: MaxMag = None,
    size: Size = None,
    edge: Edge = None,
    detect: Detect = False,
    bricks_from: BricksFrom = None,
    again: Again = False,
    tag: Tag = None,
    config: ConfigFile = None,
    receipt: ReceiptFile = None,
    bricks_table: Annotated[
        Path | None,
        typer.Option(help="Table survey-bricks-RELEASE-REGION; default: the source's own."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes.")] = None,
    calibrate: Annotated[
        int, typer.Option(min=0, help="Bricks to read and write for measuring; 0: none.")
    ] = 2,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on with the ingest.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the plan to this JSON file.")
    ] = None,
) -> None:
    """Say what an ingest will cost: objects, bytes, time, memory. Then ingest, if you agree.

    A few bricks are read and written into a temporary store to measure. Where disk or memory would
    not do, the plan is refused (exit status 2) with advice, also with --yes.
    """
    overrides = config_overrides(bands, max_mag, size, edge, detect)
    if workers is not None:  # for the plan and for the ingest that follows it
        os.environ["BRICKYARD_WORKERS"] = str(workers)
    # Prefect reads the server's address when it is first imported, which planning does already.
    with use_server() if yes or _interactive() else nullcontext():
        from flows.parameters import IngestConfig, IngestRun, read_config
        from tasks.planning import PlanRequest

        run = IngestRun(again=again, brick_list=bricks_from and str(bricks_from), tag=tag)
        request = PlanRequest(
            source=source,
            survey=(release, region),
            config=read_config(IngestConfig, config, overrides),
            bricks=tuple(brick or ()),
            brick_list=run.brick_list,
            bricks_table=bricks_table and str(bricks_table),
            calibrate=calibrate,
            again=again,
            bricks_per_commit=run.bricks_per_commit,
        )
        _plan_and_ingest(request, run, yes, receipt, json_file)


def _plan_and_ingest(
    request: "PlanRequest", run: "IngestRun", yes: bool, receipt: Path | None, document: Path | None
) -> None:
    from tasks.planning import plan_ingest
    from tasks.settings import load_settings

    with console.status("measuring" if request.calibrate else "counting"):
        found = plan_ingest(load_settings(), request)
    show_plan(found, request)
    if document:
        _write_plan(found, request, document)
    if found.refused:
        sys.exit(REFUSED)
    if found.budget.bricks and _agreed(yes):
        _ingest(request, run, receipt)


def show_plan(found: "Plan", request: "PlanRequest") -> None:
    """Print a plan: what it costs, what there is, what is in the way."""
    table = Table(title=f"plan of {'/'.join(request.survey)}", title_justify="left")
    table.add_column("what", no_wrap=True)
    table.add_column("estimate", no_wrap=True)
    table.add_column("range or part", overflow="fold")
    for row in (*_work_rows(found), *_cost_rows(found), *_machine_rows(found)):
        table.add_row(*row)
    console.print(table)
    notes = [*found.budget.notes, *_failures(found)]
    for note in notes:
        console.print(f"- {note}", highlight=False, markup=False)
    for obstacle in found.obstacles:
        _show_obstacle(obstacle)
    if not found.budget.bricks:
        console.print("nothing to do: every brick is in the store with this configuration")
    elif not found.refused:
        console.print("[green]it fits[/] as far as this can tell")


def _work_rows(found: "Plan") -> list[tuple[str, str, str]]:
    work = found.work
    parts = [f"{work.listed:,} listed"]
    parts += [f"{work.done:,} in the store already"] if work.done else []
    parts += [f"{number:,} {reason}" for reason, number in work.left_out.items()]
    parts += [f"{work.absent:,} of those to do not in the folder yet"] if work.absent else []
    return [("bricks to do", f"{work.bricks:,}", "; ".join(parts))]


def _cost_rows(found: "Plan") -> list[tuple[str, str, str]]:
    from storage.budget.verdict import size_text

    budget, parallel = found.budget, found.parallel
    if not budget.bricks:
        return []
    rows = [("objects", *_ranged(budget.objects, number_text))]
    if found.work.fetched:
        rows += [
            ("bytes to fetch", *_ranged(budget.fetch_bytes, size_text)),
            ("staged at a time", *_ranged(budget.staging_bytes, size_text)),
        ]
    else:
        rows.append(("bytes to read", *_ranged(budget.read_bytes, size_text)))
    rows.append(("bytes to store", *_ranged(budget.store_bytes, size_text)))
    where = f"{parallel.workers} workers, {parallel.cores} cores"
    if budget.seconds is None or budget.worker_bytes is None:
        unknown = ("not measured", "give --calibrate 1 or more")
        rows += [("wall time", *unknown), ("memory of a worker", *unknown)]
    else:
        best, extent = _ranged(budget.seconds, time_text)
        rows.append(("wall time", best, f"{extent}; {where}"))
        rows.append(("memory of a worker", size_text(budget.worker_bytes), where))
    rows.append(
        ("commits", f"{budget.commits:,}", f"two for every {parallel.bricks_per_commit} bricks")
    )
    database = (
        f"{budget.object_rows:,} of objects with padding, {budget.database_rows:,} of Prefect"
    )
    rows.append(("database rows", f"{budget.ledger_rows:,} of the ledger", database))
    return rows


def _machine_rows(found: "Plan") -> list[tuple[str, str, str]]:
    from storage.budget.verdict import size_text

    machine = found.machine
    rows = [
        ("free disk", size_text(machine.store_free), machine.store),
    ]
    if machine.memory_free is not None:
        rows.append(("free memory", size_text(machine.memory_free), ""))
    if found.work.fetched and not machine.one_disk:
        rows.append(("free for staging", size_text(machine.staging_free), machine.staging))
    return rows


def _failures(found: "Plan") -> list[str]:
    failures = found.measured.failures
    if not failures:
        return []
    tried = len(failures) + len(found.measured.file_bytes)
    name, why = next(iter(failures.items()))
    return [f"{len(failures)} of {tried} sampled bricks cannot be ingested, such as {name}: {why}"]


def _show_obstacle(obstacle: "Obstacle") -> None:
    style, word = ("bold red", "refused") if obstacle.fatal else ("yellow", "careful")
    errors.print(f"[{style}]{word}:[/] {obstacle.what}", highlight=False)
    errors.print(f"  {obstacle.advice}", highlight=False)


def _ranged(estimate: "Estimate", text: Any) -> tuple[str, str]:
    best = text(estimate.best)
    if text(estimate.low) == text(estimate.high):
        return best, ""
    return best, f"{text(estimate.low)} to {text(estimate.high)}"


def number_text(number: float) -> str:
    """Return a count to three digits: 1,230 or 76.2 million."""
    for size, word in ((1e9, " thousand million"), (1e6, " million")):
        if number >= size:
            return f"{number / size:.3g}{word}"
    return f"{round(number):,}"


def time_text(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    for size, word in ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {word}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _agreed(yes: bool) -> bool:
    if yes:
        return True
    if _interactive():
        return typer.confirm("go on?")
    console.print("nothing was ingested: add --yes to go on")
    return False


def _interactive() -> bool:
    return console.is_terminal and sys.stdin.isatty()


def _ingest(request: "PlanRequest", run: "IngestRun", receipt: Path | None) -> None:
    from flows.ingest import ingest_bricks

    if request.bricks_table and "://" in request.source and not (request.bricks or run.brick_list):
        run = run.model_copy(update={"brick_list": request.bricks_table})
    release, region = request.survey
    with progress_bars():
        result = ingest_bricks(
            request.source, release, region, list(request.bricks) or None, request.config, run
        )
    show_receipt(result)
    if receipt:
        write_receipt(result, receipt)
    if broken := result.counts["failed"] + result.counts["quarantined"]:
        fail(f"{broken} of {result.total} bricks failed or are quarantined; nothing else was lost")


def _write_plan(found: "Plan", request: "PlanRequest", path: Path) -> None:
    document = {"source": request.source, "survey": "/".join(request.survey), **found.document()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2, default=str) + "\n", encoding="utf-8")
    console.print(f"whole plan: {path}")
