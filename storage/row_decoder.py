"""Decode the packed rows of a chunk straight into the places where they are wanted.

Blosc decodes whole chunks, so that rows of a shuffle have to be copied once more; where memory is
slow, that takes as long as the decoding. The loops of `storage.blosc_kernel` join the bytes of
every number right in its place. They know the one form that the pixels of a survey are stored in;
everything else, damaged chunks too, is left to numcodecs.
"""

import logging
import math
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc

from storage.buffers import Scratch
from storage.compiled_loops import compiled_loops
from storage.errors import SchemaMismatch
from storage.schema import CHUNK_ROWS
from storage.shard_layout import Bytes

#: From this many rows on, a reader loads the compiled loops, which takes half a second.
KERNEL_ROWS = 1024
_KERNEL = "storage.blosc_kernel"
_WITHOUT_LOOPS = "rows are decoded by numcodecs, and copied"

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
    shape : tuple of int
        Of a row, its last two axes y and x.
    crop : int, optional
        Side of the central square that is wanted of a row, whose pixel (crop // 2, crop // 2) is
        pixel (y // 2, x // 2) of the whole.
    n_rows : int
        How many rows will be asked for, roughly: for few, the compiled loops are not loaded, only
        used where they are already.
    """

    def __init__(
        self, codec: Blosc, shape: tuple[int, ...], crop: int | None = None, n_rows: int = 0
    ) -> None:
        self._codec = codec
        self._shape = shape
        self._window = _window(shape, crop)
        numbers = np.arange(math.prod(shape)).reshape(shape)[self._window]
        #: Shape of a row as it is wanted.
        self.shape = numbers.shape
        self._runs = _runs(numbers.reshape(-1))
        self._kernel = None
        if n_rows >= KERNEL_ROWS or _KERNEL in sys.modules:
            self._kernel = compiled_loops(_KERNEL, _WITHOUT_LOOPS, logging.INFO)
        self._scratch = Scratch()

    def decode(self, packed: Bytes, target: npt.NDArray[Any], places: Rows, rows: Rows) -> None:
        """Put row ``rows[i]`` of the chunk into ``target[places[i]]``.

        Raises
        ------
        RuntimeError, ValueError, TypeError
            When the bytes are damaged.
        """
        if self._kernel is not None and self._is_known(packed, target):
            order = np.full(CHUNK_ROWS, -1, np.int64)
            order[rows] = places
            asked_once = np.count_nonzero(order >= 0) == len(rows)
            numbers = target.reshape(len(target), -1).view(np.uint32)
            block = self._scratch.bytes("block", int(packed[8:12].view("<u4")[0]))
            width = math.prod(self._shape)
            if asked_once and self._kernel.decode_rows(
                packed, order, width, self._runs, numbers, block
            ):
                return
        whole = self.shape == self._shape and len(rows) == CHUNK_ROWS
        if whole and _in_sequence(rows) and _in_sequence(places):
            self._codec.decode(packed, target[places[0] : places[0] + CHUNK_ROWS])
            return
        values = self._scratch.array("chunk", (CHUNK_ROWS, *self._shape), target.dtype)
        self._codec.decode(packed, values)
        for place, row in zip(places.tolist(), rows.tolist(), strict=True):
            target[place] = values[row][self._window]

    def _is_known(self, packed: Bytes, target: npt.NDArray[Any]) -> bool:
        """Say whether a chunk has the one form that the loops know, and fits what is asked."""
        if target.dtype.itemsize != _ITEM_BYTES or not target.flags.c_contiguous:
            return False
        if len(packed) < _HEADER_BYTES or not packed.flags.c_contiguous:
            return False
        n_bytes, block, length = packed[4:_HEADER_BYTES].view("<u4").tolist()
        return (
            (packed[0], packed[2], packed[3]) == (_VERSION, _FLAGS, _ITEM_BYTES)
            and length == len(packed)
            and n_bytes == CHUNK_ROWS * math.prod(self._shape) * _ITEM_BYTES
            and _LEAST_BLOCK <= block <= n_bytes
            and block % _ITEM_BYTES == 0
            and length >= _HEADER_BYTES + 4 * -(-n_bytes // block)
        )


def _window(shape: tuple[int, ...], crop: int | None) -> tuple[Any, ...]:
    if crop is None:
        return (...,)
    if not 1 <= crop <= min(shape[-2:]):
        raise SchemaMismatch(
            f"central square of {crop} pixels: the cutouts have {shape[-2]} x {shape[-1]}"
        )
    sides = (slice(n // 2 - crop // 2, n // 2 - crop // 2 + crop) for n in shape[-2:])
    return (..., *sides)


def _runs(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return start, place and length (run, 3) of numbers that follow one another."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-2) != 1)
    lengths = np.diff(starts, append=len(numbers))
    return np.stack([numbers[starts], starts, lengths], axis=1).astype(np.int64)


def _in_sequence(numbers: Rows) -> bool:
    return bool((np.diff(numbers) == 1).all())
