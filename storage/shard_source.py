"""Fetch the packed chunks of shards: from their files where those are known, else from Icechunk."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

import icechunk
import numpy as np
import zarr
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from storage.buffers import Scratch
from storage.chunk_files import OpenChunk, find_chunk
from storage.shard_layout import INDEX_BYTES, Bytes, Span, chunk_key, spans

# From this many wanted chunks on, one request for the whole shard beats one a chunk.
_WHOLE_SHARD_CHUNKS = 3

Packed = Mapping[str, Bytes | None]  # by array; None is fill value, which is not stored
_T = TypeVar("_T")


class ShardSource:
    """Fetch chunks of some arrays of one snapshot; safe to use from several threads.

    Parameters
    ----------
    session : Session
        Where to read.
    arrays : mapping of str to Array
        The pixel arrays, by name.
    """

    def __init__(self, session: icechunk.Session, arrays: Mapping[str, zarr.Array[Any]]) -> None:
        self._session = session
        self._store = session.store
        self._arrays = dict(arrays)
        self._scratch = Scratch()
        self._runners: dict[int, asyncio.Runner] = {}

    def close(self) -> None:
        """Close the event loops that the reading threads left; call it after they have ended."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()

    def chunks(self, shard: int, wanted: Sequence[int]) -> Iterator[tuple[int, Packed]]:
        """Yield the number and the bytes of each wanted chunk; they hold until the next one.

        Raises
        ------
        CorruptFile
            When the index of the shard is damaged, or its file too short.
        """
        with ExitStack() as stack:
            opened: dict[str, OpenChunk] = {}
            for name, array in self._arrays.items():
                place = find_chunk(self._session, array.path, shard)
                with suppress(FileNotFoundError):  # removed: Icechunk knows whether that may be
                    if place is not None:
                        opened[name] = stack.enter_context(place.open())
            others = [name for name in self._arrays if name not in opened]
            requested = self._run(self._request(others, shard, wanted)) if others else {}
            found = {name: self._spans(name, file, shard, wanted) for name, file in opened.items()}
            # Chunk by chunk, so that the bytes are still near when they are decoded.
            for number, chunk in enumerate(wanted):
                packed = {name: parts[number] for name, parts in requested.items()}
                for name, file in opened.items():
                    packed[name] = self._read(name, file, found[name][number])
                yield chunk, packed

    def _spans(
        self, name: str, file: OpenChunk, shard: int, wanted: Sequence[int]
    ) -> list[Span | None]:
        tail = self._scratch.bytes("index", INDEX_BYTES)
        file.read_into(tail, file.place.length - INDEX_BYTES)
        return spans(tail, wanted, chunk_key(self._arrays[name], shard))

    def _read(self, name: str, file: OpenChunk, span: Span | None) -> Bytes | None:
        if span is None:
            return None
        buffer = self._scratch.bytes(name, span[1] - span[0])
        file.read_into(buffer, span[0])
        return buffer

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        thread = threading.get_ident()
        if thread not in self._runners:
            self._runners[thread] = asyncio.Runner()
        return self._runners[thread].run(work)

    async def _request(
        self, names: Sequence[str], shard: int, wanted: Sequence[int]
    ) -> dict[str, list[Bytes | None]]:
        """Fetch arrays of a shard at once: a request costs more than the bytes it brings."""
        parts = (self._request_array(name, shard, wanted) for name in names)
        return dict(zip(names, await asyncio.gather(*parts), strict=True))

    async def _request_array(
        self, name: str, shard: int, wanted: Sequence[int]
    ) -> list[Bytes | None]:
        key = chunk_key(self._arrays[name], shard)
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
