import numpy as np
import pytest
import torch

from lvm.measures import HARMONICS, WINDOWS, measure, measure_count

SIZE = 64
SOFTENING = torch.tensor([0.03, 0.03, 0.03]).view(1, 3, 1, 1)
SCALES = len(WINDOWS)
COLOURS = slice(3 * SCALES, 5 * SCALES)
CONCENTRATION = slice(5 * SCALES, 5 * SCALES + 3 * (SCALES - 1))
SHAPES = 5 * SCALES + 3 * (SCALES - 1)
PER_WINDOW = len(HARMONICS) + 2


def galaxy(flux=(30.0, 30.0, 30.0), sigma=3.0, axis_ratio=1.0, angle=0.0, offset=0.0):
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    along = np.cos(angle) * x + np.sin(angle) * y
    across = (np.cos(angle) * y - np.sin(angle) * x) / axis_ratio
    profile = np.exp(-(along**2 + across**2) / (2 * sigma**2))
    profile = profile + offset * np.exp(-((x - 8) ** 2 + y**2) / 8.0)
    image = np.array(flux)[:, None, None] * profile / profile.sum()
    return torch.tensor(image, dtype=torch.float32)[None]


def shape(measures, window, which):
    return float(measures[0, SHAPES + PER_WINDOW * window + which])


def test_there_are_as_many_as_said_and_nothing_is_not_finite():
    for bands in (1, 3, 4):
        softening = torch.full((1, bands, 1, 1), 0.03)
        for image in (torch.zeros(2, bands, SIZE, SIZE), torch.full((2, bands, 8, 8), -1e6)):
            found = measure(image, softening)
            assert found.shape == (2, measure_count(bands))
            assert torch.isfinite(found).all()


def test_a_turned_or_mirrored_galaxy_measures_the_same():
    upright = measure(galaxy(axis_ratio=0.4, offset=0.3), SOFTENING)
    # Turn about the centre pixel: drop the first row and column, which have no partner.
    image = galaxy(axis_ratio=0.4, offset=0.3)
    image[..., 0, :] = 0
    image[..., 0] = 0
    turned = image.clone()
    turned[..., 1:, 1:] = torch.rot90(image[..., 1:, 1:], 1, (-2, -1))
    mirrored = image.clone()
    mirrored[..., 1:] = image[..., 1:].flip(-1)
    for other in (turned, mirrored):
        assert torch.allclose(measure(other, SOFTENING), upright, atol=2e-3)


def test_an_edge_on_galaxy_is_elongated_and_a_round_one_is_not():
    round_one = measure(galaxy(), SOFTENING)
    edge_on = measure(galaxy(axis_ratio=0.25, angle=0.7), SOFTENING)
    assert shape(round_one, 1, 0) < 0.02
    assert shape(edge_on, 1, 0) > 0.1


def test_a_companion_makes_it_asymmetric():
    alone, merging = measure(galaxy(), SOFTENING), measure(galaxy(offset=0.5), SOFTENING)
    asymmetry = len(HARMONICS)
    assert shape(alone, 2, asymmetry) < 1e-3
    assert shape(merging, 2, asymmetry) > 10 * shape(alone, 2, asymmetry)


def test_red_and_concentrated_galaxies_say_so():
    grey, red = measure(galaxy(), SOFTENING), measure(galaxy(flux=(10, 20, 40)), SOFTENING)
    assert (red[0, COLOURS] > grey[0, COLOURS] + 0.3).all()
    small, large = measure(galaxy(sigma=2.0), SOFTENING), measure(galaxy(sigma=6.0), SOFTENING)
    assert (large[0, CONCENTRATION] > small[0, CONCENTRATION]).all()


def test_brightness_follows_the_flux():
    values = [float(measure(galaxy(flux=(f, f, f)), SOFTENING)[0, 0]) for f in (3, 10, 30)]
    assert values == sorted(values)
    assert values[2] > values[0] + 1.0


@pytest.mark.parametrize("flux", [1e-6, -5.0])
def test_what_is_not_there_has_bounded_shapes(flux):
    found = measure(galaxy(flux=(flux,) * 3, offset=1.0), SOFTENING)
    assert float(found[0, SHAPES:].abs().max()) <= 5.0
