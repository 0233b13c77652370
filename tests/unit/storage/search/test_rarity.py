import numpy as np
import pytest

from storage.errors import SchemaMismatch
from storage.search.rarity import NeighbourDistance


def test_an_object_is_not_its_own_neighbour():
    sample = np.array([[0.0], [1.0], [3.0]]) * [1, 1]
    scale = sample[:, 0].std()
    rarity = NeighbourDistance(np.arange(3), sample, 1)
    inside = rarity.score(np.arange(3), sample)
    np.testing.assert_allclose(inside, np.array([1, 1, 2]) / scale, rtol=1e-5)
    outside = rarity.score(np.array([7, 8, 9]), sample)  # other objects that look the same
    np.testing.assert_allclose(outside, 0, atol=1e-6)


def test_far_objects_are_rarer_and_constant_features_do_not_matter():
    rng = np.random.default_rng(0)
    sample = np.c_[rng.normal(size=(500, 4)), np.full(500, 8.0)].astype(np.float16)
    rarity = NeighbourDistance(np.arange(500), sample, 5)
    odd = np.array([[9, 0, 0, 0, 8]], np.float16)
    assert (
        rarity.score(np.array([900]), odd)[0] > 3 * rarity.score(np.arange(500), sample).max() / 2
    )


@pytest.mark.parametrize("neighbours", [0, 3])
def test_impossible_numbers_of_neighbours_are_refused(neighbours):
    with pytest.raises(SchemaMismatch, match="ask for 1 to 2"):
        NeighbourDistance(np.arange(3), np.zeros((3, 2)), neighbours)
