from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from tiny_bricks import TinyBrick

from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch
from storage.fits_files import (
    check_complete,
    count_rows,
    read_image,
    read_image_header,
    read_table,
    read_table_header,
)

DATA = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def compressed(tmp_path: Path) -> Path:
    return TinyBrick(tmp_path).write_coadd("image", "g", np.ones((120, 120), np.float32))


def test_image_of_a_compressed_and_of_a_plain_file(tmp_path: Path, compressed: Path) -> None:
    data, header = read_image(compressed)
    assert data.shape == read_image_header(compressed)[0] == (120, 120)
    assert data.dtype.isnative
    assert header["BRICKNAM"] == "1238p245"
    plain = tmp_path / "plain.fits.fz"  # DR9 has uncompressed files with this suffix
    fits.PrimaryHDU(DATA).writeto(plain)
    assert (read_image(plain)[0] == DATA).all()


def test_named_hdu_is_preferred(tmp_path: Path) -> None:
    path = tmp_path / "mask.fits"
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(DATA, name="WISEM1"), fits.ImageHDU(-DATA, name="A")]
    fits.HDUList(hdus).writeto(path)
    assert (read_image(path, "A")[0] == -DATA).all()
    assert (read_image(path, "MASKBITS")[0] == DATA).all()


def test_pixels_go_where_they_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    fits.PrimaryHDU(DATA.astype(np.int16)).writeto(path)
    out = np.zeros((3, 4), np.int32)
    assert read_image(path, out=out)[0] is out
    assert (out == DATA).all()
    with pytest.raises(SchemaMismatch, match=r"shape \(3, 4\)"):
        read_image(path, out=np.zeros((4, 4), np.int32))


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_truncated_files_are_corrupt(compressed: Path, fraction: float) -> None:
    content = compressed.read_bytes()
    compressed.write_bytes(content[: int(len(content) * fraction)])
    for read in (check_complete, read_image, read_image_header):
        with pytest.raises(CorruptFile, match="fetch it again"):
            read(compressed)


def test_other_damage(tmp_path: Path) -> None:
    text = tmp_path / "text.fits"
    text.write_text("<html>not found</html>" * 400)
    with pytest.raises(CorruptFile):
        read_image(text)
    gzipped = tmp_path / "a.fits.gz"
    fits.PrimaryHDU(np.random.default_rng(0).normal(size=(99, 99))).writeto(gzipped)
    gzipped.write_bytes(gzipped.read_bytes()[:5000])
    with pytest.raises(CorruptFile):
        read_image(gzipped)
    with pytest.raises(BrickNotFound):
        check_complete(tmp_path / "none.fits")


def test_files_of_another_kind(tmp_path: Path, compressed: Path) -> None:
    table = tmp_path / "t.fits"
    Table({"a": [1, 2, 3]}).write(table)
    assert count_rows(table) == 3
    assert len(read_table(table)[0]) == 3
    with pytest.raises(SchemaMismatch, match="no two-dimensional image"):
        read_image(table)
    image = tmp_path / "i.fits"
    fits.PrimaryHDU(DATA).writeto(image)
    with pytest.raises(SchemaMismatch, match="no table"):
        read_table(image)
    with pytest.raises(CorruptFile):
        count_rows(image)


def test_a_box_of_a_compressed_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(120, 130)).astype(np.float32)
    hdu = fits.CompImageHDU(image, compression_type="GZIP_1", quantize_level=0.0)
    path = tmp_path / "image.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    plain = tmp_path / "image.fits"
    fits.PrimaryHDU(image).writeto(plain)
    box = (slice(7, 60), slice(100, 130))
    for name in (path, plain):
        assert (read_image(name, box=box)[0] == image[box]).all()
        out = np.zeros((53, 30))
        read_image(name, None, out, box)
        assert (out == image[box]).all()
        with pytest.raises(SchemaMismatch):
            read_image(name, None, np.zeros((53, 31)), box)
    assert read_image_header(path)[0] == (120, 130)


def test_the_header_of_a_table_has_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.fits"
    primary = fits.PrimaryHDU()
    primary.header["RUNDATE"] = "2022-06-29"
    table = fits.BinTableHDU(np.zeros(3, [("a", "f4")]))
    table.header["TR_VER"] = 1
    fits.HDUList([primary, table]).writeto(path)
    header = read_table_header(path)
    assert (header["RUNDATE"], header["TR_VER"], header["NAXIS2"]) == ("2022-06-29", 1, 3)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(CorruptFile, match="table.fits"):
        read_table_header(path)
