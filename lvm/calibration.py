"""How sure an answer is: temperatures, thresholds to abstain below, intervals of vote fractions.

Temperatures and thresholds are found on objects that the model was not trained on (Guo et al.
2017; Geifman & El-Yaniv 2017). Nothing here knows a downstream task.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lvm.figures import Curve
from lvm.metrics import (
    accuracy_by_coverage,
    coverage,
    expected_calibration_error,
    log_loss,
    reliability,
    selective_accuracy,
)

Array = np.ndarray[Any, np.dtype[Any]]

# Prior on log T, as a deviation around T = 1. Without it the temperature of a validation split on
# which every answer is right would fall to 0, and questions deep in a tree, which few objects have
# an answer to, would get a temperature out of noise. Some tens of objects overrule it.
PRIOR_LOG_TEMPERATURE = 0.5
# The accuracy that an answer is held to must be kept by the lower end of a Wilson interval of so
# many sigma; 19 right answers of 19 then prove 95 %.
THRESHOLD_SIGMA = 1.0
NEVER_SURE = 2.0  # a threshold above every confidence: everything goes to people
_EXACT = 1e-6  # of the ends of intervals
_STEPS = 60
_FRACTION_TERMS = 400


def calibrate_answers(
    logits: torch.Tensor, truth: torch.Tensor, target_accuracy: float
) -> dict[str, float]:
    """Find temperature and threshold of the answers to one question.

    Parameters
    ----------
    logits : (object, class), of objects that the model was not trained on
    truth : (object,) int64, index of the class
    target_accuracy : see `choose_threshold`

    Returns
    -------
    `temperature`, `threshold`, and what they reach on these objects: `objects`, `coverage`,
    `selective_accuracy` (absent if everything is left to people), `log_loss` and
    `expected_calibration_error`, the latter two also `_before`
    """
    logits, truth = logits.detach().float().cpu(), truth.cpu()
    temperature = fit_temperature(logits, truth)
    tempered = F.softmax(logits / temperature, dim=1)
    confidence, answer = tempered.max(dim=1)
    threshold = choose_threshold(confidence, answer == truth, target_accuracy)
    before, after = F.softmax(logits, dim=1).numpy(), tempered.numpy()
    right = truth.numpy()
    found = {
        "objects": float(len(right)),
        "temperature": temperature,
        "threshold": threshold,
        "coverage": coverage(after, threshold),
        "selective_accuracy": selective_accuracy(after, right, threshold),
        "log_loss_before": log_loss(before, right),
        "log_loss": log_loss(after, right),
        "expected_calibration_error_before": expected_calibration_error(before, right),
        "expected_calibration_error": expected_calibration_error(after, right),
    }
    return {name: value for name, value in found.items() if not np.isnan(value)}


def calibration_figures(
    probability: Array, uncalibrated: Array, truth: Array, suffix: str = ""
) -> tuple[Curve, Curve]:
    """Return the reliability diagram, and the accuracy of the surest answers by their share.

    Parameters
    ----------
    probability, uncalibrated : (object, class), with and without the temperature
    truth : (object,) int, index of the class
    suffix : of the names of the figures
    """
    bins = reliability(probability, truth)[0].size
    both = {"calibrated": probability, "as trained": uncalibrated}
    diagram = Curve(
        f"reliability{suffix}",
        (np.arange(bins) + 0.5) / bins,
        {name: reliability(values, truth)[1] for name, values in both.items()},
        "confidence of the answer",
        "fraction of right answers",
        reference="diagonal",
    )
    kept, right = accuracy_by_coverage(probability, truth)
    selective = Curve(
        f"accuracy_by_coverage{suffix}",
        kept,
        {"the surest answers": right},
        "fraction of objects that are answered",
        "accuracy of the answers",
    )
    return diagram, selective


def fit_temperature(logits: torch.Tensor, truth: torch.Tensor) -> float:
    """Return the T for which softmax(logits / T) has the least log loss.

    Parameters
    ----------
    logits : (object, class)
    truth : (object,) int64, index of the class

    Returns
    -------
    T > 0: above 1 for a model that was too sure. Fitted by LBFGS, with the weak prior
    `PRIOR_LOG_TEMPERATURE`. No object raises ValueError.
    """
    if not len(truth):
        raise ValueError("a temperature cannot be fitted without labelled objects")
    fixed, truth = logits.detach().double().cpu(), truth.cpu()
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        prior = 0.5 * (log_temperature / PRIOR_LOG_TEMPERATURE) ** 2 / len(truth)
        loss = F.cross_entropy(fixed / log_temperature.exp(), truth) + prior
        torch.autograd.backward(loss)
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp())


def choose_threshold(confidence: torch.Tensor, right: torch.Tensor, target: float) -> float:
    """Return the confidence from which on answers are right often enough.

    Parameters
    ----------
    confidence : (object,) of the answer, 0 to 1
    right : (object,) bool, whether the answer was right
    target : accuracy of the answers that are kept; 0 keeps all

    Returns
    -------
    The threshold that keeps the most objects; `NEVER_SURE` where too few or too poor answers
    prove the target for any
    """
    if target <= 0:
        return 0.0
    values, order = confidence.double().cpu().sort(descending=True, stable=True)
    kept = torch.arange(1, len(values) + 1, dtype=torch.float64)
    proven = _wilson_low(right.cpu()[order].double().cumsum(0), kept) >= target
    proven[:-1] &= values[:-1] > values[1:]  # equal confidences are kept or left together
    if not proven.any():
        return NEVER_SURE
    last = int(proven.nonzero().max())
    if last == len(values) - 1:
        return 0.0  # all of them: nothing is known of smaller confidences that speaks against
    return float(values[last : last + 2].mean())


def _wilson_low(right: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    z2 = THRESHOLD_SIGMA**2
    rate = right / count
    spread = (z2 * (rate * (1 - rate) / count + z2 / (4 * count**2))).sqrt()
    return (rate + z2 / (2 * count) - spread) / (1 + z2 / count)


def fraction_intervals(
    concentration: torch.Tensor, level: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the central credible interval of every fraction of a Dirichlet distribution.

    Parameters
    ----------
    concentration : (object, class), all > 0
    level : probability inside, such as 0.9

    Returns
    -------
    low, high : (object, class) float32, exact to 1e-6: the quantiles of the marginal Beta
    """
    a = concentration.double()
    b = a.sum(dim=-1, keepdim=True) - a
    tail = (1.0 - level) / 2
    return _beta_quantile(a, b, tail).float(), _beta_quantile(a, b, 1.0 - tail).float()


def _beta_quantile(a: torch.Tensor, b: torch.Tensor, probability: float) -> torch.Tensor:
    """Invert `beta_cdf` by Newton's method within a bracket that each step narrows."""
    found = a / (a + b)
    todo = torch.ones_like(a, dtype=torch.bool)  # most are exact after a few steps
    low, high = torch.zeros_like(a), torch.ones_like(a)
    for _ in range(_STEPS):
        p, q, x, below, above = (values[todo] for values in (a, b, found, low, high))
        excess = beta_cdf(p, q, x) - probability
        below, above = torch.where(excess < 0, x, below), torch.where(excess < 0, above, x)
        log_density = (p - 1) * x.log() + (q - 1) * torch.log1p(-x) - _log_beta(p, q)
        step = x - excess / log_density.exp().clamp(min=1e-12)
        inside = (step > below) & (step < above)
        better = torch.where(inside, step, (below + above) / 2)
        low[todo], high[todo], found[todo] = below, above, better
        todo[todo.clone()] = (better - x).abs() >= _EXACT / 100
        if not todo.any():
            break
    return found


def _log_beta(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def beta_cdf(a: torch.Tensor, b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the regularised incomplete beta function I_x(a, b) for 0 < x < 1, float64.

    torch has none, and scipy is no dependency of this package. Continued fraction of the NIST
    handbook, 8.17.22, on the side of the mean where it converges fast.
    """
    swap = x > (a + 1) / (a + b + 2)
    a, b, x = torch.where(swap, b, a), torch.where(swap, a, b), torch.where(swap, 1 - x, x)
    log_front = (
        torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b) + a * x.log() + b * torch.log1p(-x)
    )
    value = log_front.exp() / a * _continued_fraction(a, b, x)
    return torch.where(swap, 1 - value, value).clamp(0.0, 1.0)


def _continued_fraction(a: torch.Tensor, b: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Evaluate 1 / (1 + d1 / (1 + d2 / ...)) by the modified Lentz method."""
    tiny = 1e-300
    c = torch.ones_like(x)
    d = 1.0 / _away_from_0(1.0 - (a + b) * x / (a + 1), tiny)
    value = d.clone()
    for m in range(1, _FRACTION_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away_from_0(1.0 + term * d, tiny)
            c = _away_from_0(1.0 + term / c, tiny)
            change = c * d
            value = value * change
        if bool(((change - 1.0).abs() < 1e-9).all()):
            break
    return value


def _away_from_0(values: torch.Tensor, tiny: float) -> torch.Tensor:
    return torch.where(values.abs() < tiny, torch.full_like(values, tiny), values)
