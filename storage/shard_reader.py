"""Decode the pixel arrays of a survey shard by shard, straight into the arrays of a batch.

Skips Zarr's per-chunk machinery (`storage.shard_layout`): the cutouts of a shard come with one
request, and a chunk whose cutouts stay in sequence is decoded right where the batch wants it.
"""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import icechunk
import numpy as np
import numpy.typing as npt
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from storage import arrays
from storage.buffers import Scratch, shared_pool
from storage.errors import CorruptFile, SchemaMismatch
from storage.schema import CHUNK_ROWS, PIXEL_ARRAYS, SHARD_ROWS
from storage.shard_layout import INDEX_BYTES, Bytes, Span, codec_of, shard_key, spans

# From this many wanted chunks on, one read of the whole shard beats one request a chunk.
_WHOLE_SHARD_CHUNKS = 3

Rows = npt.NDArray[np.int64]
Pixels = dict[str, npt.NDArray[Any]]
Packed = list[Bytes | None]  # None is fill value, which is not stored
_T = TypeVar("_T")


class ShardReader:
    """Read cutouts from one survey of one snapshot; safe to use from several threads.

    Parameters
    ----------
    session : Session
        Where to read.
    survey_key : str
        The survey group.
    fields : sequence of str
        Which of "image", "invvar" and "maskbits" to read.
    """

    def __init__(
        self, session: icechunk.Session, survey_key: str, fields: Sequence[str] = PIXEL_ARRAYS
    ) -> None:
        unknown = set(fields) - set(PIXEL_ARRAYS)
        if unknown or not fields:
            raise SchemaMismatch(f"fields {tuple(fields)}: choose among {PIXEL_ARRAYS}")
        group = arrays.open_group(session, survey_key)
        self.fields = tuple(fields)
        self._store = session.store
        self._path = survey_key
        self._arrays = {name: arrays.get_array(group, name) for name in self.fields}
        self._codecs = {name: codec_of(array) for name, array in self._arrays.items()}
        self._pool = shared_pool(
            {name: (array.shape[1:], array.dtype) for name, array in self._arrays.items()}
        )
        self._scratch = Scratch()
        self._runners: dict[int, asyncio.Runner] = {}

    def close(self) -> None:
        """Close the event loops that the reading threads left; call it after they have ended."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

    def check_rows(self, rows: Sequence[int] | Rows) -> Rows:
        """Return the rows as int64, or raise IndexError when one is outside the arrays."""
        wanted = np.asarray(rows, dtype=np.int64)
        length = self._arrays[self.fields[0]].shape[0]
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= length):
            raise IndexError(
                f"rows {wanted.min()} to {wanted.max()} of survey {self._path!r}, which has "
                f"{length} rows: take rows from the ledger of the same snapshot"
            )
        return wanted

    def empty(self, n_rows: int) -> Pixels:
        """Return arrays to read ``n_rows`` cutouts into, typed as stored."""
        return self._pool.take(n_rows)

    def read_into(self, pixels: Mapping[str, npt.NDArray[Any]], places: Rows, rows: Rows) -> None:
        """Read rows of one shard into places of the arrays.

        Parameters
        ----------
        pixels : mapping of str to ndarray
            Arrays made by `empty`.
        places, rows : ndarray, shape (n,), int64
            Row ``rows[i]`` goes to ``pixels[name][places[i]]``; all rows are in one shard.

        Raises
        ------
        CorruptFile
            When the bytes of a cutout are damaged.
        """
        shard = int(rows[0]) // SHARD_ROWS
        local = rows - shard * SHARD_ROWS
        wanted = np.unique(local // CHUNK_ROWS).tolist()
        packed = self._run(self._fetch_shard(shard, wanted))
        for number, chunk in enumerate(wanted):
            inside = local // CHUNK_ROWS == chunk
            there, found = places[inside], local[inside] % CHUNK_ROWS
            for name in self.fields:
                self._place(pixels[name], there, found, packed[name][number], (name, shard))

    def _place(
        self,
        target: npt.NDArray[Any],
        places: Rows,
        rows: Rows,
        packed: Bytes | None,
        origin: tuple[str, int],
    ) -> None:
        """Decode a chunk and put some of its rows into their places."""
        if packed is None:
            target[places] = 0  # the fill value of every pixel array
            return
        if len(rows) == CHUNK_ROWS and _in_sequence(rows) and _in_sequence(places):
            self._decode(packed, target[places[0] : places[0] + CHUNK_ROWS], origin)
            return
        values = self._scratch.array(origin[0], (CHUNK_ROWS, *target.shape[1:]), target.dtype)
        self._decode(packed, values, origin)
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            target[place] = values[row]

    def _decode(self, packed: Bytes, target: npt.NDArray[Any], origin: tuple[str, int]) -> None:
        name, shard = origin
        try:
            self._codecs[name].decode(packed, target)
        except (RuntimeError, ValueError, TypeError) as error:
            raise CorruptFile(
                f"shard {shard} of {self._arrays[name].path!r} cannot be decoded: "
                "ingest its brick again"
            ) from error

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        thread = threading.get_ident()
        if thread not in self._runners:
            self._runners[thread] = asyncio.Runner()
        return self._runners[thread].run(work)

    async def _fetch_shard(self, shard: int, wanted: Sequence[int]) -> dict[str, Packed]:
        """Fetch all arrays of a shard at once: a request costs more than the bytes it brings."""
        parts = (self._fetch_chunks(name, shard, wanted) for name in self.fields)
        return dict(zip(self.fields, await asyncio.gather(*parts), strict=True))

    async def _fetch_chunks(self, name: str, shard: int, wanted: Sequence[int]) -> Packed:
        key = shard_key(self._arrays[name], shard)
        whole = len(wanted) >= _WHOLE_SHARD_CHUNKS
        data = await self._get(key, None if whole else SuffixByteRequest(INDEX_BYTES))
        if data is None:
            return [None] * len(wanted)
        found = spans(data, wanted, key)
        if whole:
            return [None if span is None else data[slice(*span)] for span in found]
        return list(await asyncio.gather(*(self._get_span(key, span) for span in found)))

    async def _get_span(self, key: str, span: Span | None) -> Bytes | None:
        return None if span is None else await self._get(key, RangeByteRequest(*span))

    async def _get(self, key: str, byte_range: ByteRequest | None = None) -> Bytes | None:
        buffer = await self._store.get(key, default_buffer_prototype(), byte_range)
        return None if buffer is None else np.asarray(buffer.as_numpy_array()).view(np.uint8)


def _in_sequence(numbers: Rows) -> bool:
    return bool((np.diff(numbers) == 1).all())
