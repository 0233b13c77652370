"""Save the whole state of an installation into a new folder, while its services run."""

import errno
import hashlib
import json
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

from storage.object_storage import is_object_storage
from storage.repository import open_repository, repository_exists, repository_place, snapshot_id
from tasks.backup.manifest import (
    BLOCK,
    FILES,
    FORMAT,
    HOME,
    MANIFEST,
    STORE,
    BackupDamaged,
    BackupRefused,
    Manifest,
    SavedFile,
    digest_of,
)
from tasks.backup.places import (
    REPOSITORIES,
    find_home_files,
    is_database,
    reason_to_leave_out,
    state_elsewhere,
    walk,
)
from tasks.decisions import one_at_a_time
from tasks.settings import Settings
from tasks.whole_files import whole_file

BUSY_SECONDS = 60


def back_up(
    settings: Settings, target: Path, *, only_local: bool = False, predictions: bool = False
) -> Manifest:
    """Save everything that a restore needs into a new folder; services may go on meanwhile.

    Databases are copied by SQLite itself. The references of a repository are read before its other
    files, which never change once they are named by a reference, and written after them.

    Parameters
    ----------
    target : Path
        An empty folder, or one that does not exist; readable by its owner only, since it holds
        password hashes.
    only_local : bool
        Go on although some state is on other machines; the manifest says which.
    predictions : bool
        Save the predictions of bricks as well. Releases hold their rows, champions make them again.

    Raises
    ------
    BackupRefused
        If the target will not do, the disk is full, or state is elsewhere.
    BackupDamaged
        If a database or a repository cannot be read back from its copy.
    """
    elsewhere = state_elsewhere(settings, os.environ)
    if elsewhere and not only_local:
        raise BackupRefused(
            "not all of the state is in files of this host: "
            + "; ".join(elsewhere)
            + ". With --only-local the rest is saved here"
        )
    _prepare(settings, target)
    with _full_disk_is_told(target), (target / FILES).open("w", encoding="utf-8") as lines:
        saver = _Saver(target, settings, lines)
        saver.save_home(predictions)
        if not is_object_storage(settings.store_path):
            saver.save_store()
    manifest = Manifest(
        format=FORMAT,
        version=version("brickyard"),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        home=str(settings.home.resolve()),
        store=settings.store_path,
        files=saver.files,
        bytes=saver.bytes,
        databases=tuple(saver.databases),
        snapshots=_newest_snapshots(target / STORE),
        files_sha256=digest_of(target / FILES),
        left_out=dict(saver.left_out),
        elsewhere=tuple(elsewhere),
    )
    with whole_file(target / MANIFEST) as path:
        path.write_text(json.dumps(manifest.model_dump(mode="json"), indent=2), encoding="utf-8")
    return manifest


class _Saver:
    """Copies files into a backup and lists them."""

    def __init__(self, target: Path, settings: Settings, lines: TextIO) -> None:
        self._target, self._settings, self._lines = target, settings, lines
        self.files = self.bytes = 0
        self.databases: list[str] = []
        self.left_out: Counter[str] = Counter()

    def save_home(self, predictions: bool) -> None:
        """Save what is in the home folder, in the order of `tasks.backup.places`."""
        home = self._settings.home.resolve()
        found = find_home_files(self._settings, predictions=predictions)
        self.left_out.update(found.left_out)
        self._save_all(HOME, home, found.before)
        with one_at_a_time(self._settings):
            self._save_all(HOME, home, found.gate)
        # Once more: a model that the registry names may have come since.
        known, now = set(found.after), find_home_files(self._settings, predictions=predictions)
        later = [name for name in now.after if name not in known]
        self._save_all(HOME, home, (*found.after, *later))

    def save_store(self) -> None:
        """Save the repositories of the store, and whatever else lies beside them."""
        store = Path(self._settings.store_path).resolve()
        for name in REPOSITORIES:
            self._save_repository(store, name)
        names = (path.relative_to(store).as_posix() for path in walk(store))
        self._save_all(STORE, store, (n for n in names if n.split("/")[0] not in REPOSITORIES))

    def _save_repository(self, store: Path, name: str) -> None:
        folder = store / name / "refs"
        refs = {
            path.relative_to(store).as_posix(): path.read_bytes()
            for path in walk(folder)
            if not reason_to_leave_out(path.name)
        }
        rest = (path for path in walk(store / name) if not path.is_relative_to(folder))
        self._save_all(STORE, store, (path.relative_to(store).as_posix() for path in rest))
        for relative, content in refs.items():
            self._place(STORE, relative).write_bytes(content)
            self._note(STORE, relative, len(content), hashlib.sha256(content).hexdigest())

    def _save_all(self, root: str, folder: Path, names: Iterable[str]) -> None:
        for name in names:
            reason = reason_to_leave_out(name)
            if reason:
                self.left_out[reason] += 1
                continue
            try:
                self._save(root, folder / name, name)
            except FileNotFoundError:  # garbage that was collected, a report that was replaced
                self.left_out["gone meanwhile"] += 1

    def _save(self, root: str, source: Path, name: str) -> None:
        database = is_database(source)
        place = self._place(root, name)
        if database:
            _copy_database(source, place)
            self.databases.append(name)
            digest = digest_of(place)
        else:
            digest = copy_with_digest(source, place)
        shutil.copymode(source, place)
        self._note(root, name, place.stat().st_size, digest)

    def _place(self, root: str, name: str) -> Path:
        place = self._target / root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _note(self, root: str, name: str, size: int, digest: str) -> None:
        saved = SavedFile(root=root, path=name, size=size, sha256=digest)
        self._lines.write(saved.model_dump_json() + "\n")
        self.files += 1
        self.bytes += size


def copy_with_digest(source: Path, target: Path) -> str:
    """Copy a file and return the SHA-256 of what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(BLOCK):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def _prepare(settings: Settings, target: Path) -> None:
    home = settings.home.resolve()
    if not home.is_dir():
        raise BackupRefused(f"there is no home folder {home}: set BRICKYARD_HOME, or give --home")
    roots = [home]
    if not is_object_storage(settings.store_path):
        roots.append(Path(settings.store_path).resolve())
    if any(target.resolve().is_relative_to(root) for root in roots):
        raise BackupRefused(f"{target} is inside of what is to be saved: give another folder")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        what = "holds a backup" if (target / MANIFEST).exists() else "is not empty"
        raise BackupRefused(f"{target} {what}: give a new folder, or delete this one first")
    target.mkdir(parents=True, exist_ok=True, mode=0o700)


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is between two transactions, and read the copy through."""
    address = f"{source.as_uri()}?mode=rw"
    with (
        closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        try:
            reader.backup(writer)
            found = [row[0] for row in writer.execute("PRAGMA quick_check").fetchall()]
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise OSError(errno.ENOSPC, "No space left on device") from error
            raise BackupDamaged(f"{source} cannot be read: {error}") from error
    if found != ["ok"]:
        raise BackupDamaged(f"{source} is damaged: {found[0]}; mend it with `sqlite3 .recover`")


def _newest_snapshots(store: Path) -> dict[str, str]:
    found = {}
    for name in REPOSITORIES:
        place = repository_place(store, name)
        if repository_exists(place):
            found[name] = snapshot_id(open_repository(place))
    return found


@contextmanager
def _full_disk_is_told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise BackupRefused(
            f"the disk of {target} is full: what is there is no backup. Delete it and give a "
            "folder on a larger disk"
        ) from error
