"""What votes and the output of a head say about a tree of questions, and how far they agree.

An output is that of `lvm.heads.AnswerHead`: logits (object, choice), and for a calibrated head a
temperature and a threshold of every question. A probability is that of being what most people
say, not the fraction of them: that is what a temperature is fitted to.
"""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from lvm.calibration import calibration_figures, fraction_intervals
from lvm.figures import Figure, Matrix
from lvm.metrics import confusion
from lvm.questions import Array, Question, QuestionTree

# Dirichlet concentrations beyond this are as good as exact fractions; exp of more may overflow.
MAX_LOG_CONCENTRATION = 7.0
# A question has a right answer for an object when half of the people came to it.
RELEVANT = 0.5


class Reading(NamedTuple):
    """What an output says of one question.

    columns : where its answers stand among the choices
    logits : (object, answer); probability : (object, answer) float32, calibrated where the head is
    threshold : of the probability, below which an answer is left to people
    """

    question: Question
    columns: slice
    logits: torch.Tensor
    probability: Array
    threshold: float

    @property
    def prefix(self) -> str:
        """What the names of its measures begin with."""
        return f"{self.question.name}." if self.question.name else ""


def read_output(tree: QuestionTree, output: torch.Tensor) -> list[Reading]:
    """Take an output apart; a head that is not calibrated leaves nothing to people."""
    output = output.detach().float()
    answers, questions = len(tree.choices), len(tree.questions)
    if output.ndim != 2 or output.shape[1] not in (answers, answers + 2 * questions):
        raise ValueError(
            f"output has shape {tuple(output.shape)}; expected (object, answer) with {answers} "
            f"answers, or {2 * questions} more columns of a calibrated head"
        )
    temperature, threshold = [1.0] * questions, [0.0] * questions
    if output.shape[1] > answers and len(output):
        known = output[0, answers:].tolist()  # the same in every row
        temperature, threshold = known[:questions], known[questions:]
    readings = []
    for index, (question, columns) in enumerate(zip(tree.questions, tree.columns, strict=True)):
        logits = output[:, columns]
        probability = F.softmax(logits / temperature[index], dim=1).cpu().numpy()
        readings.append(Reading(question, columns, logits, probability, threshold[index]))
    return readings


def asked(tree: QuestionTree, votes: torch.Tensor) -> torch.Tensor:
    """Return how many people answered each question, (object, question), from their votes."""
    return torch.stack([votes[:, columns].sum(dim=1) for columns in tree.columns], dim=1)


def with_truth(
    tree: QuestionTree, output: torch.Tensor, votes: torch.Tensor
) -> Iterator[tuple[Reading, Array, Array]]:
    """Yield every question that has a right answer for some objects.

    Yields
    ------
    its reading for all objects; the rows (answered,) int64 for which half of the people or more
    were asked; the index of the answer that most of them gave (answered,) int64
    """
    people = asked(tree, votes.cpu())
    most = people.amax(dim=1)
    for index, reading in enumerate(read_output(tree, output)):
        relevant = (people[:, index] > 0) & (people[:, index] >= RELEVANT * most)
        if relevant.any():
            truth = votes.cpu()[relevant][:, reading.columns].argmax(dim=1)
            yield reading, relevant.nonzero()[:, 0].numpy(), truth.numpy()


def question_figures(reading: Reading, rows: Array, truth: Array) -> list[Figure]:
    """Return reliability, accuracy by coverage and confusion of what `with_truth` yields."""
    suffix = f"_{reading.question.name}" if reading.question.name else ""
    probability, names = reading.probability[rows], reading.question.answers
    raw = F.softmax(reading.logits[torch.from_numpy(rows)], dim=1).cpu().numpy()
    counts = confusion(probability, truth).astype(np.float64)
    return [
        *calibration_figures(probability, raw, truth, suffix),
        Matrix(f"confusion{suffix}", counts, names, names, "voted", "answered"),
    ]


def answer_columns(tree: QuestionTree, readings: Sequence[Reading]) -> dict[str, Array]:
    """Return probabilities, answers, and how sure they are.

    Returns
    -------
    `p_<choice>` float32; `answer`, the likeliest path through the tree; `uncertainty`, the entropy
    of a question over that of ignorance, 0 to 1, mean over the questions by the probability of
    coming to them; `margin` between the two likeliest answers and `abstain` (bool: leave it to
    people), both by the least sure question of the path
    """
    probability = np.concatenate([one.probability for one in readings], axis=1)
    best = np.stack([one.probability.max(axis=1) for one in readings], axis=1)
    second = np.stack([np.sort(one.probability, axis=1)[:, -2] for one in readings], axis=1)
    entropy = np.stack([_entropy(one.probability) for one in readings], axis=1)
    unsure = best < np.array([one.threshold for one in readings], dtype=np.float32)
    reach, path = tree.reach(probability), tree.path(probability)
    columns = {f"p_{name}": probability[:, index] for index, name in enumerate(column_names(tree))}
    return {
        **columns,
        "answer": _path_names(readings, path),
        "uncertainty": ((reach * entropy).sum(axis=1) / reach.sum(axis=1)).astype(np.float32),
        "margin": np.where(path, best - second, 1.0).min(axis=1).astype(np.float32),
        "abstain": (unsure & path).any(axis=1),
    }


def fraction_columns(
    tree: QuestionTree, readings: Sequence[Reading], level: float
) -> dict[str, Array]:
    """Return what a Dirichlet output expects of the votes, and how far it may be off.

    Returns
    -------
    `fraction_<choice>` of those who are asked, and its central credible interval of probability
    `level`, `fraction_<choice>_low` and `_high`, unless `level` is 0; float32
    """
    names, columns = column_names(tree), {}
    for reading in readings:
        alpha = concentration(reading.logits)
        found = {"": alpha / alpha.sum(dim=1, keepdim=True)}
        if level:
            found["_low"], found["_high"] = fraction_intervals(alpha, level)
        for index, name in enumerate(names[reading.columns]):
            for suffix, values in found.items():
                columns[f"fraction_{name}{suffix}"] = values[:, index].cpu().numpy()
    return columns


def fraction_error(tree: QuestionTree, output: torch.Tensor, votes: torch.Tensor) -> float:
    """Return the mean difference of expected and given vote fractions.

    Each object and choice counts by the fraction of people who came to the question.
    """
    votes = votes.cpu()
    people = asked(tree, votes)
    weight = people / people.amax(dim=1, keepdim=True).clamp(min=1e-6)
    error, total = 0.0, 0.0
    for index, reading in enumerate(read_output(tree, output)):
        alpha = concentration(reading.logits).cpu()
        given = votes[:, reading.columns] / people[:, index, None].clamp(min=1e-6)
        off = (alpha / alpha.sum(dim=1, keepdim=True) - given).abs().mean(dim=1)
        error += float((off * weight[:, index]).sum())
        total += float(weight[:, index].sum())
    return error / total if total else float("nan")


def column_names(tree: QuestionTree) -> tuple[str, ...]:
    """Return the choices as they stand in names of catalogue columns."""
    return tuple(choice.replace("-", "_") for choice in tree.choices)


def concentration(logits: torch.Tensor) -> torch.Tensor:
    """Return the Dirichlet concentrations of logits: their mean is the softmax."""
    return logits.clamp(-MAX_LOG_CONCENTRATION, MAX_LOG_CONCENTRATION).exp()


def dirichlet_multinomial(logits: torch.Tensor, votes: torch.Tensor) -> torch.Tensor:
    """Return -log P(votes) per object (object,), per vote, without the constant of the votes."""
    alpha = concentration(logits)
    total, count = alpha.sum(dim=1), votes.sum(dim=1)
    log_probability = (
        torch.lgamma(total)
        - torch.lgamma(total + count)
        + (torch.lgamma(votes + alpha) - torch.lgamma(alpha)).sum(dim=1)
    )
    return -log_probability / count.clamp(min=1.0)


def cross_entropy(
    logits: torch.Tensor, votes: torch.Tensor, weights: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the cross-entropy with the fractions of the votes per object (object,).

    `weights` (answer,) multiply the fractions.
    """
    fractions = votes / votes.sum(dim=1, keepdim=True).clamp(min=1e-6)
    if weights is not None:
        fractions = fractions * weights
    return -(fractions * F.log_softmax(logits, dim=1)).sum(dim=1)


def _entropy(probability: Array) -> Array:
    """Return the entropy of rows over the largest possible, 0 to 1."""
    logs = np.log(np.clip(probability, 1e-12, 1.0))
    return np.asarray(-(probability * logs).sum(axis=1) / np.log(probability.shape[1]))


def _path_names(readings: Sequence[Reading], path: Array) -> Array:
    """Return the answers along the path of each object, as one text."""
    best = [np.array(one.question.answers)[one.probability.argmax(axis=1)] for one in readings]
    if len(best) == 1:
        return np.asarray(best[0])
    said = zip(*(part.tolist() for part in best), strict=True)
    return np.array([" / ".join(compress(row, on)) for row, on in zip(said, path, strict=True)])
