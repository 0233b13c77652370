import numpy as np
import pytest
import torch
from torch import nn

from lvm.acceleration import accelerated
from lvm.objectives import ObjectiveConfig, pretrain
from lvm.testing import TinyEncoder, galaxies
from lvm.training import Trainable, TrainConfig, constant_batches


def run(**options):
    encoder = TinyEncoder()
    train = TrainConfig(epochs=3, learning_rate=1e-2, **options)
    batches = constant_batches([galaxies(6, np.random.default_rng(0))])
    history = pretrain(encoder, batches, train, ObjectiveConfig(("measures",))).fit.history
    return encoder, [epoch["loss"] for epoch in history]


def test_gradient_checkpointing_computes_activations_again_and_changes_no_number(monkeypatch):
    plain, losses = run()
    calls = []
    original = torch.utils.checkpoint.checkpoint

    def count(*arguments, **options):
        calls.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", count)
    monkeypatch.setattr("timm.models._manipulate.torch.utils.checkpoint.checkpoint", count)
    saving, again = run(gradient_checkpointing=True)
    assert losses == pytest.approx(again, rel=1e-5)
    assert calls
    for name, value in plain.state_dict().items():
        assert saving.state_dict()[name].numpy() == pytest.approx(value.numpy(), abs=1e-4)


def test_a_compiled_trunk_gives_the_same_losses_and_weight_names():
    plain, losses = run()
    compiled, again = run(compiler="eager")
    assert again == pytest.approx(losses, rel=1e-4)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert "forward_features" not in vars(compiled.trunk)


def test_what_was_switched_on_is_switched_off_again_after_an_error():
    encoder = TinyEncoder()

    def fail():
        with accelerated(encoder, checkpointing=True, compiler="eager"):
            assert "forward_features" in vars(encoder.trunk)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert "forward_features" not in vars(encoder.trunk)


def test_a_model_without_a_trunk_is_refused():
    class Line(Trainable):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

    with (
        pytest.raises(ValueError, match="timm trunk"),
        accelerated(Line(), checkpointing=True, compiler=""),
    ):
        pass
