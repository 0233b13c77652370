import pytest
import torch
from torch import nn

from lvm.multitask import BalanceConfig, MultiTask
from lvm.training import Trainable, TrainConfig, constant_batches, fit


class Falling(Trainable):
    """A loss that is told what to be, on as many objects as it gets."""

    def __init__(self, losses):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.losses = iter(losses)
        self.objects = []

    def training_step(self, batch, generator):
        self.objects.append(len(batch["x"]))
        return {"loss": next(self.losses) * self.weight / self.weight.detach()}


def run(first, second, config=None, objects=40):
    parts = {"first": Falling(first), "second": Falling(second)}
    model = MultiTask(nn.Identity(), parts, config)
    generator = torch.Generator().manual_seed(0)
    reports = [
        model.training_step({"x": torch.zeros(objects, 1)}, generator) for _ in range(len(first))
    ]
    return model, parts, reports


STALLED = [1.0] * 60
FALLING = [0.97**step for step in range(60)]


def test_an_objective_that_has_stopped_to_fall_gets_more():
    model, parts, reports = run(STALLED, FALLING)
    shares = model.proportions()
    assert shares["first"] > 0.6
    assert sum(shares.values()) == pytest.approx(1.0)
    assert parts["first"].objects[-1] > parts["second"].objects[-1]
    assert float(reports[0]["share_first"]) == 0.5
    assert float(reports[-1]["share_first"]) > 0.6


def test_none_falls_below_the_floor_and_equal_losses_share_equally():
    model, *_ = run(STALLED, FALLING, BalanceConfig(temperature=0.01, floor=0.2))
    assert model.proportions()["second"] == pytest.approx(0.2, abs=0.01)
    assert run(STALLED, STALLED)[0].proportions() == pytest.approx({"first": 0.5, "second": 0.5})


def test_without_adjustment_the_proportions_stay():
    model, *_ = run(STALLED, FALLING, BalanceConfig(adjust=False))
    assert model.proportions() == {"first": 0.5, "second": 0.5}


def test_the_scale_of_a_loss_does_not_matter():
    big, *_ = run([1000.0 * value for value in STALLED], FALLING)
    small, *_ = run(STALLED, FALLING)
    assert big.proportions() == pytest.approx(small.proportions())


@pytest.mark.parametrize("objects", [1, 2, 7, 40])
def test_every_object_is_used_once(objects):
    _, parts, _ = run(STALLED, FALLING, objects=objects)
    used = sum(sum(part.objects) for part in parts.values())
    assert used == objects * len(STALLED)


def test_an_objective_that_cannot_use_a_batch_does_not_move_the_proportions():
    model, *_ = run([0.0] * 60, FALLING)
    assert model.proportions() == pytest.approx({"first": 0.5, "second": 0.5})


def test_proportions_are_logged_and_survive_in_the_state():
    parts = {"first": Falling(STALLED), "second": Falling(FALLING)}
    model = MultiTask(nn.Identity(), parts)
    batches = constant_batches([{"x": torch.zeros(40, 1)}])
    history = fit(model, batches, TrainConfig(epochs=50)).history
    assert history[0]["share_first"] == 0.5
    assert history[-1]["share_first"] > 0.6
    assert {"loss_first", "loss_second", "share_second"} <= set(history[-1])
    other = MultiTask(nn.Identity(), {"first": Falling([]), "second": Falling([])})
    other.load_state_dict(model.state_dict())
    assert other.proportions() == model.proportions()


def test_senseless_combinations_are_refused():
    with pytest.raises(ValueError, match="at least two"):
        MultiTask(nn.Identity(), {"one": Falling([])})
    with pytest.raises(ValueError, match="floor"):
        run([], [], BalanceConfig(floor=0.6))
