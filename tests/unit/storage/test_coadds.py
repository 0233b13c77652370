from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from tiny_bricks import BRICK, SIZE, TinyBrick

from storage.bricks import brick_from_name, brick_wcs
from storage.coadds import coadd_frame, read_coadds, wcs_of
from storage.errors import CorruptFile, IncompleteBrick, InconsistentBrick, SchemaMismatch
from storage.legacysurvey import coadd_path, locate_brick_files
from storage.maskbits import MaskBit

BANDS = ("g", "r", "z")


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBrick:
    return TinyBrick(tmp_path).write()


def read(tiny: TinyBrick, bands: tuple[str, ...] = BANDS, **options: tuple) -> xr.Dataset:
    return read_coadds(locate_brick_files(tiny.root, BRICK.brickname), BRICK, bands, **options)


def test_pixels_are_those_of_the_files(tiny: TinyBrick) -> None:
    coadds = read(tiny)
    for band in BANDS:
        assert (coadds["image"].sel(band=band).to_numpy() == tiny.images[band]).all()
    assert (coadds["invvar"] == 1e4).all()
    assert coadds["maskbits"].dtype == np.int32
    assert coadds.attrs["notes"] == []
    assert coadds.attrs["release_code"] == 10000


def test_bands_come_in_the_asked_order(tiny: TinyBrick) -> None:
    coadds = read(tiny, ("z", "g"))
    assert coadds["band"].values.tolist() == ["z", "g"]
    assert (coadds["image"].to_numpy()[0] == tiny.images["z"]).all()


def test_projection_survives(tiny: TinyBrick) -> None:
    x, y = wcs_of(read(tiny)).all_world2pix(BRICK.ra, BRICK.dec, 0)
    assert (float(x), float(y)) == pytest.approx(((SIZE - 1) / 2,) * 2, abs=1e-6)


def test_a_missing_band_is_empty_and_said(tiny: TinyBrick) -> None:
    coadds = read(tiny, ("g", "i"))
    assert coadds.attrs["missing_bands"] == ["i"]
    assert "band i: no image file" in coadds.attrs["notes"][0]
    assert not coadds["invvar"].sel(band="i").any()


def test_a_band_without_weights_counts_as_missing(tiny: TinyBrick) -> None:
    coadd_path(tiny.root, BRICK.brickname, "invvar", "g").unlink()
    coadds = read(tiny)
    assert coadds.attrs["missing_bands"] == ["g"]
    assert not coadds["image"].sel(band="g").any()


def test_no_band_at_all(tiny: TinyBrick) -> None:
    with pytest.raises(IncompleteBrick, match="images: g, r, z"):
        read(tiny, ("i", "Y"))


def test_pixels_that_are_no_numbers_lose_their_weight(tiny: TinyBrick) -> None:
    image = tiny.images["r"].copy()
    image[3, 4], image[5, 6] = np.nan, np.inf
    tiny.write_coadd("image", "r", image)
    weights = np.full((SIZE, SIZE), 9.0, np.float32)
    weights[7, 8], weights[9, 9] = np.nan, -1.0
    tiny.write_coadd("invvar", "r", weights)
    coadds = read(tiny)
    plane = coadds.sel(band="r")
    for y, x in ((3, 4), (5, 6), (7, 8)):
        assert plane["image"].values[y, x] == plane["invvar"].values[y, x] == 0
    assert plane["invvar"].values[9, 9] == 0
    assert "band r: 3 pixels not finite, set to 0 with invvar 0" in coadds.attrs["notes"]
    assert "band r: 1 negative weights set to 0" in coadds.attrs["notes"]


def test_a_sparsely_filled_band_is_said(tiny: TinyBrick) -> None:
    weights = np.zeros((SIZE, SIZE), np.float32)
    weights[: SIZE // 4] = 1
    tiny.write_coadd("invvar", "g", weights)
    assert "band g: 25.0% of the pixels have data" in read(tiny).attrs["notes"]


def test_no_maskbits(tiny: TinyBrick) -> None:
    coadd_path(tiny.root, BRICK.brickname, "maskbits").unlink()
    coadds = read(tiny)
    assert not coadds["maskbits"].any()
    assert "no maskbits file" in coadds.attrs["notes"][0]


def test_mask_bits_are_named_by_their_header(tiny: TinyBrick) -> None:
    mask = np.full((SIZE, SIZE), 4, np.int16)
    tiny.write_coadd("maskbits", None, mask, {"MBIT_2": "SATUR_I"})
    assert (read(tiny)["maskbits"] == int(MaskBit.SATUR_I)).all()


@pytest.mark.parametrize(("kind", "band"), [("invvar", "z"), ("image", "r"), ("maskbits", None)])
def test_other_shapes(tiny: TinyBrick, kind: str, band: str | None) -> None:
    path = tiny.write_coadd(kind, band, np.zeros((50, SIZE), np.float32))
    with pytest.raises(SchemaMismatch, match=path.name):
        read(tiny)


def test_a_truncated_file(tiny: TinyBrick) -> None:
    path = coadd_path(tiny.root, BRICK.brickname, "image", "z")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(CorruptFile, match="image-z"):
        read(tiny)


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"CRVAL1": BRICK.ra + 0.25}, "its tangent point is"),
        ({"PC1_1": 2e-4, "PC2_2": 2e-4, "CDELT1": 1.0, "CDELT2": 1.0}, "arcsec a pixel"),
        ({"MAGZERO": 25.0}, "MAGZERO is 25.0"),
    ],
)
def test_images_of_something_else(tiny: TinyBrick, cards: dict, message: str) -> None:
    for band in BANDS:
        tiny.write_coadd("image", band, tiny.images[band], cards)
        tiny.write_coadd("invvar", band, np.ones((SIZE, SIZE), np.float32), cards)
    tiny.write_coadd("maskbits", None, np.zeros((SIZE, SIZE), np.int32), cards)
    with pytest.raises(SchemaMismatch, match=message):
        read(tiny)


def test_files_of_another_brick(tiny: TinyBrick) -> None:
    tiny.write_coadd("maskbits", None, np.zeros((SIZE, SIZE), np.int16), {"BRICKNAM": "0001p000"})
    with pytest.raises(InconsistentBrick, match="maskbits.*header says brick 0001p000"):
        read(tiny)


def test_files_of_several_runs_are_noted(tiny: TinyBrick) -> None:
    tiny.write_coadd("image", "g", tiny.images["g"], {"LEGPIPEV": "DR10.0.1"})
    tiny.write_coadd("image", "r", tiny.images["r"], {"LEGPIPEV": "DR10.0.2"})
    notes = read(tiny).attrs["notes"]
    assert len(notes) == 1
    assert "image-r.fits.fz has pipeline version DR10.0.2, " in notes[0]


def test_a_box_is_a_small_coadd(tiny: TinyBrick) -> None:
    whole = read(tiny)
    box = (slice(20, 70), slice(45, 90))
    part = read(tiny, box=box)
    for name in ("image", "invvar", "maskbits"):
        assert (part[name].to_numpy() == whole[name].to_numpy()[..., *box]).all()
    assert part.attrs["full_shape"] == (SIZE, SIZE)
    x, y = wcs_of(part).all_world2pix(BRICK.ra, BRICK.dec, 0)
    middle = (SIZE - 1) / 2
    assert (float(y), float(x)) == pytest.approx((middle - 20, middle - 45), abs=1e-6)


def test_a_frame_needs_no_pixels(tiny: TinyBrick) -> None:
    files = locate_brick_files(tiny.root, BRICK.brickname)
    wcs, shape = coadd_frame(files, BRICK, BANDS)
    assert shape == (SIZE, SIZE)
    assert wcs.wcs.crval.tolist() == wcs_of(read(tiny)).wcs.crval.tolist()
    with pytest.raises(IncompleteBrick):
        coadd_frame(files, BRICK, ("i",))


def test_pixels_are_counted(tiny: TinyBrick) -> None:
    image = tiny.images["r"].copy()
    image[:2, :3] = np.nan
    tiny.write_coadd("image", "r", image)
    coadds = read(tiny, ("g", "r", "i"))
    assert coadds.attrs["not_finite"] == {"g": 0, "r": 6, "i": 0}
    assert coadds.attrs["with_data"] == {"g": SIZE**2, "r": SIZE**2 - 6, "i": 0}


def test_files_that_do_not_fit_one_another(tiny: TinyBrick) -> None:
    tiny.write_coadd("image", "z", tiny.images["z"], {"CRPIX1": 99.0})
    with pytest.raises(SchemaMismatch, match="image-z.*projection differs"):
        read(tiny)


def test_a_crop_keeps_the_projection_of_the_brick(tmp_path: Path) -> None:
    tiny = TinyBrick(tmp_path)
    header = brick_wcs(BRICK).to_header()
    cards = {"CRPIX1": header["CRPIX1"] - 1000, "CRPIX2": header["CRPIX2"] - 500}
    for kind in ("image", "invvar"):
        tiny.write_coadd(kind, "g", np.ones((80, 90), np.float32), cards)
    x, y = wcs_of(read(tiny, ("g",))).all_world2pix(BRICK.ra, BRICK.dec, 0)
    assert (float(x), float(y)) == pytest.approx((799.5, 1299.5), abs=1e-6)


def test_a_partial_coadd_needs_a_projection(tiny: TinyBrick) -> None:
    coadd_path(tiny.root, BRICK.brickname, "maskbits").unlink()
    for kind in ("image", "invvar"):
        path = coadd_path(tiny.root, BRICK.brickname, kind, "g")
        fits.PrimaryHDU(np.ones((60, 60), np.float32)).writeto(path, overwrite=True)
    with pytest.raises(SchemaMismatch, match="no WCS"):
        read(tiny, ("g",))


def test_extras(tiny: TinyBrick) -> None:
    sizes = np.zeros((SIZE, SIZE), np.float32)
    sizes[:40] = 1.5
    tiny.write_coadd("psfsize", "r", sizes)
    tiny.write_coadd("nexp", "r", np.full((SIZE, SIZE), 3, np.int16))
    coadds = read(tiny, extras=("psfsize", "nexp"))
    assert coadds["psfsize"].sel(band="r").item() == 1.5
    assert np.isnan(coadds["psfsize"].sel(band="g").item())
    assert (coadds["nexp"].sel(band="r") == 3).all()


def test_rice_compressed_files_read_as_astropy_reads_them(real_data: Path) -> None:
    root = real_data / "bricks" / "DERIVED_minibrick_0591m305"
    files = locate_brick_files(root, "0591m305")
    coadds = read_coadds(files, brick_from_name("0591m305"), BANDS)
    for band in BANDS:
        with fits.open(files.image[band]) as hdus:
            expected = np.where(coadds["invvar"].sel(band=band) > 0, hdus[1].data, 0)
        found = coadds["image"].sel(band=band).where(coadds["invvar"].sel(band=band) > 0, 0)
        assert (found.to_numpy() == expected).all()
