import numpy as np
import pytest

from storage.drift.counterparts import counterpart_ranks, find_counterparts
from storage.errors import SchemaMismatch


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(300, 16)).astype(np.float16) + np.float16(3)


def test_an_object_is_nearest_to_itself(embeddings):
    shifted = embeddings + np.linspace(0, 2, 16)  # another camera's common shift
    found = find_counterparts(embeddings, shifted)
    assert (found.recall_at_1, found.recall_at_10, found.median_rank) == (1, 1, 1)
    assert (found.objects, found.chance) == (300, 150.5)


def test_unrelated_embeddings_are_found_by_chance_only(embeddings):
    other = np.random.default_rng(1).normal(size=(300, 16))
    found = find_counterparts(embeddings, other)
    assert found.recall_at_1 < 0.03
    assert found.median_rank == pytest.approx(150, abs=40)


def test_noise_costs_ranks_step_by_step(embeddings):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=embeddings.shape)
    medians = [find_counterparts(embeddings, embeddings + s * noise).median_rank for s in (0.3, 3)]
    assert medians[0] < medians[1] < 150


def test_embeddings_that_are_all_equal_find_nothing():
    assert (counterpart_ranks(np.ones((5, 4)), np.ones((5, 4))) == 5).all()


@pytest.mark.parametrize("shape", [(299, 16), (300, 8)])
def test_other_objects_or_another_encoder_are_refused(embeddings, shape):
    with pytest.raises(SchemaMismatch, match="the same objects"):
        find_counterparts(embeddings, np.zeros(shape))
