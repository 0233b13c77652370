"""Morphology: which kind of galaxy it is, learnt from the votes of people.

`morphology` asks one question with a few classes; `galaxy_zoo` asks a tree of questions with one
head. Targets are votes (object, choice), counts or fractions. Soft cross-entropy learns the
fractions; the Dirichlet-multinomial loss (Walmsley et al. 2022) also learns how sure people were,
and weighs an object with forty votes more than one with three.

A probability here is that of being the choice of most people who are asked, not the fraction of
them: that is what the temperature is fitted to, and what an answer is held to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lvm.answers import (
    answer_columns,
    asked,
    cross_entropy,
    dirichlet_multinomial,
    fraction_columns,
    fraction_error,
    question_figures,
    read_output,
    with_truth,
)
from lvm.calibration import NEVER_SURE, calibrate_answers
from lvm.downstream.base import Columns, DownstreamTask, Metric, TaskConfig, register
from lvm.encoder import FeatureSpec
from lvm.figures import Figure
from lvm.heads import AnswerHead, embedding_head
from lvm.metrics import classification_metrics, coverage, selective_accuracy
from lvm.questions import TREES, Question, QuestionTree, single_question
from lvm.tensors import Tensors

LOSSES = ("cross_entropy", "dirichlet_multinomial")
BALANCES = ("weights", "logit_adjustment")
_MEANS = ("accuracy", "balanced_accuracy", "log_loss", "expected_calibration_error", "coverage")


@dataclass(frozen=True, kw_only=True)
class QuestionConfig(TaskConfig):
    """Options of every task that learns from votes.

    Parameters
    ----------
    hidden : width of the hidden layer of the head (the paper's has one); 0 for a linear head
    loss : "cross_entropy" with vote fractions, or "dirichlet_multinomial" with vote counts
    target_accuracy : of the answers that are not left to people; 0: all answers are kept
    credible_level : of the intervals of vote fractions that a Dirichlet output gives; 0: none
    """

    hidden: int = 0
    dropout: float = 0.0
    loss: str = "cross_entropy"
    target_accuracy: float = 0.9  # a few hundred objects can seldom prove more
    credible_level: float = 0.9

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"loss is one of {LOSSES}, not {self.loss!r}")
        if not 0 <= self.target_accuracy <= 1 or not 0 <= self.credible_level < 1:
            raise ValueError("target_accuracy and credible_level are fractions")

    def question_tree(self) -> QuestionTree:
        """Return the questions."""
        raise NotImplementedError


class QuestionTask(DownstreamTask):
    """A task that answers a tree of questions; the output is that of `lvm.heads.AnswerHead`."""

    headline = Metric("balanced_accuracy", higher_is_better=True)
    config_class = QuestionConfig

    @property
    def tree(self) -> QuestionTree:
        """The questions."""
        return self.voting.question_tree()

    @property
    def voting(self) -> QuestionConfig:
        """The options that all tasks with votes have."""
        return cast(QuestionConfig, self.config)

    def head(self, features: FeatureSpec) -> nn.Module:
        """Return a linear or two-layer head on the embedding."""
        answers, options = len(self.tree.choices), self.voting
        layers = embedding_head(features.width, answers, options.hidden, options.dropout)
        return AnswerHead(layers, len(self.tree.questions))

    def loss(self, output: torch.Tensor, batch: Tensors) -> Tensors:
        """Return the loss, summed over the questions.

        A question counts by the fraction of people who came to it; objects without a vote do not
        count.
        """
        votes = self._votes(batch)
        reached = asked(self.tree, votes)
        people = reached.amax(dim=1)
        each = torch.zeros_like(people)
        for index, columns in enumerate(self.tree.columns):
            loss = self._question_loss(output[:, columns].float(), votes[:, columns])
            each = each + loss * reached[:, index] / people.clamp(min=1e-6)
        voted = (people > 0).float()
        return {"loss": (each * voted).sum() / voted.sum().clamp(min=1.0)}

    def _question_loss(self, logits: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
        """Return the loss of one question per object, whatever it is where nobody was asked."""
        if self.voting.loss == "dirichlet_multinomial":
            return dirichlet_multinomial(logits, votes)
        return cross_entropy(logits, votes)

    def metrics(self, output: torch.Tensor, batch: Tensors) -> dict[str, float]:
        """Return measures against the choice of most people, where half of them were asked.

        In a tree those of a question are `<question>.<measure>`, and those without a prefix are
        means over the questions. With the Dirichlet loss `fraction_error` is the mean difference
        between expected and given vote fractions.
        """
        votes = self._votes(batch)
        found: dict[str, float] = {}
        each: list[dict[str, float]] = []
        for reading, rows, truth in with_truth(self.tree, output, votes):
            probability, threshold = reading.probability[rows], reading.threshold
            measures = classification_metrics(probability, truth, reading.question.answers)
            measures["coverage"] = coverage(probability, threshold)
            measures["selective_accuracy"] = selective_accuracy(probability, truth, threshold)
            found |= {f"{reading.prefix}{name}": value for name, value in measures.items()}
            each.append(measures)
        if not each:
            raise ValueError(f"{self.name}: no object has votes, so nothing can be measured")
        means = {name: float(np.mean([one[name] for one in each])) for name in _MEANS}
        if self.voting.loss == "dirichlet_multinomial":
            found["fraction_error"] = fraction_error(self.tree, output, votes)
        return {**found, **means}

    def calibrate(
        self, head: nn.Module, output: torch.Tensor, batch: Tensors
    ) -> Mapping[str, float]:
        """Fit the temperature of every question, and the threshold for `target_accuracy`.

        A question without a right answer on these objects is left to people.
        """
        if not isinstance(head, AnswerHead):
            raise TypeError(f"{self.name} calibrates an AnswerHead, not a {type(head).__name__}")
        questions, target = self.tree.questions, self.voting.target_accuracy
        temperature = torch.ones(len(questions))
        threshold = torch.full((len(questions),), NEVER_SURE if target else 0.0)
        record: dict[str, float] = {}
        for reading, rows, truth in with_truth(self.tree, output, self._votes(batch)):
            found = calibrate_answers(reading.logits[rows], torch.from_numpy(truth), target)
            index = questions.index(reading.question)
            temperature[index], threshold[index] = found["temperature"], found["threshold"]
            record |= {f"{reading.prefix}{name}": value for name, value in found.items()}
        head.calibrate(temperature, threshold)
        return record

    def figures(self, output: torch.Tensor, batch: Tensors) -> Sequence[Figure]:
        """Return reliability, accuracy by coverage and confusion of every question."""
        answered = with_truth(self.tree, output, self._votes(batch))
        return [figure for part in answered for figure in question_figures(*part)]

    def present(self, output: torch.Tensor) -> Columns:
        """Return probabilities, answer and how sure it is (see `lvm.answers.answer_columns`).

        With the Dirichlet loss also the expected fractions of votes with their intervals.
        """
        tree, options = self.tree, self.voting
        readings = read_output(tree, output)
        columns = answer_columns(tree, readings)
        if options.loss == "dirichlet_multinomial":
            columns |= fraction_columns(tree, readings, options.credible_level)
        return columns

    def example(self, count: int, features: FeatureSpec, generator: torch.Generator) -> Tensors:
        """Return votes of some 40 people, most of them along one path, every answer in turn."""
        fractions = np.zeros((count, len(self.tree.choices)))
        for columns in self.tree.columns:
            answers = columns.stop - columns.start
            drawn = torch.randint(0, 6, (count, answers), generator=generator).numpy().astype(float)
            drawn[np.arange(count), np.arange(count) % answers] += 30.0
            fractions[:, columns] = drawn / drawn.sum(axis=1, keepdims=True)
        return {"target": torch.from_numpy(self.tree.counts(fractions, np.full(count, 40.0)))}

    def perfect(self, batch: Tensors) -> torch.Tensor:
        """Return logits that are sure of what most people say."""
        votes = self._votes(batch)
        sure = [
            F.one_hot(votes[:, columns].argmax(dim=1), columns.stop - columns.start)
            for columns in self.tree.columns
        ]
        return 20.0 * torch.cat(sure, dim=1).float()

    def _votes(self, batch: Tensors) -> torch.Tensor:
        votes = batch["target"].float()
        if votes.ndim != 2 or votes.shape[1] != len(self.tree.choices):
            raise ValueError(
                f"target has shape {tuple(votes.shape)}; expected votes (object, choice) with "
                f"choices {self.tree.choices}"
            )
        return votes.nan_to_num(nan=0.0)


@dataclass(frozen=True)
class MorphologyConfig(QuestionConfig):
    """Options of the morphology task; see `QuestionConfig` for the others.

    Parameters
    ----------
    classes : in the order of the columns of the votes
    class_weights : one a class, as its rarity asks for; empty: all 1. For cross_entropy only
    balance : what they do. "weights": they weigh the loss. "logit_adjustment" (Menon et al.
        2021): their logarithms are subtracted from the logits in the loss, so that the head need
        not learn how frequent a class is; steadier than weights of a few objects
    """

    classes: tuple[str, ...] = ("elliptical", "edge-on", "spiral", "other")
    class_weights: tuple[float, ...] = ()
    balance: str = "weights"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2:
            raise ValueError("a classification needs at least two classes")
        if self.class_weights and len(self.class_weights) != len(self.classes):
            raise ValueError(f"class_weights needs one value for each of {self.classes}")
        if min(self.class_weights, default=1.0) <= 0:
            raise ValueError("class_weights are positive")
        if self.balance not in BALANCES:
            raise ValueError(f"balance is one of {BALANCES}, not {self.balance!r}")
        if self.balance != "weights" and self.loss != "cross_entropy":
            raise ValueError("logit_adjustment goes with the loss cross_entropy")

    def question_tree(self) -> QuestionTree:
        """Return the classes as one question."""
        return single_question(self.classes)


@register
class Morphology(QuestionTask):
    """Classification of galaxies by their votes, one question."""

    name = "morphology"
    needs = ("morphology_vote",)
    config_class = MorphologyConfig

    def _question_loss(self, logits: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
        options = cast(MorphologyConfig, self.config)
        if options.loss != "cross_entropy" or not options.class_weights:
            return super()._question_loss(logits, votes)
        weights = logits.new_tensor(options.class_weights)
        if options.balance == "logit_adjustment":
            return cross_entropy(logits - weights.log(), votes)
        return cross_entropy(logits, votes, weights)


@dataclass(frozen=True)
class GalaxyZooConfig(QuestionConfig):
    """Options of the Galaxy Zoo task; see `QuestionConfig` for the others.

    Parameters
    ----------
    tree : one of `lvm.questions.TREES`
    questions : a tree of one's own instead
    """

    tree: str = "gz2"
    questions: tuple[Question, ...] = ()
    loss: str = "dirichlet_multinomial"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.questions and self.tree not in TREES:
            raise ValueError(f"no tree is called {self.tree!r}: there are {sorted(TREES)}")
        self.question_tree()

    def question_tree(self) -> QuestionTree:
        """Return the questions as a tree."""
        return QuestionTree(self.questions) if self.questions else TREES[self.tree]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the columns of the votes."""
        return self.question_tree().choices


@register
class GalaxyZoo(QuestionTask):
    """A decision tree of questions in the style of Galaxy Zoo, all answered by one head."""

    name = "galaxy_zoo"
    needs = ("galaxy_zoo_vote",)
    config_class = GalaxyZooConfig
