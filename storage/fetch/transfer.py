"""Bringing one file into the staging folder: resumed, whole, verified, then under its name."""

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path

from storage.checksums import file_sha256
from storage.errors import ChecksumMismatch
from storage.fetch.config import FetchConfig
from storage.fetch.errors import ContentChanged, StagingFull, TransientFault
from storage.fetch.manners import Manners
from storage.fetch.patience import Patience
from storage.fetch.remote_files import Identity, Remote, Stream
from storage.fetch.report import FetchReport
from storage.fetch.staging import Record, Staging

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True)
class Transfer:
    """Brings files from a remote place into a staging folder, one at a time and thread."""

    remote: Remote
    staging: Staging
    manners: Manners
    config: FetchConfig

    def bring(self, path: str, sha256: str = "") -> FetchReport:
        """Stage a file; `sha256` is what a checksum list says of it.

        Raises
        ------
        ChecksumMismatch
            When the file is not the listed one. It lies aside, not under its name.
        FetchFailed, FetchRefused, StagingFull
        """
        with self.staging.lock(path):
            return _OneFile(self, path, sha256).bring()


class _OneFile:
    """The state of one transfer: what has come, and from which content."""

    def __init__(self, transfer: Transfer, path: str, sha256: str) -> None:
        self._remote, self._staging = transfer.remote, transfer.staging
        self._manners = transfer.manners
        self._path, self._sha256 = path, sha256
        self._part = transfer.staging.part(path)
        self._patience = Patience(transfer.config, transfer.manners)
        self._bytes = 0
        self._resumed = 0
        self._furthest = 0

    def bring(self) -> FetchReport:
        if self._is_staged():
            target = self._staging.target(self._path)
            return FetchReport(
                (target,), present_bytes=target.stat().st_size, retries=self._patience.retries
            )
        if not self._patience.run(self._try):
            return FetchReport(absent=(self._path,), retries=self._patience.retries)
        self._verify()
        target = self._staging.publish(self._path)
        return FetchReport((target,), self._bytes, self._resumed, retries=self._patience.retries)

    def _is_staged(self) -> bool:
        """Tell whether an earlier fetch has staged what the server has now."""
        target, record = self._staging.target(self._path), self._staging.record(self._path)
        if record is None or not target.is_file():
            return False
        if self._sha256:  # the list is as new as this fetch, so the server need not be asked
            if record.sha256 == self._sha256:
                return _is_whole(target, record.identity)
            if file_sha256(target) != self._sha256:
                return False
            self._staging.write_record(self._path, replace(record, sha256=self._sha256))
            return True
        now = self._patience.look(self._remote, self._path)
        return now is not None and now.same_as(record.identity) and _is_whole(target, now)

    def _try(self) -> bool:
        """Fetch the file or what is left of it; False when there is no such file."""
        record = self._staging.record(self._path)
        offset = self._part.stat().st_size if self._part.is_file() else 0
        if record is None or not record.identity.validator:
            offset = 0
        known = record.identity if record is not None and offset else None
        try:
            if known is not None and offset == known.size:
                return self._is_unchanged(known)
            with self._manners.turn(), self._remote.open(self._path, offset, known) as stream:
                if stream is None:
                    self._staging.forget(self._path)
                    return False
                self._receive(stream)
        except ContentChanged:
            self._part.unlink(missing_ok=True)
            raise
        return True

    def _is_unchanged(self, known: Identity) -> bool:
        """Take a part that is whole already, if the server still has that content."""
        with self._manners.turn():
            now = self._remote.look(self._path)
        if now is None:
            self._staging.forget(self._path)
            return False
        if not now.same_as(known):
            raise ContentChanged(f"{self._path}: changed since its transfer was broken")
        self._resumed = max(self._resumed, known.size)
        return True

    def _receive(self, stream: Stream) -> None:
        if stream.offset == 0:
            # In this order, so that a record never speaks of another file than the one beside it.
            self._staging.forget(self._path)
            self._staging.write_record(self._path, Record(stream.identity))
        elif self._bytes == 0:
            self._resumed = stream.offset
        self._check_room(stream.identity.size - stream.offset)
        try:
            self._write(stream)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._no_room(stream.identity.size - self._part.stat().st_size) from error
            raise
        if not _is_whole(self._part, stream.identity):
            raise _incomplete(self._part, self._path, stream.identity)

    def _write(self, stream: Stream) -> None:
        position = stream.offset
        with self._part.open("ab" if position else "wb", buffering=0) as handle:
            for block in stream.blocks:
                _write_all(handle.fileno(), block)
                self._bytes += len(block)
                position += len(block)
                if position > self._furthest:  # a start from 0 again and again is no gain
                    self._furthest = position
                    self._patience.gained()
                self._manners.take(len(block))
            os.fsync(handle.fileno())

    def _check_room(self, needed: int) -> None:
        if needed > self._staging.free_bytes():
            raise self._no_room(needed)

    def _no_room(self, needed: int) -> StagingFull:
        return StagingFull(
            f"{self._staging.root}: no room for {self._path}: {max(needed, 0):,} bytes needed, "
            f"{self._staging.free_bytes():,} free; make room, or stage on another disk. "
            "What has arrived is kept"
        )

    def _verify(self) -> None:
        """Compare a whole part with the list, and keep the result with its record."""
        if not self._sha256:
            return
        found = file_sha256(self._part)
        if found != self._sha256:
            os.replace(self._part, self._staging.wrong(self._path))
            raise ChecksumMismatch(
                f"{self._path}: SHA-256 of the fetched file is {found}, its checksum list says "
                f"{self._sha256}; the server holds a damaged file or an outdated list"
            )
        record = self._staging.record(self._path)
        if record is not None:
            self._staging.write_record(self._path, replace(record, sha256=found))


def _is_whole(file: Path, identity: Identity) -> bool:
    return identity.size in (-1, file.stat().st_size)


def _incomplete(part: Path, path: str, identity: Identity) -> TransientFault:
    size = part.stat().st_size
    if size > identity.size:
        return ContentChanged(f"{path}: {size} bytes came, {identity.size} were announced")
    return TransientFault(f"{path}: {size} of {identity.size} bytes came")


def _write_all(handle: int, block: bytes) -> None:
    """Write a block unbuffered, so that a full disk is found here and not when the file closes."""
    view = memoryview(block)
    while view:
        view = view[os.write(handle, view) :]
