import math

import pytest
import torch
from torch import nn

from lvm.quantiles import (
    INTERVALS,
    LEVELS,
    MIDDLE,
    MIN_CALIBRATION,
    QuantileHead,
    conformal_shift,
    coverage,
    crps,
    one_sigma,
    quantile_loss,
    residual_measures,
    shifted,
)


def gaussian(count, parameters=1, centre=0.0, sigma=1.0):
    """Return the quantiles of one Gaussian for every object."""
    levels = torch.distributions.Normal(centre, sigma).icdf(torch.tensor(LEVELS))
    return levels.expand(count, parameters, -1).clone()


def drawn(count, parameters=1, seed=0):
    return torch.randn((count, parameters), generator=torch.Generator().manual_seed(seed))


def head(width=4, centre=(10.0, 0.0), scale=(2.0, 0.5)):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return QuantileHead(nn.Linear(width, len(centre) * len(LEVELS)), centre, scale)


def test_an_untrained_head_says_what_the_population_is():
    untrained = head()
    for parameter in untrained.body.parameters():
        nn.init.zeros_(parameter)
    output = untrained(torch.randn(3, 4))
    assert torch.allclose(output[:, :1], gaussian(3, centre=10.0, sigma=2.0), atol=1e-5)
    assert torch.allclose(output[:, 1:], gaussian(3, sigma=0.5), atol=1e-5)


def test_quantiles_never_cross():
    output = head()(50.0 * drawn(200, 4))
    assert (output.diff(dim=-1) >= 0).all()


def test_the_intervals_are_central_and_the_usual_ones_are_among_them():
    assert list(INTERVALS) == [0.4, 0.68, 0.8, 0.95]
    assert one_sigma(gaussian(2))[0, 0].item() == pytest.approx(0.9945, abs=1e-3)


def test_the_score_of_a_gaussian_is_the_known_one():
    target = torch.zeros(1, 1)
    # Gneiting and Raftery 2007, equation 21, at the centre: sigma (2 phi(0) - 1/sqrt(pi)).
    exact = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    assert crps(gaussian(1), target).item() == pytest.approx(exact, rel=0.1)


def test_the_score_of_one_certain_value_is_its_distance():
    sure = torch.full((1, 1, len(LEVELS)), 3.0)
    assert crps(sure, torch.tensor([[1.0]])).item() == pytest.approx(2.0)
    assert crps(sure, torch.tensor([[3.0]])).item() == 0.0


def test_the_score_is_least_for_the_distribution_that_the_values_have():
    values = drawn(4000)
    scores = {s: crps(gaussian(4000, sigma=s), values).mean().item() for s in (0.5, 1.0, 2.0)}
    assert min(scores, key=scores.get) == 1.0


def test_what_is_not_known_counts_neither_in_the_loss_nor_in_its_gradient():
    quantiles = gaussian(2, 2).requires_grad_()
    target = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]])
    loss = quantile_loss(quantiles, target, torch.ones(2))
    loss.backward()
    assert loss.item() == pytest.approx(crps(gaussian(1), torch.tensor([[1.0]])).item())
    assert torch.isfinite(quantiles.grad).all()
    assert not quantiles.grad[1].any()
    assert not quantiles.grad[0, 1].any()
    assert quantiles.grad[0, 0].any()


def test_a_batch_without_any_known_value_gives_loss_0():
    target = torch.full((2, 1), torch.nan)
    assert quantile_loss(gaussian(2), target, torch.ones(1)).item() == 0.0


def test_coverage_counts_known_values_within():
    target = torch.tensor([[0.0], [0.5], [3.0], [torch.nan]])
    assert coverage(gaussian(4), target, 0.68).tolist() == pytest.approx([2 / 3])
    assert torch.isnan(coverage(gaussian(4), torch.full((4, 1), torch.nan), 0.68)).all()


@pytest.mark.parametrize("sigma", [0.3, 3.0])
def test_intervals_that_are_wrong_hold_after_recalibration(sigma):
    said = gaussian(2000, sigma=sigma)
    shift = conformal_shift(said, drawn(2000))
    fresh = drawn(4000, seed=1)
    after = shifted(gaussian(4000, sigma=sigma), shift)
    for nominal in INTERVALS:
        assert coverage(after, fresh, nominal).item() == pytest.approx(nominal, abs=0.03)
    assert abs(coverage(gaussian(4000, sigma=sigma), fresh, 0.68).item() - 0.68) > 0.2


def test_recalibration_takes_out_a_bias_and_a_skew():
    skewed = drawn(3000).exp() + 5.0
    after = shifted(gaussian(3000), conformal_shift(gaussian(3000), skewed))
    assert after[0, 0, MIDDLE].item() == pytest.approx(6.0, abs=0.1)
    low, high = INTERVALS[0.95]
    below = (skewed[:, 0] < after[0, 0, low]).float().mean()
    above = (skewed[:, 0] > after[0, 0, high]).float().mean()
    assert below.item() == pytest.approx(0.025, abs=0.005)
    assert above.item() == pytest.approx(0.025, abs=0.005)


def test_a_small_sample_makes_intervals_wider_than_its_own_quantiles():
    values = drawn(MIN_CALIBRATION)
    after = shifted(gaussian(MIN_CALIBRATION), conformal_shift(gaussian(MIN_CALIBRATION), values))
    assert after[0, 0, 0].item() == pytest.approx(values.min().item(), abs=1e-5)
    assert after[0, 0, -1].item() == pytest.approx(values.max().item(), abs=1e-5)


def test_too_few_known_values_change_nothing():
    target = torch.full((100, 2), torch.nan)
    target[:, 1] = drawn(100)[:, 0] + 9.0
    target[: MIN_CALIBRATION - 1, 0] = 9.0
    shift = conformal_shift(gaussian(100, 2), target)
    assert not shift[0].any()
    assert (shift[1] > 1).all()


def test_a_head_may_be_recalibrated_twice():
    model = head(centre=(0.0,), scale=(1.0,))
    features = drawn(3000, 4)
    target = 4.0 * drawn(3000, seed=2)
    with torch.no_grad():
        model.recalibrate(model(features), target)
        once = model(features)
        model.recalibrate(once, target)
        assert torch.allclose(model(features), once, atol=0.05)
        assert coverage(once, target, 0.68).item() == pytest.approx(0.68, abs=0.01)


def test_what_was_recalibrated_is_saved_with_the_weights():
    model, other = head(), head()
    model.recalibrate(model(drawn(100, 4)), drawn(100, 2) + 20.0)
    features = drawn(5, 4, seed=3)
    assert not torch.equal(model(features), other(features))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(features), other(features))


def test_measures_of_residuals():
    residual = torch.cat([drawn(5001)[:, 0] + 0.5, torch.tensor([100.0, torch.nan])])
    found = residual_measures(residual, 3.5)
    assert found["bias"] == pytest.approx(0.5, abs=0.05)
    assert found["nmad"] == pytest.approx(1.0, abs=0.05)
    assert 0.0005 < found["outliers"] < 0.004
    assert all(map(math.isnan, residual_measures(torch.full((3,), torch.nan), 1.0).values()))
