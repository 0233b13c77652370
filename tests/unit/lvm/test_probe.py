import numpy as np
import pytest

from lvm.probe import ProbeScores, mean_scores, probe


def clouds(generator, separation, count=120, width=16):
    classes = generator.integers(3, size=count)
    centres = np.eye(3, width) * separation
    return generator.normal(size=(count, width)) + centres[classes], classes


def test_embeddings_that_hold_the_classes_score_high_and_others_like_chance():
    generator = np.random.default_rng(0)
    good = probe(*clouds(generator, 6.0), *clouds(generator, 6.0))
    assert min(good.named().values()) > 0.95
    chance = probe(*clouds(generator, 0.0), *clouds(generator, 0.0, count=400))
    assert chance.linear_balanced_accuracy == pytest.approx(1 / 3, abs=0.1)
    assert chance.linear_auc == pytest.approx(0.5, abs=0.08)
    assert chance.knn_auc == pytest.approx(0.5, abs=0.08)


def test_the_scale_of_a_channel_does_not_matter_and_a_constant_one_is_harmless():
    generator = np.random.default_rng(1)
    (x, y), (a, b) = clouds(generator, 2.0), clouds(generator, 2.0)
    factors = np.geomspace(1e-3, 1e3, x.shape[1])
    plain, scaled = probe(x, y, a, b), probe(x * factors, y, a * factors, b)
    assert scaled.linear_auc == pytest.approx(plain.linear_auc, abs=0.01)
    assert scaled.knn_auc == pytest.approx(plain.knn_auc, abs=1e-6)
    x, a = np.c_[x, np.full(len(x), 7.0)], np.c_[a, np.full(len(a), 7.0)]
    assert probe(x, y, a, b).knn_auc == pytest.approx(plain.knn_auc, abs=1e-6)


def test_rare_classes_count_as_much_as_common_ones():
    generator = np.random.default_rng(2)
    x = generator.normal(size=(300, 4))
    y = np.zeros(300, dtype=np.int64)
    y[:15] = 1
    x[:15, 0] += 2.0
    assert probe(x, y, x, y).linear_balanced_accuracy > 0.75


def test_the_same_input_gives_the_same_scores():
    generator = np.random.default_rng(3)
    data = (*clouds(generator, 1.0), *clouds(generator, 1.0))
    assert probe(*data) == probe(*data)


def test_scores_have_names_and_means():
    scores = [ProbeScores(0.5, 0.6, 0.7, 0.8), ProbeScores(0.7, 0.6, 0.5, 1.0)]
    assert scores[0].named()["probe_knn_auc"] == 0.8
    assert mean_scores(scores)["linear_balanced_accuracy"] == pytest.approx(0.6)
    with pytest.raises(ValueError, match="at least one object"):
        probe(np.zeros((0, 3)), np.zeros(0, int), np.zeros((2, 3)), np.zeros(2, int))
