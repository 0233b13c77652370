"""Which objects a model was taught with and judged by, as its own run keeps them.

The table stays with the run, so this is known when the label ledger has grown or is gone.
"""

import tempfile
from pathlib import Path

import pandas as pd

from tasks import tracking
from tasks.datasets import DATASET_ARTIFACT, KEY
from tasks.provenance import VersionRecord
from tasks.references import DatasetRef
from tasks.run_records import OBJECTS_ARTIFACT
from tasks.settings import Settings
from tasks.tracking.kept import find_artifact

SPLIT = "split"
_KEPT_TABLES = 32  # a table of 100,000 objects is some 5 MB
_tables: dict[tuple[str, str], pd.DataFrame] = {}


def is_tracked(settings: Settings) -> bool:
    """Return whether there are records of runs and models; asking would create an empty one."""
    return bool(settings.tracking_uri) or (settings.home.resolve() / "mlflow.db").is_file()


def all_versions(settings: Settings, survey: str = "") -> list[VersionRecord]:
    """Return every registered version, or those that were trained on a survey."""
    if not is_tracked(settings):
        return []
    return [
        version
        for name in tracking.registered_models(settings)
        for version in tracking.model_versions(settings, name)
        if not survey or version.tags.get("survey") == survey
    ]


def training_objects(settings: Settings, run_id: str) -> pd.DataFrame:
    """Return `release`, `brickid`, `objid`, `split` and answers of a run; empty if not kept."""
    key = (settings.mlflow_uri, run_id)
    if key in _tables:
        return _tables[key]
    if is_tracked(settings):
        with tempfile.TemporaryDirectory() as folder:
            path = find_artifact(settings, run_id, OBJECTS_ARTIFACT, Path(folder))
            if path is not None:
                if len(_tables) >= _KEPT_TABLES:
                    _tables.pop(next(iter(_tables)), None)
                _tables[key] = pd.read_csv(path)
                return _tables[key]
    return pd.DataFrame({name: [] for name in (*KEY, SPLIT)})


def read_dataset(settings: Settings, run_id: str) -> DatasetRef | None:
    """Return the data set of a run as it was frozen, or None where it is not kept."""
    if not is_tracked(settings):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = find_artifact(settings, run_id, DATASET_ARTIFACT, Path(folder))
        return None if path is None else DatasetRef.model_validate_json(path.read_text())


def counts_by_split(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of objects in each split."""
    return {str(name): int(count) for name, count in table[SPLIT].value_counts().items()}
