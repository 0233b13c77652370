import pytest
import torch
from torch import nn

from lvm.downstream import DownstreamModel, create_task
from lvm.optim import WARMUP_START, WeightAverage, cosine_with_warmup, parameter_groups


def test_the_schedule_rises_then_falls_to_the_floor():
    values = [cosine_with_warmup(p / 100, 0.1, 0.01) for p in range(101)]
    assert values[0] == pytest.approx(WARMUP_START)
    assert max(values) == pytest.approx(1.0)
    assert values.index(max(values)) == 10
    assert values[-1] == pytest.approx(0.01)
    assert values[10:] == sorted(values[10:], reverse=True)


def test_the_schedule_without_warm_up_starts_at_the_top():
    assert cosine_with_warmup(0.0, 0.0, 0.1) == pytest.approx(1.0)
    assert cosine_with_warmup(1.0, 1.0, 0.1) == 1.0


def test_layer_decay_slows_the_input_side_and_spares_the_head(tiny_encoder):
    model = DownstreamModel(create_task("morphology"), tiny_encoder, "full")
    groups = parameter_groups(model, model.trained(), 0.05, layer_decay=0.5)
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    assert len(scale) == len(list(model.parameters()))
    stem = scale[id(tiny_encoder.trunk.patch_embed.proj.weight)]
    last = scale[id(tiny_encoder.trunk.layers[1].blocks[0].mlp.fc1.weight)]
    head = scale[id(model.head[-1].weight)]
    assert stem < last <= head == 1.0


def test_a_frozen_encoder_is_in_no_group(tiny_encoder):
    model = DownstreamModel(create_task("morphology"), tiny_encoder, "head")
    grouped = [p for g in parameter_groups(model, model.trained(), 0.05, 0.5) for p in g["params"]]
    assert {id(p) for p in grouped} == {id(p) for p in model.head.parameters()}


def test_biases_and_norms_are_not_decayed(tiny_encoder):
    groups = parameter_groups(tiny_encoder, tiny_encoder.parameters(), 0.05)
    for group in groups:
        if group["weight_decay"] > 0:
            assert all(p.ndim > 1 for p in group["params"])
    assert {g["weight_decay"] for g in groups} == {0.0, 0.05}


def test_the_average_follows_the_weights():
    model = nn.Linear(1, 1)
    average = WeightAverage(model, 0.9)
    nn.init.constant_(model.weight, 5.0)
    for _ in range(200):
        average.update(model)
    other = nn.Linear(1, 1)
    average.copy_to(other)
    assert torch.allclose(other.weight, model.weight, atol=1e-3)
