import numpy as np
import pytest

from storage.photometry import deredden, flux_to_mag, invvar_to_sigma, mag_to_flux


def test_one_nanomaggy_is_22_5() -> None:
    assert float(flux_to_mag(1.0)) == 22.5
    assert float(flux_to_mag(10.0)) == pytest.approx(20.0)


def test_magnitudes_come_back() -> None:
    mag = np.array([15.0, 20.0, 24.3])
    assert flux_to_mag(mag_to_flux(mag)) == pytest.approx(mag)


def test_flux_that_is_not_positive_has_no_magnitude() -> None:
    assert np.isnan(flux_to_mag([0.0, -1.0, np.nan])).all()


def test_sigma() -> None:
    assert invvar_to_sigma([4.0, 0.0]).tolist() == [0.5, np.inf]


def test_dereddening_makes_brighter_and_refuses_zero_transmission() -> None:
    assert deredden([1.0, 1.0], [0.5, 0.0])[0] == 2.0
    assert np.isnan(deredden(1.0, 0.0))
