import math

import numpy as np
import pytest
import torch

from lvm.downstream.merger import Merger, MergerConfig
from lvm.testing import TinyEncoder, check_downstream_task


def votes(*mergers):
    """Return a batch of objects with so many of ten votes for a merger."""
    merger = torch.tensor(mergers, dtype=torch.float32)
    return {"target": torch.stack([10 - merger, merger], dim=1)}


def scores(*values):
    return torch.tensor(values, dtype=torch.float32)[:, None]


@pytest.mark.parametrize("config", [MergerConfig(), MergerConfig(hidden=0, weight=5.0)])
def test_every_option_of_mergers_keeps_the_contract(config):
    check_downstream_task(Merger(config), TinyEncoder())


def test_average_precision_is_that_of_the_list():
    found = Merger().metrics(scores(4, 3, 2, 1), votes(9, 1, 8, 0))
    assert found["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert found["share"] == 0.5
    assert found["recall_at_purity_50"] == 1.0
    assert found["recall_at_purity_80"] == 0.5


def test_equal_scores_come_in_no_order():
    for order in (votes(10, 0, 0, 0), votes(0, 0, 0, 10)):
        found = Merger().metrics(scores(1, 1, 1, 1), order)
        assert found["average_precision"] == found["share"] == 0.25
        assert found["auc"] == 0.5
        assert found["recall_at_purity_50"] == 0.0


def test_without_any_merger_there_is_nothing_to_measure():
    found = Merger().metrics(scores(1, 2), votes(0, 1))
    assert math.isnan(found["average_precision"])
    assert math.isnan(found["recall_at_purity_80"])
    assert found["share"] == 0.0


def test_objects_that_nobody_looked_at_do_not_count():
    batch = votes(9, 1, 9)
    batch["target"][2] = 0.0
    task = Merger()
    assert task.metrics(scores(1, 0, -9), batch)["average_precision"] == 1.0
    losses = [task.loss(scores(1, 0, last), batch)["loss"] for last in (-9, 9)]
    assert torch.equal(*losses)
    batch["target"][:] = torch.nan
    assert task.loss(scores(1, 2, 3), batch)["loss"] == 0.0
    assert math.isnan(task.metrics(scores(1, 2, 3), batch)["share"])


def test_the_loss_is_least_at_the_share_of_the_votes():
    shares = np.linspace(0.05, 0.95, 19)
    log_odds = np.log(shares / (1 - shares))
    losses = [Merger().loss(scores(value), votes(3))["loss"].item() for value in log_odds]
    assert shares[int(np.argmin(losses))] == pytest.approx(0.3)


def test_a_weight_makes_a_missed_merger_dearer_and_a_false_one_not():
    plain, weighted = Merger(), Merger(MergerConfig(weight=3.0))
    for batch, ratio in ((votes(10), 3.0), (votes(0), 1.0)):
        losses = [task.loss(scores(0.0), batch)["loss"].item() for task in (weighted, plain)]
        assert losses[0] / losses[1] == pytest.approx(ratio)


def test_what_is_presented_of_mergers():
    shown = Merger().present(scores(5, -5))
    assert shown["answer"].tolist() == ["merger", "no-merger"]
    assert shown["p_merger"][0] > 0.99
    assert shown["p_merger"] + shown["p_no_merger"] == pytest.approx([1.0, 1.0])


def test_the_figure_of_mergers_goes_from_pure_to_complete():
    (figure,) = Merger().figures(scores(4, 3, 2, 1), votes(9, 1, 8, 0))
    assert figure.x.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert figure.lines["purity"] == pytest.approx([1.0, 0.5, 2 / 3, 0.5])
    assert figure.reference == 0.5


def test_senseless_options_of_mergers_are_refused():
    with pytest.raises(ValueError, match="two answers"):
        MergerConfig(classes=("merger",))
    with pytest.raises(ValueError, match="weight"):
        MergerConfig(weight=0.0)
    with pytest.raises(ValueError, match="expected votes"):
        Merger().loss(scores(1.0), {"target": torch.zeros(1, 4)})
