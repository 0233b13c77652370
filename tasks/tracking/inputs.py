"""Data sets as MLflow knows them: named by a digest, fixed by a snapshot, labels and a split."""

import json
from collections.abc import Mapping
from typing import Any

from mlflow.data.dataset import Dataset
from mlflow.data.dataset_source import DatasetSource

MLFLOW_DIGITS = 36  # MLflow's limit of a digest


class SnapshotSource(DatasetSource):
    """Where a data set comes from: store, survey, snapshot, labels and split, as plain values."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    @staticmethod
    def _get_source_type() -> str:
        return "brickyard_snapshot"

    def load(self, **kwargs: Any) -> dict[str, Any]:
        """Return the facts; the pixels are read with `tasks.loaders`."""
        return self.facts

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> "SnapshotSource":
        raise NotImplementedError("a snapshot is named by its facts, not by a path")

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes."""
        return self.facts

    @classmethod
    def from_dict(cls, source_dict: dict[str, Any]) -> "SnapshotSource":
        """Return the source that `to_dict` described."""
        return cls(source_dict)


class FrozenDataset(Dataset):
    """A data set of `tasks.datasets`, for the inputs of a run."""

    def __init__(
        self, source: SnapshotSource, name: str, digest: str, profile: Mapping[str, Any]
    ) -> None:
        self._profile = dict(profile)
        super().__init__(source=source, name=name, digest=digest[:MLFLOW_DIGITS])

    def _compute_digest(self) -> str:
        return self.digest

    def to_dict(self) -> dict[str, str]:
        """Return the entries of MLflow's record of it."""
        return super().to_dict() | {"profile": json.dumps(self._profile), "schema": "{}"}

    @property
    def profile(self) -> dict[str, Any]:
        """Return what it holds, such as objects by split."""
        return self._profile

    @property
    def schema(self) -> None:
        """Return None: what the columns are is said by the survey's layout."""
        return
