import numpy as np
import pytest

from storage.synthetic import populations


@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_counts_at_the_selection_limit_are_the_surveys(tilt: float) -> None:
    magnitude = populations.draw_magnitudes(np.random.default_rng(1), 5.0, 1.0, tilt)
    assert (magnitude < 20).sum() / 5.0 == pytest.approx(3800, rel=0.05)


def test_density_multiplies_only_the_selected_galaxies() -> None:
    once = populations.draw_magnitudes(np.random.default_rng(2), 2.0, 1.0, 0.0)
    dense = populations.draw_magnitudes(np.random.default_rng(3), 2.0, 5.0, 0.0)
    assert (dense < 20).sum() / (once < 20).sum() == pytest.approx(5, rel=0.1)
    assert (dense >= 20).sum() / (once >= 20).sum() == pytest.approx(1, rel=0.05)


def test_tilt_brings_bright_galaxies() -> None:
    flat = populations.draw_magnitudes(np.random.default_rng(4), 2.0, 1.0, 0.3)
    real = populations.draw_magnitudes(np.random.default_rng(4), 2.0, 1.0, 0.0)
    assert (flat < 18).sum() > 2 * (real < 18).sum()


def test_many_galaxies_brighter_than_18_are_resolved() -> None:
    rng = np.random.default_rng(5)
    magnitude = rng.uniform(16.5, 18.0, 4000)
    redshift = populations.draw_redshifts(rng, magnitude)
    absolute = populations.absolute_magnitude(magnitude, redshift)
    late = np.full(magnitude.size, 2, dtype=np.uint8)
    radius = populations.draw_radii(rng, late, absolute, redshift)
    assert 1.5 < np.median(radius) < 4.0


def test_red_and_blue_sequences_lie_where_galaxies_do() -> None:
    colours = populations.galaxy_colours(np.array([0.0, 1.0]), np.array([0.1, 0.1]))
    green = colours[:, 0] - colours[:, 1]
    assert green[0] == pytest.approx(0.4, abs=0.1)
    assert green[1] == pytest.approx(0.95, abs=0.1)


def test_classes_overlap_in_colour() -> None:
    rng = np.random.default_rng(6)
    absolute = np.full(5000, -21.0)
    draws = [
        populations.draw_redness(rng, np.full(5000, code, dtype=np.uint8), absolute)
        for code in (0, 2)
    ]
    # A tenth of either class lies on the wrong side of the best border.
    assert (draws[0] < 0.8).mean() > 0.08
    assert (draws[1] > 0.6).mean() > 0.2
    assert np.median(draws[0]) > np.median(draws[1]) + 0.2
