import numpy as np
import pandas as pd
import pytest

from tasks.baselines import SMALLEST_FLUX, colour_baseline, colours, majority_baseline


def test_the_majority_class_has_the_balanced_accuracy_of_chance():
    train = np.array([2, 2, 2, 0, 1])
    test = np.array([0, 1, 2, 2, 2, 2])
    assert majority_baseline(train, test, 3) == pytest.approx(1 / 3)


def test_colours_that_tell_the_classes_are_learnt():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    features = rng.normal(size=(200, 3)) + 4.0 * truth[:, None]
    half = slice(0, 100), slice(100, 200)
    train, test = ((features[part], truth[part]) for part in half)
    assert colour_baseline(train, test, 2) > 0.95


def test_colours_are_dereddened_and_never_nan():
    table = pd.DataFrame(
        {
            "flux_g": [1.0, -1.0, np.nan],
            "flux_r": [10.0, 10.0, 10.0],
            "mw_transmission_g": [0.5, 0.5, 0.5],
            "mw_transmission_r": [1.0, 0.0, np.nan],
        }
    )
    found = colours(table, ("g", "r"))
    assert found.shape == (3, 2)
    assert found[0] == pytest.approx([2.5 * np.log10(10.0 / 2.0), 20.0])
    dark = 22.5 - 2.5 * np.log10(SMALLEST_FLUX)
    assert found[1:, 0] == pytest.approx([dark - 20.0, dark - 20.0])
