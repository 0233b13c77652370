"""Annotator, heads and rounds on made-up objects."""

import numpy as np
import pytest
from few_shot_samples import CLASSES, made_up

from lvm.metrics import balanced_accuracy, macro_auc
from tasks.few_shot.annotator import annotate
from tasks.few_shot.config import STRATEGIES
from tasks.few_shot.heads import Discriminant, descriptions, embeddings, linear, two_layers
from tasks.few_shot.rounds import FIRST, chosen_labels, random_labels


@pytest.fixture(scope="module")
def data():
    return made_up(400, 0), made_up(200, 1)


def test_the_annotator_errs_as_often_as_told_and_where_people_do():
    classes = np.zeros(4000, np.int64)
    votes = np.tile([0.8, 0.2, 0.0], (4000, 1))
    answers = annotate(classes, votes, 0.1, np.random.default_rng(0))
    assert (answers != 0).mean() == pytest.approx(0.1, abs=0.02)
    assert set(answers.tolist()) == {0, 1}
    assert (annotate(classes, votes, 0.0, np.random.default_rng(0)) == 0).all()


def test_an_annotator_errs_also_where_all_agree():
    classes, votes = np.full(500, 2), np.tile([0.0, 0.0, 1.0], (500, 1))
    answers = annotate(classes, votes, 0.5, np.random.default_rng(0))
    assert set(answers.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("head", [linear, two_layers])
def test_heads_learn_what_the_embedding_tells(data, head):
    pool, test = data
    index = random_labels(len(pool), 80, 0)
    found = head(embeddings(pool, test), index, pool.classes[index], CLASSES)
    assert found.sum(axis=1) == pytest.approx(np.ones(len(test)), abs=1e-5)
    assert macro_auc(found, test.classes) > 0.9


def test_the_discriminant_needs_few_labels(data):
    pool, test = data
    seen = descriptions(pool, test)
    model = Discriminant.of_pool(seen.pool, CLASSES)
    few = np.arange(CLASSES)  # the first objects are one of each class
    found = model.probabilities(seen.pool[few], pool.classes[few], seen.test)
    assert macro_auc(found, test.classes) > 0.7
    many = model.probabilities(seen.pool, pool.classes, seen.test)
    assert balanced_accuracy(many, test.classes) > 0.9


def test_a_class_without_a_label_gets_nothing(data):
    pool, test = data
    seen = embeddings(pool, test)
    index = np.flatnonzero(pool.classes != 2)[:30]
    model = Discriminant.of_pool(seen.pool, CLASSES)
    found = model.probabilities(seen.pool[index], pool.classes[index], seen.test)
    assert (found[:, 2] == 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(len(test)))
    one = model.probabilities(seen.pool[index[:1]], pool.classes[index[:1]], seen.test)
    assert set(one.sum(axis=1).tolist()) == {1.0}


def test_features_are_scaled_by_the_pool_alone(data):
    pool, test = data
    few = test.take(np.arange(3))
    assert embeddings(pool, few).test == pytest.approx(embeddings(pool, test).test[:3])
    assert descriptions(pool, few).test == pytest.approx(descriptions(pool, test).test[:3])


def test_fewer_labels_are_the_first_of_more():
    assert random_labels(50, 9, 3).tolist() == random_labels(50, 20, 3)[:9].tolist()
    assert random_labels(50, 9, 3).tolist() != random_labels(50, 9, 4).tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rounds_ask_each_object_once_and_begin_alike(data, strategy):
    pool, test = data
    features = descriptions(pool, test).pool
    many = chosen_labels(strategy, features, pool.classes, CLASSES, 40, 0)
    assert len(set(many.tolist())) == 40
    few = chosen_labels(strategy, features, pool.classes, CLASSES, 15, 0)
    assert few.tolist() == many[:15].tolist()


def test_rounds_do_not_look_at_answers_before_they_are_given(data):
    pool, test = data
    features = descriptions(pool, test).pool
    other = (pool.classes + 1) % CLASSES
    first = chosen_labels("margin", features, pool.classes, CLASSES, FIRST, 0)
    assert first.tolist() == chosen_labels("margin", features, other, CLASSES, FIRST, 0).tolist()


def test_asking_for_all_ends():
    pool = made_up(20)
    features = descriptions(pool, pool).pool
    found = chosen_labels("badge", features, pool.classes, CLASSES, 99, 0)
    assert sorted(found.tolist()) == list(range(20))
