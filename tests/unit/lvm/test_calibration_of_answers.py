import numpy as np
import pytest
import torch
from scipy import stats

from lvm.calibration import (
    NEVER_SURE,
    beta_cdf,
    calibrate_answers,
    calibration_figures,
    choose_threshold,
    fit_temperature,
    fraction_intervals,
)


def sampled(count, stretch, seed=0):
    """Return logits `stretch` times too large, and classes drawn from the right ones."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(count, 4, generator=generator)
    truth = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return stretch * logits, truth


@pytest.mark.parametrize("stretch", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_stretch_of_the_logits(stretch):
    assert fit_temperature(*sampled(4000, stretch)) == pytest.approx(stretch, rel=0.07)


def test_the_temperature_is_where_the_log_loss_is_least():
    logits, truth = sampled(2000, 2.0)
    best = fit_temperature(logits, truth)
    losses = [
        torch.nn.functional.cross_entropy(logits / t, truth)
        for t in (0.93 * best, best, 1.07 * best)
    ]
    assert losses[1] < min(losses[0], losses[2])


def test_the_temperature_of_faultless_answers_stays_within_reason():
    logits = 3.0 * torch.eye(4)[torch.arange(12) % 4]
    found = fit_temperature(logits, torch.arange(12) % 4)
    assert 0.1 < found < 1.0
    assert found < fit_temperature(logits[:2], torch.arange(2))  # more of them say more


def test_no_labelled_object_is_refused():
    with pytest.raises(ValueError, match="without labelled objects"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


def test_a_threshold_keeps_as_many_as_prove_the_target():
    confidence = torch.linspace(1.0, 0.0, 200)
    right = torch.rand(200, generator=torch.Generator().manual_seed(1)) < confidence
    threshold = choose_threshold(confidence, right, 0.9)
    kept = confidence >= threshold
    assert right[kept].float().mean() >= 0.9
    assert 0.05 < kept.float().mean() < 0.6
    assert choose_threshold(confidence, right, 0.8) < threshold


def test_the_target_holds_on_other_objects():
    logits, truth = sampled(3000, 1.0)
    confidence, answer = logits.softmax(dim=1).max(dim=1)
    threshold = choose_threshold(confidence[:1500], (answer == truth)[:1500], 0.9)
    kept = confidence[1500:] >= threshold
    assert (answer == truth)[1500:][kept].float().mean() > 0.87
    assert kept.float().mean() > 0.1


def test_few_or_poor_answers_prove_nothing():
    sure = torch.full((18,), 0.99)
    assert choose_threshold(sure, torch.ones(18, dtype=torch.bool), 0.95) == NEVER_SURE
    assert choose_threshold(torch.rand(100), torch.zeros(100, dtype=torch.bool), 0.5) == NEVER_SURE
    more = torch.cat([sure, sure])
    assert choose_threshold(more, torch.ones(36, dtype=torch.bool), 0.95) == 0.0


def test_equal_confidences_are_kept_or_left_together():
    confidence = torch.tensor([0.9] * 40 + [0.6] * 40)
    right = torch.tensor([True] * 40 + [True] * 20 + [False] * 20)
    assert 0.6 < choose_threshold(confidence, right, 0.95) <= 0.9


def test_without_a_target_everything_is_answered():
    assert choose_threshold(torch.rand(5), torch.zeros(5, dtype=torch.bool), 0.0) == 0.0


def test_what_calibration_reaches_is_on_record():
    found = calibrate_answers(*sampled(1500, 3.0), target_accuracy=0.9)
    assert found["objects"] == 1500
    assert found["log_loss"] < found["log_loss_before"]
    assert found["expected_calibration_error"] < 0.5 * found["expected_calibration_error_before"]
    assert found["selective_accuracy"] >= 0.9
    assert 0 < found["coverage"] < 1


def test_a_record_holds_no_measure_of_nothing():
    found = calibrate_answers(*sampled(6, 1.0), target_accuracy=0.99)
    assert found["threshold"] == NEVER_SURE
    assert found["coverage"] == 0.0
    assert "selective_accuracy" not in found


def test_the_incomplete_beta_function_is_that_of_scipy():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 500, generator=generator, dtype=torch.float64) * 14 - 7).exp()
    x = torch.rand(500, generator=generator, dtype=torch.float64)
    wanted = stats.beta.cdf(x.numpy(), a.numpy(), b.numpy())
    assert np.abs(beta_cdf(a, b, x).numpy() - wanted).max() < 1e-8


@pytest.mark.parametrize("span", [1.0, 5.0])
def test_intervals_of_fractions_are_quantiles_of_the_marginal_beta(span):
    generator = torch.Generator().manual_seed(0)
    concentration = ((torch.rand(60, 3, generator=generator) * 2 - 1) * span).exp()
    low, high = fraction_intervals(concentration, 0.8)
    a = concentration.double().numpy()
    b = a.sum(axis=1, keepdims=True) - a
    assert np.abs(low.numpy() - stats.beta.ppf(0.1, a, b)).max() < 2e-6
    assert np.abs(high.numpy() - stats.beta.ppf(0.9, a, b)).max() < 2e-6
    assert low.dtype == torch.float32


def test_figures_show_the_answers_before_and_after():
    logits, truth = sampled(400, 3.0)
    after, before = ((logits / t).softmax(dim=1).numpy() for t in (3.0, 1.0))
    diagram, selective = calibration_figures(after, before, truth.numpy(), "_shape")
    assert diagram.name == "reliability_shape"
    assert diagram.reference == "diagonal"
    gaps = [np.nanmean(np.abs(line - diagram.x)) for line in diagram.lines.values()]
    assert gaps[0] < gaps[1]
    [line] = selective.lines.values()
    assert selective.x[-1] == 1.0
    assert line[:40].mean() > line[-1]
