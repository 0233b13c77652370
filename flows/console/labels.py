"""Sub-commands labels, round, rounds and automations: what people answer and what it starts."""

from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.table import Table
from typer.core import TyperGroup

from flows.console.downstream import Downstream
from flows.console.terminal import console, fail, fail_on_errors, flow_command, progress_bars

FORMS = ("csv", "galaxy-zoo", "label-studio")

Survey = Annotated[str, typer.Option(help="Survey the objects are in.")]
Question = Annotated[str, typer.Option(help="Downstream task that asks.")]
Form = Annotated[str, typer.Option("--form", help=f"Form of the file: {', '.join(FORMS)}.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; single options replace its values."),
]


class ImportByDefault(TyperGroup):
    """A group in which `labels FILE` is `labels import FILE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in the sub-command where none is named."""
        if args and args[0] not in (*self.commands, "--help"):
            args = ["import", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    group = typer.Typer(
        cls=ImportByDefault,
        no_args_is_help=True,
        help="Labels in and out of the ledger, and how well people agree.",
    )
    group.command("import")(import_labels)
    group.command("export")(export_labels)
    group.command("agreement")(show_agreement)
    app.add_typer(group, name="labels")
    app.command("round")(label_round)
    app.command("rounds")(list_rounds)
    automations = typer.Typer(no_args_is_help=True, help="What events start, and who is told.")
    automations.command("apply")(apply)
    automations.command("list")(list_all)
    app.add_typer(automations, name="automations")


@fail_on_errors
def import_labels(
    tables: Annotated[
        list[Path], typer.Argument(help="CSV, Parquet, FITS or JSON with objects and answers.")
    ],
    survey: Survey = "dr10/south",
    question: Question = "morphology",
    annotator: Annotated[
        str, typer.Option(help="Who answered, where the file does not say; gold: known answers.")
    ] = "imported",
    form: Annotated[
        str, typer.Option(help=f"table (brickid, objid, votes), or {', '.join(FORMS)}.")
    ] = "table",
) -> None:
    """Append votes or answers to the label ledger; again changes nothing."""
    from tasks.label_exchange import import_exchange
    from tasks.labels import import_labels as import_tables
    from tasks.settings import load_settings
    from tasks.snapshots import find_snapshot

    settings = load_settings()
    snapshot = find_snapshot(settings, survey, None)
    if form == "table":
        paths = [str(table) for table in tables]
        receipts = [import_tables.fn(settings, snapshot, paths, question, annotator)]
    else:
        chosen = _form(form)
        receipts = [
            receipt
            for table in tables
            for receipt in import_exchange(settings, snapshot, table, chosen, question, annotator)
        ]
    names = ("written", "corrected", "already_present", "unknown")
    counts = {name: sum(getattr(item, name) for item in receipts) for name in names}
    console.print(
        f"{counts['written']} written, {counts['corrected']} corrected, "
        f"{counts['already_present']} already present, "
        f"{counts['unknown']} about objects that are not in {survey}"
    )


@fail_on_errors
def export_labels(
    path: Annotated[Path, typer.Argument(help="File to write.")],
    survey: Survey = "dr10/south",
    question: Question = "morphology",
    form: Form = "csv",
) -> None:
    """Write the standing labels on a question to a file."""
    from tasks.label_exchange import export_exchange
    from tasks.settings import load_settings

    count = export_exchange(load_settings(), survey, path, _form(form), question)
    console.print(f"{count} {'labels' if form == 'csv' else 'objects'} in {path}")


@fail_on_errors
def show_agreement(survey: Survey = "dr10/south", question: Question = "morphology") -> None:
    """Show how people agree, how reliable each is on gold objects, and what is in dispute."""
    from tasks.label_views import label_quality
    from tasks.settings import load_settings

    found = label_quality(load_settings(), survey, question)
    table = _table("question", "annotators", "objects with two", "same answer", "Fleiss' kappa")
    for item in found.agreement:
        numbers = (str(item.annotators), str(item.objects))
        table.add_row(item.question, *numbers, _number(item.same), _number(item.fleiss_kappa))
    console.print(table)
    people = _table("question", "annotator", "gold right", "rate (95 %)", "a vote counts")
    for who in found.reliability:
        rate = f"{who.rate.value:.2f} ({who.rate.low:.2f} to {who.rate.high:.2f})"
        right = f"{who.right} of {who.gold}"
        people.add_row(who.question, who.annotator, right, rate, f"{who.weight:.2f}")
    console.print(people)
    console.print(f"{len(found.disputed)} objects in dispute: {' '.join(found.disputed[:20])}")


@flow_command
def label_round(
    downstream: Downstream,
    survey: Survey = "dr10/south",
    count: Annotated[int | None, typer.Option(help="Objects of a round.")] = None,
    strategy: Annotated[str | None, typer.Option(help="How objects are chosen.")] = None,
    wanted: Annotated[int | None, typer.Option(help="Answers wanted for each object.")] = None,
    budget: Annotated[int | None, typer.Option(help="Labels after which it ends.")] = None,
    target: Annotated[float | None, typer.Option(help="Measure at which it ends.")] = None,
    config: ConfigFile = None,
) -> None:
    """Ask people about chosen objects, fit, measure, and again until it is enough.

    Waits here for the answers given on the review desk; Ctrl-C and a second call lose nothing.
    """
    from flows.label_round import run_label_round
    from flows.model_parameters import RoundConfig
    from flows.parameters import read_config

    overrides = {
        "count": count,
        "strategy": strategy,
        "wanted": wanted,
        "budget": budget,
        "target": target,
    }
    with progress_bars():
        outcome = run_label_round(downstream, survey, read_config(RoundConfig, config, overrides))
    _show_rounds(outcome.rounds)
    console.print(f"{outcome.campaign} ended: {outcome.stopped}")


@fail_on_errors
def list_rounds() -> None:
    """List all rounds of active learning: what was chosen, by whom labelled, and measured."""
    from tasks.round_history import campaigns, read_history
    from tasks.settings import load_settings

    settings = load_settings()
    _show_rounds([item for name in campaigns(settings) for item in read_history(settings, name)])


@flow_command
def apply(
    webhook: Annotated[
        str,
        typer.Option(help="URL that is told when a person is wanted.", envvar="BRICKYARD_WEBHOOK"),
    ] = "",
    notify: Annotated[
        str, typer.Option(help="A notification block of Prefect, such as sendgrid-email/ops.")
    ] = "",
) -> None:
    """Put the automations of flows/automations on the Prefect server; again changes nothing."""
    from flows.deployments import project_folder
    from tasks.automations import Notify, apply_automations

    table = _table("automation", "outcome", "why")
    folder = project_folder() / "flows" / "automations"
    for item in apply_automations(folder, Notify(webhook, notify)):
        table.add_row(item.name, item.outcome, item.why)
    console.print(table)


@flow_command
def list_all() -> None:
    """List our automations on the Prefect server."""
    from flows.deployments import project_folder
    from tasks.automations import list_automations

    table = _table("automation", "enabled", "declared here", "what")
    for item in list_automations(project_folder() / "flows" / "automations"):
        flags = ("yes" if flag else "no" for flag in (item.enabled, item.declared))
        table.add_row(item.name, *flags, item.description)
    console.print(table)


def _show_rounds(rounds: Any) -> None:
    headings = ("campaign", "round", "strategy", "objects", "labels", "ended by", "measured")
    table = _table(*headings)
    for item in rounds:
        opened, closed = item.opened, item.closed
        table.add_row(
            item.campaign,
            str(item.number),
            opened.strategy if opened else "-",
            str(len(opened.objects)) if opened else "-",
            str(closed.labels) if closed else "waiting",
            closed.why if closed else "-",
            _number(item.value),
        )
    console.print(table)


def _form(form: str) -> Any:
    if form not in FORMS:
        fail(f"no form {form!r}: there are {', '.join(FORMS)}")
    return form


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(*headings: str) -> Table:
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
