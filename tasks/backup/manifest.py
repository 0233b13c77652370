"""What a backup says of itself: one small document, and a list with one line a file.

A backup is a folder::

    manifest.json     written last: a folder without it is no backup
    files.jsonl       root, path, size and SHA-256 of every file
    home/             files of the home folder, as they lay there
    store/            files of the store's repositories
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from tasks.errors import TaskError
from tasks.references import Reference

FORMAT = 1
MANIFEST = "manifest.json"
FILES = "files.jsonl"
HOME, STORE = "home", "store"  # the roots: names of the folders in a backup
BLOCK = 1 << 20


class BackupRefused(TaskError):
    """A backup or restore was not begun, or had to be given up; nothing was changed."""


class BackupDamaged(TaskError):
    """A backup is not what its manifest says, or a database to be saved is damaged."""


class SavedFile(Reference):
    """One file of a backup; `path` is relative to its root."""

    root: str
    path: str
    size: int
    sha256: str


class Manifest(Reference):
    """What was saved, of which installation, and what was not.

    `elsewhere` names state that is on other machines and has to be saved there; `left_out` counts
    files that are no state (locks, logs, records of running services, files being fetched) or can
    be made again (predictions of bricks).
    """

    format: int
    version: str
    made_at: str
    home: str
    store: str
    files: int
    bytes: int
    databases: tuple[str, ...]
    snapshots: dict[str, str]
    files_sha256: str
    left_out: dict[str, int]
    elsewhere: tuple[str, ...] = ()


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a backup whose list of files is whole.

    Raises
    ------
    BackupRefused
        If the folder is no backup, an unfinished one, or one of another format.
    BackupDamaged
        If manifest and list do not belong together.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise BackupRefused(
            f"{folder} has no {MANIFEST}: it is no backup, or one that did not end; give another"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("format") != FORMAT:
            raise BackupRefused(
                f"{folder} is a backup of format {document.get('format')}, this code reads "
                f"{FORMAT}: use the version of Brickyard that made it"
            )
        manifest = Manifest.model_validate(document)
    except (ValueError, ValidationError) as error:
        raise BackupDamaged(f"{path} is damaged: {error}") from error
    if not (folder / FILES).is_file() or digest_of(folder / FILES) != manifest.files_sha256:
        raise BackupDamaged(f"{folder / FILES} is not the list that {MANIFEST} belongs to")
    return manifest


def read_files(folder: Path) -> Iterator[SavedFile]:
    """Yield what the list of a backup names, in the order in which it was saved."""
    with (folder / FILES).open(encoding="utf-8") as lines:
        for line in lines:
            yield SavedFile.model_validate_json(line)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
