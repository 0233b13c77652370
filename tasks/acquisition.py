"""Which objects people should label next: pure functions of probabilities and embeddings.

A strategy sees what a model thinks of the unlabelled objects and picks some of them. A share may be
kept random: only those labels give unbiased estimates of the survey, since every other choice looks
where the model is bad. Opening rounds, asking people and fitting models are the callers'.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.errors import TaskError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

RANDOM = "random"
# k-centre and k-means look at all pairs of chosen and candidate: beyond this many candidates they
# and the uncertain ones among them are sought in a random part.
LARGEST_SEARCH = 50_000
# Of the most uncertain candidates, as a multiple of what is asked for, that k-means divides.
SHORTLIST = 10


class BadAcquisition(TaskError, ValueError):
    """A strategy was asked for something that it cannot do."""


@dataclass(frozen=True)
class Candidates:
    """What a strategy may look at, one row for each object that could be labelled.

    Parameters
    ----------
    probability : ndarray, shape (object, class)
        Of the present model; may be empty (object, 0) for strategies that do not ask it.
    embedding : ndarray, shape (object, width)
    members : ndarray, shape (member, object, class), optional
        Probabilities of several models, or draws of a Dirichlet model; for "disagreement".
    labelled : ndarray, shape (n, width), optional
        Embeddings of what is labelled already; for "k_centre".
    positives : ndarray, shape (n, width), optional
        Embeddings of known members of the class that is sought; for "rare".
    """

    probability: Array
    embedding: Array
    members: Array | None = None
    labelled: Array | None = None
    positives: Array | None = None

    def __post_init__(self) -> None:
        if self.embedding.ndim != 2 or len(self.probability) != len(self.embedding):
            raise BadAcquisition(
                f"probability {self.probability.shape} and embedding {self.embedding.shape} must "
                "have one row for each candidate"
            )

    def __len__(self) -> int:
        return len(self.embedding)

    def take(self, index: Indices) -> "Candidates":
        """Return the candidates at `index`."""
        members = None if self.members is None else self.members[:, index]
        return replace(
            self,
            probability=self.probability[index],
            embedding=self.embedding[index],
            members=members,
        )


@dataclass(frozen=True)
class Choice:
    """Rows of the candidates, no row twice, and for each the strategy or "random" as reason."""

    index: Indices
    reason: tuple[str, ...] = field(default=())


def choose(
    strategy: str,
    candidates: Candidates,
    number: int,
    generator: np.random.Generator,
    random_share: float = 0.0,
) -> Choice:
    """Choose objects to be labelled.

    Parameters
    ----------
    strategy : str
        One of `STRATEGIES`.
    number : int
        All are chosen where there are fewer.
    generator : numpy.random.Generator
        The same state gives the same choice.
    random_share : float
        Part of `number` that is drawn evenly from all candidates, before the strategy looks.

    Raises
    ------
    BadAcquisition
        If there is no such strategy, or the candidates lack what it needs.
    """
    if strategy not in STRATEGIES:
        raise BadAcquisition(f"no strategy is called {strategy!r}: there are {sorted(STRATEGIES)}")
    if number < 0 or not 0.0 <= random_share <= 1.0:
        raise BadAcquisition(
            f"number {number} and random_share {random_share}: give 0 or more, 0 to 1"
        )
    number = min(number, len(candidates))
    share = 0 if strategy == RANDOM else round(number * random_share)
    drawn = generator.permutation(len(candidates))
    evenly, rest = drawn[:share], np.sort(drawn[share:])
    rest = np.sort(generator.permutation(rest)[: max(LARGEST_SEARCH, number)])
    wanted = number - share
    found = (
        rest[STRATEGIES[strategy](candidates.take(rest), wanted, generator)] if wanted else rest[:0]
    )
    reason = (RANDOM,) * share + (strategy,) * wanted
    return Choice(np.concatenate([evenly, found]).astype(np.int64), reason)


def margin(probability: Array) -> Floats:
    """Return 1 minus the lead of the first answer over the second (object,): 1 is undecided."""
    ordered = np.sort(np.asarray(probability, np.float64), axis=1)
    return np.asarray(1.0 - (ordered[:, -1] - ordered[:, -2]))


def entropy(probability: Array) -> Floats:
    """Return the entropy of each row in units of its largest (object,): 1 knows nothing."""
    values = np.clip(np.asarray(probability, np.float64), 1e-12, 1.0)
    return np.asarray(-(values * np.log(values)).sum(axis=1) / np.log(values.shape[1]))


def disagreement(members: Array) -> Floats:
    """Return what knowing the answer would tell of the model (object,) [nat].

    The entropy of the mean of the members (member, object, class) less the mean of their entropies
    (BALD, Houlsby et al. 2011): large where each is sure and they contradict each other.
    """
    values = np.clip(np.asarray(members, np.float64), 1e-12, 1.0)
    mean = values.mean(axis=0)
    of_mean = -(mean * np.log(mean)).sum(axis=1)
    each = -(values * np.log(values)).sum(axis=2).mean(axis=0)
    return np.asarray(np.maximum(of_mean - each, 0.0))


def dirichlet_members(concentration: Array, number: int, generator: np.random.Generator) -> Array:
    """Return draws (member, object, class) of a model that gives concentrations (object, class)."""
    gamma = generator.gamma(
        np.asarray(concentration, np.float64), size=(number, *concentration.shape)
    )
    gamma = np.maximum(gamma, 1e-12)
    return np.asarray(gamma / gamma.sum(axis=2, keepdims=True))


def k_centre(embedding: Array, number: int, labelled: Array | None, first: int) -> Indices:
    """Return rows that lie farthest from all that is labelled or chosen, one after the other.

    Where nothing is labelled, `first` is the row to begin with.
    """
    points = np.asarray(embedding, np.float64)
    if labelled is not None and len(labelled):
        nearest = np.min(_squared(points, np.asarray(labelled, np.float64)), axis=1)
        chosen: list[int] = []
    else:
        chosen, nearest = [first], _squared(points, points[[first]])[:, 0]
    while len(chosen) < number:
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _squared(points, points[[chosen[-1]]])[:, 0])
    return np.array(chosen[:number], np.int64)


def badge(
    probability: Array, embedding: Array, number: int, generator: np.random.Generator
) -> Indices:
    """Return rows that are uncertain and unlike one another (Ash et al. 2020).

    k-means++ on the gradients that the last layer would get, were the present answer right: their
    length says how unsure the model is, their direction what it would learn. The gradient is an
    outer product, so that distances follow from its two factors, and it is never stored.
    """
    values = np.asarray(probability, np.float64)
    error = np.eye(values.shape[1])[values.argmax(axis=1)] - values
    points = np.asarray(embedding, np.float64)
    points = np.column_stack([points / np.sqrt(points.shape[1]), np.ones(len(points))])
    length = (error**2).sum(axis=1) * (points**2).sum(axis=1)
    chosen = [int(length.argmax())]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < number:
        last = chosen[-1]
        inner = (error @ error[last]) * (points @ points[last])
        nearest = np.minimum(nearest, np.maximum(length + length[last] - 2.0 * inner, 0.0))
        nearest[chosen] = 0.0
        chosen.append(_weighted(nearest, chosen, generator))
    return np.array(chosen, np.int64)


def standardised(embedding: Array) -> Floats:
    """Return embeddings whose channels have mean 0 and deviation 1, so that distances mean it."""
    points = np.asarray(embedding, np.float64)
    spread = points.std(axis=0)
    return np.asarray((points - points.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf))


def _most(score: Callable[[Candidates], Floats]) -> "Strategy":
    """Return the strategy that takes the largest scores; ties are broken at random."""

    def strategy(candidates: Candidates, number: int, generator: np.random.Generator) -> Indices:
        tie = generator.random(len(candidates))
        order: Indices = np.lexsort((tie, -score(candidates)))
        return order[:number]

    return strategy


def _members(candidates: Candidates) -> Floats:
    if candidates.members is None or len(candidates.members) < 2:
        raise BadAcquisition('"disagreement" needs `members`: answers of two or more models')
    return disagreement(candidates.members)


def _nearness(candidates: Candidates) -> Floats:
    if candidates.positives is None or len(candidates.positives) == 0:
        raise BadAcquisition('"rare" needs `positives`: at least one known member of the class')
    points, known = (_unit(part) for part in (candidates.embedding, candidates.positives))
    return np.asarray((points @ known.T).max(axis=1))


def _k_centre(candidates: Candidates, number: int, generator: np.random.Generator) -> Indices:
    first = int(generator.integers(len(candidates)))
    return k_centre(candidates.embedding, number, candidates.labelled, first)


def _k_means(candidates: Candidates, number: int, generator: np.random.Generator) -> Indices:
    """Divide the most uncertain candidates into groups and take the most uncertain of each.

    Before there is a model, all candidates are divided and the most typical of each is taken.
    """
    from sklearn.cluster import MiniBatchKMeans  # half a second to load, of use here alone

    known = candidates.probability.shape[1] > 0
    count = len(candidates)
    score = margin(candidates.probability) if known else np.zeros(count)
    shortlist = np.argsort(-score, kind="stable")[: SHORTLIST * number if known else count]
    points = np.asarray(candidates.embedding[shortlist], np.float64)
    seed = int(generator.integers(2**31))
    groups = MiniBatchKMeans(min(number, len(points)), n_init=3, random_state=seed)
    distance = groups.fit_transform(points)
    group = groups.labels_
    nearness = distance[np.arange(len(points)), group]
    order = np.arange(len(points)) if known else np.argsort(nearness, kind="stable")
    _, first = np.unique(group[order], return_index=True)
    chosen = shortlist[order[np.sort(first)]]
    more = shortlist[~np.isin(shortlist, chosen)][: number - len(chosen)]  # for empty groups
    return np.concatenate([chosen, more])


def _weighted(weight: Floats, chosen: list[int], generator: np.random.Generator) -> int:
    total = weight.sum()
    if total > 0:
        return int(generator.choice(len(weight), p=weight / total))
    left = np.setdiff1d(
        np.arange(len(weight)), chosen
    )  # all that are left are equal to a chosen one
    return int(generator.choice(left))


def _squared(first: Floats, second: Floats) -> Floats:
    """Return squared distances (row of first, row of second)."""
    inner = first @ second.T
    lengths = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None]
    return np.asarray(np.maximum(lengths - 2.0 * inner, 0.0))


def _unit(rows: Array) -> Floats:
    values = np.asarray(rows, np.float64)
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


Strategy = Callable[[Candidates, int, np.random.Generator], Indices]

STRATEGIES: Mapping[str, Strategy] = {
    RANDOM: lambda candidates, number, generator: generator.permutation(len(candidates))[:number],
    "margin": _most(lambda candidates: margin(candidates.probability)),
    "entropy": _most(lambda candidates: entropy(candidates.probability)),
    "disagreement": _most(_members),
    "k_centre": _k_centre,
    "k_means": _k_means,
    "badge": lambda candidates, number, generator: badge(
        candidates.probability, candidates.embedding, number, generator
    ),
    "rare": _most(_nearness),
}
