"""Find surveys and snapshots in a store, and say what they hold."""

from pathlib import Path

from storage.brick_store import ledger
from storage.errors import StorageError
from storage.repository import SURVEY_REPOSITORY, open_repository, read_session, snapshot_id
from storage.schema import BrickState
from storage.survey_group import list_surveys, read_layout
from tasks.references import SnapshotRef
from tasks.settings import Settings


def find_snapshot(settings: Settings, survey: str, snapshot: str | None) -> SnapshotRef:
    """Return a reference to a snapshot of a survey, the newest by default.

    Raises
    ------
    StorageError
        If the store, the snapshot or the survey in it does not exist.
    """
    repository = open_repository(Path(settings.store_path) / SURVEY_REPOSITORY)
    chosen = snapshot or snapshot_id(repository)
    known = list_surveys(read_session(repository, snapshot=chosen))
    if survey not in known:
        raise StorageError(
            f"survey {survey!r} is not in the store; it holds {', '.join(known) or 'nothing yet'}"
        )
    return SnapshotRef(store=settings.store_path, survey=survey, snapshot_id=chosen)


def describe_store(settings: Settings) -> list[tuple[str, str, int, int, int, int, str]]:
    """Return a row a survey: name, bands, bricks, objects, empty, failed, snapshot."""
    repository = open_repository(Path(settings.store_path) / SURVEY_REPOSITORY)
    session, snapshot = read_session(repository), snapshot_id(repository)
    rows = []
    for survey in list_surveys(session):
        table, layout = ledger(session, survey), read_layout(session, survey)
        states = table["state"].value_counts().to_dict()
        rows.append(
            (
                survey,
                "".join(layout.bands),
                int(states.get(BrickState.WRITTEN, 0)),
                int(table["n_objects"].sum()),
                int(states.get(BrickState.EMPTY, 0)),
                int(states.get(BrickState.FAILED, 0)),
                snapshot,
            )
        )
    return rows
