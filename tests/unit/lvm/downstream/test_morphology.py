import math

import numpy as np
import pytest
import torch
from torch.distributions import Dirichlet, Multinomial

from lvm.downstream.morphology import Morphology, MorphologyConfig
from lvm.testing import TinyEncoder, check_downstream_task

TWO = MorphologyConfig(classes=("a", "b"))


@pytest.mark.parametrize(
    "config",
    [
        MorphologyConfig(),
        MorphologyConfig(hidden=16, dropout=0.1),
        MorphologyConfig(loss="dirichlet_multinomial"),
        MorphologyConfig(classes=("a", "b"), class_weights=(1.0, 3.0)),
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
    assert list(columns) == ["p_elliptical", "p_edge_on", "p_spiral", "p_other", "answer"]


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
