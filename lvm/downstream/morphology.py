"""Morphology: which kind of galaxy it is, learnt from the votes of people.

Targets are votes per class (object, class), counts or fractions. Soft cross-entropy learns the
fractions; the Dirichlet-multinomial loss (Walmsley et al. 2022) also learns how sure people were,
and weighs an object with forty votes more than one with three.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lvm.downstream.base import Columns, DownstreamTask, Metric, TaskConfig, register
from lvm.encoder import FeatureSpec
from lvm.heads import embedding_head
from lvm.metrics import classification_metrics
from lvm.tensors import Tensors

LOSSES = ("cross_entropy", "dirichlet_multinomial")
# Dirichlet concentrations beyond this are as good as exact fractions; exp of more may overflow.
MAX_LOG_CONCENTRATION = 7.0


@dataclass(frozen=True)
class MorphologyConfig(TaskConfig):
    """Options of the morphology task.

    Parameters
    ----------
    classes : in the order of the columns of the votes
    hidden : width of the hidden layer of the head (the paper's has one); 0 for a linear head
    loss : "cross_entropy" with vote fractions, or "dirichlet_multinomial" with vote counts
    class_weights : one a class, on the loss of cross_entropy; empty: all 1
    """

    classes: tuple[str, ...] = ("elliptical", "edge-on", "spiral", "other")
    hidden: int = 0
    dropout: float = 0.0
    loss: str = "cross_entropy"
    class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss is one of {LOSSES}, not {self.loss!r}")
        if len(self.classes) < 2:
            raise ValueError("a classification needs at least two classes")
        if self.class_weights and len(self.class_weights) != len(self.classes):
            raise ValueError(f"class_weights needs one value for each of {self.classes}")


@register
class Morphology(DownstreamTask):
    """Classification of galaxies by their votes; the output is (object, class) logits."""

    name = "morphology"
    headline = Metric("balanced_accuracy", higher_is_better=True)
    needs = ("morphology_vote",)
    config_class = MorphologyConfig

    @property
    def options(self) -> MorphologyConfig:
        """The configuration, as the type that it is."""
        return cast(MorphologyConfig, self.config)

    def head(self, features: FeatureSpec) -> nn.Module:
        """Return a linear or two-layer head on the embedding."""
        options = self.options
        return embedding_head(features.width, len(options.classes), options.hidden, options.dropout)

    def loss(self, output: torch.Tensor, batch: Tensors) -> Tensors:
        """Return the loss; objects without a vote do not count."""
        votes = self._votes(batch)
        total = votes.sum(dim=1)
        voted = (total > 0).float()
        if self.options.loss == "dirichlet_multinomial":
            each = _dirichlet_multinomial(output.float(), votes)
        else:
            fractions = votes / total.clamp(min=1e-6)[:, None]
            if self.options.class_weights:
                fractions = fractions * fractions.new_tensor(self.options.class_weights)
            each = -(fractions * F.log_softmax(output.float(), dim=1)).sum(dim=1)
        return {"loss": (each * voted).sum() / voted.sum().clamp(min=1.0)}

    def metrics(self, output: torch.Tensor, batch: Tensors) -> dict[str, float]:
        """Return classification measures against the class with the most votes."""
        votes = self._votes(batch)
        voted = votes.sum(dim=1) > 0
        probability = F.softmax(output[voted].float(), dim=1).cpu().numpy()
        truth = votes[voted].argmax(dim=1).cpu().numpy()
        return classification_metrics(probability, truth, self.options.classes)

    def present(self, output: torch.Tensor) -> Columns:
        """Return `p_<class>` for every class, and `answer`, the most probable one."""
        probability = F.softmax(output.float(), dim=1).cpu().numpy()
        columns = {
            f"p_{name.replace('-', '_')}": probability[:, index]
            for index, name in enumerate(self.options.classes)
        }
        return {**columns, "answer": np.array(self.options.classes)[probability.argmax(axis=1)]}

    def example(self, count: int, features: FeatureSpec, generator: torch.Generator) -> Tensors:
        """Return votes of 40 people, most of them for one class, every class in turn."""
        classes = len(self.options.classes)
        votes = torch.randint(0, 6, (count, classes), generator=generator).float()
        votes[torch.arange(count), torch.arange(count) % classes] += 30.0
        return {"target": votes}

    def perfect(self, batch: Tensors) -> torch.Tensor:
        """Return logits that are sure of the class with the most votes."""
        votes = self._votes(batch)
        return 20.0 * F.one_hot(votes.argmax(dim=1), votes.shape[1]).float()

    def _votes(self, batch: Tensors) -> torch.Tensor:
        votes = batch["target"].float()
        if votes.ndim != 2 or votes.shape[1] != len(self.options.classes):
            raise ValueError(
                f"target has shape {tuple(votes.shape)}; expected votes (object, class) with "
                f"classes {self.options.classes}"
            )
        return votes


def _dirichlet_multinomial(logits: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
    """Return -log P(votes) per object, per vote, without the constant of the votes alone.

    Concentrations are exp(logits), so that their mean, the predicted fraction, is the softmax.
    """
    concentration = logits.clamp(-MAX_LOG_CONCENTRATION, MAX_LOG_CONCENTRATION).exp()
    total, count = concentration.sum(dim=1), votes.sum(dim=1)
    log_probability = (
        torch.lgamma(total)
        - torch.lgamma(total + count)
        + (torch.lgamma(votes + concentration) - torch.lgamma(concentration)).sum(dim=1)
    )
    return -log_probability / count.clamp(min=1.0)
