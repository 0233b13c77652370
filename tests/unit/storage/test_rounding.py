"""Stored pixels stay far within their noise, and fluxes within their errors."""

import numpy as np
import pytest
from astropy.io import fits
from flux_shifts import PSF_SIGMA, largest_flux_shift
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.rounding import MAX_ROUNDING_OVER_NOISE, STEP_OVER_NOISE, round_image


def _noise_planes(noise: float, count: int = 4, side: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Return planes of sky with a bright source in the middle, and their inverse variance."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] - side // 2
    image = rng.standard_normal((count, 1, side, side)) * noise
    image += noise * 1000 * np.exp(-(y**2 + x**2) / (2 * PSF_SIGMA**2))
    return image.astype(np.float32), np.full(image.shape, noise**-2, np.float32)


def _largest_shift(image: np.ndarray, stored: np.ndarray, invvar: np.ndarray) -> float:
    planes = (values.reshape(-1, *image.shape[2:]) for values in (image, stored, invvar))
    return max(largest_flux_shift(*plane) for plane in zip(*planes, strict=True))


@pytest.mark.parametrize("noise", [3e-4, 0.0041, 0.02, 7.0])
def test_no_flux_moves_by_a_ten_thousandth_of_its_error(noise):
    image, invvar = _noise_planes(noise)
    assert 0 < _largest_shift(image, round_image(image, invvar), invvar) <= 1e-4


def test_real_fluxes_move_by_less_than_a_ten_thousandth_of_their_error(real_data):
    folder = real_data / "bricks" / "DERIVED_minibrick_0591m305"
    for band in "grz":
        image, invvar = (
            np.nan_to_num(np.array(fits.getdata(file, 1), np.float32))[None, None]
            for kind in ("image", "invvar")
            for file in folder.rglob(f"*-{kind}-{band}.fits.fz")
        )
        assert 0 < _largest_shift(image, round_image(image, invvar), invvar) <= 1e-4


def test_a_coarser_step_would_move_fluxes_too_far():
    image, invvar = _noise_planes(0.004)
    assert _largest_shift(image, image.astype(np.float16).astype(np.float32), invvar) > 1e-4
    coarse = round_image(image, invvar / 64**2)
    assert _largest_shift(image, coarse, invvar) > 1e-4


@settings(max_examples=200)
@given(
    value=st.floats(-(2.0**127), 2.0**127, width=32),
    noise=st.one_of(st.just(0.0), st.floats(2.0**-20, 2.0**20, width=32)),
)
def test_every_pixel_stays_far_within_its_noise(value, noise):
    image = np.full((1, 1, 1, 2), value, np.float32)
    invvar = np.full(image.shape, 0.0 if noise == 0 else noise**-2.0, np.float32)
    found = round_image(image, invvar)
    assert found.dtype == np.float32
    error = np.abs(found.astype(np.float64) - image)
    assert (error <= MAX_ROUNDING_OVER_NOISE * noise * (1 + 1e-6)).all()
    np.testing.assert_array_equal(round_image(found, invvar), found)


def test_the_step_follows_the_smallest_noise_of_each_plane():
    rng = np.random.default_rng(1)
    image = rng.standard_normal((2, 2, 16, 16), np.float32)
    invvar = np.ones_like(image)
    invvar[0, 1, 3, 3] = 10000.0  # one deep pixel: 1/100 of the noise of the others
    invvar[1, 1] = 0.0
    found = round_image(image, invvar)
    for plane in ((0, 0), (1, 0)):
        np.testing.assert_array_equal(found[plane] % np.float32(STEP_OVER_NOISE), 0)
    assert (found[0, 1] % np.float32(STEP_OVER_NOISE) != 0).any()
    np.testing.assert_array_equal(found[0, 1] % np.float32(2.0**-21), 0)
    np.testing.assert_array_equal(found[1, 1], image[1, 1])


def test_sky_compresses_because_its_last_bytes_are_zero():
    image, invvar = _noise_planes(0.02)
    last = round_image(image, invvar).view(np.uint8)[..., ::4]
    assert (image.view(np.uint8)[..., ::4] == 0).mean() < 0.01
    assert (last == 0).mean() > 0.9


def test_no_cutouts_round_to_none():
    empty = np.zeros((0, 3, 8, 8), np.float32)
    assert round_image(empty, empty).shape == empty.shape
