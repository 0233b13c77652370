"""Networks of the benchmark on made-up cutouts: they train, and keep their best epoch."""

import numpy as np
import pytest
import torch
from few_shot_samples import CLASSES, made_up

from lvm.testing import TinyEncoder
from lvm.training import Event
from tasks.few_shot.config import NetworkConfig
from tasks.few_shot.networks import (
    BestEpoch,
    network_probabilities,
    train_baseline,
    train_encoder,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = NetworkConfig(name="test_resnet", side=32, steps=2, least_steps=1, epochs=1, batch=16)


def test_the_baseline_trains_and_answers_in_probabilities():
    pool = made_up(17, side=32)
    model = train_baseline(pool, pool.classes, SHORT, 0, "cpu", None)
    found = network_probabilities(model, pool, "cpu")
    assert found.shape == (17, CLASSES)
    assert found.sum(axis=1) == pytest.approx(np.ones(17), abs=1e-5)


def test_the_encoder_is_trained_too():
    pool, encoder = made_up(36, side=24), TinyEncoder()
    before = encoder.trunk.norm.weight.detach().clone()
    model = train_encoder(encoder, pool, pool.classes, SHORT, 0, "cpu")
    assert not torch.equal(before, model.encoder.trunk.norm.weight)
    assert len(network_probabilities(model, pool, "cpu")) == 36


def test_the_best_epoch_is_kept_not_the_last():
    pool = made_up(12, side=24)
    encoder = TinyEncoder()
    model = train_encoder(encoder, pool, pool.classes, SHORT, 0, "cpu")
    keeper = BestEpoch(pool, pool.classes, "cpu")
    keeper(Event("epoch", 1, 1, {}, model))
    good = model.head[-1].bias.detach().clone()
    with torch.no_grad():
        model.head[-1].bias += torch.tensor([50.0, 0.0, 0.0, 0.0])
    keeper(Event("epoch", 2, 2, {}, model))
    assert torch.equal(keeper.best(model).head[-1].bias, good)


def test_without_validation_objects_the_last_stays():
    pool = made_up(12, side=24)
    model = train_encoder(TinyEncoder(), pool, pool.classes, SHORT, 0, "cpu")
    keeper = BestEpoch(pool.take(np.arange(0)), pool.classes[:0], "cpu")
    keeper(Event("epoch", 1, 1, {}, model))
    assert keeper.best(model) is model
    assert not keeper.state
