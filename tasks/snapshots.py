"""Find surveys and snapshots in a store, say what they hold, and clear what broken runs left."""

from typing import Any

from storage.brick_ledger import ledger
from storage.errors import StorageError
from storage.repository import (
    EMBEDDING_REPOSITORY,
    SURVEY_REPOSITORY,
    collect_garbage,
    open_repository,
    read_session,
    repository_exists,
    repository_place,
    snapshot_id,
    writer_lock,
)
from storage.schema import BrickState
from storage.snapshot_tags import SnapshotTag, tags_of
from storage.survey_group import list_surveys, read_layout
from tasks.references import Reference, SnapshotRef
from tasks.settings import Settings


class SurveySummary(Reference):
    """What the store holds of a survey: bricks by state, objects, newest snapshot and tag."""

    survey: str
    bands: str
    states: dict[str, int]
    objects: int
    snapshot_id: str
    tag: str


def survey_path(store: str) -> str:
    """Return the cutout repository of a store."""
    return repository_place(store, SURVEY_REPOSITORY)


def open_snapshot(snapshot: SnapshotRef) -> Any:
    """Open a read-only session on a snapshot of the cutout repository."""
    repository = open_repository(survey_path(snapshot.store))
    return read_session(repository, snapshot=snapshot.snapshot_id)


def find_snapshot(
    settings: Settings, survey: str, snapshot: str | None, tag: str | None = None
) -> SnapshotRef:
    """Return a reference to a snapshot of a survey by its id or tag, the newest by default.

    Raises
    ------
    StorageError
        If the store, the snapshot or the survey in it does not exist.
    """
    repository = open_repository(survey_path(settings.store_path))
    chosen = snapshot or snapshot_id(repository, tag=tag)
    known = list_surveys(read_session(repository, snapshot=chosen))
    if survey not in known:
        raise StorageError(
            f"survey {survey!r} is not in the store; it holds {', '.join(known) or 'nothing yet'}"
        )
    return SnapshotRef(store=settings.store_path, survey=survey, snapshot_id=chosen)


def describe_store(settings: Settings) -> list[SurveySummary]:
    """Return a summary of every survey of the store."""
    repository = open_repository(survey_path(settings.store_path))
    session, snapshot = read_session(repository), snapshot_id(repository)
    summaries = []
    for survey in list_surveys(session):
        table = ledger(session, survey, ("state", "n_objects"))
        counts = table["state"].value_counts().to_dict()
        tags = tags_of(repository, survey)
        summaries.append(
            SurveySummary(
                survey=survey,
                bands="".join(read_layout(session, survey).bands),
                states={state.name.lower(): int(counts.get(state, 0)) for state in BrickState},
                objects=int(table["n_objects"].sum()),
                snapshot_id=snapshot,
                tag=tags[-1].name if tags else "",
            )
        )
    return summaries


def list_snapshots(settings: Settings, survey: str | None) -> list[SnapshotTag]:
    """Return the tagged snapshots of a survey, or of all surveys, oldest first."""
    return tags_of(open_repository(survey_path(settings.store_path)), survey)


def tidy_store(settings: Settings) -> dict[str, int]:
    """Delete what no snapshot refers to; return the bytes freed in each repository.

    Raises
    ------
    RepositoryBusy
        If a run is writing: what it has not yet committed would be deleted too.
    """
    freed = {}
    for name in (SURVEY_REPOSITORY, EMBEDDING_REPOSITORY):
        path = repository_place(settings.store_path, name)
        if repository_exists(path):
            with writer_lock(path, what="tidy"):
                freed[name] = collect_garbage(open_repository(path))
    return freed
