"""What an ingest is asked to do: small frozen values that travel to every worker."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from storage.repository import SURVEY_REPOSITORY
from tasks.references import Reference
from tasks.sources import Source


class IngestRun(Reference):
    """How an ingest runs; what it makes is decided by the `IngestConfig`.

    `bricks_per_commit` bricks become visible together; a killed run loses at most these. `again`
    ingests bricks that are unchanged, or withdrawn, once more. `brick_list` is a file of brick
    names. `tag` names the snapshot that the run leads to; by default it gets a running number.
    """

    bricks_per_commit: int = Field(default=64, ge=1)
    again: bool = False
    brick_list: str | None = None
    tag: str | None = None


@dataclass(frozen=True)
class IngestRequest:
    """What is ingested, where to, and where the receipts go."""

    store: str
    survey: str
    source: Source
    log: str
    again: bool = False

    @property
    def repository(self) -> Path:
        """Return the folder of the cutout repository."""
        return Path(self.store) / SURVEY_REPOSITORY
