"""The bytes of a shard of a pixel array, as the Zarr v3 specification lays them out.

A shard holds `CHUNKS` chunks of `CHUNK_ROWS` cutouts, packed one after the other, and an index at
the end: offset and length of every chunk as uint64 and a CRC32C. A reader and a writer that know
just this form skip Zarr's machinery for every chunk; Zarr itself reads and writes it too.
"""

from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec, ShardingCodec

from storage.errors import CorruptFile, SchemaMismatch
from storage.schema import CHUNK_ROWS, SHARD_ROWS

CHUNKS = SHARD_ROWS // CHUNK_ROWS
INDEX_BYTES = CHUNKS * 16 + 4
_MISSING = 2**64 - 1  # offset and length of a chunk that is all fill value and not stored
_SHUFFLES = {"noshuffle": Blosc.NOSHUFFLE, "shuffle": Blosc.SHUFFLE, "bitshuffle": Blosc.BITSHUFFLE}

Bytes = npt.NDArray[np.uint8]
Span = tuple[int, int]


def chunk_key(array: zarr.Array[Any], number: int) -> str:
    """Return the key in the store of a shard, or of a chunk where an array has no shards."""
    return "/".join([array.path, "c", str(number), *["0"] * (array.ndim - 1)])


def blosc_of(codec: BloscCodec) -> Blosc:
    """Return the codec that Zarr means by its own."""
    shuffle = _SHUFFLES[codec.shuffle.value]
    return Blosc(codec.cname.value, codec.clevel, shuffle, codec.blocksize)


def codec_of(array: zarr.Array[Any]) -> Blosc:
    """Return the codec of the chunks of an array.

    Raises
    ------
    SchemaMismatch
        When the array is laid out otherwise: it is refused, never misread.
    """
    codecs: Sequence[object] = tuple(getattr(array.metadata, "codecs", ()))
    sharding = codecs[0] if len(codecs) == 1 else None
    if isinstance(sharding, ShardingCodec) and _is_ours(array, sharding):
        blosc = sharding.codecs[-1]
        if len(sharding.codecs) == 2 and isinstance(blosc, BloscCodec):
            return blosc_of(blosc)
    raise SchemaMismatch(
        f"array {array.path!r} has codecs {codecs}: this reader wants shards of {SHARD_ROWS} rows "
        f"in chunks of {CHUNK_ROWS}, as storage.arrays writes them"
    )


def pack_shard(chunks: Sequence[bytes | None]) -> bytes:
    """Return the bytes of a shard of packed chunks; None, and what the shard lacks, is fill."""
    index = np.full((CHUNKS, 2), _MISSING, dtype="<u8")
    place = 0
    for number, packed in enumerate(chunks):
        if packed is not None:
            index[number] = place, len(packed)
            place += len(packed)
    tail = index.tobytes()
    checksum = int(google_crc32c.value(tail)).to_bytes(4, "little")
    return b"".join([*(packed for packed in chunks if packed is not None), tail, checksum])


def spans(tail: Bytes, chunks: Sequence[int], key: str) -> list[Span | None]:
    """Return where chunks begin and end in a shard, from its bytes or the last of them.

    Raises
    ------
    CorruptFile
        When the index does not agree with its checksum.
    """
    index = tail[len(tail) - INDEX_BYTES :]
    if len(tail) < INDEX_BYTES or _checksum(index) != index[-4:].tobytes():
        raise CorruptFile(f"{key}: the index of the shard is damaged; ingest its brick again")
    table = index[:-4].view("<u8").reshape(CHUNKS, 2)[list(chunks)].tolist()
    return [None if start == _MISSING else (start, start + length) for start, length in table]


def _is_ours(array: zarr.Array[Any], sharding: ShardingCodec) -> bool:
    chunks, shards = (CHUNK_ROWS, *array.shape[1:]), (SHARD_ROWS, *array.shape[1:])
    return sharding.chunk_shape == chunks and array.shards == shards


def _checksum(index: Bytes) -> bytes:
    return int(google_crc32c.value(index[:-4].tobytes())).to_bytes(4, "little")
