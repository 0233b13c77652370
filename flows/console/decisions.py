"""Sub-commands of the promotion gate: promote, waiting, approve, reject, rollback, audit."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markdown import Markdown

from flows.console.downstream import Downstream
from flows.console.terminal import console, fail, fail_on_errors, flow_command
from flows.console.users import Name, Token, identify

if TYPE_CHECKING:
    from tasks.answers import WaitingPromotion

Reason = Annotated[str, typer.Option("--reason", "-m", help="Why (recorded).")]
Run = Annotated[
    str, typer.Argument(help="Flow run id, or its beginning; may be left out if only one waits.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask again.")]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    for command in (promote, waiting, approve, reject, rollback, audit):
        app.command()(command)


@flow_command
def promote(
    downstream: Downstream,
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
        console.print(f"  until {item.deadline:%Y-%m-%d %H:%M} UTC  {item.url}")


@fail_on_errors
def approve(
    run: Run = "",
    reason: Reason = "",
    override: Annotated[
        str, typer.Option(help="Why, although a limit is broken; needs a role that may.")
    ] = "",
    user: Name = "",
    token: Token = "",
    yes: Yes = False,
) -> None:
    """Approve a challenger after reading its evidence; it becomes champion."""
    item = _shown(run)
    if not yes and not typer.confirm(f"make version {item.version} the champion?"):
        fail("not approved; nothing was changed, the decision still waits")
    _decide(item, (user, token), {"approve": True, "reason": reason, "override": override})


@fail_on_errors
def reject(
    run: Run = "",
    reason: Reason = "",
    more_labels: Annotated[
        bool, typer.Option("--more-labels", help="Because it needs more labels (recorded).")
    ] = False,
    user: Name = "",
    token: Token = "",
) -> None:
    """Reject a challenger; the champion stays."""
    answer = {"approve": False, "reason": reason, "wants_labels": more_labels}
    _decide(_shown(run), (user, token), answer)


@fail_on_errors
def rollback(
    downstream: Annotated[str, typer.Argument(help="Downstream task, such as morphology.")],
    version: Annotated[
        str, typer.Option(help="The champion to take back; default: the one of now.")
    ] = "",
    reason: Reason = "",
    user: Name = "",
    token: Token = "",
    yes: Yes = False,
) -> None:
    """Take a champion back: the one before it becomes champion again. A recorded decision."""
    from tasks.promotion import describe_outcome
    from tasks.rollback import RollbackRequest, champion_version, roll_back
    from tasks.settings import load_settings

    settings = load_settings()
    version = version or champion_version(settings, downstream)
    who, proof = identify(user, token)
    if not yes and not typer.confirm(f"take back version {version} of {downstream}?"):
        fail("nothing was changed")
    request = RollbackRequest(
        downstream=downstream,
        champion_version=version,
        reason=reason or typer.prompt("reason"),
        proof=proof,
    )
    console.print(describe_outcome(roll_back(settings, who, request)))


@fail_on_errors
def audit(
    put_back: Annotated[
        bool, typer.Option("--put-back", help="Point the aliases at what was decided.")
    ] = False,
    user: Name = "",
    token: Token = "",
) -> None:
    """Compare the registry's aliases with the recorded decisions; status 1 when they differ.

    Without `--put-back`, only what the policy of this home says is put back.
    """
    from tasks.audit import audit_registry
    from tasks.settings import load_settings

    who = identify(user, token)[0] if put_back else None
    report = audit_registry(load_settings(), who)
    for item in report.found:
        done = "; put back" if item in report.put_back else ""
        console.print(f"[red]{item.sentence}[/]{done}", highlight=False)
    if not report.clean:
        fail(f"{len(report.found) - len(report.put_back)} aliases are not where they were put")
    console.print(f"every alias of {', '.join(report.downstreams)} is as decided")


def _shown(run: str) -> "WaitingPromotion":
    """Return the one promotion that waits and matches, after printing its evidence."""
    from tasks.promotion import waiting_promotions

    found = [item for item in waiting_promotions() if item.flow_run_id.startswith(run)]
    if len(found) != 1:
        names = ", ".join(item.flow_run_id for item in found) or "none"
        fail(f"{len(found)} waiting promotions match {run!r} ({names}); see `brickyard waiting`")
    console.print(Markdown(found[0].evidence))
    return found[0]


def _decide(item: "WaitingPromotion", who: tuple[str, str], answer: dict[str, object]) -> None:
    from tasks.deciding import DecisionRequest, decide
    from tasks.settings import load_settings

    user, proof = identify(*who)
    request = DecisionRequest.model_validate(
        {
            **answer,
            "reason": answer["reason"] or typer.prompt("reason"),
            "flow_run_id": item.flow_run_id,
            "seen_evidence": item.evidence_digest,
            "proof": proof,
            "reviewer": who[0],
        }
    )
    decision = decide(load_settings(), user, request)
    if decision.waits_for:
        console.print(f"recorded; it still needs {decision.waits_for}")
    else:
        console.print("decision recorded; the promote run goes on and carries it out")
