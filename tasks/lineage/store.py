"""What the store says: versions of bricks, objects, snapshots, embeddings; old ones as well.

A snapshot stays readable for ever, so what a row was made from is read in the snapshot that it
names. Where that is not in the store, the history of the bricks tells which versions there were.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import icechunk
import pandas as pd

from storage import ledger_table
from storage.brick_ledger import brick_history, ledger, ledger_of, receipts
from storage.brick_store import read_objects
from storage.embedding_store import LEDGER, embedding_group, encoders_of
from storage.errors import StorageError
from storage.repository import (
    EMBEDDING_REPOSITORY,
    SURVEY_REPOSITORY,
    list_tags,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
    snapshot_id,
)
from storage.schema import BrickState
from storage.survey_group import list_surveys, read_configurations

DIGITS = 16  # of a digest, where it names something
CURRENT = "current"
BRICK_COLUMNS = ("brickid", "state", "n_objects", "content_digest", "config_digest")
EMBEDDED_COLUMNS = ("n_objects", "content_digest", "survey_snapshot")


@dataclass(frozen=True)
class BrickVersion:
    """One version of a brick: made from these files with this configuration.

    `standing` is "current", "superseded" or "withdrawn"; `snapshot_id` one that holds it, empty
    where it is known from the history alone.
    """

    survey: str
    brickname: str
    brickid: int
    objects: int
    content_digest: str
    config_digest: str
    standing: str
    snapshot_id: str = ""
    receipt: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return what names this version and no other."""
        return version_key(self.survey, self.brickname, self.content_digest, self.config_digest)


def version_key(survey: str, brickname: str, content_digest: str, config_digest: str) -> str:
    """Return the name of a version of a brick."""
    digests = f"{content_digest[:DIGITS]}.{config_digest[:DIGITS]}"
    return f"{survey}/{brickname}@{digests}"


@dataclass(frozen=True)
class FoundObject:
    """An object in a snapshot."""

    survey: str
    brickname: str
    row: int
    ra: float
    dec: float


class StoreView:
    """Both repositories of a store, opened when asked for; either may be absent."""

    def __init__(self, store: str) -> None:
        self.store = store
        self._sessions: dict[str, icechunk.Session] = {}

    @cached_property
    def surveys_repository(self) -> icechunk.Repository | None:
        """Return the repository of cutouts, or None."""
        return _open(self.store, SURVEY_REPOSITORY)

    @cached_property
    def embeddings_repository(self) -> icechunk.Repository | None:
        """Return the repository of embeddings, or None."""
        return _open(self.store, EMBEDDING_REPOSITORY)

    @cached_property
    def newest(self) -> str:
        """Return the id of the newest snapshot of cutouts; empty where there is no store."""
        repository = self.surveys_repository
        return snapshot_id(repository) if repository is not None else ""

    @cached_property
    def tags(self) -> dict[str, list[str]]:
        """Return the tags of every snapshot that has any, by its id."""
        found: dict[str, list[str]] = {}
        if self.surveys_repository is not None:
            for tag, snapshot in list_tags(self.surveys_repository).items():
                found.setdefault(snapshot, []).append(tag)
        return found

    def session(self, snapshot: str = "") -> icechunk.Session | None:
        """Return a snapshot of the cutouts, by default the newest; None where it is not here."""
        wanted = snapshot or self.newest
        if not wanted or self.surveys_repository is None:
            return None
        if wanted not in self._sessions:
            try:
                self._sessions[wanted] = read_session(self.surveys_repository, snapshot=wanted)
                list_surveys(self._sessions[wanted])
            except StorageError:
                self._sessions.pop(wanted, None)
                return None
        return self._sessions[wanted]

    def surveys(self, snapshot: str = "") -> list[str]:
        """Return the surveys of a snapshot; none where it is not here."""
        session = self.session(snapshot)
        return list_surveys(session) if session is not None else []

    def commit(self, snapshot: str, *, embeddings: bool = False) -> icechunk.SnapshotInfo | None:
        """Return when and why a snapshot was written; None where the repository has it not."""
        repository = self.embeddings_repository if embeddings else self.surveys_repository
        try:
            if repository is not None:
                return next(iter(repository.ancestry(snapshot_id=snapshot)))
        except (icechunk.IcechunkError, ValueError):
            pass
        return None

    def brick(self, survey: str, brickname: str, snapshot: str = "") -> BrickVersion | None:
        """Return the version of a brick in a snapshot, or None when it is not written there."""
        session = self.session(snapshot)
        if session is None or survey not in list_surveys(session):
            return None
        # Only these columns: snapshots of the first releases have them, too.
        table = ledger_of(session, survey, [brickname], BRICK_COLUMNS)
        if table.empty or int(table["state"].iloc[0]) != int(BrickState.WRITTEN):
            return None
        row = table.iloc[0]
        content, config = str(row["content_digest"]), str(row["config_digest"])
        return BrickVersion(
            survey=survey,
            brickname=brickname,
            brickid=int(row["brickid"]),
            objects=int(row["n_objects"]),
            content_digest=content,
            config_digest=config,
            standing=self._standing(survey, brickname, (content, config), snapshot),
            snapshot_id=snapshot or self.newest,
            receipt=receipts(session, survey, [brickname])[brickname],
        )

    def former_bricks(self, survey: str, brickname: str) -> list[BrickVersion]:
        """Return the versions of a brick that were replaced or withdrawn, oldest first."""
        session = self.session()
        if session is None or survey not in list_surveys(session):
            return []
        try:
            table = brick_history(session, survey)
        except StorageError:  # stores of the first releases have no history
            return []
        return [
            self._former(survey, row)
            for row in table[table["brickname"] == brickname].to_dict("records")
        ]

    def names(self, survey: str, brickids: Iterable[int], snapshot: str = "") -> dict[int, str]:
        """Return the names of the bricks of a snapshot that have these numbers."""
        session = self.session(snapshot)
        if session is None or survey not in list_surveys(session):
            return {}
        numbers = ledger(session, survey, ("brickid",))["brickid"]
        chosen = numbers[numbers.isin(list(brickids))]
        return {int(number): str(name) for name, number in chosen.items()}

    def find_object(self, key: tuple[int, int, int], snapshot: str = "") -> FoundObject | None:
        """Return an object of a snapshot by (release, brickid, objid), or None."""
        session = self.session(snapshot)
        for survey in self.surveys(snapshot):
            name = self.names(survey, [key[1]], snapshot).get(key[1])
            if session is None or name is None:
                continue
            table = read_objects(session, survey, bricknames=[name], catalogue=False)
            match = table[(table["objid"] == key[2]) & (table["release"] == key[0])]
            if len(match):
                row = match.iloc[0]
                place = (float(row["ra"]), float(row["dec"]))
                return FoundObject(survey, name, int(row["row"]), *place)
        return None

    def configuration(self, version: BrickVersion) -> dict[str, Any]:
        """Return the ingest configuration of a version; empty where it was not kept."""
        session = self.session(version.snapshot_id)
        if session is None:
            return {}
        found = read_configurations(session, version.survey).get(version.config_digest, {})
        return dict(found)

    def states(self, survey: str, snapshot: str = "") -> dict[str, int]:
        """Return the bricks of a survey by state, and its `objects`."""
        session = self.session(snapshot)
        if session is None or survey not in list_surveys(session):
            return {}
        table = ledger(session, survey, ("state", "n_objects"))
        counts = table["state"].value_counts().to_dict()
        found = {BrickState(state).name.lower(): int(n) for state, n in sorted(counts.items())}
        return found | {"objects": int(table["n_objects"].sum())}

    def embedded(
        self, survey: str, brickname: str = "", snapshot: str = ""
    ) -> dict[str, pd.DataFrame]:
        """Return, by encoder, the ledger of embeddings of a survey or of one of its bricks.

        `snapshot` is one of the embeddings, by default the newest.
        """
        repository, found = self.embeddings_repository, {}
        if repository is None:
            return {}
        session = read_session(repository, snapshot=snapshot or None)
        for digest in encoders_of(session, survey):
            path = f"{embedding_group(digest, survey)}/{LEDGER}"
            if brickname:
                table = ledger_table.read_some(session, path, [brickname], EMBEDDED_COLUMNS)
            else:
                table = ledger_table.read_ledger(session, path, EMBEDDED_COLUMNS)
            if len(table):
                found[digest] = table
        return found

    def _former(self, survey: str, row: Mapping[Any, Any]) -> BrickVersion:
        name, last = str(row["brickname"]), str(row["last_snapshot"])
        session, receipt = self.session(last), {}
        if session is not None:
            receipt = receipts(session, survey, [name]).get(name, {})
        return BrickVersion(
            survey=survey,
            brickname=name,
            brickid=int(row["brickid"]),
            objects=int(row["n_objects"]),
            content_digest=str(row["content_digest"]),
            config_digest=str(row["config_digest"]),
            standing=BrickState(int(row["state"])).name.lower(),
            snapshot_id=last if session is not None else "",
            receipt=receipt,
        )

    def _standing(
        self, survey: str, brickname: str, digests: tuple[str, str], snapshot: str
    ) -> str:
        if not snapshot or snapshot == self.newest:
            return CURRENT
        session = self.session()
        if session is None or survey not in list_surveys(session):
            return "gone"
        columns = ("state", "content_digest", "config_digest")
        table = ledger_of(session, survey, [brickname], columns)
        if table.empty:
            return "gone"
        row = table.iloc[0]
        if int(row["state"]) == int(BrickState.WITHDRAWN):
            return "withdrawn"
        now = (str(row["content_digest"]), str(row["config_digest"]))
        return CURRENT if now == digests else "superseded"


def _open(store: str, name: str) -> icechunk.Repository | None:
    place = repository_place(store, name)
    return open_repository(place) if repository_exists(place) else None
