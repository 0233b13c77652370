"""Hand packed chunks and shards to the store of a session, all of a call at once."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import icechunk
from zarr.buffer import default_buffer_prototype


def write_packed(session: icechunk.Session, packed: Mapping[str, bytes]) -> None:
    """Write bytes under their keys; what was there is replaced.

    Parameters
    ----------
    session : Session or ForkSession
        Where to write.
    packed : mapping of str to bytes
        By key in the store, such as `storage.shard_layout.chunk_key` gives.
    """
    # A thread of its own, as the caller may run in a thread that has an event loop already.
    with ThreadPoolExecutor(1, thread_name_prefix="write-packed") as executor:
        executor.submit(asyncio.run, _set(session, packed)).result()


async def _set(session: icechunk.Session, packed: Mapping[str, bytes]) -> None:
    new, store = default_buffer_prototype().buffer.from_bytes, session.store
    await asyncio.gather(*(store.set(key, new(data)) for key, data in packed.items()))
