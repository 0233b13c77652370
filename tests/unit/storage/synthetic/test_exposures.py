import numpy as np
import pytest

from storage.bricks import brick_from_name
from storage.synthetic import SyntheticConfig
from storage.synthetic.exposures import band_generator, correlated_noise, expose
from storage.synthetic.windows import brick_window

BRICK = brick_from_name("1501p010")


def test_noise_has_unit_variance_and_the_measured_correlation() -> None:
    noise = correlated_noise(np.random.default_rng(0), 700)
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert (noise[:, 1:] * noise[:, :-1]).mean() == pytest.approx(0.18, abs=0.02)
    assert (noise[1:, 1:] * noise[:-1, :-1]).mean() == pytest.approx(0.09, abs=0.02)
    assert (noise[:, 6:] * noise[:, :-6]).mean() == pytest.approx(0.0, abs=0.01)


def test_no_exposure_no_weight() -> None:
    window = brick_window(BRICK, 400)
    empty = 0
    for seed in range(6):
        exposures = expose(np.random.default_rng(seed), window, "g", 1.0)
        np.testing.assert_array_equal(exposures.invvar == 0, exposures.nexp == 0)
        empty += (exposures.nexp == 0).sum()
    assert empty > 0


def test_bands_and_bricks_differ_in_seeing_and_depth() -> None:
    config = SyntheticConfig()
    window = brick_window(BRICK, 400)
    looks = [
        expose(band_generator(config, brick, band), window, band, 0.0)
        for brick in (BRICK, brick_from_name("1503p010"))
        for band in ("g", "r")
    ]
    assert len({look.width for look in looks}) == 4
    assert len({look.sigma for look in looks}) == 4
    assert all(0.8 < look.width < 2.0 for look in looks)
