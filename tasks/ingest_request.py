"""What an ingest is asked to do: small frozen values that travel to every worker."""

from dataclasses import dataclass
from pathlib import Path

from storage.repository import SURVEY_REPOSITORY
from tasks.sources import Source


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
