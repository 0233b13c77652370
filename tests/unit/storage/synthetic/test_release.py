import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from storage.errors import BrickNotFound
from storage.legacysurvey import checksum_path, coadd_path, tractor_path
from storage.maskbits import MaskBit
from storage.synthetic import (
    MORPHOLOGY_CLASSES,
    SyntheticConfig,
    SyntheticRelease,
    noiseless_image,
    read_truth,
    write_synthetic_release,
)

REGION = "south"


def read(
    release: SyntheticRelease, kind: str, band: str | None = None, brick: int = 0
) -> np.ndarray:
    path = coadd_path(release.root / REGION, release.bricknames[brick], kind, band)
    return np.asarray(fits.getdata(path, 1))


def catalogue(release: SyntheticRelease, brick: int = 0) -> np.ndarray:
    rows = fits.getdata(tractor_path(release.root / REGION, release.bricknames[brick]))
    return Table(rows).as_array()


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith("survey-bricks")
    }


def test_coadds_are_compressed_as_the_survey_does(tiny_synthetic: SyntheticRelease) -> None:
    base, name = tiny_synthetic.root / REGION, tiny_synthetic.bricknames[0]
    expected = {
        "image": ("RICE_1", "SUBTRACTIVE_DITHER_2", -32),
        "invvar": ("RICE_1", None, -32),
        "nexp": ("HCOMPRESS_1", None, 16),
        "psfsize": ("GZIP_1", None, -32),
    }
    for kind, cards in expected.items():
        with fits.open(coadd_path(base, name, kind, "r"), disable_image_compression=True) as hdus:
            header = hdus[1].header
            assert hdus[0].data is None
            assert header["EXTNAME"] == f"{kind.upper()}_r"
            assert (header["ZCMPTYPE"], header.get("ZQUANTIZ"), header["ZBITPIX"]) == cards
    with fits.open(coadd_path(base, name, "maskbits")) as hdus:
        assert [hdu.header["EXTNAME"] for hdu in hdus[1:]] == ["MASKBITS", "WISEM1", "WISEM2"]
        assert [hdu.data.dtype.name for hdu in hdus[1:]] == ["int32", "uint8", "uint8"]
        assert hdus[1].header["MBIT_0"] == "NPRIMARY"


def test_checksums_match_the_files(tiny_synthetic: SyntheticRelease) -> None:
    base = tiny_synthetic.root / REGION
    for name in tiny_synthetic.bricknames:
        lines = checksum_path(base, name).read_text().splitlines()
        assert len(lines) == 4 * 3 + 2
        for line in lines:
            digest, path = line.split(" *")
            assert hashlib.sha256((base / path).read_bytes()).hexdigest() == digest


def test_no_data_and_flagged_pixels_have_no_weight(tiny_synthetic: SyntheticRelease) -> None:
    bits = read(tiny_synthetic, "maskbits")
    for band in "grz":
        invvar, image = (read(tiny_synthetic, kind, band) for kind in ("invvar", "image"))
        uncovered = read(tiny_synthetic, "nexp", band) == 0
        masked = (bits & MaskBit[f"ALLMASK_{band.upper()}"]) != 0
        assert (invvar[uncovered | masked] == 0).all()
        assert (image[uncovered] == 0).all()
        assert (invvar[~uncovered & ~masked] > 0).all()
        assert np.isfinite(image).all()


def test_noise_agrees_with_invvar(tiny_synthetic: SyntheticRelease) -> None:
    image, invvar = (read(tiny_synthetic, kind, "g") for kind in ("image", "invvar"))
    deviation = np.where(invvar > 0, image * np.sqrt(invvar), np.nan)
    # Sources only push upwards, so the darkest corner of the image is sky.
    tiles = deviation[:250, :250].reshape(5, 50, 5, 50).swapaxes(1, 2).reshape(25, 2500)
    darkest = tiles[np.nanargmin(np.nanmedian(tiles, axis=1))]
    low, middle = np.nanpercentile(darkest, [16, 50])
    assert middle - low == pytest.approx(1.0, abs=0.12)


def test_catalogue_rows_lie_on_their_sources(tiny_synthetic: SyntheticRelease) -> None:
    table, image = catalogue(tiny_synthetic), read(tiny_synthetic, "image", "r")
    header = fits.getheader(
        coadd_path(tiny_synthetic.root / REGION, tiny_synthetic.bricknames[0], "image", "r"), 1
    )
    x, y = WCS(header).all_world2pix(table["ra"], table["dec"], 0)
    np.testing.assert_allclose(x, table["bx"], atol=1e-3)
    np.testing.assert_allclose(y, table["by"], atol=1e-3)
    for row in table[(table["flux_r"] > 20) & (table["fracflux_r"] < 0.2)]:
        y0, x0 = round(float(row["by"])), round(float(row["bx"]))
        near = image[max(y0 - 4, 0) : y0 + 5, max(x0 - 4, 0) : x0 + 5]
        assert near.max() > 0.1


def test_neighbours_show_the_same_sky(tiny_synthetic: SyntheticRelease) -> None:
    first, second = (read_truth(tiny_synthetic.root, name) for name in tiny_synthetic.bricknames)
    shared, here, there = np.intersect1d(
        first["source_id"], second["source_id"], return_indices=True
    )
    assert shared.size >= 5
    for name in ("class", "ra", "radius", "n_arms"):
        np.testing.assert_array_equal(first[name][here], second[name][there])
    one, two = (catalogue(tiny_synthetic, brick) for brick in (0, 1))
    # A source belongs to one brick at most, and its two measurements differ.
    assert not (one["brick_primary"][here] & two["brick_primary"][there]).any()
    assert (one["flux_r"][here] != two["flux_r"][there]).all()
    images = [read(tiny_synthetic, "image", "r", brick) for brick in (0, 1)]
    bright = (one["flux_r"][here] > 3) & (one["fracflux_r"][here] < 0.5)
    assert bright.any()
    for left, right in zip(one[here][bright], two[there][bright], strict=True):
        looks = []
        for image, row in zip(images, (left, right), strict=True):
            y0, x0 = round(float(row["by"])), round(float(row["bx"]))
            looks.append(image[max(y0 - 3, 0) : y0 + 4, max(x0 - 3, 0) : x0 + 4].sum())
        assert looks[0] == pytest.approx(looks[1], rel=0.5)


def test_truth_has_one_row_per_catalogue_row(tiny_synthetic: SyntheticRelease) -> None:
    for brick, name in enumerate(tiny_synthetic.bricknames):
        table, truth = catalogue(tiny_synthetic, brick), read_truth(tiny_synthetic.root, name)
        np.testing.assert_array_equal(table["objid"], truth["objid"])
        np.testing.assert_array_equal(table["brickid"], truth["brickid"])
        classes = set(np.unique(np.asarray(truth["class"]).astype(str)))
        assert classes <= {*MORPHOLOGY_CLASSES, "star"}
        votes = sum(
            np.asarray(truth[f"votes_{name.replace('-', '_')}"]) for name in MORPHOLOGY_CLASSES
        )
        star = np.asarray(truth["class"]).astype(str) == "star"
        assert (votes[star] == 0).all()
        assert (votes[~star] >= 20).all()


def test_types_follow_profile_and_signal(tiny_synthetic: SyntheticRelease) -> None:
    table = np.concatenate([catalogue(tiny_synthetic, brick) for brick in (0, 1)])
    kinds = np.asarray(table["type"]).astype(str)
    assert set(kinds) <= {"PSF", "REX", "EXP", "DEV", "SER"}
    assert (table["shape_r"][kinds == "PSF"] == 0).all()
    assert (table["shape_e1"][kinds == "REX"] == 0).all()
    assert (table["sersic"][kinds == "DEV"] == 4).all()
    assert (table["flux_i"] == 0).all()  # DR10 has the column even where the band is missing


def test_same_seed_same_files_in_any_order(
    tiny_synthetic: SyntheticRelease, tiny_config: SyntheticConfig, tmp_path: Path
) -> None:
    alone = replace(tiny_config, bricks=(tiny_synthetic.bricknames[1],))
    write_synthetic_release(tmp_path, alone)
    again, before = digests(tmp_path), digests(tiny_synthetic.root)
    assert len(again) == 16
    assert all(before[path] == digest for path, digest in again.items())


def test_noiseless_image_is_the_source_of_the_coadd(
    tiny_synthetic: SyntheticRelease, tiny_config: SyntheticConfig
) -> None:
    name = tiny_synthetic.bricknames[0]
    table = catalogue(tiny_synthetic)
    objid = int(table["objid"][np.argmax(table["flux_r"] * (table["type"] != "PSF"))])
    image = noiseless_image(tiny_config, name, objid, "r")
    assert image.shape == (152, 152)
    peak = np.unravel_index(image.argmax(), image.shape)
    assert abs(peak[0] - 76) <= 4
    assert abs(peak[1] - 76) <= 4
    assert image.sum() == pytest.approx(float(table["flux_r"][objid]), rel=0.35)
    with pytest.raises(ValueError, match="objid"):
        noiseless_image(tiny_config, name, 10**6, "r")
    with pytest.raises(ValueError, match="band"):
        noiseless_image(tiny_config, name, objid, "i")


def test_tables_of_bricks(tiny_synthetic: SyntheticRelease) -> None:
    sky = fits.getdata(tiny_synthetic.root / "survey-bricks.fits.gz")
    region = fits.getdata(tiny_synthetic.root / REGION / "survey-bricks-dr10-south.fits.gz")
    assert set(tiny_synthetic.bricknames) < set(sky["BRICKNAME"])
    assert tuple(region["brickname"]) == tiny_synthetic.bricknames
    for row, brick in zip(region, (0, 1), strict=True):
        table = catalogue(tiny_synthetic, brick)
        primary = table[np.asarray(table["brick_primary"], bool)]
        kinds = np.asarray(primary["type"]).astype(str)
        assert row["nexp"] == (kinds == "EXP").sum()  # EXP sources, not exposures
        assert row["nexp_g"] >= 1


def test_missing_truth_says_so(tmp_path: Path) -> None:
    with pytest.raises(BrickNotFound, match="truth"):
        read_truth(tmp_path, "1501p010")


def test_importing_storage_does_not_import_galsim() -> None:
    code = "import sys, storage; sys.exit('galsim' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
