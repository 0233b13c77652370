"""Rice decoding against astropy's, pixel for pixel."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from storage import rice
from storage.compiled_loops import compiled_loops
from storage.errors import CorruptFile
from storage.fits_files import read_image
from storage.rice import decode_into

REAL = Path(__file__).resolve().parents[4] / "shared" / "real" / "bricks"
TILE = (50, 40)
SHAPE = (130, 170)  # tiles at the far sides are smaller
METHODS = {"none": -1, "dither": 1, "dither and exact zeros": 2}


@pytest.fixture(autouse=True)
def small_images_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rice, "MIN_PIXELS", 1)


def sky(kind: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    image = rng.normal(0, 0.01, SHAPE).astype(np.float32)
    if kind == "zeros":
        image[20:90, 30:60] = 0
    if kind == "stars":  # jumps that the Rice code keeps raw
        image[rng.integers(0, SHAPE[0], 60), rng.integers(0, SHAPE[1], 60)] = 3e4
    if kind == "empty tiles":  # kept without loss, by gzip
        image[: TILE[0], : 2 * TILE[1]] = 0
        image[100:, 160:] = 0
    if kind == "ramp":
        image += np.arange(SHAPE[1], dtype=np.float32) * 10
    return image


def write(path: Path, image: np.ndarray, method: int = 2, level: float = -1e-4, **other) -> Path:
    """Write an image as the survey does: the quantisation is absolute where `level` is negative."""
    options = {"compression_type": "RICE_1", "tile_shape": TILE, "dither_seed": 77} | other
    hdu = fits.CompImageHDU(image, quantize_method=method, quantize_level=level, **options)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def decoded(path: Path) -> np.ndarray | None:
    with fits.open(path) as hdus:
        out = np.full(hdus[1].shape, 7, np.float32)
        if decode_into(path, hdus[1], out):
            return out
        assert (out == 7).all()
    return None


@pytest.mark.parametrize("kind", ["noise", "zeros", "stars", "empty tiles", "ramp"])
@pytest.mark.parametrize("method", METHODS)
def test_pixels_are_those_of_astropy(tmp_path: Path, kind: str, method: str) -> None:
    path = write(tmp_path / "a.fits.fz", sky(kind), METHODS[method])
    found = decoded(path)
    assert found is not None
    np.testing.assert_array_equal(found, fits.getdata(path, 1))


@pytest.mark.parametrize("level", [-1e-6, -1e-2, -10.0, 16.0])
def test_any_number_of_low_bits(tmp_path: Path, level: float) -> None:
    path = write(tmp_path / "a.fits.fz", sky("stars"), level=level)
    np.testing.assert_array_equal(decoded(path), fits.getdata(path, 1))


def test_the_tiles_without_code_are_there_and_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits.fz", sky("empty tiles"), -1, 16)
    with fits.open(path, disable_image_compression=True) as hdus:
        lengths = hdus[1].data.view(np.ndarray)["COMPRESSED_DATA"][:, 0]
    assert (lengths == 0).any()
    assert (lengths > 0).any()
    np.testing.assert_array_equal(decoded(path), fits.getdata(path, 1))


def test_random_numbers_go_round(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits.fz", sky("noise"), dither_seed=9_995)
    np.testing.assert_array_equal(decoded(path), fits.getdata(path, 1))


def real_images() -> Iterator[Path]:
    for folder in sorted(REAL.glob("*_brick_*")):
        yield from sorted(folder.rglob("*-image-*.fits.fz"))
        yield from sorted(folder.rglob("*-invvar-*.fits.fz"))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real survey data beside the project")
def test_real_coadds_are_those_of_astropy() -> None:
    paths = list(real_images())
    assert len(paths) >= 8
    for path in paths:
        np.testing.assert_array_equal(decoded(path), fits.getdata(path, 1), err_msg=path.name)


def test_what_is_not_known_is_left_to_astropy(tmp_path: Path) -> None:
    image, ints = sky("noise"), np.arange(130 * 170, dtype=np.int16).reshape(SHAPE)
    blank = image.copy()
    blank[3, 4] = np.nan
    others = [
        write(tmp_path / "gzip.fits.fz", image, compression_type="GZIP_2", level=0.0),
        write(tmp_path / "hcompress.fits.fz", ints, compression_type="HCOMPRESS_1"),
        write(tmp_path / "integers.fits.fz", ints),
        write(tmp_path / "double.fits.fz", image.astype(np.float64)),
    ]
    plain = tmp_path / "plain.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(plain)
    for path in [*others, plain]:
        assert decoded(path) is None, path.name
        out = np.zeros(SHAPE, np.float32)
        expected = fits.getdata(path, 1).astype(np.float32)
        np.testing.assert_array_equal(read_image(path, None, out)[0], expected)
    path = write(tmp_path / "blank.fits.fz", blank)
    found = read_image(path, None, np.zeros(SHAPE, np.float32))[0]
    np.testing.assert_array_equal(found, fits.getdata(path, 1))
    assert np.isnan(found[3, 4])


def test_small_images_and_other_types_are_left_to_astropy(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "a.fits.fz", sky("noise"))
    with fits.open(path) as hdus:
        assert not decode_into(path, hdus[1], np.zeros(SHAPE, np.float64))
        assert not decode_into(path, hdus[1], np.zeros((130, 171), np.float32))
        monkeypatch.setattr(rice, "MIN_PIXELS", 130 * 170 + 1)
        assert not decode_into(path, hdus[1], np.zeros(SHAPE, np.float32))


def test_without_numba_astropy_decodes(tmp_path: Path, monkeypatch, caplog) -> None:
    path = write(tmp_path / "a.fits.fz", sky("noise"))
    monkeypatch.setitem(sys.modules, "storage.rice_kernel", None)
    compiled_loops.cache_clear()
    assert decoded(path) is None
    assert "decoded by astropy" in caplog.text
    compiled_loops.cache_clear()


def damage(path: Path, change) -> None:
    """Change the table's first row: length and offset of the bytes of the first tile."""
    with fits.open(path, disable_image_compression=True) as hdus:
        at = hdus[1].fileinfo()["datLoc"]
        descriptor = hdus[1].data.view(np.ndarray)["COMPRESSED_DATA"][0].astype(int)
    with path.open("r+b") as handle:
        handle.seek(at)
        handle.write(np.array(change(*descriptor), ">i4").tobytes())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda length, start: (length // 2, start), "tile 0 ends before its last pixel"),
        (lambda length, start: (3, start), "tile 0 ends before its last pixel"),
        (lambda length, start: (length, 10**8), "points beyond the end"),
        (lambda length, start: (-1, start), "points beyond the end"),
        (lambda length, start: (0, start), "tile 0: .*incomplete"),
    ],
)
def test_damaged_code_is_a_corrupt_file(tmp_path: Path, change, reason: str) -> None:
    path = write(tmp_path / "a.fits.fz", sky("noise"))
    damage(path, change)
    with pytest.raises(CorruptFile, match=reason):
        read_image(path, None, np.zeros(SHAPE, np.float32))


def test_a_table_that_lacks_tiles_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits.fz", sky("noise"))
    with fits.open(path, disable_image_compression=True) as hdus:
        rows = hdus[1].header["NAXIS2"]
    content = path.read_bytes()
    before, after = (f"NAXIS2  = {number:>20}".encode() for number in (rows, rows - 1))
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    with pytest.raises(CorruptFile, match=f"{rows - 1} tiles of {rows}"):
        read_image(path, None, np.zeros(SHAPE, np.float32))


def test_any_bytes_are_decoded_or_refused_but_never_read_beyond(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits.fz", sky("noise"))
    content = bytearray(path.read_bytes())
    start = len(content) - 20_000
    rng = np.random.default_rng(0)
    for _ in range(200):
        spoiled = bytearray(content)
        places = rng.integers(start, len(content), 50)
        for place in places:
            spoiled[place] = int(rng.integers(256))
        path.write_bytes(spoiled)
        try:
            found = decoded(path)
        except (ValueError, OSError):
            continue
        assert found is not None
