import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm.contrast import VIEWS, Contrast, ContrastConfig, agreement
from lvm.measuring import Measuring
from lvm.objectives import OBJECTIVES, ObjectiveConfig, create_objective, painters, pretrain
from lvm.simmim import SimMIMConfig
from lvm.tensors import to_tensors
from lvm.testing import TinyEncoder, galaxies
from lvm.training import TrainConfig, constant_batches

PAINTING = SimMIMConfig(mask_patch=4)
CLASSES = ("round", "edge-on")


def config(*names):
    return ObjectiveConfig(names, classes=CLASSES, painting=PAINTING)


def labelled_batch(seed=0, count=8):
    return to_tensors(galaxies(count, np.random.default_rng(seed)))


@settings(max_examples=25)
@given(
    name=st.sampled_from(OBJECTIVES),
    bad=st.sampled_from([float("nan"), float("inf"), -1e30, 3.0]),
    seed=st.integers(0, 2**31),
)
def test_pixels_without_data_cannot_change_any_loss(name, bad, seed):
    batch = labelled_batch(seed % 7)
    gap = torch.rand(batch["image"].shape, generator=torch.Generator().manual_seed(seed)) < 0.2
    batch["invvar"] = torch.where(gap, 0.0, batch["invvar"])
    changed = {**batch, "image": torch.where(batch["invvar"] > 0, batch["image"], bad)}
    model = create_objective(TinyEncoder(), config(name))
    losses = [
        model.training_step(b, torch.Generator().manual_seed(seed))["loss"]
        for b in (batch, changed)
    ]
    assert torch.isfinite(losses[0])
    assert torch.equal(losses[0], losses[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_pixels_with_data_do_change_the_loss(name):
    model = create_objective(TinyEncoder(), config(name))
    batch = labelled_batch()
    changed = {**batch, "image": 1.5 * batch["image"]}
    losses = [
        model.training_step(b, torch.Generator().manual_seed(0))["loss"] for b in (batch, changed)
    ]
    assert not torch.equal(losses[0], losses[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_values_that_are_not_finite_never_reach_the_weights(name):
    batch = labelled_batch()
    batch["image"][::2, :, 3:9] = float("nan")
    batch["image"][1::2, 0] = float("inf")
    batch["invvar"][0] = float("nan")
    encoder = TinyEncoder()
    before = [value.clone() for value in encoder.state_dict().values()]
    train = TrainConfig(epochs=3, learning_rate=1e-2)
    result = pretrain(encoder, constant_batches([batch]), train, config(name))
    assert all(torch.isfinite(value).all() for value in result.model.state_dict().values())
    after = encoder.state_dict().values()
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("names", [*((name,) for name in OBJECTIVES), ("masked", "measures")])
def test_every_objective_learns_and_repeats_with_the_seed(names):
    def run(seed, epochs=12):
        train = TrainConfig(epochs=epochs, learning_rate=1e-2, seed=seed)
        batches = constant_batches([labelled_batch(count=16)])
        return pretrain(TinyEncoder(), batches, train, config(*names)).fit.history

    first, again, other = run(0), run(0), run(1, epochs=1)
    assert first == again
    assert first[0]["loss"] != other[0]["loss"]
    assert np.mean([h["loss"] for h in first[-3:]]) < 0.95 * first[0]["loss"]


def test_a_resumed_training_keeps_the_targets_of_its_measures(tmp_path):
    class Killed(Exception):
        pass

    def die(event):
        if event.kind == "step" and event.epoch == 2:
            raise Killed

    train = TrainConfig(epochs=4, learning_rate=1e-2)
    batches = constant_batches([labelled_batch(count=16)])
    names = config("masked", "measures")
    expected = pretrain(TinyEncoder(), batches, train, names)
    path = tmp_path / "run.pt"
    with pytest.raises(Killed):
        pretrain(TinyEncoder(), batches, train, names, [die], path)
    resumed = pretrain(TinyEncoder(), batches, train, names, checkpoint=path)
    assert resumed.fit.history == expected.fit.history
    for name, value in expected.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value)


def test_only_painting_objectives_show_pictures():
    model = create_objective(TinyEncoder(), config("masked", "restoration", "measures"))
    assert set(painters(model)) == {"masked", "restoration"}
    assert painters(create_objective(TinyEncoder(), config("measures"))) == {}


def test_unknown_and_repeated_objectives_are_refused():
    with pytest.raises(ValueError, match="'classification'"):
        ObjectiveConfig(("jigsaw",))
    with pytest.raises(ValueError, match="each once"):
        ObjectiveConfig(("masked", "masked"))
    with pytest.raises(ValueError, match="one or more"):
        ObjectiveConfig(())


def test_classification_uses_the_labelled_objects_of_a_batch_alone():
    batch = labelled_batch()
    model = create_objective(TinyEncoder(), config("classification"))
    model.eval()
    batch["target"][4:] = 0.0
    changed = {**batch, "image": batch["image"].clone()}
    changed["image"][4:] *= 3.0
    losses = [
        model.training_step(b, torch.Generator().manual_seed(0))["loss"] for b in (batch, changed)
    ]
    assert torch.equal(losses[0], losses[1])
    assert losses[0] > 0
    batch["target"][:] = 0.0
    assert model.training_step(batch, torch.Generator().manual_seed(0))["loss"] == 0.0


def test_partners_that_agree_cost_less_than_strangers(generator):
    first = torch.randn((6, 5), generator=generator)
    same, found = agreement(first, first, 0.2)
    strangers, _ = agreement(first, first.roll(1, 0), 0.2)
    assert found == 1.0
    assert same < strangers


def test_sky_far_from_the_galaxy_does_not_count_in_a_contrast():
    batch = to_tensors(galaxies(6, np.random.default_rng(0), size=64))
    changed = {**batch, "image": batch["image"].clone()}
    changed["image"][:, :, :8] = 9.0
    model = Contrast(TinyEncoder())
    losses = [
        model.training_step(b, torch.Generator().manual_seed(0))["loss"] for b in (batch, changed)
    ]
    assert torch.equal(losses[0], losses[1])


def test_senseless_contrasts_are_refused():
    with pytest.raises(ValueError, match="temperature"):
        ContrastConfig(temperature=0.0)
    assert dataclasses.replace(VIEWS, blur=0.0).shift == VIEWS.shift


def test_a_measuring_may_not_move_the_galaxy():
    from lvm.augment import AugmentConfig
    from lvm.measuring import MeasuringConfig

    with pytest.raises(ValueError, match="move the galaxy"):
        MeasuringConfig(worse=AugmentConfig())
    with pytest.raises(ValueError, match="move the galaxy"):
        MeasuringConfig(worse=AugmentConfig(flip=False, rotate=False, shift=1.0))


def test_whitened_targets_are_uncorrelated_and_finite():
    model = Measuring(TinyEncoder())
    batch = labelled_batch(count=64)
    model.fit_targets([batch])
    target = model.whiten(model.measured(model.encoder.prepare(batch)))
    covariance = target.T @ target / len(target)
    off = covariance - torch.diag(covariance.diagonal())
    assert float(off.abs().max()) < 0.02
    assert float(covariance.diagonal().max()) < 1.01
