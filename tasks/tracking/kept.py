"""What is still kept of a run, asked without an error where it is gone: for tracing old things."""

from pathlib import Path

from mlflow.exceptions import MlflowException

from tasks.provenance import RunRecord
from tasks.settings import Settings
from tasks.tracking.client import connect


def find_run(settings: Settings, run_id: str) -> RunRecord | None:
    """Return what was tracked of a run, or None when it was deleted or belongs elsewhere."""
    try:
        return RunRecord.of(connect(settings).get_run(run_id)) if run_id else None
    except MlflowException:
        return None


def find_artifact(settings: Settings, run_id: str, name: str, folder: Path) -> Path | None:
    """Copy an artifact of a run into a folder, or return None where it is not kept."""
    if not run_id:
        return None
    try:
        return Path(connect(settings).download_artifacts(run_id, name, str(folder)))
    except (MlflowException, OSError):
        return None
