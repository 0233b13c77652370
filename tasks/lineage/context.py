"""What one question about lineage works with: the home, its store, and the graph that grows."""

from dataclasses import dataclass, field
from functools import cached_property

from tasks.lineage.catalogues import CatalogueFile, published_catalogues
from tasks.lineage.graph import Graph
from tasks.lineage.store import StoreView
from tasks.lineage.training import all_versions
from tasks.provenance import VersionRecord
from tasks.settings import Settings


@dataclass
class Context:
    """One question; what is read for it is read once."""

    settings: Settings
    graph: Graph = field(default_factory=Graph)

    @cached_property
    def store(self) -> StoreView:
        """Return the store of the home."""
        return StoreView(self.settings.store_path)

    @cached_property
    def catalogues(self) -> list[CatalogueFile]:
        """Return the catalogues that the home has published."""
        return list(published_catalogues(self.settings))

    @cached_property
    def versions(self) -> list[VersionRecord]:
        """Return all registered versions of all models."""
        return all_versions(self.settings)
