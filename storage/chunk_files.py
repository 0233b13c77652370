"""Find the files in which Icechunk keeps the chunks of an array, for a repository in a folder.

Icechunk hands a shard out in pieces of 8 kB that it copies twice; reading the file takes a third
of the time. Where a file is stands in the manifests of the snapshot, which are FlatBuffers of a
published form (icechunk.io, specification version 1). A snapshot never changes, nor do its files.
This only reads, and only what it knows: for anything else the answer is "unknown", and the caller
asks Icechunk.
"""

import base64
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import numpy.typing as npt
from flatbuffers import encode
from flatbuffers.number_types import Uint32Flags, Uint64Flags, UOffsetTFlags
from flatbuffers.table import Table
from numcodecs import Zstd

from storage.errors import CorruptFile

logger = logging.getLogger(__name__)

_KNOWN_FOLDERS: dict[str, Path] = {}  # of the repositories of the snapshots that were opened
_MAGIC = "ICE🧊CHUNK".encode()
_HEADER_BYTES = 39
_SPECIFICATION, _MANIFEST, _ZSTD = 1, 2, 1  # the last three bytes of a header that is known
_RFC_4648, _CROCKFORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGITS = str.maketrans(_RFC_4648, _CROCKFORD)
# A shuffle goes through all manifests of a survey, over and over: of 76 million cutouts they are
# 290 for each of three arrays, together 140 MB in this form.
_MANIFESTS_KEPT = 1024
_REFERENCE = np.dtype([("shard", "u4"), ("name", "S20"), ("offset", "u8"), ("length", "u8")])
# Places in the table of fields of each FlatBuffers table, 4 + 2 x the number of the field.
_ARRAYS, _NODE_ID, _REFERENCES = 6, 4, 6
_INDEX, _OFFSET, _LENGTH, _CHUNK_ID = 4, 8, 10, 12


@dataclass(frozen=True)
class ChunkFile:
    """Where a chunk is: a part of a file."""

    path: Path
    offset: int
    length: int

    @contextmanager
    def open(self) -> Iterator["OpenChunk"]:
        """Open the file; it can be read to the end even if it is removed meanwhile.

        Raises
        ------
        FileNotFoundError
            When it was removed before.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            yield OpenChunk(self, descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class OpenChunk:
    """A chunk whose file is open."""

    place: ChunkFile
    descriptor: int

    def read_into(self, buffer: npt.NDArray[np.uint8], start: int) -> None:
        """Fill a buffer with the bytes from ``start`` of the chunk on.

        Raises
        ------
        CorruptFile
            When the chunk, or its file, ends before the buffer is full.
        """
        found = 0
        if start >= 0 and start + len(buffer) <= self.place.length:
            found = os.preadv(self.descriptor, [buffer.data], self.place.offset + start)
        if found != len(buffer):
            raise CorruptFile(
                f"{self.place.path} has {found} of {len(buffer)} bytes from {start} on: restore it "
                "from a backup of the store, or ingest its brick again"
            )


def remember_snapshot(snapshot_id: str, folder: Path) -> None:
    """Note in which folder the repository of a snapshot is; copies of it serve as well."""
    _KNOWN_FOLDERS[snapshot_id] = folder


def find_chunk(session: icechunk.Session, array_path: str, shard: int) -> ChunkFile | None:
    """Return the file of a shard of an array, None where it is not known.

    Parameters
    ----------
    session : Session
        Read-only, of a snapshot that `storage.repository.read_session` opened.
    array_path : str
        Path of the array in the repository, without a slash at its beginning.
    shard : int
        Number of the shard on the first axis, the only one that is split.
    """
    folder = _KNOWN_FOLDERS.get(session.snapshot_id) if session.read_only else None
    if folder is None:
        return None
    for manifest, node, start, stop in _manifests(folder, session.snapshot_id).get(array_path, ()):
        if start <= shard < stop:
            return _find(_references(folder, manifest, node), shard, folder / "chunks")
    return None


def _find(references: npt.NDArray[Any], shard: int, chunks: Path) -> ChunkFile | None:
    place = int(np.searchsorted(references["shard"], shard))
    if place == len(references) or references["shard"][place] != shard:
        return None
    _, name, offset, length = references[place].item()
    return ChunkFile(chunks / name.decode(), offset, length)


@lru_cache(maxsize=4)
def _manifests(folder: Path, snapshot_id: str) -> dict[str, list[tuple[str, str, int, int]]]:
    """Return manifest, node, first and last shard, plus 1, by array; empty if that is unknown."""
    try:
        storage = icechunk.local_filesystem_storage(str(folder))
        described = json.loads(icechunk.Repository.open(storage).inspect_snapshot(snapshot_id))
        return {
            str(node["path"]).lstrip("/"): [
                (str(part["id"]), str(node["id"]), int(start), int(stop))
                for part in node["manifest_refs"]
                for start, stop in part["extents"][:1]
            ]
            for node in described["nodes"]
            if node["node_type"] == "array"
        }
    except (icechunk.IcechunkError, KeyError, IndexError, TypeError, ValueError) as error:
        logger.warning("chunks are read through Icechunk, at less than half the speed: %s", error)
        return {}


@lru_cache(maxsize=_MANIFESTS_KEPT)
def _references(folder: Path, manifest: str, node: str) -> npt.NDArray[Any]:
    """Return the chunks of an array that a manifest lists, by shard; small ones are in no file."""
    try:
        content = (folder / "manifests" / manifest).read_bytes()
        found = np.fromiter(_listed(_unpacked(content), node), _REFERENCE)
    except (OSError, RuntimeError, ValueError, TypeError, IndexError) as error:
        logger.warning("manifest %s is read by Icechunk: %s", manifest, error)
        found = np.empty(0, _REFERENCE)
    return np.sort(found, order="shard")


def _unpacked(content: bytes) -> bytes:
    header = content[:_HEADER_BYTES]
    if not header.startswith(_MAGIC) or tuple(header[-3:-1]) != (_SPECIFICATION, _MANIFEST):
        raise ValueError(f"it begins with {header!r}, another form than the one that is known")
    body = content[_HEADER_BYTES:]
    return bytes(Zstd().decode(body)) if header[-1] == _ZSTD else body


def _listed(buffer: bytes, node: str) -> Iterator[tuple[int, str, int, int]]:
    """Yield what `_REFERENCE` has of every chunk of an array that is in a file."""
    root = Table(buffer, encode.Get(UOffsetTFlags.packer_type, buffer, 0))
    for array in _tables(root, _ARRAYS):
        if _identifier(array, _NODE_ID, 8) != node:
            continue
        for reference in _tables(array, _REFERENCES):
            if reference.Offset(_CHUNK_ID) == 0:
                continue
            index = reference.Vector(reference.Offset(_INDEX))
            yield (
                int(reference.Get(Uint32Flags, index)),
                _identifier(reference, _CHUNK_ID, 12),
                int(reference.GetSlot(_OFFSET, 0, Uint64Flags)),
                int(reference.GetSlot(_LENGTH, 0, Uint64Flags)),
            )


def _tables(table: Any, field: int) -> Iterator[Any]:
    """Yield the tables of a vector, which is a field of a table."""
    offset = table.Offset(field)
    start = table.Vector(offset)
    for number in range(table.VectorLen(offset)):
        yield Table(table.Bytes, table.Indirect(start + 4 * number))


def _identifier(table: Any, field: int, length: int) -> str:
    """Return an identifier as Icechunk writes it: base 32 in Crockford's digits."""
    start = table.Pos + table.Offset(field)
    encoded = base64.b32encode(bytes(table.Bytes[start : start + length])).decode()
    return encoded.rstrip("=").translate(_DIGITS)
