"""What an ingest is asked to do: small frozen values that travel to every worker."""

from dataclasses import dataclass

from storage.repository import SURVEY_REPOSITORY, repository_place
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
    def repository(self) -> str:
        """Return the folder of the cutout repository."""
        return repository_place(self.store, SURVEY_REPOSITORY)
