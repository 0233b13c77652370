"""Predictive distributions as quantiles: the head, its loss, its recalibration, its measures.

Quantiles (object, parameter, level) hold, for each number asked for, the values below which it lies
with the probabilities `LEVELS`. They are learnt by the pinball loss. Nothing here knows what the
parameters are.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

# Both ends of the central 40, 68, 80 and 95 % intervals, and the median. 0.16 and 0.84 are those of
# one sigma; together they are dense enough for the integral of the CRPS.
LEVELS = (0.025, 0.1, 0.16, 0.3, 0.5, 0.7, 0.84, 0.9, 0.975)
MIDDLE = len(LEVELS) // 2
# Nominal coverage of the central intervals, and the positions of their ends.
INTERVALS = {
    round(LEVELS[-1 - low] - LEVELS[low], 6): (low, len(LEVELS) - 1 - low)
    for low in range(MIDDLE - 1, -1, -1)
}
ONE_SIGMA = INTERVALS[0.68]
# Fewer known values than this cannot place the 2.5 % tail: 1 of 40 is beyond it.
MIN_CALIBRATION = 40
MAD_TO_SIGMA = 1.4826  # of a Gaussian


class QuantileHead(nn.Module):
    """From features to quantiles (object, parameter, level) in the unit of the parameters.

    The levels of an object never cross. Before any training each parameter has the Gaussian of its
    centre and scale, whatever the object.

    Parameters
    ----------
    body : from features to (object, parameter * level), near 0 before any training
    centre, scale : of each parameter, roughly those of the population; they set the start and
        the size of a step, not what can be predicted
    """

    centre: torch.Tensor
    scale: torch.Tensor
    start: torch.Tensor
    shift: torch.Tensor

    def __init__(self, body: nn.Module, centre: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        self.body = body
        gaps = torch.tensor([NormalDist().inv_cdf(level) for level in LEVELS]).diff()
        self.register_buffer("start", gaps.expm1().log(), persistent=False)  # inverse of softplus
        self.register_buffer("centre", torch.tensor(centre), persistent=False)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)
        # In units of an object's own one-sigma width; see `recalibrate`.
        self.register_buffer("shift", torch.zeros(len(centre), len(LEVELS)))

    def forward(self, features: Any) -> torch.Tensor:
        """Return quantiles (object, parameter, level) of what the body takes."""
        raw = self.body(features).float().unflatten(1, (len(self.centre), len(LEVELS)))
        middle = raw[..., MIDDLE : MIDDLE + 1]
        below = F.softplus(raw[..., :MIDDLE] + self.start[:MIDDLE])
        above = F.softplus(raw[..., MIDDLE + 1 :] + self.start[MIDDLE:])
        lower = middle - below.flip(-1).cumsum(-1).flip(-1)
        scaled = torch.cat([lower, middle, middle + above.cumsum(-1)], dim=-1)
        quantiles = self.centre[:, None] + self.scale[:, None] * scaled
        return shifted(quantiles, self.shift)

    @torch.no_grad()
    def recalibrate(self, quantiles: torch.Tensor, target: torch.Tensor) -> None:
        """Move every level to where the right share of held-out targets lies below it.

        Parameters
        ----------
        quantiles : (object, parameter, level), outputs of this head as it is
        target : (object, parameter), NaN where not known
        """
        more = conformal_shift(quantiles, target).to(self.shift)
        low, high = ONE_SIGMA
        # `quantiles` are shifted already if this is not the first time: their width is so much
        # that of the unshifted ones.
        width = 1.0 + (self.shift[:, high] - self.shift[:, low]) / 2.0
        self.shift += more * width[:, None]


def one_sigma(quantiles: torch.Tensor) -> torch.Tensor:
    """Return half the width of the 68 % interval, (object, parameter)."""
    low, high = ONE_SIGMA
    return (quantiles[..., high] - quantiles[..., low]) / 2.0


def shifted(quantiles: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Return quantiles moved by `shift` (parameter, level) one-sigma widths of each object."""
    moved = quantiles + shift * one_sigma(quantiles)[..., None]
    return moved.sort(dim=-1).values


def conformal_shift(quantiles: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return by how many one-sigma widths each level has to move, (parameter, level).

    Conformalised quantile regression (Romano et al. 2019) for each level by itself: its distance to
    the targets, in widths of the object's own interval, so that a sure object moves less. With
    the correction for a finite sample, new objects of the same population are covered as
    often as promised, whatever their distribution. Parameters with fewer than `MIN_CALIBRATION`
    known targets stay.
    """
    width = one_sigma(quantiles).clamp(min=1e-12)
    scores = (target[..., None] - quantiles) / width[..., None]
    shift = torch.zeros_like(quantiles[0])
    for index in range(shift.shape[0]):
        known = scores[torch.isfinite(target[:, index]), index]
        count = len(known)
        if count < MIN_CALIBRATION:
            continue
        ordered = known.sort(dim=0).values
        for position, level in enumerate(LEVELS):
            rank = (count + 1) * level  # rounded outwards
            rank = math.ceil(rank) if position >= MIDDLE else math.floor(rank)
            shift[index, position] = ordered[min(max(rank, 1), count) - 1, position]
    return shift


def crps(quantiles: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the continuous ranked probability score (object, parameter), in the parameters' unit.

    It is 0 for a distribution that is sure and right, and the absolute error for one that is just
    sure: twice the integral of the pinball loss over the levels, here their sum (7 % less for a
    Gaussian). NaN where the target is not known.
    """
    levels = quantiles.new_tensor(LEVELS)
    miss = target[..., None] - quantiles
    pinball = torch.maximum(levels * miss, (levels - 1.0) * miss)
    return 2.0 * (pinball * quantiles.new_tensor(_weights())).sum(dim=-1)


def quantile_loss(
    quantiles: torch.Tensor, target: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return the mean CRPS in units of `scale` (parameter,), over the known targets."""
    known = torch.isfinite(target)
    score = crps(quantiles, torch.where(known, target, quantiles[..., MIDDLE].detach())) / scale
    return torch.where(known, score, 0.0).sum() / known.sum().clamp(min=1)


def coverage(quantiles: torch.Tensor, target: torch.Tensor, nominal: float) -> torch.Tensor:
    """Return the share of known targets within a central interval, (parameter,); NaN for none.

    `nominal` is one of `INTERVALS`.
    """
    low, high = INTERVALS[nominal]
    inside = (target >= quantiles[..., low]) & (target <= quantiles[..., high])
    known = torch.isfinite(target)
    return (inside & known).sum(dim=0) / torch.where(known.any(dim=0), known.sum(dim=0), torch.nan)


def residual_measures(residual: torch.Tensor, outlier: float) -> dict[str, float]:
    """Return bias, nmad and outliers of residuals (object,), predicted minus true; NaN is unknown.

    `bias` is the median, `nmad` 1.4826 times the median distance from it (sigma of a Gaussian),
    `outliers` the share further than `outlier` from 0.
    """
    known = residual[torch.isfinite(residual)]
    if not len(known):
        return {"bias": math.nan, "nmad": math.nan, "outliers": math.nan}
    bias = known.quantile(0.5)
    return {
        "bias": float(bias),
        "nmad": MAD_TO_SIGMA * float((known - bias).abs().quantile(0.5)),
        "outliers": float((known.abs() > outlier).float().mean()),
    }


def _weights() -> list[float]:
    """Return what each level stands for in an integral over levels from 0 to 1."""
    borders = [0.0, *((low + high) / 2 for low, high in pairwise(LEVELS)), 1.0]
    return [high - low for low, high in pairwise(borders)]
