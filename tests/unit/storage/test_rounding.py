"""Pixels come back within 1/50 of their noise, and exactly where there is an excess."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.rounding import MAX_ROUNDING_OVER_NOISE, half_to_float, join_image, split_image


def test_every_finite_half_is_converted_exactly():
    half = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    half = half[np.isfinite(half)]
    expected = half.astype(np.float32)
    found = half_to_float(half)
    assert found.dtype == np.float32
    assert (found.view(np.int32) == expected.view(np.int32)).all()  # the sign of zero, too


def test_conversion_fills_the_array_given():
    out = np.empty((2, 3), np.float32)
    assert half_to_float(np.full((2, 3), 0.5, np.float16), out=out) is out
    assert (out == 0.5).all()


@settings(max_examples=200, deadline=None)
@given(
    value=st.floats(-(2.0**127), 2.0**127, width=32),
    noise=st.one_of(st.just(0.0), st.floats(2.0**-20, 2.0**20, width=32)),
)
def test_rounding_stays_below_a_fiftieth_of_the_noise(value, noise):
    image = np.array([value], np.float32)
    invvar = np.array([0.0 if noise == 0 else noise**-2.0], np.float32)
    half, excess = split_image(image, invvar)
    assert half.dtype == np.float16
    assert excess.dtype == np.float32
    assert np.isfinite(half).all()
    error = np.abs(join_image(half, excess).astype(np.float64) - image.astype(np.float64))
    if noise:
        tolerance = MAX_ROUNDING_OVER_NOISE * noise * (1 + 1e-5)
        assert error[0] <= max(tolerance, abs(value) * 2.0**-23)
    else:
        assert error[0] <= abs(value) * 2.0**-11 + 2.0**-25


def test_excess_is_kept_only_where_it_matters():
    image = np.array([0.0101, 33.333, 33.333, 1e6], np.float32)
    invvar = np.array([400.0, 400.0, 0.0, 0.0], np.float32)
    half, excess = split_image(image, invvar)
    assert (excess != 0).tolist() == [False, True, False, True]
    joined = join_image(half, excess)
    assert joined[1] == image[1]
    assert joined[3] == pytest.approx(1e6)
