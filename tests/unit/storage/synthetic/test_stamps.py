from dataclasses import replace

import galsim
import numpy as np
import pytest

from storage.bricks import brick_from_name
from storage.synthetic import SyntheticConfig
from storage.synthetic.faint import FaintSources, faint_stamps
from storage.synthetic.kernels import convolution_kernel, moffat, profile_transform
from storage.synthetic.sky import Source, cell_sources, source_from_row
from storage.synthetic.stamps import View, galaxy_stamp, star_stamp

SCALE = 0.262
BANDS = ("g", "r", "z")


@pytest.fixture(scope="module")
def galaxies() -> list[Source]:
    config = SyntheticConfig(density=5.0)
    rows = cell_sources(brick_from_name("1501p010"), config)
    rows = rows[(rows["mag_z"] < 19) & (rows["mag_z"] > 16) & (rows["code"] < 4)]
    return [source_from_row(row) for row in rows]


def view_of(source: Source, y: float = 500.3, x: float = 499.8) -> View:
    flux = tuple(source.flux[index] for index in (0, 1, 3))
    return View(source, y, x, BANDS, flux, (1.3, 1.2, 1.12))


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_every_class_has_its_flux_at_its_place(galaxies: list[Source], code: int) -> None:
    sources = [source for source in galaxies if source.code == code][:4]
    assert sources
    for source in sources:
        view = view_of(source)
        stamp = galaxy_stamp(view, 0.002)
        assert np.isfinite(stamp.image).all()
        for image, flux in zip(stamp.image, view.flux, strict=True):
            assert image.sum() == pytest.approx(flux, rel=0.12)
        if source.code != 3:
            y, x = np.indices(stamp.image.shape[1:])
            core = np.where(np.hypot(y + stamp.y0 - view.y, x + stamp.x0 - view.x) < 20, 1, 0)
            light = stamp.image[2] * core
            assert (light * (y + stamp.y0)).sum() / light.sum() == pytest.approx(view.y, abs=2.0)
            assert (light * (x + stamp.x0)).sum() / light.sum() == pytest.approx(view.x, abs=2.0)


def test_a_source_looks_the_same_from_two_bricks(galaxies: list[Source]) -> None:
    source = next(source for source in galaxies if source.code == 2)
    first = galaxy_stamp(view_of(source), 0.002)
    moved = galaxy_stamp(view_of(source, 1500.3, 2499.8), 0.002)
    np.testing.assert_allclose(moved.image, first.image, atol=1e-4 * first.image.max())
    assert (moved.y0 - first.y0, moved.x0 - first.x0) == (1000, 2000)


def test_bulge_is_redder_than_disc(galaxies: list[Source]) -> None:
    spiral = next(source for source in galaxies if source.code == 2 and source.radius > 1.2)
    stamp = galaxy_stamp(view_of(replace(spiral, bulge_fraction=0.35)), 0.002)
    y, x = np.indices(stamp.image.shape[1:])
    radius = np.hypot(y + stamp.y0 - 500.3, x + stamp.x0 - 499.8) * SCALE / spiral.radius
    inner, outer = radius < 0.4, (radius > 1.2) & (radius < 2.5)
    green, _, reddest = stamp.image
    assert (
        green[outer].sum() / reddest[outer].sum() > 1.15 * green[inner].sum() / reddest[inner].sum()
    )


@pytest.mark.parametrize(("fine", "tolerance"), [(1, 0.01), (2, 0.01)])
def test_own_convolution_agrees_with_galsim(fine: int, tolerance: float) -> None:
    size, centre = 64, (31.4, 32.3)
    middle = tuple((value + 0.5) * fine - 0.5 for value in centre)
    canvas = (size * fine, SCALE / fine)
    transform = profile_transform(1.0, (1.3, 0.6, 0.7), canvas, (middle[0], middle[1]))
    image = np.fft.irfft2(
        transform * convolution_kernel(1.2, size * fine, fine), s=(size * fine,) * 2
    )
    image = image.reshape(size, fine, size, fine).sum(axis=(1, 3))
    round_profile = galsim.Exponential(half_light_radius=1.3 * 0.6**0.5)  # shear keeps the area
    profile = round_profile.shear(q=0.6, beta=0.7 * galsim.radians)
    drawn = galsim.Convolve([profile, moffat(1.2)]).drawImage(
        nx=size, ny=size, scale=SCALE, offset=(centre[1] - 31.5, centre[0] - 31.5), dtype=float
    )
    np.testing.assert_allclose(image, drawn.array, atol=tolerance * drawn.array.max())


def test_faint_sources_have_their_flux_and_place() -> None:
    one = np.ones(3)
    sources = FaintSources(
        y=np.array([10.2, 20.0, 30.7]),
        x=np.array([11.0, 5.5, 8.1]),
        flux=np.array([1.0, 2.0, 3.0]),
        width=1.2 * one,
        radius=np.array([0.0, 0.4, 0.5]),
        axis_ratio=0.7 * one,
        angle=0.3 * one,
        bulge_fraction=np.array([0.0, 0.2, 0.6]),
    )
    stamps = list(faint_stamps(sources, 32))
    assert len(stamps) == 3
    y, x = np.indices((32, 32))
    for index, (image, y0, x0) in enumerate(stamps):
        assert image.sum() == pytest.approx(sources.flux[index], rel=0.02)
        assert (image * (y + y0)).sum() / image.sum() == pytest.approx(sources.y[index], abs=0.15)
        assert (image * (x + x0)).sum() / image.sum() == pytest.approx(sources.x[index], abs=0.15)


def test_bright_star_has_wings(galaxies: list[Source]) -> None:
    star = replace(galaxies[0], code=255, radius=0.0)
    stamp = star_stamp(view_of(star), 128)
    peak = np.unravel_index(stamp.image[0].argmax(), (128, 128))
    assert (peak[0] + stamp.y0, peak[1] + stamp.x0) == (500, 500)
    assert stamp.image[0].sum() == pytest.approx(star.flux[0], rel=0.08)
