"""Names of the snapshots that ingests of a survey led to: ``<release>-<region>-0001`` and so on.

A tag never moves, so what it names stays readable whatever is ingested later. Every commit that
changes a survey's cutouts says so in its metadata; that is how a run that was killed before its
last step still gets its tag from the next one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import icechunk

from storage.errors import StorageError
from storage.repository import BRANCH, list_tags, tag_snapshot

SURVEY_METADATA = "survey"  # key of the commit metadata that names the survey that was changed
_DIGITS = 4
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SnapshotTag:
    """A name, the snapshot that it stands for, and when and why that was committed (UTC)."""

    name: str
    snapshot_id: str
    written_at: datetime
    message: str


def tags_of(repository: icechunk.Repository, survey_key: str | None = None) -> list[SnapshotTag]:
    """Return the tags of a survey's ingests, or all tags, oldest first."""
    prefix = "" if survey_key is None else _prefix(survey_key)
    found = []
    for name, snapshot in list_tags(repository).items():
        if name.startswith(prefix):
            info = next(iter(repository.ancestry(snapshot_id=snapshot)))
            found.append(SnapshotTag(name, snapshot, info.written_at, info.message))
    return sorted(found, key=lambda tag: tag.written_at)


def tag_newest(repository: icechunk.Repository, survey_key: str, name: str | None = None) -> str:
    """Tag the newest snapshot if a survey changed since its last tag; return the tag that stands.

    Parameters
    ----------
    name : str, optional
        Use this name instead of the next running number.

    Returns
    -------
    str
        The new tag; the last one when nothing changed since; empty when there is none at all.

    Raises
    ------
    StorageError
        When the name is no good, or names another snapshot already.
    """
    if name is not None and _NAME.fullmatch(name) is None:
        raise StorageError(f"tag {name!r}: use letters, digits, '.', '_' and '-'")
    tagged = {
        snapshot: tag
        for tag, snapshot in list_tags(repository).items()
        if tag.startswith(_prefix(survey_key)) or tag == name
    }
    changed, last = False, ""
    for info in _ancestors(repository):
        if info.id in tagged:
            last = tagged[info.id]
            break
        changed = changed or info.metadata.get(SURVEY_METADATA) == survey_key
    newest = repository.lookup_branch(BRANCH)
    if name is None and not changed:
        return last
    chosen = name or _next_name(repository, survey_key)
    tag_snapshot(repository, chosen, newest)
    return chosen


def _ancestors(repository: icechunk.Repository) -> Iterator[icechunk.SnapshotInfo]:
    yield from repository.ancestry(branch=BRANCH)


def _prefix(survey_key: str) -> str:
    return survey_key.replace("/", "-") + "-"


def _next_name(repository: icechunk.Repository, survey_key: str) -> str:
    prefix = _prefix(survey_key)
    numbers = [
        int(tag.removeprefix(prefix))
        for tag in list_tags(repository)
        if tag.startswith(prefix) and tag.removeprefix(prefix).isdecimal()
    ]
    return f"{prefix}{max(numbers, default=0) + 1:0{_DIGITS}d}"
