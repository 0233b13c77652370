"""A survey together with its embeddings by one encoder: what search, rarity, map and drift read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.batches import read_cutouts
from storage.brick_store import read_layout
from storage.embedding_store import has_embeddings
from storage.repository import (
    BRANCH,
    EMBEDDING_REPOSITORY,
    open_repository,
    read_session,
    repository_place,
)
from storage.search.vectors import EmbeddedRows, embedded_rows
from tasks.embedding import open_embeddings
from tasks.encoders import find_embeddings
from tasks.errors import TaskError
from tasks.references import EmbeddingsRef, EncoderRef, SnapshotRef
from tasks.settings import Settings
from tasks.sheets import cutout_sheet
from tasks.snapshots import find_snapshot, open_snapshot

INDEXES = "indexes"  # folders in the home
REPORTS = "reports"


class NothingEmbedded(TaskError, LookupError):
    """None of the bricks of a survey has embeddings that are up to date."""


@dataclass(frozen=True)
class EmbeddedSurvey:
    """Open sessions on a snapshot and on its embeddings, and the rows that they share."""

    snapshot: SnapshotRef
    embeddings: EmbeddingsRef
    session: Any
    vectors: Any
    rows: EmbeddedRows

    @property
    def provenance(self) -> dict[str, str]:
        """Return the snapshots that are read."""
        return {
            "survey_snapshot": self.snapshot.snapshot_id,
            "embeddings_snapshot": self.embeddings.snapshot_id,
        }

    def images(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the pixels of some rows, in the order given."""
        found = read_cutouts(self.session, self.snapshot.survey, rows, ("image",))["image"]
        return np.asarray(found, dtype=np.float32)

    def sheet(self, rows: npt.NDArray[np.int64], captions: list[str], path: Path) -> Path:
        """Write a sheet of the cutouts of some rows."""
        bands = read_layout(self.session, self.snapshot.survey).bands
        return cutout_sheet(self.images(rows), bands, captions, path)


def open_embedded(
    settings: Settings,
    survey: str,
    encoder: EncoderRef,
    snapshot_id: str | None = None,
    tag: str | None = None,
) -> EmbeddedSurvey:
    """Open a snapshot of a survey, the newest by default, and its embeddings by an encoder.

    The newest embeddings are taken that cover the snapshot best: those of an old snapshot may have
    been replaced since.

    Raises
    ------
    NotEmbedded, NothingEmbedded
        If this encoder has embedded nothing of the survey, or nothing that is still in it.
    """
    snapshot = find_snapshot(settings, survey, snapshot_id, tag)
    embeddings = find_embeddings(snapshot, encoder)
    session, vectors = open_snapshot(snapshot), open_embeddings(embeddings)
    rows = embedded_rows(vectors, session, encoder.digest, survey)
    if rows.left_out and (snapshot_id or tag):
        embeddings, vectors, rows = _best_of_history(snapshot, embeddings, session, rows)
    if rows.total == 0:
        raise NothingEmbedded(
            f"no brick of {survey} in snapshot {snapshot.snapshot_id} has embeddings by "
            f"{encoder.digest[:16]} that are up to date: run `brickyard embed {survey}`"
        )
    return EmbeddedSurvey(snapshot, embeddings, session, vectors, rows)


def _best_of_history(
    snapshot: SnapshotRef, newest: EmbeddingsRef, session: Any, rows: EmbeddedRows
) -> tuple[EmbeddingsRef, Any, EmbeddedRows]:
    """Return the embeddings, among all that were ever committed, that lack the fewest bricks."""
    repository = open_repository(repository_place(snapshot.store, EMBEDDING_REPOSITORY))
    digest, survey = newest.encoder_digest, snapshot.survey
    best = (newest, open_embeddings(newest), rows)
    for info in repository.ancestry(branch=BRANCH):
        vectors = read_session(repository, snapshot=info.id)
        if not has_embeddings(vectors, digest, survey):
            break
        found = embedded_rows(vectors, session, digest, survey)
        if found.left_out < best[2].left_out:
            best = (newest.model_copy(update={"snapshot_id": info.id}), vectors, found)
        if not found.left_out:
            break
    return best


def index_root(settings: Settings) -> Path:
    """Return the folder of the search indexes, which can be deleted at any time."""
    return settings.home.resolve() / INDEXES


def report_path(settings: Settings, what: str, survey: str, suffix: str) -> Path:
    """Return the file of a report: `<home>/reports/<what>-<survey><suffix>`."""
    return settings.home.resolve() / REPORTS / f"{what}-{survey.replace('/', '-')}{suffix}"
