"""Encode whole chunks of arrays without shards and hand the bytes to the store.

What `storage.shard_writer` is for pixels, for small arrays: slicing the embeddings of a brick into
four Zarr arrays takes 34 ms of a core, most of it between threads and in event loops, and this 10.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import icechunk
import numpy.typing as npt
import zarr
from numcodecs.abc import Codec
from numcodecs.zstd import Zstd
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

from storage.errors import SchemaMismatch
from storage.packed_writes import write_packed
from storage.shard_layout import blosc_of, chunk_key


class ChunkWriter:
    """Write rows of some arrays of a group into a session, whole chunks at a time.

    Parameters
    ----------
    session : Session or ForkSession
        Where to write.
    chunked : mapping of str to Array
        The arrays, opened for writing; divided into chunks along their first axis only.

    Raises
    ------
    SchemaMismatch
        When an array is laid out otherwise: it is refused, never written wrong.
    """

    def __init__(self, session: icechunk.Session, chunked: Mapping[str, zarr.Array[Any]]) -> None:
        self._session = session
        self._arrays = dict(chunked)
        self._codecs = {name: _codec_of(array) for name, array in self._arrays.items()}

    def write(self, start: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Overwrite the chunks from row ``start`` on.

        Parameters
        ----------
        values : mapping of str to ndarray, shape (row, ...)
            For every array whole chunks, of its type.

        Raises
        ------
        SchemaMismatch
            When the rows are not whole chunks of the array, or not of its type.
        """
        packed = {}
        for name, array in self._arrays.items():
            block, length = values[name], array.chunks[0]
            _check_block(array, start, block)
            for row in range(0, len(block), length):
                key = chunk_key(array, (start + row) // length)
                packed[key] = bytes(self._codecs[name].encode(block[row : row + length]))
        write_packed(self._session, packed)


def _codec_of(array: zarr.Array[Any]) -> Codec:
    codecs: Sequence[object] = tuple(getattr(array.metadata, "codecs", ()))
    rows_only = array.shards is None and array.chunks[1:] == array.shape[1:]
    if rows_only and len(codecs) == 2 and isinstance(codecs[0], BytesCodec):
        if isinstance(codecs[1], BloscCodec):
            return blosc_of(codecs[1])
        if isinstance(codecs[1], ZstdCodec):
            return Zstd(codecs[1].level, codecs[1].checksum)
    raise SchemaMismatch(
        f"array {array.path!r} has codecs {codecs} and chunks {array.chunks}: this writer wants "
        "chunks of whole rows, as storage.arrays makes them"
    )


def _check_block(array: zarr.Array[Any], start: int, block: npt.NDArray[Any]) -> None:
    length, stop = array.chunks[0], start + len(block)
    whole = start % length == 0 and stop % length == 0 and stop <= array.shape[0]
    if not whole or block.shape[1:] != array.shape[1:] or block.dtype != array.dtype:
        raise SchemaMismatch(
            f"rows {start} to {stop} of {array.path!r} as {block.dtype} "
            f"{block.shape[1:]}: give whole chunks of {length} rows, as {array.dtype} "
            f"{array.shape[1:]}, within its {array.shape[0]} rows"
        )
