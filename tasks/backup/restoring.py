"""Put a backup back into an installation that has nothing yet."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from storage.object_storage import is_object_storage
from tasks.backup.manifest import (
    HOME,
    STORE,
    BackupDamaged,
    BackupRefused,
    Manifest,
    read_files,
    read_manifest,
)
from tasks.backup.places import MLFLOW, UNFINISHED, walk
from tasks.backup.saving import copy_with_digest
from tasks.references import Reference
from tasks.settings import Settings

# Where MLflow's tables say where files are.
_PLACES_IN_MLFLOW = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
_NAMED = 5  # damaged files in a message


class RestoreReport(Reference):
    """What was restored; `relocated` counts places in MLflow that named the former home."""

    manifest: Manifest
    relocated: int


def restore(settings: Settings, source: Path) -> RestoreReport:
    """Put a backup into an empty home folder and an empty store.

    Every file is checked against the manifest before the first one takes its place.

    Parameters
    ----------
    source : Path
        Folder of a backup.

    Raises
    ------
    BackupRefused
        If the home folder or the store is not empty, or the disk has not the room.
    BackupDamaged
        If a file is missing or is not the one that was saved; nothing is restored then.
    """
    manifest = read_manifest(source)
    roots = _roots(settings, manifest)
    for root in roots.values():
        _refuse_unless_empty(root)
    _check_room(source, roots)
    try:
        _bring(source, roots)
        for root in roots.values():
            _put_in_place(root)
    finally:
        for root in roots.values():
            shutil.rmtree(root / UNFINISHED, ignore_errors=True)
    relocated = _relocate(roots[HOME], Path(manifest.home))
    return RestoreReport(manifest=manifest, relocated=relocated)


def _roots(settings: Settings, manifest: Manifest) -> dict[str, Path]:
    roots = {HOME: settings.home.resolve()}
    if is_object_storage(settings.store_path):
        if not is_object_storage(manifest.store):
            raise BackupRefused(
                f"the backup holds a store, which cannot be put into {settings.store_path}: "
                "restore it into a folder, and copy its files into the bucket, refs/ last"
            )
        return roots
    return roots | {STORE: Path(settings.store_path).resolve()}


def _refuse_unless_empty(root: Path) -> None:
    if not root.is_dir():
        return
    found = next((p for p in walk(root) if UNFINISHED not in p.relative_to(root).parts), None)
    if found is not None:
        cut = " (a restore that was cut short)" if (root / UNFINISHED).exists() else ""
        raise BackupRefused(
            f"{root} is not empty{cut}: it has {found.relative_to(root)}. Restore into a new "
            "folder, or move this one away first"
        )
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)


def _check_room(source: Path, roots: dict[str, Path]) -> None:
    needed = dict.fromkeys(roots, 0)
    for saved in read_files(source):
        needed[saved.root] = needed.get(saved.root, 0) + saved.size
    for name, root in roots.items():
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free
        if needed[name] > free:
            raise BackupRefused(
                f"{root} has room for {free / 1e9:.1f} GB, the backup needs "
                f"{needed[name] / 1e9:.1f} GB: restore into a folder on a larger disk"
            )


def _bring(source: Path, roots: dict[str, Path]) -> None:
    """Copy every file beside its place and compare it with the manifest."""
    wrong = []
    for saved in read_files(source):
        origin = source / saved.root / saved.path
        place = roots[saved.root] / UNFINISHED / saved.path
        if not origin.is_file():
            wrong.append(f"{saved.root}/{saved.path} is missing")
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if copy_with_digest(origin, place) != saved.sha256:
            wrong.append(f"{saved.root}/{saved.path} was changed")
        shutil.copymode(origin, place)
    if wrong:
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise BackupDamaged(
            f"nothing was restored: in {source} {', '.join(wrong[:_NAMED])}{more}. "
            "Use another backup"
        )


def _put_in_place(root: Path) -> None:
    unfinished = root / UNFINISHED
    if not unfinished.is_dir():  # nothing was saved of this root
        return
    for path in sorted(unfinished.iterdir()):
        place = root / path.name
        if place.is_dir():
            _merge(path, place)
        else:
            path.rename(place)


def _merge(source: Path, target: Path) -> None:
    """Move a folder into one that has no files, only folders."""
    for place, _, names in os.walk(source):
        folder = target / Path(place).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            Path(place, name).rename(folder / name)


def _relocate(home: Path, former: Path) -> int:
    """Let MLflow find its files in the new home; return how many places were changed."""
    database = home / MLFLOW
    if home == former or not database.is_file():
        return 0
    changed = 0
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in _PLACES_IN_MLFLOW:
            known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            if column not in known:
                continue
            for old, new in ((former.as_uri(), home.as_uri()), (str(former), str(home))):
                done = connection.execute(
                    f"UPDATE {table} SET {column} = :new || substr({column}, :length) "
                    f"WHERE substr({column}, 1, :length) = :prefix",
                    {"new": new, "prefix": old + "/", "length": len(old) + 1},
                )
                changed += done.rowcount
    return changed
