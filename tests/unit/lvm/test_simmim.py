import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm.augment import AugmentConfig
from lvm.downstream import create_task
from lvm.encoder import EncoderConfig, create_encoder
from lvm.finetuning import FineTuneConfig, fine_tune
from lvm.objectives import ObjectiveConfig, pretrain
from lvm.simmim import SimMIM, SimMIMConfig, painting_loss
from lvm.tensors import to_tensors
from lvm.testing import TINY_SHAPE, TinyEncoder, galaxies
from lvm.training import TrainConfig, constant_batches

CONFIG = SimMIMConfig(mask_patch=4, augment=AugmentConfig(flip=False, rotate=False))
MASKED = ObjectiveConfig(("masked",), painting=CONFIG)


def model_and_batch(seed=0, **changes):
    batch = to_tensors(galaxies(6, np.random.default_rng(seed)))
    return SimMIM(TinyEncoder(), dataclasses.replace(CONFIG, **changes)).eval(), batch


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), decoder=st.sampled_from(["linear", "swin"]))
def test_what_is_hidden_cannot_change_what_is_painted(seed, decoder):
    model, batch = model_and_batch(decoder=decoder)
    generator = torch.Generator().manual_seed(seed)
    inputs = model.encoder.prepare(batch).inputs
    hidden = model.draw_hidden(len(inputs), generator)
    other = torch.where(hidden, 10 * torch.randn(inputs.shape, generator=generator), inputs)
    with torch.no_grad():
        assert torch.equal(model.paint(inputs, hidden), model.paint(other, hidden))


def test_what_is_shown_does_change_what_is_painted(generator):
    model, batch = model_and_batch()
    inputs = model.encoder.prepare(batch).inputs
    hidden = model.draw_hidden(len(inputs), generator)
    other = torch.where(hidden, inputs, inputs + 1.0)
    with torch.no_grad():
        assert not torch.equal(model.paint(inputs, hidden), model.paint(other, hidden))


def test_no_gradient_flows_from_the_painting_to_hidden_pixels(generator):
    model, batch = model_and_batch()
    inputs = model.encoder.prepare(batch).inputs.clone().requires_grad_()
    hidden = model.draw_hidden(len(inputs), generator)
    model.paint(inputs, hidden).square().sum().backward()
    where = hidden.expand_as(inputs)
    assert inputs.grad[where].abs().max() == 0.0
    assert inputs.grad[~where].abs().max() > 0.0


@pytest.mark.parametrize("bad", [1e4, float("nan"), float("inf")])
def test_pixels_without_data_cannot_change_the_loss(generator, bad):
    model, batch = model_and_batch()
    changed = dict(batch)
    changed["image"] = torch.where(batch["invvar"] > 0, batch["image"], bad)
    assert not torch.equal(changed["image"], batch["image"])
    losses = [
        model.training_step(b, torch.Generator().manual_seed(0))["loss"] for b in (batch, changed)
    ]
    assert torch.equal(losses[0], losses[1])


def test_painting_over_shown_pixels_costs_nothing(generator):
    model, batch = model_and_batch()
    prepared = model.encoder.prepare(batch)
    hidden = model.draw_hidden(len(prepared.inputs), generator)
    perfect_where_hidden = torch.where(hidden, prepared.inputs, 99.0)
    assert painting_loss(perfect_where_hidden, prepared, hidden) == 0.0
    assert painting_loss(perfect_where_hidden + 1.0, prepared, hidden) == pytest.approx(1.0)


def test_a_batch_without_data_gives_loss_0_and_finite_gradients(generator):
    model, batch = model_and_batch()
    batch["invvar"].zero_()
    loss = model.training_step(batch, generator)["loss"]
    loss.backward()
    assert loss == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_plain_reconstruction_hides_nothing_and_counts_every_pixel(generator):
    model, batch = model_and_batch(objective="reconstruction")
    painting = model.show(batch, generator)
    assert torch.equal(painting.shown, painting.target)
    assert painting.hidden.all()


def test_restoration_shows_a_worse_image_and_asks_for_the_original(generator):
    model, batch = model_and_batch(objective="restoration")
    painting = model.show(batch, generator)
    prepared = model.encoder.prepare(batch)
    assert torch.equal(painting.target, prepared.inputs)
    assert not torch.equal(painting.shown, painting.target)
    noise = [image[:, :, :3, :3].std() for image in (painting.target, painting.shown)]
    assert noise[1] > 1.1 * noise[0]


@pytest.mark.parametrize("bands", [("z",), ("g", "r", "i", "z")])
def test_as_many_bands_are_painted_as_were_given(bands, generator):
    model = SimMIM(TinyEncoder(bands), CONFIG)
    batch = galaxies(2, np.random.default_rng(0), bands=len(bands))
    assert model.show(batch, generator).painted.shape == (2, len(bands), 16, 16)


@pytest.mark.parametrize("objective", ["masked", "reconstruction", "restoration"])
def test_pretraining_makes_the_loss_fall(objective, batch):
    result = pretrain(
        TinyEncoder(),
        constant_batches([batch]),
        TrainConfig(epochs=60, learning_rate=1e-2),
        dataclasses.replace(MASKED, names=(objective,)),
    )
    history = result.fit.history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_pretraining_trains_the_encoder_in_place_and_repeats_with_the_seed(batch):
    def run(seed):
        encoder = TinyEncoder()
        train = TrainConfig(epochs=2, seed=seed)
        return encoder, pretrain(encoder, constant_batches([batch]), train, MASKED).fit.history

    (first, losses), (_, again), (_, other) = run(0), run(0), run(1)
    assert losses == again
    assert losses != other
    assert not torch.equal(
        first.trunk.patch_embed.proj.weight, TinyEncoder().trunk.patch_embed.proj.weight
    )


def test_probing_the_encoder_in_a_callback_does_not_disturb_its_training(batch):
    def probe(event):
        if event.kind == "step":
            task = create_task("morphology", {"classes": ["round", "edge-on"]})
            config = FineTuneConfig(head=TrainConfig(epochs=1))
            fine_tune(task, event.model.encoder, constant_batches([batch]), config)

    def run(callbacks):
        config = EncoderConfig("tiny-test", cutout_size=24, drop_path_rate=0.3, shape=TINY_SHAPE)
        encoder = create_encoder(config)
        train = TrainConfig(epochs=4, learning_rate=1e-2)
        return pretrain(encoder, constant_batches([batch]), train, MASKED, callbacks).fit.history

    assert run([probe]) == run([])


def test_patches_that_do_not_tile_the_input_are_refused():
    with pytest.raises(ValueError, match="mask_patch"):
        SimMIM(TinyEncoder(), SimMIMConfig(mask_patch=5))
    with pytest.raises(ValueError, match="objective"):
        SimMIMConfig(objective="contrast")
    with pytest.raises(ValueError, match="target would not fit"):
        SimMIMConfig(degrade=AugmentConfig())
