"""What the first page of the desk shows: what waits, and how the survey and its models stand."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from lvm.downstream import DOWNSTREAM_TASKS
from storage.errors import StorageError
from tasks import tracking
from tasks.answers import run_url
from tasks.champions import recorded_moves
from tasks.desk_pages_rounds import newest_catalogue
from tasks.embedded import NothingEmbedded
from tasks.encoders import NoEncoder, NotEmbedded, find_embeddings, find_encoder
from tasks.provenance import VersionRecord
from tasks.references import ModelRef, Reference
from tasks.settings import Settings
from tasks.snapshots import SurveySummary, describe_store, find_snapshot

T = TypeVar("T")
KEPT_SECONDS = 10.0  # how old the state of store and registry on the page may be


class Return(Reference):
    """That a champion came back: who took back which version, when and why."""

    instead_of: str
    by: str
    at: str
    reason: str


class ChampionSummary(Reference):
    """The model in use for a downstream task, and how many versions wait.

    `previous` is the version that would come back if this one were taken back; empty: none.
    """

    downstream: str
    version: str
    run_id: str
    decided_by: str
    decided_at: str
    published: str
    undecided: int
    previous: str = ""
    returned: Return | None = None


class Kept(Generic[T]):
    """A value that is made again, in the background, when it is asked for and has become old."""

    def __init__(self, make: Callable[[], T], seconds: float = KEPT_SECONDS) -> None:
        self._make, self._seconds = make, seconds
        self._making, self._made = threading.Lock(), threading.Event()
        self._at = 0.0
        self._value: T

    def get(self) -> T:
        """Return the value; only the first call, and one after `forget`, waits for it."""
        if not self._made.is_set():
            with self._making:
                if not self._made.is_set():
                    self._refresh()
        elif time.monotonic() - self._at > self._seconds and self._making.acquire(blocking=False):
            self._at = time.monotonic()
            threading.Thread(target=self._refresh_and_release, daemon=True).start()
        return self._value

    def forget(self) -> None:
        """Make it again before the next answer."""
        self._made.clear()

    def _refresh(self) -> None:
        self._value, self._at = self._make(), time.monotonic()
        self._made.set()

    def _refresh_and_release(self) -> None:
        try:
            self._refresh()
        finally:
            self._making.release()


def surveys_of(settings: Settings) -> list[SurveySummary]:
    """Return the surveys of the store; none before the first ingest."""
    try:
        return describe_store(settings)
    except StorageError:
        return []


def embedded_with(settings: Settings, survey: str) -> str:
    """Return the digest of the newest encoder where it has embedded a survey, or nothing."""
    try:
        encoder = find_encoder(settings)
        find_embeddings(find_snapshot(settings, survey, None), encoder)
    except (NoEncoder, NotEmbedded, NothingEmbedded, StorageError):
        return ""
    return encoder.digest


def champions_of(settings: Settings, surveys: list[SurveySummary]) -> list[ChampionSummary]:
    """Return the champions of all registered models, and models that have none yet."""
    found = []
    for downstream in sorted(DOWNSTREAM_TASKS):
        versions = tracking.model_versions(settings, downstream)
        if not versions:
            continue
        champion = tracking.champion(settings, downstream)
        tags = tracking.version_tags(settings, champion) if champion else {}
        oldest = int(champion.version) if champion else 0
        undecided = [
            item
            for item in versions
            if int(item.model.version) > oldest and "decision" not in item.tags
        ]
        folders = [newest_catalogue(settings, item.survey, downstream) for item in surveys]
        found.append(
            ChampionSummary(
                downstream=downstream,
                version=champion.version if champion else "",
                run_id=champion.run_id if champion else "",
                decided_by=tags.get("decision.reviewer", ""),
                decided_at=_moment(tags.get("decision.at", "")),
                published=", ".join(folder.name for folder in folders if folder),
                undecided=len(undecided),
                previous=_before(settings, champion),
                returned=_returned(tags, versions),
            )
        )
    return found


def _before(settings: Settings, champion: ModelRef | None) -> str:
    """Return the version that was champion before, by the recorded decisions."""
    moves = recorded_moves(settings, champion.downstream) if champion else []
    last = moves[-1] if moves and moves[-1].to == champion else None
    return last.previous.version if last and last.previous else ""


def _returned(tags: Mapping[str, str], versions: Sequence[VersionRecord]) -> Return | None:
    """Return how a champion came back, from its tags; None if a promotion made it champion."""
    at = tags.get("restored.at", "")
    if at <= tags.get("decision.at", ""):
        return None
    case = tags["restored.case"]
    taken = [x.model.version for x in versions if x.tags.get("rolled_back.case") == case]
    return Return(
        instead_of=taken[0] if taken else "",
        by=tags.get("restored.reviewer", ""),
        at=_moment(at),
        reason=tags.get("restored.reason", ""),
    )


def _moment(text: str) -> str:
    return text[:16].replace("T", " ")


def links_of(settings: Settings) -> dict[str, str]:
    """Return the addresses of the other pages of this installation, where there are any."""
    served = settings.tracking_uri if settings.tracking_uri.startswith("http") else ""
    mlflow = settings.mlflow_url or served
    prefect = run_url("00000000-0000-0000-0000-000000000000").partition("/runs/")[0]
    return {name: url for name, url in {"Prefect": prefect, "MLflow": mlflow}.items() if url}
