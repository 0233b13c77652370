"""Open the Icechunk repositories of a store; sessions, commits, tags and the writer lock.

A store is a folder, or a prefix of an S3-compatible bucket, with two repositories,
``<store>/survey`` and ``<store>/embeddings``. Icechunk's local-filesystem storage is not safe for
concurrent commits, so whoever commits holds `writer_lock` for as long as it writes; workers write
to forks that are merged into the one session that commits. On object storage Icechunk itself
refuses the second of two commits that started from one snapshot. What the arrays mean is not known
here: see `storage.schema`.
"""

import json
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakKeyDictionary

import icechunk
from filelock import FileLock, Timeout

from storage.chunk_files import remember_snapshot
from storage.errors import RepositoryBusy, RepositoryFull, StorageError
from storage.object_storage import is_object_storage, lock_folder, object_storage

BRANCH = "main"
SURVEY_REPOSITORY = "survey"
EMBEDDING_REPOSITORY = "embeddings"

# Manifests are rewritten whole when one of their chunks changes. 4,096 shards of 64 rows are about
# a thousand bricks: a commit rewrites a few hundred kB an array, however large the survey is, and
# the snapshot of 76 million cutouts still lists only some 4,500 manifests.
MANIFEST_SHARDS = 4096

_FOLDERS: WeakKeyDictionary[icechunk.Repository, Path] = WeakKeyDictionary()


def repository_place(store: str | Path, name: str) -> str:
    """Return where the repository called ``name`` of a store is: a folder, or an ``s3://`` URL."""
    if is_object_storage(store):
        return f"{str(store).rstrip('/')}/{name}"
    return str(Path(store) / name)


def open_repository(path: str | Path, *, create: bool = False) -> icechunk.Repository:
    """Open a repository, or create it where ``create`` is true and there is none.

    Parameters
    ----------
    path : str or Path
        Folder or URL of one repository, from `repository_place`.
    create : bool
        Create the repository, and its folder, when absent.

    Raises
    ------
    StorageError
        When there is no repository and ``create`` is false, or when what is there is not one.
    """
    if repository_exists(path):
        return _known(icechunk.Repository.open(_storage(path), _config()), path)
    if not create:
        raise StorageError(
            f"no repository at {path}: run the ingest first, or give the right store folder"
        )
    if is_object_storage(path):
        return icechunk.Repository.create(_storage(path), _config())
    return _known(_create_folder(Path(path)), path)


def repository_exists(path: str | Path) -> bool:
    """Say whether a repository can be opened at ``path``; never creates the folder."""
    there = is_object_storage(path) or Path(path).is_dir()
    return there and bool(icechunk.Repository.exists(_storage(path)))


@contextmanager
def writer_lock(path: str | Path, *, what: str, timeout: float = 0.0) -> Iterator[None]:
    """Hold the right to commit to the repository at ``path``.

    The lock is the operating system's, so a killed holder frees it. It lies beside the repository,
    as ``<path>.lock``, together with a note of who holds it. The lock of a repository on object
    storage lies on this host, and does not keep other hosts away: of two commits that started from
    one snapshot, `transaction` lets the first one through.

    Parameters
    ----------
    path : str or Path
        Folder or URL of the repository.
    what : str
        What the holder does, shown to whoever finds the repository busy.
    timeout : float
        Seconds to wait for another holder; 0 does not wait, -1 waits for ever.

    Raises
    ------
    RepositoryBusy
        When another process, or another part of this one, holds the lock.
    """
    folder = lock_folder(path) if is_object_storage(path) else Path(path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    owner_file = folder.with_name(folder.name + ".lock.json")
    lock = FileLock(folder.with_name(folder.name + ".lock"), timeout=timeout)
    try:
        lock.acquire()
    except Timeout as error:
        raise RepositoryBusy(
            f"{path} is being written by {_describe_owner(owner_file)}: "
            "wait until it ends, or stop it, then run again"
        ) from error
    try:
        owner_file.write_text(json.dumps(_this_owner(what)), encoding="utf-8")
        yield
    finally:
        owner_file.unlink(missing_ok=True)
        lock.release()


@contextmanager
def transaction(
    repository: icechunk.Repository, message: str, metadata: Mapping[str, Any] | None = None
) -> Iterator[icechunk.Session]:
    """Yield a writable session and commit it at the end; an exception leaves nothing behind.

    A session in which nothing changed makes no commit, so that a re-run adds no snapshot.
    Fork the session (`fork`) before the first change made to it directly: Icechunk refuses later.

    Raises
    ------
    RepositoryFull
        When the disk has no room for the commit.
    RepositoryBusy
        When another host committed since the session began: nothing of this one is there.
    """
    session = repository.writable_session(BRANCH)
    try:
        yield session
        if session.has_uncommitted_changes:
            session.commit(message, dict(metadata or {}))
    except icechunk.ConflictError as error:
        raise RepositoryBusy(
            "another host committed to this repository while this transaction was open, so nothing "
            "of this one was committed: run the same command again when the other has ended"
        ) from error
    except icechunk.IcechunkError as error:
        raise_when_full(error)
        raise


def raise_when_full(error: BaseException) -> None:
    """Raise `RepositoryFull` for an error that a full disk caused, here or in a worker."""
    if "No space left on device" in str(error):
        raise RepositoryFull(
            "the disk of the store is full: nothing of this transaction was committed, what was "
            "committed before is safe. Free space (`brickyard tidy` removes what broken runs left "
            "in the store), then run the same command again"
        ) from error


def fork(session: icechunk.Session) -> icechunk.ForkSession:
    """Return a child session that can be sent to another process, written there and sent back.

    Raises
    ------
    StorageError
        When the session already has changes: commit those first, in a transaction of their own.
    """
    if session.has_uncommitted_changes:
        raise StorageError(
            "a session with uncommitted changes cannot be forked: create the survey and allocate "
            "the rows in one transaction, fork in the next"
        )
    return session.fork()


def merge(session: icechunk.Session, forks: Iterable[icechunk.ForkSession]) -> None:
    """Take the writes of forks into the session that will commit them."""
    session.merge(*forks)


def snapshot_id(
    repository: icechunk.Repository, *, branch: str = BRANCH, tag: str | None = None
) -> str:
    """Return the id of the newest snapshot of a branch, or of a tagged one."""
    try:
        return repository.lookup_tag(tag) if tag else repository.lookup_branch(branch)
    except icechunk.IcechunkError as error:
        name = f"tag {tag!r}" if tag else f"branch {branch!r}"
        raise StorageError(f"{name} is not in the repository: list its tags and choose") from error


def read_session(
    repository: icechunk.Repository, *, snapshot: str | None = None, tag: str | None = None
) -> icechunk.Session:
    """Open a read-only session on a snapshot, a tag, or (with neither) the newest snapshot."""
    branch = BRANCH if snapshot is None and tag is None else None
    tag = tag if snapshot is None else None
    try:
        session = repository.readonly_session(branch, tag=tag, snapshot_id=snapshot)
    except icechunk.IcechunkError as error:
        raise StorageError(
            f"snapshot {snapshot or tag!r} is not in the repository: "
            "it may belong to another store, or have been expired"
        ) from error
    if repository in _FOLDERS:
        remember_snapshot(session.snapshot_id, _FOLDERS[repository])
    return session


def tag_snapshot(repository: icechunk.Repository, name: str, snapshot: str) -> None:
    """Give a snapshot a name for ever; the same name for the same snapshot again does nothing.

    Raises
    ------
    StorageError
        When the tag names another snapshot, or the snapshot is unknown: tags never move.
    """
    if name in repository.list_tags():
        if repository.lookup_tag(name) == snapshot:
            return
        raise StorageError(f"tag {name!r} already names another snapshot: choose a new name")
    try:
        repository.create_tag(name, snapshot)
    except icechunk.IcechunkError as error:
        raise StorageError(f"snapshot {snapshot!r} cannot be tagged {name!r}: {error}") from error


def list_tags(repository: icechunk.Repository) -> dict[str, str]:
    """Return the snapshot id of every tag, in the order of the tags' names."""
    return {name: repository.lookup_tag(name) for name in sorted(repository.list_tags())}


def collect_garbage(repository: icechunk.Repository) -> int:
    """Delete what no snapshot refers to, such as the leavings of broken runs; return the bytes.

    Hold `writer_lock`: what a running ingest has written and not yet committed is such garbage too.
    """
    return int(repository.garbage_collect(datetime.now(UTC)).bytes_deleted)


def _create_folder(folder: Path) -> icechunk.Repository:
    """Create a repository under another name and rename it, so that a folder of one is a whole one.

    Icechunk writes several files and refuses a folder that has only some of them: a process killed
    in between would have made its store unusable. Two that create at once both get the first one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as made:
        new = Path(made) / folder.name
        icechunk.Repository.create(_storage(new), _config())
        try:
            new.rename(folder)
        except OSError as error:
            if not repository_exists(folder):
                raise StorageError(
                    f"{folder} is not a repository and cannot become one ({error.strerror}): move "
                    "it away, then run the same command again"
                ) from error
    return icechunk.Repository.open(_storage(folder), _config())


def _known(repository: icechunk.Repository, path: str | Path) -> icechunk.Repository:
    if not is_object_storage(path):
        _FOLDERS[repository] = Path(path).resolve()
    return repository


def _storage(path: str | Path) -> icechunk.Storage:
    # Icechunk warns on standard error, at every open, that local storage has no safe concurrent
    # commits. The writer lock is our answer, so the repeated warning tells the user nothing.
    icechunk.set_logs_filter("icechunk=error")
    if is_object_storage(path):
        return object_storage(str(path))
    return icechunk.local_filesystem_storage(str(Path(path).resolve()))


def _config() -> icechunk.RepositoryConfig:
    first_axis = icechunk.ManifestSplitDimCondition.Axis(0)
    splitting = icechunk.ManifestSplittingConfig.from_dict(
        {icechunk.ManifestSplitCondition.AnyArray(): {first_axis: MANIFEST_SHARDS}}
    )
    return icechunk.RepositoryConfig(manifest=icechunk.ManifestConfig(splitting=splitting))


def _this_owner(what: str) -> dict[str, str | int]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"what": what, "pid": os.getpid(), "host": socket.gethostname(), "since": now}


def _describe_owner(owner_file: Path) -> str:
    try:
        owner = json.loads(owner_file.read_text(encoding="utf-8"))
        return "{what!r} (process {pid} on {host}, since {since})".format(**owner)
    except (OSError, ValueError, KeyError):
        return "another process"
