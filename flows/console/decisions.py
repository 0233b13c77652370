"""Sub-commands of the promotion gate: promote, waiting, approve, reject."""

from typing import Annotated

import typer
from rich.markdown import Markdown

from flows.console.terminal import console, fail, fail_on_errors, flow_command

Reviewer = Annotated[str, typer.Option("--reviewer", "-u", help="Who decides (recorded).")]
Reason = Annotated[str, typer.Option("--reason", "-m", help="Why (recorded).")]
Run = Annotated[
    str, typer.Argument(help="Flow run id, or its beginning; may be left out if only one waits.")
]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    app.command()(promote)
    app.command()(waiting)
    app.command()(approve)
    app.command()(reject)


@flow_command
def promote(
    downstream: Annotated[str, typer.Argument(help="Downstream task, such as morphology.")],
    version: Annotated[str, typer.Option(help="Challenger; default: the newest candidate.")] = "",
    timeout_hours: Annotated[
        float, typer.Option(help="A decision that has not come by then counts as a rejection.")
    ] = 168.0,
) -> None:
    """Ask a person whether a candidate may become champion, and wait for the answer.

    Decide from another terminal with `brickyard approve` or `brickyard reject`, or in the
    Prefect page.
    """
    from flows.promote import promote_model
    from tasks.promotion import describe_outcome, find_challenger
    from tasks.settings import load_settings

    challenger = find_challenger(load_settings(), downstream, version or None)
    outcome = promote_model(
        downstream=downstream, challenger=challenger, timeout_seconds=int(timeout_hours * 3600)
    )
    console.print(describe_outcome(outcome))


@fail_on_errors
def waiting() -> None:
    """List the decisions that somebody has to make."""
    from tasks.promotion import waiting_promotions

    found = waiting_promotions()
    if not found:
        console.print("nothing waits for a decision")
    for item in found:
        console.print(f"[bold]{item.flow_run_id}[/]  {item.downstream} version {item.version}")
        console.print(f"  {item.url}")


@fail_on_errors
def approve(
    run: Run = "",
    reviewer: Reviewer = "",
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")] = False,
) -> None:
    """Approve a challenger after reading its evidence; it becomes champion."""
    _decide(run, reviewer, reason, approve_it=True, ask=not yes)


@fail_on_errors
def reject(run: Run = "", reviewer: Reviewer = "", reason: Reason = "") -> None:
    """Reject a challenger; the champion stays."""
    _decide(run, reviewer, reason, approve_it=False, ask=False)


def _decide(run: str, reviewer: str, reason: str, *, approve_it: bool, ask: bool) -> None:
    from tasks.promotion import decide, waiting_promotions

    found = [item for item in waiting_promotions() if item.flow_run_id.startswith(run)]
    if len(found) != 1:
        names = ", ".join(item.flow_run_id for item in found) or "none"
        fail(f"{len(found)} waiting promotions match {run!r} ({names}); see `brickyard waiting`")
    console.print(Markdown(found[0].evidence))
    reviewer = reviewer or typer.prompt("reviewer (your name)")
    reason = reason or typer.prompt("reason")
    if ask and not typer.confirm(f"make version {found[0].version} the champion?"):
        fail("not approved; nothing was changed, the decision still waits")
    decide(
        found[0].flow_run_id,
        approve=approve_it,
        reviewer=reviewer,
        reason=reason,
        seen_evidence=found[0].evidence_digest,
    )
    console.print("decision handed in; the promote run goes on and records it")
