"""Writing FITS files the survey's way: compressed coadds, tables, checksum lists; each atomic."""

import gzip
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

TILE = (100, 100)  # the survey's compression tile
RICE, RICE_PLAIN, HCOMPRESS, GZIP = "rice", "rice-plain", "hcompress", "gzip"
# legacypipe's settings: images keep steps of 1e-4 nanomaggies with zeros exact, inverse variances
# a sixteenth of their scatter, maps of integers and of depth are lossless.
COMPRESSION: dict[str, dict[str, object]] = {
    RICE: {
        "compression_type": "RICE_1",
        "quantize_method": 2,  # SUBTRACTIVE_DITHER_2
        "quantize_level": -1e-4,
        "dither_seed": -1,  # from the tile's checksum: the same pixels give the same file
    },
    RICE_PLAIN: {"compression_type": "RICE_1", "quantize_method": -1, "quantize_level": 16},
    HCOMPRESS: {"compression_type": "HCOMPRESS_1", "hcomp_scale": 0, "hcomp_smooth": 0},
    GZIP: {"compression_type": "GZIP_1", "quantize_level": 0.0},
}


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it takes the name when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_images(
    path: Path, images: Sequence[tuple[str, NDArray[np.generic]]], header: fits.Header, how: str
) -> None:
    """Write images as tile-compressed extensions after an empty primary HDU.

    Parameters
    ----------
    path : Path
    images : sequence of (EXTNAME, ndarray of shape (y, x))
    header : astropy.io.fits.Header
        Copied to every extension.
    how : str
        Key of COMPRESSION.
    """
    hdus: list[object] = [fits.PrimaryHDU()]
    hdus += [
        fits.CompImageHDU(
            np.ascontiguousarray(data), header, name=None, tile_shape=TILE, **COMPRESSION[how]
        )
        for _, data in images
    ]
    for hdu, (name, _) in zip(hdus[1:], images, strict=True):
        # Through the header: the survey's EXTNAMEs end in a lower-case band, `name=` upper-cases.
        hdu.header["EXTNAME"] = name  # type: ignore[attr-defined]
    with atomic(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)
        if how != HCOMPRESS:
            _forget_times(temporary)


def write_table(
    path: Path,
    table: Table,
    units: Mapping[str, str] | None = None,
    header: fits.Header | None = None,
) -> None:
    """Write a binary table as HDU 1.

    Parameters
    ----------
    path : Path
    table : astropy.table.Table
    units : mapping of str
        TUNIT of columns, as the survey spells them (astropy would not write "nanomaggy").
    header : astropy.io.fits.Header
        Cards of the primary HDU.
    """
    hdu = fits.BinTableHDU(table.as_array())
    for name, unit in (units or {}).items():
        if name in table.colnames:
            hdu.columns[name].unit = unit
    with atomic(path) as temporary:
        memory = io.BytesIO()
        fits.HDUList([fits.PrimaryHDU(header=header), hdu]).writeto(memory)
        content = memory.getvalue()
        # mtime 0: the same table gives the same file.
        zipped = path.suffix == ".gz"
        temporary.write_bytes(gzip.compress(content, mtime=0) if zipped else content)


def write_checksums(path: Path, files: Sequence[Path], base: Path) -> None:
    """Write SHA-256 sums as the pipeline does: "<sha256> *<path relative to the region>"."""
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()} *{file.relative_to(base).as_posix()}\n"
        for file in files
    ]
    with atomic(path) as temporary:
        temporary.write_text("".join(lines), encoding="ascii")


def _forget_times(path: Path) -> None:
    """Set the time stamp of every gzipped tile to 0, so that the same pixels give the same file."""
    content = bytearray(path.read_bytes())
    with fits.open(path, disable_image_compression=True) as hdus:
        for hdu in hdus[1:]:
            header, start = hdu.header, hdu.fileinfo()["datLoc"]
            rows, width = header["NAXIS2"], header["NAXIS1"]
            # Every column is 8 bytes wide: a 32-bit (length, offset) pair or a double.
            table = np.frombuffer(content, ">i4", rows * width // 4, start).reshape(rows, -1, 2)
            for column, name in enumerate(hdu.columns.names):
                zipped = header["ZCMPTYPE"].startswith("GZIP") and name == "COMPRESSED_DATA"
                if zipped or name == "GZIP_COMPRESSED_DATA":
                    pairs = table[:, column][table[:, column, 0] > 0]
                    for place in (start + rows * width + pairs[:, 1]).tolist():
                        content[place + 4 : place + 8] = bytes(4)
    path.write_bytes(content)
