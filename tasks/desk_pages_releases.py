"""What a person sees before they let a release pass that is held, or refuse it."""

from pathlib import Path

from tasks.errors import TaskError
from tasks.references import Reference
from tasks.release_decisions import ReleaseCase, waiting_cases
from tasks.release_diff import ReleaseDiff
from tasks.releases import CHANGES
from tasks.settings import Settings


class NotHeld(TaskError, LookupError):
    """No release of this digest waits for a decision, or no longer."""


class HeldRelease(Reference):
    """A release that waits, and what is other in it than in the one before it."""

    case: ReleaseCase
    changes: ReleaseDiff


def held_releases(settings: Settings) -> list[ReleaseCase]:
    """Return the releases that wait for a decision, the nearest deadline first."""
    return [case for case, _ in waiting_cases(settings)]


def view_release(settings: Settings, digest: str) -> HeldRelease:
    """Return a release that waits, by the whole digest of what it is made from.

    Raises
    ------
    NotHeld
        If none waits, which is so as soon as somebody has decided.
    """
    for case, folder in waiting_cases(settings):
        if case.digest == digest:
            return HeldRelease(case=case, changes=_changes(folder))
    raise NotHeld(
        f"no release {digest[:12]} waits for a decision: it was decided on, or its time was over; "
        "the history tells"
    )


def _changes(folder: Path) -> ReleaseDiff:
    return ReleaseDiff.model_validate_json((folder / CHANGES).read_text(encoding="utf-8"))
