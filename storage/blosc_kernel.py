"""The inner loops of `storage.row_decoder`, compiled by numba at their first use and kept on disk.

A Blosc 1 frame of shuffled 32-bit numbers, compressed with BloscLZ, as c-blosc's README_HEADER
lays it out: blocks, each of four streams, one a byte of the numbers. A stream that does not
compress stands there as it is, so that its bytes are taken from where they lie.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from storage.compiled_words import WORD as _WORD
from storage.compiled_words import copy_word

Bytes = NDArray[np.uint8]
_STREAMS = 4
_HEADER = 16  # bytes
_FAR = 8191  # distances from here on have two bytes of their own
_SHORT = 512  # bytes that are quicker copied word by word than in a loop of many at once
_U32 = np.uint32
_I64: Any = np.int64


@njit(forceinline=True)
def _int(data: Bytes, at: int) -> Any:
    """Return four bytes as an integer, the first one the lowest; a set sign bit makes it huge."""
    low = _I64(data[at]) | (_I64(data[at + 1]) << 8)
    return low | (_I64(data[at + 2]) << 16) | (_I64(data[at + 3]) << 24)


@njit(forceinline=True)
def _copy_words(target: Bytes, to: Any, source: Bytes, at: Any, count: Any) -> None:
    """Copy ``count`` bytes, and up to `_WORD` - 1 more behind them, which will be written later."""
    done = _I64(0)
    while done < count:
        copy_word(target, to + done, source, at + done)
        done += _WORD


@njit(forceinline=True)
def _copy_bytes(target: Bytes, to: Any, source: Bytes, at: Any, count: Any) -> None:
    for index in range(count):
        target[to + index] = source[at + index]


@njit(forceinline=True)
def _repeat_words(out: Bytes, place: Any, distance: Any, count: Any) -> None:
    """Repeat what is ``distance`` before ``place``; as `_copy_words`, goes beyond ``count``."""
    if distance >= _WORD:
        _copy_words(out, place, out, place - distance, count)
        return
    _copy_bytes(out, place, out, place - distance, _WORD)
    step = distance * (_WORD // distance)
    done = step
    while done < count:
        copy_word(out, place + done, out, place + done - step)
        done += step


@njit(cache=True)
def _repeat(out: Bytes, period: int) -> None:
    """Go on with the first ``period`` bytes until the end."""
    first, same = out[0], True
    if period <= _WORD:
        for index in range(period):
            same = same and out[index] == first
    if same and period <= _WORD:  # most often zeros, many of them
        rest = out[period:]
        for index in range(len(rest)):
            rest[index] = first
        return
    there = period
    while there < len(out):  # twice as much each time, so that source and target never overlap
        count = min(there, len(out) - there)
        _copy_bytes(out, there, out, 0, count)
        there += count


@njit(forceinline=True)
def _match(data: Bytes, at: Any, stop: int, control: Any) -> tuple[Any, Any, Any]:
    """Return how many bytes to repeat, from how far back, and where the code goes on; or -1."""
    count = (control >> 5) + 2
    more = _I64(255 if control >> 5 == 7 else 0)
    while more == 255 and at < stop:
        more = _I64(data[at])
        count += more
        at += 1
    if more == 255 or at >= stop:
        return -1, 0, 0
    distance = ((control & 31) << 8) + _I64(data[at]) + 1
    at += 1
    if distance > _FAR:
        if at + 2 > stop:
            return -1, 0, 0
        distance = (_I64(data[at]) << 8) + _I64(data[at + 1]) + _FAR + 1
        at += 2
    return at, count, distance


@njit(nogil=True, cache=True)
def expand(data: Bytes, start: int, stop: int, out: Bytes) -> bool:
    """Expand the BloscLZ code in ``data[start:stop]``; say whether it gives just ``out``.

    Nothing outside of the two is read or written, whatever the code says.
    """
    at, place, size = start, 0, len(out)
    while at < stop:
        control = _I64(data[at])
        if at == start:
            control &= 31
        at += 1
        if control < 32:  # the next bytes, as they are
            count = control + 1
            if place + count > size or at + count > stop:
                return False
            if place + count + _WORD <= size and at + count + _WORD <= stop:
                _copy_words(out, place, data, at, count)
            else:
                _copy_bytes(out, place, data, at, count)
            at += count
        else:  # bytes that were there before
            at, count, distance = _match(data, at, stop, control)
            if at < 0 or place + count > size or distance > place:
                return False
            if count <= _SHORT and place + count + _WORD <= size:
                _repeat_words(out, place, distance, count)
            else:
                _repeat(out[place - distance : place + count], distance)
        place += count
    return bool(place == size)


@njit(nogil=True, cache=True)
def _open_block(
    data: Bytes, at: int, n_bytes: int, streams: NDArray[np.int64], scratch: Bytes
) -> bool:
    """Find the four streams of a block, and expand those that are packed; False: damaged.

    Parameters
    ----------
    at, n_bytes : int
        Where the block begins, and how long it is when decoded.
    streams : ndarray, shape (4,), int64
        Filled: the place of each stream in ``data``, or -1 less its place in ``scratch``.
    """
    split = n_bytes == len(scratch)  # a last block that is shorter is one stream
    part = n_bytes // _STREAMS if split else n_bytes
    for number in range(_STREAMS if split else 1):
        if at < _HEADER or at + 4 > len(data):
            return False
        packed = _int(data, at)
        at += 4
        if at + packed > len(data):
            return False
        streams[number] = at
        if packed != part:
            streams[number] = -1 - number * part
            if not expand(data, at, at + packed, scratch[number * part : (number + 1) * part]):
                return False
        at += packed
    if not split:  # its four parts still stand one after the other
        step = n_bytes // _STREAMS if streams[0] >= 0 else -(n_bytes // _STREAMS)
        for number in range(1, _STREAMS):
            streams[number] = streams[0] + number * step
    return True


@njit(forceinline=True)
def _bytes(data: Bytes, scratch: Bytes, stream: int, low: int, high: int) -> Bytes:
    if stream >= 0:
        return data[stream + low : stream + high]
    return scratch[low - stream - 1 : high - stream - 1]


@njit(nogil=True, cache=True)
def _join(first: Bytes, second: Bytes, third: Bytes, fourth: Bytes, out: NDArray[Any]) -> None:
    for index in range(len(out)):
        low = _U32(first[index]) | (_U32(second[index]) << _U32(8))
        high = (_U32(third[index]) << _U32(16)) | (_U32(fourth[index]) << _U32(24))
        out[index] = low | high


@njit(nogil=True, cache=True)
def decode_rows(
    data: Bytes,
    places: NDArray[np.int64],
    width: int,
    runs: NDArray[np.int64],
    out: NDArray[np.uint32],
    scratch: Bytes,
) -> bool:
    """Decode rows of a frame straight into their places; say whether that went well.

    Parameters
    ----------
    data : ndarray, uint8
        The frame: `storage.row_decoder` has compared its header with what is asked.
    places : ndarray, shape (row of the frame,), int64
        Row of ``out`` that each row goes to; below 0: not wanted.
    width : int
        Numbers of a row of the frame.
    runs : ndarray, shape (run, 3), int64
        What is wanted of a row: first number in the frame, first number in ``out``, how many.
    out : ndarray, shape (row, number), uint32
    scratch : ndarray, uint8
        Just as long as a block.
    """
    length = len(scratch) // _STREAMS
    total = len(places) * width
    streams = np.empty(_STREAMS, np.int64)
    for block in range((total + length - 1) // length):
        begin = block * length
        count = min(length, total - begin)
        first, last = begin // width, (begin + count - 1) // width + 1
        if places[first:last].max() < 0:
            continue
        at = _int(data, _HEADER + 4 * block)
        if not _open_block(data, at, _STREAMS * count, streams, scratch):
            return False
        for row in range(first, last):
            if places[row] < 0:
                continue
            for run in range(len(runs)):
                start = row * width + runs[run, 0] - begin
                low, high = max(start, 0), min(start + runs[run, 2], count)
                if low >= high:
                    continue
                there = runs[run, 1] + low - start
                _join(
                    _bytes(data, scratch, streams[0], low, high),
                    _bytes(data, scratch, streams[1], low, high),
                    _bytes(data, scratch, streams[2], low, high),
                    _bytes(data, scratch, streams[3], low, high),
                    out[places[row], there : there + high - low],
                )
    return True
