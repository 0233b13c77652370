"""Fast decoding of large Rice-compressed images, pixel for pixel what astropy decodes.

Astropy's decoder takes half of the time of an ingest: much of that goes into Python calls for each
of the 1,296 tiles of a coadd and into copies. This one decodes what the survey's images and weights
are (quantised float32, 32-bit Rice code) straight into the array that they are wanted in, and
leaves everything else to astropy: see `decode_into`.
"""

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from storage.compiled_loops import compiled_loops

#: Smaller images are left to astropy: to load the compiled loops takes longer than they save.
MIN_PIXELS = 2**21
_WITHOUT_LOOPS = "coadds are decoded by astropy, at half the speed"

_DITHERS = {"NO_DITHER": 0, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}
_FORM = re.compile(r"1?(?:([PQ])B(?:\(\d+\))?|(D))\s*$")
_TYPES = {"P": (">i4", (2,)), "Q": (">i8", (2,)), "D": (">f8", ())}
_NEEDED = {"COMPRESSED_DATA", "ZSCALE", "ZZERO"}
_COLUMNS = {*_NEEDED, "GZIP_COMPRESSED_DATA"}


def decode_into(path: Path, hdu: Any, out: NDArray[Any]) -> bool:
    """Decode an image into an array, if it is of the kind that this module knows.

    Parameters
    ----------
    path : Path
        The file, complete.
    hdu : HDU
        The image in it, as astropy opened it.
    out : ndarray, shape (y, x)
        Filled where the answer is True; untouched otherwise.

    Returns
    -------
    bool
        False: read it with astropy. It is no tile-compressed image, small, in another code, has
        marks for blank pixels, or another shape or type than ``out``; or numba is not usable here.

    Raises
    ------
    ValueError
        When the compressed data are damaged.
    """
    if path.suffix == ".gz" or out.dtype != np.float32 or out.size < MIN_PIXELS:
        return False
    if not isinstance(hdu, fits.CompImageHDU) or hdu.shape != out.shape:
        return False
    with path.open("rb") as handle:
        handle.seek(hdu.fileinfo()["hdrLoc"])
        header = fits.Header.fromfile(handle)
        dtype = _row_type(header) if _is_known(header) else None
        kernel = None if dtype is None else compiled_loops("storage.rice_kernel", _WITHOUT_LOOPS)
        if dtype is None or kernel is None:
            return False
        table = _read_table(handle, header, dtype, kernel.LOOK_AHEAD)
    tile = (int(header["ZTILE2"]), int(header["ZTILE1"]))
    tiles = math.prod(-(-length // side) for length, side in zip(out.shape, tile, strict=True))
    if len(table.rows) != tiles:
        raise ValueError(f"{len(table.rows)} tiles of {tiles}")
    spans = table.spans("COMPRESSED_DATA")
    _decode_lossless(table, np.flatnonzero(spans[:, 0] == spans[:, 1]), tile, out)
    linear = np.stack([table.rows["ZSCALE"], table.rows["ZZERO"]], axis=1).astype(np.float64)
    coding = (_block(header), _DITHERS[_dither(header)], int(header.get("ZDITHER0", 0)) - 1)
    damaged = kernel.decode_tiles(table.data, spans, linear, coding, tile, out)
    if damaged >= 0:
        raise ValueError(f"the code of tile {damaged} ends before its last pixel")
    return True


@dataclass(frozen=True)
class _Table:
    """Rows of a compressed image, and its heap with some bytes to look ahead."""

    rows: NDArray[Any]
    data: NDArray[np.uint8]
    heap: int  # bytes

    def spans(self, column: str) -> NDArray[np.int64]:
        """Return start and stop of every row's bytes in the heap, shape (row, 2)."""
        length, start = self.rows[column].astype(np.int64).T
        if (length < 0).any() or (start < 0).any() or (start + length > self.heap).any():
            raise ValueError(f"{column} points beyond the end of the data")
        return np.stack([start, start + length], axis=1)


def _read_table(handle: Any, header: fits.Header, dtype: np.dtype[Any], spare: int) -> _Table:
    rows = np.fromfile(handle, dtype, int(header["NAXIS2"]))
    gap = int(header.get("THEAP", rows.nbytes)) - rows.nbytes
    heap = int(header["PCOUNT"]) - gap
    data = np.empty(heap + spare, np.uint8)
    handle.seek(gap, 1)
    if gap < 0 or handle.readinto(data[:heap].data) != heap:
        raise ValueError("the data end early")
    data[heap:] = 0
    return _Table(rows, data, heap)


def _row_type(header: fits.Header) -> np.dtype[Any] | None:
    """Return the type of the table's rows, None where its columns are not those that are known."""
    fields = []
    for number in range(1, int(header["TFIELDS"]) + 1):
        form = _FORM.match(str(header[f"TFORM{number}"]))
        name = str(header.get(f"TTYPE{number}", ""))
        if form is None or name not in _COLUMNS:
            return None
        fields.append((name, *_TYPES[form[1] or form[2]]))
    dtype = np.dtype(fields)
    complete = set(dtype.names or ()) >= _NEEDED
    return dtype if complete and dtype.itemsize == header["NAXIS1"] else None


def _is_known(header: fits.Header) -> bool:
    expected = {"ZCMPTYPE": ("RICE_1", "RICE_ONE"), "ZBITPIX": (-32,), "ZNAXIS": (2,)}
    plain = {"BSCALE": 1, "BZERO": 0, "ZBLANK": None, "BLANK": None}
    return (
        all(header.get(card) in values for card, values in expected.items())
        and all(header.get(card, value) == value for card, value in plain.items())
        and _dither(header) in _DITHERS
        and (_setting(header, "BYTEPIX", 4), _block(header)) in ((4, 16), (4, 32))
    )


def _dither(header: fits.Header) -> str:
    return str(header.get("ZQUANTIZ", "NO_DITHER"))


def _block(header: fits.Header) -> int:
    return _setting(header, "BLOCKSIZE", 32)


def _setting(header: fits.Header, name: str, default: int) -> int:
    number = 1
    while f"ZNAME{number}" in header:
        if header[f"ZNAME{number}"] == name:
            return int(header[f"ZVAL{number}"])
        number += 1
    return default


def _decode_lossless(
    table: _Table, lacking: NDArray[np.intp], tile: tuple[int, int], out: NDArray[np.float32]
) -> None:
    """Decode the tiles that could not be quantised, such as those without data."""
    if not len(lacking):
        return
    if "GZIP_COMPRESSED_DATA" not in (table.rows.dtype.names or ()):
        raise ValueError(f"tile {lacking[0]} has no data")
    height, width = tile
    across = -(-out.shape[1] // width)
    spans = table.spans("GZIP_COMPRESSED_DATA")
    for number in lacking.tolist():
        top, left = number // across * height, number % across * width
        target = out[top : top + height, left : left + width]
        start, stop = spans[number]
        try:
            pixels = zlib.decompress(table.data[start:stop].data, wbits=47)  # with gzip's header
        except zlib.error as error:
            raise ValueError(f"tile {number}: {error}") from error
        target[...] = np.frombuffer(pixels, ">f4").reshape(target.shape)
