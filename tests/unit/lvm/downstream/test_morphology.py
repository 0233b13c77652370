import math

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet, Multinomial

from lvm.downstream import DownstreamModel, create_task
from lvm.downstream.morphology import Morphology, MorphologyConfig
from lvm.encoder import EncoderConfig, create_encoder
from lvm.finetuning import FineTuneConfig, fine_tune
from lvm.heads import embedding_head
from lvm.inference import answered, evaluate
from lvm.testing import TINY_SHAPE, TinyEncoder, check_downstream_task, galaxies
from lvm.training import TrainConfig, constant_batches

TWO = MorphologyConfig(classes=("a", "b"))


@pytest.mark.parametrize(
    "config",
    [
        MorphologyConfig(),
        MorphologyConfig(hidden=16, dropout=0.1),
        MorphologyConfig(loss="dirichlet_multinomial"),
        MorphologyConfig(classes=("a", "b"), class_weights=(1.0, 3.0)),
        MorphologyConfig(("a", "b"), class_weights=(1.0, 3.0), balance="logit_adjustment"),
    ],
)
def test_every_option_keeps_the_contract(config):
    check_downstream_task(Morphology(config), TinyEncoder())


@pytest.mark.parametrize("loss", ["cross_entropy", "dirichlet_multinomial"])
def test_the_loss_is_least_at_the_vote_fractions(loss):
    task = Morphology(MorphologyConfig(("a", "b"), loss=loss))
    votes = {"target": torch.tensor([[30.0, 10.0]])}
    fractions = np.linspace(0.05, 0.95, 19)
    losses = []
    for fraction in fractions:
        logits = torch.tensor([[math.log(fraction), math.log(1 - fraction)]]) + math.log(20.0)
        losses.append(task.loss(logits, votes)["loss"].item())
    assert fractions[int(np.argmin(losses))] == pytest.approx(0.75)


def test_the_dirichlet_multinomial_is_the_marginal_of_its_parts():
    votes = torch.tensor([[3.0, 1.0]])
    concentration = torch.tensor([2.0, 0.7])
    task = Morphology(MorphologyConfig(("a", "b"), loss="dirichlet_multinomial"))
    found = -4.0 * task.loss(concentration.log()[None], {"target": votes})["loss"].item()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        p = Dirichlet(concentration).sample((200_000,))
    mean = Multinomial(4, probs=p).log_prob(votes).exp().mean().log().item()
    ways = math.log(4.0)  # 4! / (3! 1!), the constant that the loss leaves out
    assert found == pytest.approx(mean - ways, abs=0.01)


def test_objects_without_a_vote_do_not_count():
    task = Morphology(TWO)
    output = torch.randn(3, 2)
    votes = torch.tensor([[4.0, 1.0], [0.0, 0.0], [1.0, 2.0]])
    changed = output.clone()
    changed[1] = 100.0
    losses = [task.loss(o, {"target": votes})["loss"] for o in (output, changed)]
    assert torch.equal(*losses)
    measures = [task.metrics(o, {"target": votes}) for o in (output, changed)]
    assert list(measures[0].values()) == pytest.approx(list(measures[1].values()), nan_ok=True)


def test_a_batch_without_a_vote_gives_loss_0():
    loss = Morphology(TWO).loss(torch.randn(3, 2), {"target": torch.zeros(3, 2)})["loss"]
    assert loss == 0.0


def test_class_weights_raise_the_cost_of_their_class():
    plain = Morphology(TWO)
    weighted = Morphology(MorphologyConfig(("a", "b"), class_weights=(1.0, 5.0)))
    output = torch.zeros(1, 2)
    for votes, ratio in (([1.0, 0.0], 1.0), ([0.0, 1.0], 5.0)):
        target = {"target": torch.tensor([votes])}
        found = weighted.loss(output, target)["loss"] / plain.loss(output, target)["loss"]
        assert found.item() == pytest.approx(ratio)


def test_what_is_presented():
    columns = Morphology().present(torch.tensor([[0.0, 9.0, 0.0, 0.0]]))
    assert columns["answer"].tolist() == ["edge-on"]
    assert columns["p_edge_on"][0] > 0.99
    probabilities = ["p_elliptical", "p_edge_on", "p_spiral", "p_other"]
    assert list(columns) == [*probabilities, "answer", "uncertainty", "margin", "abstain"]
    assert columns["uncertainty"][0] < 0.02
    assert columns["margin"][0] > 0.99
    assert not columns["abstain"][0]


def test_uncertainty_is_1_for_no_idea_and_grows_with_doubt():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [3.0, 2.9, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]])
    columns = Morphology().present(logits)
    assert columns["uncertainty"][0] == pytest.approx(1.0)
    assert (np.diff(columns["uncertainty"]) < 0).all()
    assert (np.diff(columns["margin"]) > 0).all()


def test_a_calibrated_model_abstains_below_its_threshold_and_keeps_its_answer():
    task = Morphology(TWO)
    logits = torch.tensor([[4.0, 0.0], [0.5, 0.0]])
    reading = torch.tensor([2.0, 0.8]).expand(2, 2)  # temperature, threshold
    columns = task.present(torch.cat([logits, reading], dim=1))
    assert columns["p_a"] == pytest.approx(torch.sigmoid(logits[:, 0] / 2).numpy())
    assert columns["abstain"].tolist() == [False, True]
    assert columns["answer"].tolist() == ["a", "a"]


def overconfident(count):
    generator = torch.Generator().manual_seed(3)
    logits = 1.5 * torch.randn(count, 2, generator=generator)
    truth = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return 4.0 * logits, {"target": torch.nn.functional.one_hot(truth, 2).float()}


def test_calibration_is_kept_with_the_weights_and_improves_the_measures(tmp_path):
    task = create_task("morphology", {"classes": ["a", "b"], "target_accuracy": 0.9})
    model = DownstreamModel(task, TinyEncoder())
    output, batch = overconfident(1000)
    record = task.calibrate(model.head, output, batch)
    assert record["temperature"] == pytest.approx(4.0, rel=0.15)
    model.save(tmp_path / "model")
    head = DownstreamModel.load(tmp_path / "model").head
    assert head.temperature.item() == pytest.approx(record["temperature"])
    assert head.threshold.item() == pytest.approx(record["threshold"])
    reading = torch.cat([head.temperature, head.threshold]).expand(1000, 2)
    calibrated = torch.cat([output, reading], dim=1)
    before, after = (task.metrics(o, batch) for o in (output, calibrated))
    assert after["expected_calibration_error"] < 0.3 * before["expected_calibration_error"]
    assert after["balanced_accuracy"] == before["balanced_accuracy"]
    assert before["coverage"] == 1.0
    assert after["selective_accuracy"] >= 0.9 > after["accuracy"]
    assert after["coverage"] == pytest.approx(1 - task.present(calibrated)["abstain"].mean())


def test_calibrating_twice_changes_nothing():
    task = Morphology(TWO)
    model = DownstreamModel(task, TinyEncoder())
    output, batch = overconfident(200)
    first = task.calibrate(model.head, output, batch)
    reading = torch.cat([model.head.temperature, model.head.threshold]).expand(200, 2)
    assert task.calibrate(model.head, torch.cat([output, reading], dim=1), batch) == first


def test_without_labelled_objects_everything_is_left_to_people():
    task = Morphology(TWO)
    head = DownstreamModel(task, TinyEncoder()).head
    assert task.calibrate(head, torch.randn(3, 2), {"target": torch.zeros(3, 2)}) == {}
    assert task.present(head(torch.randn(4, TinyEncoder().spec.width)).detach())["abstain"].all()


def test_only_the_head_of_such_a_task_is_calibrated():
    output, batch = overconfident(10)
    with pytest.raises(TypeError, match="AnswerHead"):
        Morphology(TWO).calibrate(embedding_head(4, 2), output, batch)


def test_logit_adjustment_learns_rare_classes_as_if_they_were_frequent():
    truth = torch.tensor([0] * 90 + [1] * 10)
    batch = {"target": torch.nn.functional.one_hot(truth, 2).float()}
    adjusted = Morphology(
        MorphologyConfig(("a", "b"), class_weights=(100 / 180, 5.0), balance="logit_adjustment")
    )
    found = {}
    for name, task in (("plain", Morphology(TWO)), ("adjusted", adjusted)):
        logits = torch.zeros(1, 2, requires_grad=True)  # nothing is known of an object
        optimizer = torch.optim.SGD([logits], lr=1.0)
        for _ in range(200):
            optimizer.zero_grad()
            task.loss(logits.expand(100, 2), batch)["loss"].backward()
            optimizer.step()
        found[name] = logits.detach().softmax(dim=1)[0, 1].item()
    assert found["plain"] == pytest.approx(0.1, abs=0.01)
    assert found["adjusted"] == pytest.approx(0.5, abs=0.01)


def test_dirichlet_outputs_say_how_far_the_votes_may_be_off():
    task = Morphology(MorphologyConfig(("a", "b"), loss="dirichlet_multinomial"))
    few, many = torch.tensor([[3.0, 1.0]]).log(), torch.tensor([[300.0, 100.0]]).log()
    columns = task.present(torch.cat([few, many]))
    assert columns["fraction_a"] == pytest.approx([0.75, 0.75])
    width = columns["fraction_a_high"] - columns["fraction_a_low"]
    assert width[0] > 5 * width[1] > 0
    assert (columns["fraction_a_low"] < 0.75).all()
    assert (columns["fraction_a_high"] > 0.75).all()
    config = MorphologyConfig(("a", "b"), loss="dirichlet_multinomial", credible_level=0.0)
    assert set(columns) - set(Morphology(config).present(few)) == {
        f"fraction_{name}_{end}" for name in "ab" for end in ("low", "high")
    }


def test_credible_intervals_hold_the_fractions_of_new_objects():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fractions = Dirichlet(torch.tensor([4.0, 2.0, 1.0])).sample((300,))
        votes = torch.stack([Multinomial(40, probs=f).sample() for f in fractions])
    task = Morphology(MorphologyConfig(("a", "b", "c"), loss="dirichlet_multinomial"))
    logits = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        task.loss(logits.expand(300, 3), {"target": votes})["loss"].backward()
        optimizer.step()
    columns = task.present(logits.detach())
    for index, name in enumerate("abc"):
        low, high = columns[f"fraction_{name}_low"], columns[f"fraction_{name}_high"]
        inside = (fractions[:, index].numpy() > low) & (fractions[:, index].numpy() < high)
        assert inside.mean() == pytest.approx(0.9, abs=0.06)


def test_votes_of_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match="expected votes"):
        Morphology().loss(torch.zeros(2, 4), {"target": torch.zeros(2, 3)})


def test_senseless_options_are_refused():
    with pytest.raises(ValueError, match="loss is one of"):
        MorphologyConfig(loss="hinge")
    with pytest.raises(ValueError, match="two classes"):
        MorphologyConfig(classes=("a",))
    with pytest.raises(ValueError, match="class_weights"):
        MorphologyConfig(class_weights=(1.0,))
    with pytest.raises(ValueError, match="positive"):
        MorphologyConfig(("a", "b"), class_weights=(1.0, 0.0))
    with pytest.raises(ValueError, match="balance is one of"):
        MorphologyConfig(balance="luck")
    with pytest.raises(ValueError, match="goes with"):
        MorphologyConfig(balance="logit_adjustment", loss="dirichlet_multinomial")
    with pytest.raises(ValueError, match="fractions"):
        MorphologyConfig(target_accuracy=95.0)


def test_a_fitted_head_knows_when_to_abstain_on_galaxies_it_never_saw():
    """The whole way: fit on some galaxies, calibrate on others, answer about a third part."""
    task = Morphology(MorphologyConfig(("round", "edge-on"), target_accuracy=0.9))
    batch = galaxies(600, np.random.default_rng(7))
    parts = [
        {name: value[part] for name, value in batch.items()}
        for part in (slice(0, 150), slice(150, 350), slice(350, 600))
    ]
    config = FineTuneConfig(head=TrainConfig(epochs=40, learning_rate=1e-2))
    encoder = create_encoder(
        EncoderConfig("tiny-test", cutout_size=24, shape=TINY_SHAPE), sample=parts[0]
    )
    model = fine_tune(task, encoder, constant_batches([parts[0]]), config).model
    kept = answered(model, [parts[1]])
    record = task.calibrate(model.head, kept.output, kept.labels)
    found = evaluate(model, [parts[2]], np.random.default_rng(0), draws=2).metrics
    assert 0.0 < record["threshold"] < 1.0
    assert 0.1 < found["coverage"] < 1.0
    assert found["selective_accuracy"] > max(found["accuracy"], 0.85)
