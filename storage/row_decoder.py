"""Decode the packed rows of a chunk straight into the places where they are wanted.

Blosc decodes whole chunks, so that rows of a shuffle have to be copied once more; where memory is
slow, that takes as long as the decoding. The loops of `storage.blosc_kernel` join the bytes of
every number right in its place. They know the one form that the pixels of a survey are stored in;
everything else, damaged chunks too, is left to numcodecs.
"""

import logging
from functools import lru_cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc

from storage.buffers import Scratch
from storage.schema import CHUNK_ROWS
from storage.shard_layout import Bytes

logger = logging.getLogger(__name__)

#: From this many rows on, a reader loads the compiled loops, which takes half a second.
KERNEL_ROWS = 1024

Rows = npt.NDArray[np.int64]

_VERSION, _FLAGS, _ITEM_BYTES = 2, 0b1, 4  # format; byte shuffle, split blocks, BloscLZ; 32 bits
_HEADER_BYTES = 16
_LEAST_BLOCK = 512  # bytes: smaller blocks are laid out otherwise


class RowDecoder:
    """Decode rows of the chunks of one array; safe to use from several threads.

    Parameters
    ----------
    codec : Blosc
        Of the chunks.
    n_rows : int
        How many rows will be asked for, roughly: for few, the compiled loops are not loaded.
    """

    def __init__(self, codec: Blosc, n_rows: int) -> None:
        self._codec = codec
        self._kernel = compiled_loops() if n_rows >= KERNEL_ROWS else None
        self._scratch = Scratch()

    def decode(self, packed: Bytes, target: npt.NDArray[Any], places: Rows, rows: Rows) -> None:
        """Put row ``rows[i]`` of the chunk into ``target[places[i]]``.

        Raises
        ------
        RuntimeError, ValueError, TypeError
            When the bytes are damaged.
        """
        if self._kernel is not None and _is_known(packed, target):
            order = np.full(CHUNK_ROWS, -1, np.int64)
            order[rows] = places
            asked_once = np.count_nonzero(order >= 0) == len(rows)
            numbers = target.reshape(len(target), -1).view(np.uint32)
            block = self._scratch.bytes("block", int(packed[8:12].view("<u4")[0]))
            if asked_once and self._kernel.decode_rows(packed, order, numbers, block):
                return
        if len(rows) == CHUNK_ROWS and _in_sequence(rows) and _in_sequence(places):
            self._codec.decode(packed, target[places[0] : places[0] + CHUNK_ROWS])
            return
        values = self._scratch.array("chunk", (CHUNK_ROWS, *target.shape[1:]), target.dtype)
        self._codec.decode(packed, values)
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            target[place] = values[row]


@lru_cache(maxsize=1)
def compiled_loops() -> ModuleType | None:
    """Return the compiled loops, None where they cannot be had."""
    try:
        return import_module("storage.blosc_kernel")
    except (ImportError, RuntimeError) as error:  # no numba; no folder where it may keep its code
        logger.info("rows are decoded by numcodecs, and copied: %s", error)
        return None


def _is_known(packed: Bytes, target: npt.NDArray[Any]) -> bool:
    """Say whether a chunk has the one form that the compiled loops know, and fits the target."""
    if target.dtype.itemsize != _ITEM_BYTES or not target.flags.c_contiguous:
        return False
    if len(packed) < _HEADER_BYTES or not packed.flags.c_contiguous:
        return False
    n_bytes, block, length = packed[4:_HEADER_BYTES].view("<u4").tolist()
    return (
        (packed[0], packed[2], packed[3]) == (_VERSION, _FLAGS, _ITEM_BYTES)
        and length == len(packed)
        and n_bytes == CHUNK_ROWS * target[0].nbytes
        and _LEAST_BLOCK <= block <= n_bytes
        and block % _ITEM_BYTES == 0
        and length >= _HEADER_BYTES + 4 * -(-n_bytes // block)
    )


def _in_sequence(numbers: Rows) -> bool:
    return bool((np.diff(numbers) == 1).all())
