"""Back up and restore the whole state of an installation: databases, store, models, catalogues."""

from tasks.backup.manifest import BackupDamaged, BackupRefused, Manifest, read_manifest
from tasks.backup.places import PREDICTED
from tasks.backup.restoring import RestoreReport, restore
from tasks.backup.saving import back_up

__all__ = [
    "PREDICTED",
    "BackupDamaged",
    "BackupRefused",
    "Manifest",
    "RestoreReport",
    "back_up",
    "read_manifest",
    "restore",
]
