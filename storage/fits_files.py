"""Opening FITS files so that every damage becomes one `CorruptFile` that says what to do.

The only place that meets the many ways in which a FITS decoder can fail. It knows nothing of
bricks, bands or columns.
"""

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch, StorageError
from storage.rice import decode_into

Box = tuple[slice, slice]  # rows and columns of an image

_BLOCK = 2880  # FITS block size [bytes]


def read_image(
    path: Path,
    extname: str | None = None,
    out: NDArray[Any] | None = None,
    box: Box | None = None,
) -> tuple[NDArray[Any], fits.Header]:
    """Read the first two-dimensional image of a file: HDU 1 of ``.fits.fz``, else the primary one.

    Parameters
    ----------
    path : Path
    extname : str, optional
        Take the HDU of this name where there is one.
    out : ndarray, shape (y, x), optional
        Where to put the pixels, converted to its type.
    box : (slice, slice), optional
        Rows and columns to read; of a tile-compressed image only their tiles are decoded.

    Returns
    -------
    data : ndarray, shape (y, x), native byte order
    header : Header
        Of the whole image.
    """
    check_complete(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            chosen = _choose(path, hdus, extname)
            if out is not None and box is None and decode_into(path, chosen, out):
                return out, chosen.header
            data = chosen.data if box is None else chosen.section[box]
            if out is None:
                data = np.asarray(data)
                return data.astype(data.dtype.newbyteorder("="), copy=False), chosen.header
            if out.shape != data.shape:
                raise SchemaMismatch(
                    f"{path}: shape {data.shape}, other coadds of the brick have {out.shape}; "
                    "all coadds of a brick have one shape, fetch the brick again"
                )
            out[...] = data
            return out, chosen.header
    except StorageError:
        raise
    except Exception as error:  # decoders raise OSError, ValueError, RuntimeError, zlib.error, ...
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error


def read_image_header(path: Path) -> tuple[tuple[int, int], fits.Header]:
    """Return shape and header of what `read_image` reads, without its pixels."""
    check_complete(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            chosen = _choose(path, hdus, None)
            return (int(chosen.shape[0]), int(chosen.shape[1])), chosen.header
    except StorageError:
        raise
    except Exception as error:  # as in read_image
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error


def read_table(path: Path) -> tuple[NDArray[Any], fits.Header]:
    """Read the first table of a file.

    Returns
    -------
    rows : structured ndarray (FITS_rec), shape (row,)
    header : Header
        The table's cards, with those of the primary HDU that it lacks.
    """
    check_complete(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            for hdu in hdus[1:]:
                if isinstance(hdu, fits.BinTableHDU | fits.TableHDU):
                    header = hdu.header.copy()
                    header.extend(hdus[0].header, unique=True)
                    return hdu.data, header
    except Exception as error:  # as in read_image
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error
    raise SchemaMismatch(f"{path}: no table in any HDU; give a tractor catalogue")


def read_table_header(path: Path) -> fits.Header:
    """Return the header that `read_table` returns, without the rows."""
    check_complete(path)
    try:
        with fits.open(path, memmap=False) as hdus:
            header = hdus[1].header.copy()
            header.extend(hdus[0].header, unique=True)
            return header
    except Exception as error:  # as in read_image
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error


def count_rows(path: Path) -> int:
    """Return the number of rows of the first table, from its header alone."""
    try:
        with _open(path) as handle:
            primary = fits.Header.fromfile(handle)
            handle.seek(primary.data_size_padded, os.SEEK_CUR)
            return int(fits.Header.fromfile(handle)["NAXIS2"])
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise _corrupt(path, f"{type(error).__name__}: {error}") from error


def check_complete(path: Path) -> None:
    """Raise `CorruptFile` when a file ends before its headers say so; skip gzipped files.

    astropy only warns of it, and then decodes whatever bytes are there.
    """
    if not path.is_file():
        raise BrickNotFound(f"{path} is not there; fetch it, or correct the path")
    if path.suffix == ".gz":
        return  # gzip notices a missing end by itself
    size, end = path.stat().st_size, 0
    try:
        with path.open("rb") as handle:
            while end < size:
                handle.seek(end)
                header = fits.Header.fromfile(handle)
                data = handle.tell()
                if data + header.data_size > size:
                    raise CorruptFile(f"ends at byte {size} of {data + header.data_size}")
                end = data + header.data_size_padded
                handle.seek(end)
                if 0 < size - end < _BLOCK and not handle.read(8).startswith(b"XTENSION"):
                    break  # stray bytes after the last HDU
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise _corrupt(path, str(error) or type(error).__name__) from error
    if end == 0:
        raise _corrupt(path, "is empty")


def _choose(path: Path, hdus: fits.HDUList, extname: str | None) -> Any:
    images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) == 2]
    if not images:
        raise SchemaMismatch(f"{path}: no two-dimensional image in any HDU; give a coadd")
    named = [hdu for hdu in images if extname and hdu.name.upper() == extname.upper()]
    return (named or images)[0]


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _corrupt(path: Path, reason: str) -> CorruptFile:
    return CorruptFile(f"{path}: truncated or damaged FITS file ({reason}); fetch it again")
