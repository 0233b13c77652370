import dataclasses

import numpy as np
import pytest
import torch

from lvm.checkpoint import encoder_digest
from lvm.downstream import create_task
from lvm.encoder import EncoderConfig, create_encoder
from lvm.finetuning import (
    FineTuneConfig,
    calibrate_head,
    fine_tune,
    minibatches,
    takes_embeddings,
)
from lvm.inference import embed, evaluate
from lvm.testing import TINY_SHAPE, TinyEncoder, galaxies
from lvm.training import TrainConfig, constant_batches

TASK = create_task("morphology", {"classes": ["round", "edge-on"]})
HEAD = FineTuneConfig(head=TrainConfig(epochs=60, learning_rate=1e-2))
FULL = dataclasses.replace(
    HEAD, mode="full", full=TrainConfig(epochs=6, learning_rate=3e-3, layer_decay=0.8)
)


def halves():
    batch = galaxies(240, np.random.default_rng(2))
    cut = [
        {name: value[part] for name, value in batch.items()} for part in np.split(np.r_[:240], 6)
    ]
    return cut[:4], cut[4:]


def encoder(sample):
    config = EncoderConfig("tiny-test", cutout_size=24, shape=TINY_SHAPE)
    return create_encoder(config, sample=sample)


def test_a_head_on_a_frozen_encoder_learns_and_leaves_the_encoder_alone():
    train, test = halves()
    trunk = encoder(train[0])
    before = encoder_digest(trunk)
    result = fine_tune(TASK, trunk, constant_batches(train), HEAD)
    assert encoder_digest(trunk) == before == result.model.encoder_digest
    assert result.full is None
    found = evaluate(result.model, test, np.random.default_rng(0), draws=2).metrics
    assert found["balanced_accuracy"] > 0.75


def test_cached_embeddings_train_the_same_head_as_cutouts():
    train, _ = halves()
    trunk = encoder(train[0])
    cached = [
        {"embedding": values, "target": part["target"]}
        for (_, values), part in zip(embed(trunk, train), train, strict=True)
    ]
    heads = [
        fine_tune(TASK, trunk, constant_batches(b), HEAD).model.head.state_dict()
        for b in (train, cached)
    ]
    assert all(torch.allclose(heads[0][k], heads[1][k], atol=1e-4) for k in heads[0])


def test_full_fine_tuning_trains_the_encoder_and_lowers_the_loss():
    train, _ = halves()
    trunk = encoder(train[0])
    before = encoder_digest(trunk)
    result = fine_tune(TASK, trunk, constant_batches(train), FULL)
    assert encoder_digest(trunk) != before == result.model.encoder_digest
    assert result.full.history[-1]["loss"] < result.full.history[0]["loss"]
    assert result.model.mode == "full"


def test_callbacks_hear_of_both_trainings():
    train, _ = halves()
    ends = []
    fine_tune(
        TASK,
        encoder(train[0]),
        constant_batches(train),
        dataclasses.replace(FULL, full=TrainConfig(epochs=1)),
        [lambda event: ends.append(event.kind == "end")],
    )
    assert sum(ends) == 2


def test_a_head_is_calibrated_on_objects_that_it_did_not_see():
    train, test = halves()
    result = fine_tune(TASK, encoder(train[0]), constant_batches(train), HEAD)
    before = {name: value.clone() for name, value in result.model.head.state_dict().items()}
    said = calibrate_head(result.model, test)
    assert said
    assert all(isinstance(value, float) for value in said.values())
    after = result.model.head.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    weights = {name for name, _ in result.model.head.named_parameters()}
    assert changed
    assert not changed & weights


def test_a_question_put_by_changing_the_cutout_cannot_be_learnt_from_its_embedding():
    class Posed(type(TASK)):
        def pose(self, batch, generator):
            return batch

    assert takes_embeddings(TASK)
    assert not takes_embeddings(Posed(TASK.config))


def test_minibatches_hold_every_object_once_and_are_shuffled_anew():
    factory = minibatches({"x": torch.arange(10)}, 4, seed=0)
    epochs = [torch.cat([b["x"] for b in factory(epoch)]) for epoch in (0, 0, 1)]
    assert [len(b["x"]) for b in factory(0)] == [4, 4, 2]
    assert sorted(epochs[0].tolist()) == list(range(10))
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])


def test_an_empty_training_split_is_refused():
    with pytest.raises(ValueError, match="training split empty"):
        fine_tune(TASK, TinyEncoder(), constant_batches([]), HEAD)
    with pytest.raises(ValueError, match="mode"):
        FineTuneConfig(mode="half")


def test_a_head_on_cutouts_has_a_training_of_its_own():
    config = FineTuneConfig()
    assert config.first(create_task("morphology")) is config.head
    assert config.first(create_task("detection")) is config.cutouts
    # An epoch of it runs the encoder: as many as of a head on embeddings would take hours.
    assert config.cutouts.epochs < config.head.epochs / 3
