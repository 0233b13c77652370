"""The inner loops of `storage.rice`, compiled by numba at their first use and kept on disk.

Rice coding of 32-bit integers and the dithered quantisation as the FITS standard 4.0 has them
(sections 10.4.1 and 10.2). All integers of the bit buffer are uint64: numba makes floats of mixed
signs.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

N_RANDOM = 10_000  # length of the standard's sequence of random numbers
ZERO = -2_147_483_646  # stands for a pixel that is exactly 0, in SUBTRACTIVE_DITHER_2
#: Bytes that must follow the heap: the bit buffer looks ahead, by up to a block of raw values.
LOOK_AHEAD = 1024


def _park_miller() -> NDArray[np.float32]:
    """Return the random numbers of the standard (appendix I)."""
    seed, numbers = 1, np.empty(N_RANDOM, np.float32)
    for index in range(N_RANDOM):
        seed = seed * 16_807 % 2_147_483_647
        numbers[index] = seed / 2_147_483_647
    return numbers


_RANDOM = _park_miller()
_ZEROS = np.array([8, *(8 - value.bit_length() for value in range(1, 256))], np.uint8)
_U = np.uint64


@njit(forceinline=True)
def _word(data: NDArray[np.uint8], at: Any) -> Any:
    """Return four bytes, the first one the highest."""
    high = (_U(data[at]) << _U(24)) | (_U(data[at + _U(1)]) << _U(16))
    return high | (_U(data[at + _U(2)]) << _U(8)) | _U(data[at + _U(3)])


@njit(forceinline=True)
def _refill(data: NDArray[np.uint8], at: Any, bits: Any, have: Any) -> Any:
    """Take four bytes where there is room for them: then at least 33 bits are there."""
    if have <= _U(32):
        bits |= _word(data, at) << (_U(32) - have)
        have += _U(32)
        at += _U(4)
    return at, bits, have


@njit
def _skip_zeros(data: NDArray[np.uint8], end: Any, at: Any, bits: Any, have: Any) -> Any:
    """Take zeros, eight at a time, but not beyond the end."""
    zeros = _U(0)
    while bits >> _U(56) == _U(0) and at <= end + _U(8):
        if have >= _U(8):
            zeros += _U(8)
            bits <<= _U(8)
            have -= _U(8)
        else:
            at, bits, have = _refill(data, at, bits, have)
    return zeros, at, bits, have


@njit(forceinline=True)
def _add(last: Any, code: Any) -> Any:
    """Return the next value: codes 0, 1, 2, 3, ... are differences 0, -1, 1, -2, ..."""
    return np.int32(last + (np.int32(code >> _U(1)) ^ -np.int32(code & _U(1))))


@njit(nogil=True, cache=True)
def decode_values(
    data: NDArray[np.uint8], start: int, stop: int, block: int, values: NDArray[np.int32]
) -> bool:
    """Decode the Rice code in ``data[start:stop]``; say whether it is long enough for all values.

    Parameters
    ----------
    data : ndarray, uint8
        With at least `LOOK_AHEAD` bytes after ``stop``.
    block : int
        Values that share a number of low bits: 16 or 32.
    values : ndarray, int32
        Filled.
    """
    if stop - start < 4:
        return False
    at, end, count = _U(start), _U(stop), _U(len(values))
    last = np.int32(np.uint32(_word(data, at)))
    at += _U(4)
    bits, have = _U(0), _U(0)  # the next `have` bits are the highest of `bits`, the rest is 0
    first = _U(0)
    while first < count:
        if at > end + _U(8):
            return False
        at, bits, have = _refill(data, at, bits, have)
        kind = bits >> _U(59)  # 0: all equal; 26: raw; else the number of low bits, plus 1
        bits <<= _U(5)
        have -= _U(5)
        place, after = first, min(first + _U(block), count)
        if kind == _U(0):
            while place < after:
                values[place] = last
                place += _U(1)
        elif kind == _U(26):
            while place < after:
                at, bits, have = _refill(data, at, bits, have)
                last = _add(last, bits >> _U(32))
                bits <<= _U(32)
                have -= _U(32)
                values[place] = last
                place += _U(1)
        else:
            low = kind - _U(1)
            while place < after:
                at, bits, have = _refill(data, at, bits, have)
                high = _U(0)  # the high bits are a number of zeros, and a one
                if bits >> _U(56) == _U(0):
                    high, at, bits, have = _skip_zeros(data, end, at, bits, have)
                zeros = _U(_ZEROS[bits >> _U(56)])
                bits <<= zeros + _U(1)
                have -= zeros + _U(1)
                if have < low:
                    at, bits, have = _refill(data, at, bits, have)
                high += zeros
                last = _add(last, (high << low) | ((bits >> _U(1)) >> (_U(63) - low)))
                bits <<= low
                have -= low
                values[place] = last
                place += _U(1)
        first = after
    return bool(at - (have >> _U(3)) <= end)


@njit(nogil=True, cache=True)
def dequantise(
    values: NDArray[np.int32],
    linear: tuple[float, float],
    dithering: tuple[int, int],
    box: tuple[int, int, int, int],
    out: NDArray[np.float32],
) -> None:
    """Turn the integers of a tile into pixels.

    Parameters
    ----------
    values : ndarray, int32
        Row by row.
    linear : tuple of float
        Scale and zero point.
    dithering : tuple of int
        Kind of subtractive dithering (0 is none), and the place in the random numbers that says
        where those of this tile begin.
    box : tuple of int
        First row and column of the tile in ``out``, its height and width.
    out : ndarray, shape (y, x), float32, C order
        Filled where the tile is.
    """
    scale, zero = linear
    dither, first = dithering
    top, left, height, width = box
    following = int(_RANDOM[first] * 500) if dither else 0
    for y in range(height):
        row = out[top + y, left : left + width]
        for x in range(width):
            value = values[y * width + x]
            if dither == 0:
                row[x] = np.float64(value) * scale + zero
                continue
            if dither == 2 and value == ZERO:
                row[x] = 0.0
            else:
                row[x] = (np.float64(value) - np.float64(_RANDOM[following]) + 0.5) * scale + zero
            following += 1
            if following == N_RANDOM:
                first = (first + 1) % N_RANDOM
                following = int(_RANDOM[first] * 500)


@njit(nogil=True, cache=True)
def decode_tiles(
    data: NDArray[np.uint8],
    spans: NDArray[np.int64],
    linear: NDArray[np.float64],
    coding: tuple[int, int, int],
    tile: tuple[int, int],
    out: NDArray[np.float32],
) -> int:
    """Decode the tiles of an image, row of tiles by row; return the first damaged one, or -1.

    Parameters
    ----------
    data : ndarray, uint8
        Heap of the table, and `LOOK_AHEAD` bytes.
    spans : ndarray, shape (tile, 2), int64
        Start and stop of each tile in ``data``; a tile without bytes is left as it is.
    linear : ndarray, shape (tile, 2), float64
        Scale and zero point.
    coding : tuple of int
        Block of the Rice code, kind of dithering, seed of the dithering (counted from 0).
    tile : tuple of int
        Height and width.
    out : ndarray, shape (y, x), float32, C order
        Filled.
    """
    block, dither, seed = coding
    across = (out.shape[1] + tile[1] - 1) // tile[1]
    values = np.empty(tile[0] * tile[1], np.int32)
    for number in range(len(spans)):
        start, stop = spans[number]
        if start == stop:
            continue
        top, left = number // across * tile[0], number % across * tile[1]
        height, width = min(tile[0], out.shape[0] - top), min(tile[1], out.shape[1] - left)
        found = values[: height * width]
        if not decode_values(data, start, stop, block, found):
            return number
        scale = (linear[number, 0], linear[number, 1])
        dithering = (dither, (number + seed) % N_RANDOM)
        dequantise(found, scale, dithering, (top, left, height, width), out)
    return -1
