"""Mergers: galaxies that are colliding, a rare class that people search for in whole surveys.

Mergers and not strong lenses, because there are answers to learn from: Galaxy Zoo asked volunteers
for them, and the synthetic survey knows which of its galaxies are. The finder is asked for a list
that people then look through, so it is measured by the list: average precision, and how many of all
mergers are on a list of which half, or four in five, are mergers. Accuracy would praise a finder
that finds none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lvm.downstream.base import Columns, DownstreamTask, Metric, TaskConfig, register
from lvm.encoder import FeatureSpec
from lvm.figures import Curve, Figure
from lvm.heads import embedding_head
from lvm.metrics import auc
from lvm.tensors import Tensors

PURITIES = (0.5, 0.8)


@dataclass(frozen=True)
class MergerConfig(TaskConfig):
    """Options of the merger finder.

    Parameters
    ----------
    classes : the answers of the question, the one that is searched for last
    hidden : width of the hidden layer of the head; 0 for a linear head
    weight : of a merger in the loss; more than 1 where a missed one costs more than a false one
    """

    classes: tuple[str, ...] = ("no-merger", "merger")
    hidden: int = 64
    dropout: float = 0.2
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.classes) != 2:
            raise ValueError(f"classes are the two answers of the question, not {self.classes}")
        if self.weight <= 0:
            raise ValueError(f"weight is above 0, not {self.weight}")


@register
class Merger(DownstreamTask):
    """Finder of mergers by votes; the output is (object, 1), the log odds of a merger."""

    name = "merger"
    headline = Metric("average_precision", higher_is_better=True)
    needs = ("merger_vote",)
    config_class = MergerConfig

    @property
    def options(self) -> MergerConfig:
        """The configuration, as the type that it is."""
        return cast(MergerConfig, self.config)

    def head(self, features: FeatureSpec) -> nn.Module:
        """Return a linear or two-layer head on the embedding."""
        return embedding_head(features.width, 1, self.options.hidden, self.options.dropout)

    def loss(self, output: torch.Tensor, batch: Tensors) -> Tensors:
        """Return the cross-entropy with the vote fractions; objects without a vote do not count."""
        fraction, voted = self._fractions(batch)
        weight = output.new_tensor(self.options.weight)
        each = F.binary_cross_entropy_with_logits(
            output[:, 0].float(), fraction, pos_weight=weight, reduction="none"
        )
        return {"loss": (each * voted).sum() / voted.sum().clamp(min=1)}

    def metrics(self, output: torch.Tensor, batch: Tensors) -> dict[str, float]:
        """Return measures of the list by falling score; NaN where no merger is among the objects.

        `share` is the share of mergers, which is the average precision of a list in any order.
        """
        score, merger = self._scored(output, batch)
        found = _ranked(score, merger)
        values = {
            "average_precision": found.average_precision,
            "auc": auc(score, merger),
            "share": float(merger.mean()) if merger.size else math.nan,
        }
        for purity in PURITIES:
            enough = found.recall[found.purity >= purity]
            recall = float(enough.max(initial=0.0)) if merger.any() else math.nan
            values[f"recall_at_purity_{100 * purity:.0f}"] = recall
        return values

    def present(self, output: torch.Tensor) -> Columns:
        """Return `p_<class>` of both answers, and `answer`, the more probable one."""
        merger = output[:, 0].float().sigmoid().cpu().numpy()
        other, name = self.options.classes
        columns = {f"p_{other}": 1.0 - merger, f"p_{name}": merger}
        answer = np.where(merger >= 0.5, name, other)
        return {**{key.replace("-", "_"): v for key, v in columns.items()}, "answer": answer}

    def figures(self, output: torch.Tensor, batch: Tensors) -> Sequence[Figure]:
        """Return the purity of the list against the share of all mergers that are on it."""
        score, merger = self._scored(output, batch)
        found = _ranked(score, merger)
        axes = ("share of all mergers found", "purity")
        share = float(merger.mean()) if merger.size else None
        return [Curve("purity", found.recall, {"purity": found.purity}, *axes, reference=share)]

    def example(self, count: int, features: FeatureSpec, generator: torch.Generator) -> Tensors:
        """Return votes of 40 people; every fourth object is a merger to most of them."""
        merger = torch.randint(0, 8, (count,), generator=generator)
        merger = torch.where(torch.arange(count) % 4 == 0, 40 - merger, merger).float()
        return {"target": torch.stack([40.0 - merger, merger], dim=1)}

    def perfect(self, batch: Tensors) -> torch.Tensor:
        """Return log odds that are sure of what most people said."""
        fraction, _ = self._fractions(batch)
        return torch.where(fraction > 0.5, 20.0, -20.0)[:, None]

    def _fractions(self, batch: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the share of votes for a merger, and who has votes at all, both (object,)."""
        votes = batch["target"].float().nan_to_num(0.0)
        if votes.ndim != 2 or votes.shape[1] != 2:
            raise ValueError(
                f"target has shape {tuple(votes.shape)}; expected votes (object, class) with "
                f"classes {self.options.classes}"
            )
        total = votes.sum(dim=1)
        return votes[:, 1] / total.clamp(min=1e-6), total > 0

    def _scored(self, output: torch.Tensor, batch: Tensors) -> tuple[np.ndarray, np.ndarray]:
        """Return scores, and who is a merger to most, of those with votes, both (object,)."""
        fraction, voted = self._fractions(batch)
        score = output[voted, 0].float().cpu().numpy()
        return score, (fraction[voted] > 0.5).cpu().numpy()


class _Ranked(NamedTuple):
    """A list by falling score, cut after each distinct score (cut,) float64."""

    recall: np.ndarray
    purity: np.ndarray
    average_precision: float


def _ranked(score: np.ndarray, merger: np.ndarray) -> _Ranked:
    if not merger.any():
        return _Ranked(np.zeros(0), np.zeros(0), math.nan)
    order = np.argsort(-score, kind="stable")
    right = np.cumsum(merger[order])
    last = np.flatnonzero(np.diff(score[order], append=-np.inf))  # equal scores come together
    recall = right[last] / right[-1]
    purity = right[last] / (last + 1.0)
    return _Ranked(recall, purity, float(np.sum(np.diff(recall, prepend=0.0) * purity)))
