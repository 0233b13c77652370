"""Memory that is used again: large arrays handed out and taken back when nobody holds them.

The first touch of fresh memory costs more than decoding into it: 0.3 MB a cutout is 70 page faults.
"""

import math
import threading
import weakref
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]


class BufferPool:
    """Hand out named arrays; their memory is used again once no view of any of them is alive.

    Keeps as many blocks as were ever held at one time.

    Parameters
    ----------
    shapes : mapping of str to (tuple, dtype)
        For every name the shape after the first axis, and the dtype.
    """

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = dict(shapes)
        self._blocks: list[_Block] = []
        self._lock = threading.Lock()

    def take(self, n_rows: int) -> dict[str, npt.NDArray[Any]]:
        """Return uninitialised arrays with ``n_rows`` rows, which belong to the caller."""
        with self._lock:
            for block in self._blocks:
                if block.n_rows >= n_rows and block.is_free():
                    return block.lease(n_rows)
            block = _Block(self._shapes, n_rows)
            self._blocks = [old for old in self._blocks if not old.is_free()] + [block]
            return block.lease(n_rows)


def shared_pool(shapes: Shapes) -> BufferPool:
    """Return the pool of this process for these shapes, so that a second pass finds its memory.

    Two pools are remembered: one for training and one for what is read beside it.
    """
    return _pool(tuple((name, shape, dtype.str) for name, (shape, dtype) in shapes.items()))


@lru_cache(maxsize=2)
def _pool(key: tuple[tuple[str, tuple[int, ...], str], ...]) -> BufferPool:
    return BufferPool({name: (shape, np.dtype(text)) for name, shape, text in key})


class Scratch(threading.local):
    """One array a name and thread, overwritten at the next use of that name in that thread."""

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return the array of this name, made at its first use."""
        if name not in self._arrays:
            self._arrays[name] = np.empty(shape, dtype)
        return self._arrays[name]

    def bytes(self, name: str, length: int) -> npt.NDArray[np.uint8]:
        """Return this many bytes under this name; kept as long as the longest that was asked."""
        if name not in self._arrays or len(self._arrays[name]) < length:
            self._arrays[name] = np.empty(length, np.uint8)
        return self._arrays[name][:length]


class _Block:
    def __init__(self, shapes: Shapes, n_rows: int) -> None:
        self.n_rows = n_rows
        self._shapes = shapes
        # numpy asks the system for huge pages for arrays of this size: 500 times fewer faults.
        self._memory = {
            name: np.empty(n_rows * math.prod(shape) * dtype.itemsize, np.uint8).data
            for name, (shape, dtype) in shapes.items()
        }
        self._leases: list[weakref.ref[npt.NDArray[Any]]] = []

    def is_free(self) -> bool:
        return all(lease() is None for lease in self._leases)

    def lease(self, n_rows: int) -> dict[str, npt.NDArray[Any]]:
        # Every view of the arrays handed out keeps its flat array alive, as numpy sets .base to it:
        # the memory is a memoryview, not an array, so that .base goes no further than that.
        flat = {
            name: np.frombuffer(self._memory[name], dtype=dtype)
            for name, (_, dtype) in self._shapes.items()
        }
        self._leases = [weakref.ref(array) for array in flat.values()]
        return {
            name: flat[name].reshape(self.n_rows, *shape)[:n_rows]
            for name, (shape, _) in self._shapes.items()
        }
