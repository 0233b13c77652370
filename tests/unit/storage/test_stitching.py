from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from astropy.wcs import WCS
from seams import INVVAR, SIGMA_PIXELS, Seam
from tiny_bricks import BRICK, TinyBrick

from storage.brick_overlap import needed_neighbours
from storage.bricks import brick_wcs
from storage.coadds import read_coadds, wcs_of
from storage.cutouts import first_pixel, pixel_to_sky, sky_to_pixel
from storage.errors import BrickNotFound
from storage.legacysurvey import coadd_path, locate_brick_files
from storage.maskbits import MaskBit
from storage.neighbour import Neighbour
from storage.schema import SurveyLayout, catalogue_columns
from storage.stitching import Stitched, stitch_objects
from storage.validation import validate

SIZE = 256
BANDS = ("g",)


def coadds_of(root: Path, seam: Seam) -> xr.Dataset:
    return read_coadds(locate_brick_files(root, seam.brick.brickname), seam.brick, BANDS)


def neighbours_of(root: Path, seam: Seam, size: int = SIZE) -> list[Neighbour]:
    found = []
    for brick in needed_neighbours(seam.brick, size):
        try:
            files = locate_brick_files(root, brick.brickname, BANDS)
        except BrickNotFound:
            files = None
        found.append(Neighbour(brick, BANDS, files))
    return found


def table_of(brickid: int, ra: Sequence[float], dec: Sequence[float]) -> pd.DataFrame:
    identity = {"release": 10000, "brickid": brickid, "objid": np.arange(len(ra)), "type": 0}
    values = dict.fromkeys(catalogue_columns(BANDS), np.nan)
    return pd.DataFrame({**identity, "ra": ra, "dec": dec, **values})


def stitch(root: Path, seam: Seam, size: int = SIZE) -> Stitched:
    mine = seam.brick.owns(seam.ra, seam.dec)
    table = table_of(seam.brick.brickid, seam.ra[mine], seam.dec[mine])
    return stitch_objects(coadds_of(root, seam), table, size, neighbours_of(root, seam, size))


def direct(seam: Seam, wcs: WCS, dataset: xr.Dataset, index: int) -> np.ndarray:
    """Draw what a cutout would show, had the brick's own image no end."""
    size = dataset.sizes["y"]
    y, x = sky_to_pixel(wcs, dataset["ra"].values[index], dataset["dec"].values[index])
    return seam.render(wcs, *first_pixel(float(y), float(x), size), (size, size))


@pytest.mark.parametrize("dec", [0.0, 60.0, 80.0, -80.0])
def test_stitched_pixels_are_those_of_one_large_image(tmp_path: Path, dec: float) -> None:
    seam = Seam.at(dec)
    seam.write_all(tmp_path, SIZE)
    found = stitch(tmp_path, seam)
    dataset = found.cutouts.dataset
    assert found.cutouts.without == {}
    assert dataset.sizes["object"] > 4
    assert "used" in found.neighbours.values()
    wcs = wcs_of(coadds_of(tmp_path, seam))
    for index, image in enumerate(dataset["image"].values[:, 0]):
        expected = direct(seam, wcs, dataset, index)
        worst = np.abs(image - expected).max()
        assert worst < 2e-4 * expected.max()  # of the peak
        assert worst * np.sqrt(INVVAR) < 0.1  # of the noise, beside stars of up to 17.5 mag
        assert image.sum() == pytest.approx(expected.sum(), rel=1e-4)
    assert (dataset["invvar"].values == np.float32(INVVAR)).all()
    validate(dataset, SurveyLayout(BANDS, size=SIZE))


@pytest.mark.parametrize("dec", [0.0, 60.0, 80.0])
def test_a_source_on_the_seam_keeps_its_flux(tmp_path: Path, dec: float) -> None:
    seam = Seam.at(dec, stars=0)
    wcs = brick_wcs(seam.brick)
    corner_y, corner_x = sky_to_pixel(wcs, seam.brick.ra2, seam.brick.dec1)
    (ra,), (centre,) = pixel_to_sky(wcs, [corner_y + 60.0], [corner_x + 3.0])
    (edge_ra,), (edge_dec,) = pixel_to_sky(wcs, [corner_y + 70.0], [-0.5])  # between two images
    seam.add(float(edge_ra), float(edge_dec), 50.0)
    seam.write_all(tmp_path, SIZE)
    table = table_of(seam.brick.brickid, [ra], [centre])
    own = coadds_of(tmp_path, seam)
    found = stitch_objects(own, table, SIZE, neighbours_of(tmp_path, seam))
    image = found.cutouts.dataset["image"].values[0, 0]
    assert image.sum() == pytest.approx(50.0, rel=0.005)
    left = first_pixel(float(corner_y), float(corner_x) + 3.0, SIZE)[1]
    assert image[:, :-left].sum() == pytest.approx(25.0, rel=0.005)  # half is the neighbour's


def test_where_planes_agree_pixels_are_copied(tmp_path: Path) -> None:
    """Two halves of one brick, as if they were neighbours."""
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(120, 200)).astype(np.float32)
    mask = rng.integers(0, 1 << 16, whole.shape, dtype=np.int32)
    for name, columns in (("west", slice(0, 110)), ("east", slice(90, 200))):
        tiny = TinyBrick(tmp_path / name, BRICK, bands=BANDS, origin=(1000, 1000 + columns.start))
        tiny.write_coadd("image", "g", whole[:, columns])
        tiny.write_coadd("invvar", "g", np.exp(whole[:, columns]))
        tiny.write_coadd("maskbits", None, mask[:, columns])
    own = read_coadds(locate_brick_files(tmp_path / "west", BRICK.brickname), BRICK, BANDS)
    ra, dec = pixel_to_sky(wcs_of(own), [60.0, 59.6], [100.0, 95.2])
    files = locate_brick_files(tmp_path / "east", BRICK.brickname)
    table = table_of(BRICK.brickid, ra, dec)
    found = stitch_objects(own, table, 51, [Neighbour(BRICK, BANDS, files)])
    dataset = found.cutouts.dataset
    for index, centre in enumerate((100, 95)):
        box = slice(35, 86), slice(centre - 25, centre + 26)
        assert (dataset["image"].values[index, 0] == whole[box]).all()
        assert (dataset["invvar"].values[index, 0] == np.exp(whole[box])).all()
        beyond = np.arange(centre - 25, centre + 26) >= 110
        expected = mask[box] | np.where(beyond, int(MaskBit.NPRIMARY), 0)
        assert (dataset["maskbits"].values[index] == expected).all()


def test_the_object_stays_in_the_middle(tmp_path: Path) -> None:
    seam = Seam.at(60.0, stars=12)
    seam.write_all(tmp_path, 300)
    for size in (257, 300):
        dataset = stitch(tmp_path, seam, size).cutouts.dataset
        middle = dataset["image"].values[:, 0, size // 2 - 1 : size // 2 + 2, size // 2]
        peak = seam.flux.min() / (2 * np.pi * SIGMA_PIXELS**2)
        assert len(middle)
        assert (middle.min(axis=1) > 0.7 * peak).all()


def test_three_neighbours_meet_in_a_corner(tmp_path: Path) -> None:
    seam = Seam.at(0.0)
    seam.write_all(tmp_path, SIZE)
    found = stitch(tmp_path, seam)
    assert found.neighbours == {"1501m002": "used", "1503m002": "used", "1503p000": "used"}
    bits = found.cutouts.dataset["maskbits"].values
    assert ((bits & int(MaskBit.NPRIMARY)) != 0).any()
    assert (bits[:, SIZE // 2, SIZE // 2] == 0).all()


def test_an_absent_neighbour_is_named(tmp_path: Path) -> None:
    seam = Seam.at(0.0)
    seam.write(tmp_path, seam.brick)
    found = stitch(tmp_path, seam)
    reasons = found.cutouts.without
    assert set(reasons) <= {
        f"edge: neighbour {name} absent" for name in ("1501m002", "1503m002", "1503p000")
    }
    assert set(found.neighbours.values()) == {"absent"}
    lost = sum(len(ids) for ids in reasons.values())
    assert lost + found.cutouts.dataset.sizes["object"] == seam.brick.owns(seam.ra, seam.dec).sum()
    assert lost


def test_what_is_not_lost_needs_nobody(tmp_path: Path) -> None:
    seam = Seam.at(0.0)
    seam.write(tmp_path, seam.brick)
    found = stitch(tmp_path, seam, 152)
    assert (found.cutouts.without, found.neighbours) == ({}, {})
    assert (found.cutouts.dataset["invvar"].values > 0).all()


@pytest.mark.parametrize("kind", ["image", "invvar"])
def test_an_unreadable_neighbour_is_named(tmp_path: Path, kind: str) -> None:
    seam = Seam.at(0.0)
    seam.write_all(tmp_path, SIZE)
    path = coadd_path(tmp_path, "1503p000", kind, "g")
    path.write_bytes(path.read_bytes()[:-3000])
    found = stitch(tmp_path, seam)
    assert found.neighbours["1503p000"].startswith("unreadable: CorruptFile")
    assert found.neighbours["1501m002"] in ("used", "not used")
    assert list(found.cutouts.without) == ["edge: neighbour 1503p000 unreadable"]
    assert found.cutouts.dataset.sizes["object"] > 0


def test_a_neighbour_of_other_content_is_not_trusted(tmp_path: Path) -> None:
    seam = Seam.at(0.0)
    seam.write_all(tmp_path, SIZE)
    other = TinyBrick(tmp_path, next(b for b in needed_neighbours(seam.brick, SIZE)))
    for brick in needed_neighbours(seam.brick, SIZE):
        if brick.brickname == "1503p000":
            other = TinyBrick(tmp_path, brick)
    other.write_tractor()
    other.write_checksums()
    path = coadd_path(tmp_path, "1503p000", "maskbits")
    path.write_bytes(path.read_bytes() + b"\0" * 2880)
    assert stitch(tmp_path, seam).neighbours["1503p000"].startswith("unreadable: ChecksumMismatch")


def test_a_part_of_a_neighbour_may_not_be_enough(tmp_path: Path) -> None:
    seam = Seam.at(0.0)
    seam.write_all(tmp_path, SIZE)
    east = next(b for b in needed_neighbours(seam.brick, SIZE) if b.brickname == "1503p000")
    part = TinyBrick(tmp_path, east, bands=BANDS, origin=(1500, 1500), size=50)
    part.places, part.fluxes = ((5.0, 5.0),), (1.0,)
    part.write_coadds()
    found = stitch(tmp_path, seam)
    assert found.neighbours["1503p000"] == "does not cover"
    assert "edge: neighbour 1503p000 does not cover" in found.cutouts.without


def test_holes_of_a_neighbour_stay_holes(tmp_path: Path) -> None:
    seam = Seam.at(60.0)
    seam.write_all(tmp_path, SIZE)
    for brick in needed_neighbours(seam.brick, SIZE):
        path = coadd_path(tmp_path, brick.brickname, "invvar", "g")
        if path.exists():
            tiny = TinyBrick(tmp_path, brick, bands=BANDS)
            written = seam.write(tmp_path, brick)
            weights = np.full(written.images["g"].shape, INVVAR, np.float32)
            weights[::7] = 0
            image = np.where(weights > 0, written.images["g"], np.nan).astype(np.float32)
            tiny.origin = written.origin
            tiny.write_coadd("invvar", "g", weights)
            tiny.write_coadd("image", "g", image)
    dataset = stitch(tmp_path, seam).cutouts.dataset
    holes = dataset["invvar"].values == 0
    assert 0.001 < holes.mean() < 0.2
    assert (dataset["image"].values[holes] == 0).all()
    assert np.isfinite(dataset["image"].values).all()
    assert dataset["image"].values.max() < 1.2 * seam.flux.max() / (2 * np.pi * SIGMA_PIXELS**2)


def test_a_band_that_a_neighbour_lacks_has_no_weight(tmp_path: Path) -> None:
    seam = Seam.at(0.0)
    tiny = seam.write_all(tmp_path, SIZE)
    shape = tiny.images["g"].shape
    tiny.write_coadd("image", "r", np.ones(shape, np.float32))
    tiny.write_coadd("invvar", "r", np.ones(shape, np.float32))
    bands = ("g", "r")
    files = locate_brick_files(tmp_path, seam.brick.brickname, bands)
    own = read_coadds(files, seam.brick, bands)
    mine = seam.brick.owns(seam.ra, seam.dec)
    table = table_of(seam.brick.brickid, seam.ra[mine], seam.dec[mine])
    others = [Neighbour(n.brick, bands, n.files) for n in neighbours_of(tmp_path, seam)]
    dataset = stitch_objects(own, table, SIZE, others).cutouts.dataset
    assert (dataset["invvar"].values[:, 0] > 0).all()
    blank = dataset["invvar"].values[:, 1] == 0
    assert blank.any()
    assert (dataset["maskbits"].values[blank] & int(MaskBit.NPRIMARY) != 0).all()


def test_only_a_strip_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seam = Seam.at(0.0)
    seam.write_all(tmp_path, SIZE)
    boxes = []

    def spy(*args: object, **options: object) -> xr.Dataset:
        boxes.append(options["box"])
        return read_coadds(*args, **options)

    monkeypatch.setattr("storage.neighbour.read_coadds", spy)
    found = stitch(tmp_path, seam)
    assert len(boxes) == len(found.neighbours) >= 2  # one strip a neighbour, whatever the objects
    for rows, columns in boxes:
        assert min(rows.stop - rows.start, columns.stop - columns.start) < 200


def test_objects_outside_the_image_or_without_data(tmp_path: Path) -> None:
    seam = Seam.at(0.0, stars=0)
    seam.write_all(tmp_path, SIZE)
    own = coadds_of(tmp_path, seam)
    own["invvar"].values[:, 200, 200] = 0
    ra, dec = pixel_to_sky(wcs_of(own), [200.0, 200.0, 214.0], [200.0, -5.0, 330.0])
    table = table_of(seam.brick.brickid, [*ra, np.nan], [*dec, 0.0])
    found = stitch_objects(own, table, SIZE, neighbours_of(tmp_path, seam))
    assert found.cutouts.without["no_data"] == (0,)
    assert found.cutouts.without["edge"] == (1, 2, 3)  # the part ends inside its own brick
    assert found.cutouts.dataset.sizes["object"] == 0
