import dataclasses

import pytest
import torch
from torch import nn

from lvm.training import (
    Event,
    StopTraining,
    Trainable,
    TrainConfig,
    constant_batches,
    fit,
    step_generator,
)


class Line(Trainable):
    """y = a x + b with dropout, so that randomness matters."""

    def __init__(self, dropout=0.2):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.dropout = nn.Dropout(dropout)

    def training_step(self, batch, generator):
        noise = torch.randn(batch["x"].shape, generator=generator)
        output = self.layer(self.dropout(batch["x"] + 0.01 * noise))
        return {"loss": (output - batch["target"]).square().mean(), "seen": torch.tensor(1.0)}


def batches(epoch):
    generator = torch.Generator().manual_seed(epoch)
    x = torch.randn(20, 3, generator=generator)
    target = x.sum(dim=1, keepdim=True)
    return [{"x": x[i : i + 8], "target": target[i : i + 8]} for i in (0, 8, 16)]


CONFIG = TrainConfig(epochs=6, learning_rate=0.2, weight_decay=0.01, ema_decay=0.9)


def test_the_loss_falls_and_the_model_is_left_in_evaluation_mode():
    model = Line()
    result = fit(model, batches, CONFIG)
    assert result.history[-1]["loss"] < 0.7 * result.history[0]["loss"]
    assert result.steps == 18
    assert not model.training


def test_the_same_seed_repeats_the_run_and_another_one_does_not():
    runs = [fit(Line(), batches, dataclasses.replace(CONFIG, seed=s)).history for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_global_random_state_is_left_alone():
    model = Line()
    state = torch.random.get_rng_state()
    fit(model, batches, CONFIG)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["step", "epoch"])
def test_a_killed_and_resumed_run_repeats_an_unbroken_one_exactly(tmp_path, kind):
    def die(event):
        if event.kind == kind and event.epoch == 3:
            raise KeyboardInterrupt

    unbroken = Line()
    expected = fit(unbroken, batches, CONFIG)
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(Line(), batches, CONFIG, [die], path)
    model = Line()
    result = fit(model, batches, CONFIG, checkpoint=path)
    assert result.history == expected.history
    assert result.steps == expected.steps
    for name, value in unbroken.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_a_finished_run_is_not_repeated(tmp_path):
    path = tmp_path / "run.pt"
    first = Line()
    fit(first, batches, CONFIG, checkpoint=path)
    events = []
    second = Line()
    fit(second, batches, CONFIG, [events.append], path)
    assert [e.kind for e in events] == ["end"]
    assert torch.equal(second.layer.weight, first.layer.weight)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    path = tmp_path / "run.pt"
    fit(Line(), batches, CONFIG, checkpoint=path)
    with pytest.raises(ValueError, match="learning_rate"):
        fit(Line(), batches, dataclasses.replace(CONFIG, learning_rate=0.1), checkpoint=path)


def test_events_come_in_order_and_their_means_weigh_short_batches_by_objects():
    events: list[Event] = []
    fit(Line(), batches, dataclasses.replace(CONFIG, epochs=1), [events.append])
    assert [e.kind for e in events] == ["step", "step", "step", "epoch", "end"]
    losses = [e.values["loss"] for e in events[:3]]
    assert events[3].values["loss"] == pytest.approx(
        (8 * losses[0] + 8 * losses[1] + 4 * losses[2]) / 20
    )
    assert events[3].values["seen"] == 1.0


def test_a_callback_can_stop_the_training():
    def stop(event):
        if event.kind == "epoch" and event.epoch == 2:
            raise StopTraining("good enough")

    result = fit(Line(), batches, CONFIG, [stop])
    assert result.stopped == "good enough"
    assert len(result.history) == 2


def test_a_loss_that_is_not_finite_never_reaches_the_weights():
    model = Line()
    bad = [{"x": torch.full((2, 3), torch.nan), "target": torch.zeros(2, 1)}]
    with pytest.raises(FloatingPointError, match="step 0"):
        fit(model, constant_batches(bad), CONFIG)
    assert torch.isfinite(model.layer.weight).all()


def test_the_learning_rate_follows_the_schedule():
    rates = []
    fit(Line(), batches, CONFIG, [lambda e: rates.append(e.values["learning_rate"])])
    assert max(rates) <= CONFIG.learning_rate
    assert rates[0] < 0.1 * CONFIG.learning_rate
    assert rates[-1] < 0.2 * CONFIG.learning_rate


def test_batches_of_unknown_length_need_steps_per_epoch():
    with pytest.raises(TypeError, match="steps_per_epoch"):
        fit(Line(), lambda epoch: iter(batches(epoch)), CONFIG)
    config = dataclasses.replace(CONFIG, steps_per_epoch=3)
    assert fit(Line(), lambda epoch: iter(batches(epoch)), config).steps == 18


def test_an_empty_epoch_is_refused():
    with pytest.raises(ValueError, match="nothing to train on"):
        fit(Line(), lambda epoch: [], CONFIG)


def test_bfloat16_trains_too():
    config = dataclasses.replace(CONFIG, precision="bfloat16")
    result = fit(Line(), batches, config)
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_step_generators_depend_on_seed_and_step_alone():
    draws = {
        key: torch.rand(1, generator=step_generator(*key)).item()
        for key in ((0, 0), (0, 1), (1, 0))
    }
    assert len(set(draws.values())) == 3
    assert torch.rand(1, generator=step_generator(0, 1)).item() == draws[0, 1]


def test_senseless_configs_are_refused():
    with pytest.raises(ValueError, match="precision"):
        TrainConfig(precision="float8")
    with pytest.raises(ValueError, match="above 0"):
        TrainConfig(epochs=0)


def test_accumulated_batches_make_the_step_of_one_large_batch():
    whole = batches(0)
    joined = {name: torch.cat([batch[name] for batch in whole]) for name in whole[0]}
    config = TrainConfig(epochs=4, learning_rate=0.1)

    class Still(Line):
        def training_step(self, batch, generator):
            return {"loss": (self.layer(batch["x"]) - batch["target"]).square().mean()}

    large, parts = Still(), Still()
    expected = fit(large, constant_batches([joined]), config)
    found = fit(parts, constant_batches(whole), dataclasses.replace(config, accumulate=3))
    assert found.steps == expected.steps == 4
    assert torch.allclose(parts.layer.weight, large.layer.weight, atol=1e-6)
    for one, other in zip(found.history, expected.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)


def test_the_last_accumulated_step_of_an_epoch_may_be_short():
    config = TrainConfig(epochs=2, learning_rate=0.1, accumulate=2)
    assert fit(Line(), batches, config).steps == 4


def test_every_step_trains_in_training_mode_whatever_callbacks_did():
    modes, told = [], []

    class Watched(Line):
        def train(self, mode=True):
            told.append(mode)
            return super().train(mode)

        def training_step(self, batch, generator):
            modes.append((self.training, self.layer.training))
            return super().training_step(batch, generator)

    def infer(event):
        if event.kind == "step" and event.step == 2:
            event.model.eval()
        if event.kind == "epoch":
            event.model.layer.eval()

    fit(Watched(), batches, dataclasses.replace(CONFIG, epochs=4), [infer])
    assert modes == [(True, True)] * 12
    assert len(told) == 4 + 2 + 1  # epochs, out of evaluation and back, the end


def test_a_step_leaves_nothing_behind_with_devices_that_are_absent():
    if torch.cuda.is_available():
        pytest.skip("the device is there: nothing waits for it")
    waiting = len(torch.cuda._queued_calls)
    fit(Line(), batches, CONFIG)
    assert len(torch.cuda._queued_calls) == waiting
