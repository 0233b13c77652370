import numpy as np
import pytest
import xarray as xr

from storage.maskbits import MaskBit
from storage.resampling import SPLINE_REACH, Section


def section(image: np.ndarray, invvar: np.ndarray, top: int = 0, left: int = 0) -> Section:
    coadds = xr.Dataset(
        {
            "image": (("band", "y", "x"), image[np.newaxis].astype(np.float32)),
            "invvar": (("band", "y", "x"), invvar[np.newaxis].astype(np.float32)),
            "maskbits": (("y", "x"), np.arange(image.size, dtype=np.int32).reshape(image.shape)),
        }
    )
    return Section(coadds, top, left)


def test_whole_pixels_are_copied_and_counted_from_the_whole_image() -> None:
    image = np.random.default_rng(0).normal(size=(30, 40))
    part = section(image, np.exp(image), top=100, left=7)
    found = part.at(np.array([110.0, 129.00005]), np.array([7.0, 45.99995]))
    assert found.image[0].tolist() == image.astype(np.float32)[[10, 29], [0, 39]].tolist()
    assert found.invvar[0].tolist() == np.exp(image).astype(np.float32)[[10, 29], [0, 39]].tolist()
    expected = np.array([400, 29 * 40 + 39]) | int(MaskBit.NPRIMARY)
    assert found.maskbits.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("shift", "variance"), [((0.5, 0.0), 0.83), ((0.5, 0.5), 0.70), ((0.25, 0.25), 0.84)]
)
def test_the_noise_of_interpolated_pixels(shift: tuple[float, float], variance: float) -> None:
    image = np.random.default_rng(1).normal(size=(300, 300))
    y, x = np.mgrid[40:260, 40:260].astype(float)
    found = section(image, np.ones_like(image)).at(y.ravel() + shift[0], x.ravel() + shift[1])
    assert found.image.var() == pytest.approx(variance, abs=0.02)
    assert (found.invvar == 1).all()  # of the nearest pixel, as it is


def test_a_section_knows_as_much_as_the_whole_image() -> None:
    image = np.random.default_rng(2).normal(size=(200, 200))
    places = np.array([80.3, 90.7, 99.5]), np.array([85.5, 99.9, 80.1])
    whole = section(image, np.ones_like(image)).at(*places)
    low, high = 80 - SPLINE_REACH, 100 + SPLINE_REACH + 1
    part = section(image[low:high, low:high], np.ones((high - low,) * 2), low, low)
    assert part.at(*places).image == pytest.approx(whole.image, abs=1e-6)


def test_a_hole_does_not_ring() -> None:
    image = np.full((60, 60), 100.0)
    invvar = np.ones_like(image)
    image[20:30, 20:30] = invvar[20:30, 20:30] = 0
    y, x = (values.ravel() + 0.3 for values in np.mgrid[10:50, 10:50])
    found = section(image, invvar).at(y, x)
    hole = found.invvar[0] == 0
    assert 90 <= np.count_nonzero(hole) <= 110
    assert (found.image[0, hole] == 0).all()
    assert found.image[0, ~hole] == pytest.approx(100.0, rel=1e-5)
    empty = section(image, np.zeros_like(image)).at(y, x)
    assert (empty.image == 0).all()
