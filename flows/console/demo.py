"""Sub-command demo: bricks to an approved model and a catalogue, on a synthetic survey."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markdown import Markdown
from rich.panel import Panel

from flows.console.models import show_evaluation
from flows.console.terminal import console, fail_on_errors, progress_bars, show_receipt
from flows.console.trace import lineage
from flows.console.users import identify
from flows.services import configure_environment, prefect_server
from tasks.errors import TaskError

if TYPE_CHECKING:
    from flows.training_cycle import CycleResult
    from tasks.answers import WaitingPromotion

DECISION_SECONDS = 24 * 3600
NO_TERMINAL = "brickyard demo (nobody at the terminal)"


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(demo)


@fail_on_errors
def demo(
    folder: Annotated[Path, typer.Option(help="Everything the demo makes goes here.")] = Path(
        "demo"
    ),
    port: Annotated[int, typer.Option(help="Port of the Prefect page; 0: a free one.")] = 0,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the log.")] = False,
) -> None:
    """Run the whole system on a pretend survey: five minutes on two fast cores, more on slow ones.

    The promotion really waits: decide in the Prefect page or with `brickyard approve`. Without a
    terminal (in CI) the demo shows the evidence and decides by the same call.
    """
    home = folder / "home"
    configure_environment(home, verbose=verbose)
    started = time.monotonic()
    _say(1, "starting a Prefect server (SQLite, in the demo's folder)")
    with prefect_server(home, port) as api_url:
        os.environ["PREFECT_API_URL"] = api_url
        console.print(f"   page: {api_url.removesuffix('/api')}")
        result = _run(folder)
        _show(folder, result)
    console.print(f"\ndone in {(time.monotonic() - started) / 60:.1f} minutes; all in {folder}/")


def _run(folder: Path) -> "CycleResult":
    from flows.demo import (
        DEMO_FINETUNE,
        DEMO_PRETRAIN,
        DEMO_RELEASE,
        DEMO_SPLIT,
        watch_for_decision,
        write_release,
    )
    from flows.training_cycle import CycleTraining, run_training_cycle

    config = DEMO_RELEASE
    _say(2, f"rendering {config.count} pretend bricks in the Legacy Surveys' file layout")
    tables = write_release(folder / "release")
    _say(3, "bricks → cutouts → encoder → embeddings → candidate → decision → catalogue")
    with progress_bars(), watch_for_decision(lambda item: _hold(folder, item)):
        return run_training_cycle(
            source=str(folder / "release"),
            label_tables=tables,
            training=CycleTraining(
                pretrain=DEMO_PRETRAIN, finetune=DEMO_FINETUNE, split=DEMO_SPLIT
            ),
            decision_seconds=DECISION_SECONDS,
        )


def _hold(folder: Path, item: "WaitingPromotion") -> None:
    """Show the evidence; say how to decide, or decide when nobody is there to."""
    console.print(Panel(Markdown(item.evidence), title="evidence for a human decision"))
    command = f"brickyard --home {folder / 'home'}"
    if sys.stdin.isatty():
        console.print("The run now waits for you. Decide in one of three ways:")
        console.print(f"  at the review desk, started by:     [bold]{command} desk[/]")
        console.print(f"  in the Prefect page, button Resume: [bold]{item.url}[/]")
        console.print(f"  in another terminal (or reject):    [bold]{command} approve[/]")
        return
    try:
        _decide(item)
    except TaskError as error:
        console.print(
            f"[red]the demo may not decide: {error}[/]\n"
            f"The run waits for [bold]{command} approve[/]"
        )


def _decide(item: "WaitingPromotion") -> None:
    """Decide through the service that everybody decides through, and say so."""
    from tasks.deciding import DecisionRequest, decide
    from tasks.settings import load_settings

    approve, reason = _verdict(item)
    console.print(
        f"No terminal, so nobody can be asked: the demo {'approves' if approve else 'rejects'} "
        f"through the same service (tasks.deciding.decide). Reason: {reason}"
    )
    user, proof = identify("", "")
    request = DecisionRequest(
        flow_run_id=item.flow_run_id,
        approve=approve,
        reason=reason,
        seen_evidence=item.evidence_digest,
        proof=proof,
        reviewer=NO_TERMINAL,
    )
    decide(load_settings(), user, request)


def _verdict(item: "WaitingPromotion") -> tuple[bool, str]:
    """Return what the demo decides, and why: approve what beats every baseline and the champion.

    Whatever breaks a limit is rejected: the demo overrides nothing.
    """
    from tasks.evidence import evidence_of
    from tasks.policies import broken_limits, read_policies
    from tasks.settings import load_settings

    settings = load_settings()
    packet = evidence_of(settings, item.evidence_digest)
    challenger, champion = packet.challenger, packet.champion
    broken = broken_limits(packet, read_policies(settings).of(item.downstream))
    if broken:
        return False, "; ".join(broken)
    value = challenger.metrics[challenger.headline].value
    rivals = dict(challenger.baselines)
    if champion is not None:
        rivals["the champion"] = champion.metrics[challenger.headline].value
    name, best = max(rivals.items(), key=lambda rival: rival[1])
    return value > best, f"{challenger.headline} {value:.3f} against {best:.3f} of {name}"


def _show(folder: Path, result: "CycleResult") -> None:
    """Print what the cycle made, and trace one row of the catalogue back to its bricks."""
    from storage.catalogue import read_catalogue
    from tasks.promotion import describe_outcome
    from tasks.sheets import surest_sheet

    _say(4, "what came of it")
    show_receipt(result.receipt)
    show_evaluation(result.evaluation)
    console.print(describe_outcome(result.outcome))
    if result.catalogue is None:
        console.print("nothing is approved, so there is no catalogue")
        return
    catalogue = Path(result.catalogue.path)
    rows, _ = read_catalogue(catalogue.parent)
    console.print(f"catalogue: {len(rows)} rows in {catalogue.parent}")
    sheet = surest_sheet(result.catalogue, folder / "surest.png")
    console.print(f"the surest objects of each class: {sheet}")
    object_id = str(rows.sort_values("p_spiral", ascending=False)["object_id"].iloc[0])
    _say(5, f"where the surest spiral comes from: brickyard lineage {object_id}")
    lineage(object_id)


def _say(step: int, text: str) -> None:
    console.rule(f"[bold]{step}[/] {text}", align="left")
