"""The files of predicted bricks: where they are, and what their columns mean."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from lvm.columns import meaning_of
from lvm.downstream import DownstreamTask
from storage.catalogue import ColumnNote
from tasks.references import ModelRef
from tasks.settings import Settings

# Of the files of bricks; another number makes all of them stale.
PREDICTION_VERSION = 1
#: Of the ledger: what says which version of a brick is there.
LEDGER_COLUMNS = ("state", "row_start", "n_objects", "content_digest", "config_digest")
_DIGITS = 16
ID_NOTES = {
    "object_id": ColumnNote("", "<release>-<brickid>-<objid>"),
    "release": ColumnNote("", "RELEASE code of the survey"),
    "brickid": ColumnNote("", "brick number"),
    "objid": ColumnNote("", "object number within the brick"),
    "brickname": ColumnNote("", "brick name"),
    "ra": ColumnNote("deg", "right ascension (ICRS)"),
    "dec": ColumnNote("deg", "declination (ICRS)"),
    "model_version": ColumnNote("", "version of the registered model that made this row"),
    "encoder_digest": ColumnNote("", "SHA-256 of the encoder that the model started from"),
    "content_digest": ColumnNote("", "SHA-256 of the files that the brick was cut out of"),
    "snapshot_id": ColumnNote("", "snapshot of the cutouts that this row was predicted from"),
}


def prediction_folder(settings: Settings, survey: str, model: ModelRef) -> Path:
    """Return the folder of all that one version of a model has predicted of a survey."""
    version = f"v{model.version}-{model.digest[:_DIGITS]}"
    return settings.predictions_path / survey / model.downstream / version


def prediction_path(
    settings: Settings, survey: str, model: ModelRef, brickname: str, version: str
) -> Path:
    """Return the file of one version of a brick, from `storage.embedding_store.brick_version`."""
    folder = prediction_folder(settings, survey, model)
    return folder / brickname[:3] / file_name(brickname, version)


def file_name(brickname: str, version: str) -> str:
    """Return the name of the file of one version of a brick."""
    digest = hashlib.sha256(f"{PREDICTION_VERSION}:{version}".encode()).hexdigest()
    return f"{brickname}-{digest[:_DIGITS]}.parquet"


def notes_of(columns: Iterable[str], task: DownstreamTask) -> dict[str, ColumnNote]:
    """Return unit and meaning of columns that identify objects or that a task presents."""
    return {
        name: ID_NOTES.get(name) or ColumnNote(*meaning_of(name, task.columns))
        for name in map(str, columns)
    }
