"""Releases that passed a limit: held until a person lets them pass, or the time is over.

What waits, and what was decided, lies beside the releases in `proposals/<digest>/`, once for each
thing that might be published. A decision is written once and never changed; the run that waits
finds it by looking, wherever it was made.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4

from prefect import suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from pydantic import ValidationError

from tasks.answers import run_url
from tasks.errors import TaskError
from tasks.events import tell_held
from tasks.references import Reference
from tasks.release_diff import ReleaseDiff
from tasks.release_page import html_diff, verdict
from tasks.releases import CHANGES, PAGE
from tasks.roles import User
from tasks.settings import Settings
from tasks.whole_files import whole_file

Hold = Literal["poll", "suspend"]
CASE, DECISION = "case.json", "decision.json"
PROPOSALS = "proposals"
DEADLINE = "deadline"  # proof of a decision that nobody made
DIGITS = 16
GRACE = timedelta(days=30)  # Prefect fails a run that is suspended longer; the deadline comes first


class NoSuchProposal(TaskError, LookupError):
    """No release of this name waits for a decision."""


class AlreadyDecided(TaskError, RuntimeError):
    """Somebody decided before."""


class ReleaseRefused(TaskError, RuntimeError):
    """A release was not let pass; the one before it stays the newest."""


class ReleaseCase(Reference):
    """What is decided on: `digest` names it, `broken` says which limits were passed."""

    digest: str
    survey: str
    downstream: str
    tag: str
    what: str
    broken: tuple[str, ...]
    deadline: datetime
    flow_run_id: str


class ReleaseDecision(Reference):
    """What was decided, by whom and why; `proof` says how they were known."""

    approve: bool
    reviewer: str
    reason: str
    proof: str
    at: datetime

    @property
    def sentence(self) -> str:
        """Return the decision in one sentence."""
        word = "approved" if self.approve else "rejected"
        return f"{word} by {self.reviewer or 'nobody'}: {self.reason}"


def open_case(folder: Path, found: ReleaseDiff, names: tuple[str, str, str], seconds: int) -> Path:
    """Put what is to be decided into a folder, once; return the folder of the case.

    Parameters
    ----------
    folder : Path
        Of the releases.
    names : tuple of str
        Survey, tag of the release to come, digest of what it is made from.
    seconds : int
        Until the deadline, counted from the first time.
    """
    survey, tag, digest = names
    case = folder / PROPOSALS / digest[:DIGITS]
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    if (case / CASE).is_file():
        before, decision = read_case(case), read_decision(case)
        if decision is not None and decision.proof == DEADLINE and before.flow_run_id != _run_id():
            (case / DECISION).unlink()  # nobody looked at it: another run may ask again
        elif decision is not None or before.flow_run_id == _run_id():
            return case
        else:
            deadline = before.deadline  # of a run that ended; this one waits in its place
    document = ReleaseCase(
        digest=digest,
        survey=survey,
        downstream=found.models[1].downstream,
        tag=tag,
        what=verdict(found),
        broken=found.broken,
        deadline=deadline,
        flow_run_id=_run_id(),
    )
    contents = {CHANGES: found.model_dump_json(indent=1), PAGE: html_diff(found)}
    for name, text in (*contents.items(), (CASE, document.model_dump_json(indent=1))):
        with whole_file(case / name) as partial:
            partial.write_text(text, encoding="utf-8")
    _tell(document)
    return case


def wait_for_decision(
    folder: Path,
    how: Hold,
    poll_seconds: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
) -> ReleaseDecision:
    """Hold the current flow run until a case is decided; silence until its deadline rejects it.

    Parameters
    ----------
    folder : Path
        From `open_case`.
    how : {"poll", "suspend"}
        "poll" looks now and then in this process; "suspend" ends it and needs a deployment. The
        flow body runs again from its start when the decision wakes it.
    """
    case = read_case(folder)
    while (decision := read_decision(folder)) is None:
        left = case.deadline - datetime.now(UTC)
        if left <= timedelta(0):
            reason = f"no decision by {case.deadline:%Y-%m-%d %H:%M} UTC"
            with suppress(AlreadyDecided):
                _record(folder, _expired(reason))
        elif how == "suspend":
            # Every suspension has a key of its own: Prefect honours each key only once.
            suspend_flow_run(timeout=round((left + GRACE).total_seconds()), key=f"{uuid4()}")
        else:
            sleep(min(poll_seconds, left.total_seconds()))
    return decision


def waiting_cases(settings: Settings) -> list[tuple[ReleaseCase, Path]]:
    """Return what waits for a decision, with the folder of each, the nearest deadline first."""
    found = [(read_case(folder), folder) for folder in _case_folders(settings)]
    now = datetime.now(UTC)
    open_ones = [
        (case, folder)
        for case, folder in found
        if case.deadline > now and read_decision(folder) is None
    ]
    return sorted(open_ones, key=lambda item: item[0].deadline)


def decide_release(
    settings: Settings, user: User, proof: str, name: str, answer: tuple[bool, str]
) -> ReleaseDecision:
    """Decide on what waits, by its tag or the beginning of its digest, and wake its run.

    Parameters
    ----------
    user : User
        Was authenticated; `proof` says how.
    answer : tuple of (bool, str)
        Whether it may pass, and why.

    Raises
    ------
    NotAllowed
        If the user may not decide.
    NoSuchProposal
        If nothing, or more than one thing, fits; or the reason is blank.
    AlreadyDecided
        If somebody was faster.
    """
    user.must("decide")
    fits = [
        (case, folder)
        for case, folder in waiting_cases(settings)
        if case.tag == name or (name and case.digest.startswith(name))
    ]
    if len(fits) != 1:
        raise NoSuchProposal(
            f"{len(fits)} releases that wait are called {name!r}: see `brickyard releases`"
        )
    approve, reason = answer
    if not reason.strip():
        raise NoSuchProposal("the reason is blank: say why")
    case, folder = fits[0]
    decision = ReleaseDecision(
        approve=approve, reviewer=user.name, reason=reason, proof=proof, at=datetime.now(UTC)
    )
    _record(folder, decision)
    _wake(case.flow_run_id)
    return decision


def read_case(folder: Path) -> ReleaseCase:
    """Return the case in a folder."""
    return ReleaseCase.model_validate_json((folder / CASE).read_text(encoding="utf-8"))


def read_decision(folder: Path) -> ReleaseDecision | None:
    """Return the decision on a case, or None."""
    try:
        return ReleaseDecision.model_validate_json((folder / DECISION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise NoSuchProposal(f"{folder / DECISION} is no decision: {error}") from error


def decided_cases(settings: Settings) -> list[tuple[ReleaseCase, ReleaseDecision]]:
    """Return what was decided, also by silence, the newest first."""
    found = [(read_case(folder), read_decision(folder)) for folder in _case_folders(settings)]
    decided = [(case, decision) for case, decision in found if decision is not None]
    return sorted(decided, key=lambda item: item[1].at, reverse=True)


def _tell(case: ReleaseCase) -> None:
    what = (
        f"{case.tag} waits for a decision until {case.deadline:%Y-%m-%d %H:%M} UTC: "
        f"{'; '.join(case.broken)}"
    )
    link = run_url(case.flow_run_id) if case.flow_run_id else ""
    tell_held(case.tag, case.digest[:DIGITS], what, link)


def _record(folder: Path, decision: ReleaseDecision) -> None:
    """Write a decision whole, if there is none."""
    partial = folder / f"{DECISION}.{os.getpid()}.{uuid4().hex[:8]}.part"
    partial.write_text(decision.model_dump_json(indent=1), encoding="utf-8")
    try:
        os.link(partial, folder / DECISION)
    except FileExistsError as error:
        standing = read_decision(folder)
        raise AlreadyDecided(f"decided already: {standing and standing.sentence}") from error
    finally:
        partial.unlink()


def _expired(reason: str) -> ReleaseDecision:
    return ReleaseDecision(
        approve=False, reviewer="", reason=reason, proof=DEADLINE, at=datetime.now(UTC)
    )


def _run_id() -> str:
    return str(flow_run.id or "")


def _case_folders(settings: Settings) -> Iterator[Path]:
    for path in sorted(settings.catalogue_path.glob(f"*/*/*/{PROPOSALS}/*/{CASE}")):
        yield path.parent


def _wake(flow_run_id: str) -> None:
    """Resume the run that waits if it is suspended; one that looks by itself needs nothing."""
    if not flow_run_id:
        return
    with get_client(sync_client=True) as client:
        try:
            run = client.read_flow_run(UUID(flow_run_id))
        except (ObjectNotFound, ValueError):
            return
        if run.state is not None and run.state.is_paused():
            client.resume_flow_run(run.id)
