"""Which objects a round of active learning asks about: from the store, the ledger and a model.

Objects of the test split are never chosen once there is one: what a strategy picks is not a fair
sample of the sky, and a test made of it would not be one either.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from lvm.downstream import create_task
from lvm.inference import predict
from storage.brick_store import read_objects
from storage.embedding_store import embedding_group, read_embeddings
from storage.label_store import read_labels
from storage.splits import SplitConfig, assign_splits
from tasks import tracking
from tasks.acquisition import RANDOM, BadAcquisition, Candidates, choose, standardised
from tasks.agreement import answer_groups
from tasks.annotators import consensus, gold_answers, weighted_votes
from tasks.datasets import KEY, object_ids
from tasks.embedding import open_embeddings
from tasks.frozen_tests import frozen_ids
from tasks.label_rounds import QueueItem
from tasks.loaders import CutoutLoader
from tasks.models import load_model
from tasks.references import EmbeddingsRef, ModelRef, SnapshotRef
from tasks.settings import Settings
from tasks.snapshots import open_snapshot

Array = npt.NDArray[np.float64]
BATCH_SIZE = 64
MEMBERS = 3  # newest models that "disagreement" compares
NEEDS_MODEL = ("margin", "entropy", "badge", "disagreement")


@dataclass(frozen=True)
class RoundConfig:
    """How a campaign of label rounds goes; see `flows.label_round.run_label_round`.

    Parameters
    ----------
    name : str
        Tells apart campaigns of one task on one survey.
    count : int
        Objects of a round, without gold ones.
    strategy : str
        One of `tasks.acquisition.STRATEGIES`; until there is a model the choice is random.
    random_share, gold_share : float
        Parts of `count`: drawn evenly for unbiased estimates; added with known answers.
    rare_class : str
        What "rare" looks for.
    pool : int
        Objects that are looked at, drawn at random.
    blind, wanted : bool, int
        See `tasks.label_rounds.RoundPlan`.
    enough : float
        Share of the objects with all their answers that ends a round.
    deadline_hours : float
        Ends a round whatever is there.
    more_on_dispute : int
        Further answers wanted on objects whose answers disagree.
    target : float
        Of the headline measure; reaching it ends the campaign. 0: none.
    budget : int
        Labels of the campaign that end it.
    max_rounds, patience, min_gain : int, int, float
        End it: so many rounds, or so many in a row none of which is better by `min_gain`.
    poll_seconds : float
        Between two looks at the queue.
    """

    name: str = ""
    count: int = 100
    strategy: str = "badge"
    random_share: float = 0.2
    gold_share: float = 0.05
    rare_class: str = ""
    pool: int = 20_000
    blind: bool = True
    wanted: int = 1
    enough: float = 0.95
    deadline_hours: float = 168.0
    more_on_dispute: int = 1
    target: float = 0.0
    budget: int = 2000
    max_rounds: int = 20
    patience: int = 3
    min_gain: float = 0.002
    poll_seconds: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.random_share, self.gold_share, self.enough)
        if self.count < 1 or self.wanted < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError("count and wanted are 1 or more; shares and enough are 0 to 1")


@dataclass(frozen=True)
class Chosen:
    """Objects for the queue in the order in which they are shown, and the strategy used."""

    items: tuple[QueueItem, ...]
    strategy: str

    @property
    def reasons(self) -> dict[str, str]:
        """Return why each object was chosen, by object id, without gold ones."""
        return {item.object_id: item.why for item in self.items if not item.gold}

    @property
    def gold(self) -> tuple[str, ...]:
        """Return the objects with known answers."""
        return tuple(item.object_id for item in self.items if item.gold)


@dataclass(frozen=True)
class Ground:
    """What a choice is made on: a task, its labels, and the embeddings of a snapshot."""

    settings: Settings
    downstream: str
    embeddings: EmbeddingsRef

    @property
    def snapshot(self) -> SnapshotRef:
        """Return the snapshot that was embedded."""
        found = self.embeddings
        return SnapshotRef(
            store=found.store, survey=found.survey, snapshot_id=found.survey_snapshot_id
        )

    def objects(self) -> pd.DataFrame:
        """Return the objects of the snapshot, with `object_id`."""
        survey = self.snapshot.survey
        table = read_objects(open_snapshot(self.snapshot), survey, catalogue=False)
        return table.assign(object_id=object_ids(table))

    def consensus(self) -> pd.Series:
        """Return the answer of every labelled object, by object id."""
        path = self.settings.labels_path
        groups = answer_groups(create_task(self.downstream))
        if not path.is_file():
            return pd.Series(dtype="str")
        votes = weighted_votes(path, self.snapshot.survey, self.downstream, groups)
        classes = [name for name in votes if name not in KEY]
        found = consensus(votes, classes)
        return pd.Series(found["answer"].to_numpy(dtype=object), index=object_ids(found))

    def vectors(self, objects: pd.DataFrame) -> Array:
        """Return the standardised embeddings (object, width) of objects."""
        group = embedding_group(self.embeddings.encoder_digest, self.embeddings.survey)
        rows = objects["row"].to_numpy(dtype=np.int64)
        session = open_embeddings(self.embeddings)
        vectors, _ = read_embeddings(session, group, rows, expected=objects[KEY])
        return vectors.astype(np.float64)

    def probabilities(self, model: ModelRef, objects: pd.DataFrame) -> Array:
        """Return what a model thinks of objects (object, answer); rows add up to 1."""
        loaded, rows = load_model(self.settings, model), objects["row"].to_numpy(dtype=np.int64)
        if loaded.mode == "head" and loaded.encoder_digest == self.embeddings.encoder_digest:
            vectors = self.vectors(objects).astype(np.float32)
            parts = predict(loaded, [{"embedding": vectors, "rows": rows}])
        else:
            parts = predict(loaded, CutoutLoader(self.snapshot, rows).batches(BATCH_SIZE))
        names = [f"p_{name.replace('-', '_')}" for name in self.answers]
        found = [np.column_stack([columns[name] for name in names]) for _, columns in parts]
        return np.concatenate(found).astype(np.float64)

    @property
    def answers(self) -> tuple[str, ...]:
        """Return the answers of the question."""
        groups = answer_groups(create_task(self.downstream))
        return tuple(answer for answers in groups.values() for answer in answers)


def choose_objects(
    ground: Ground,
    model: ModelRef | None,
    config: RoundConfig,
    seed: int,
    split: SplitConfig | None = None,
    asked: frozenset[str] = frozenset(),
) -> Chosen:
    """Choose the objects of a round; none where all are labelled or asked about.

    The same state of store, ledger, `asked` and seed gives the same choice.

    Parameters
    ----------
    asked : frozenset of str
        Objects that other rounds ask about. They are not chosen, not even as gold ones: who was
        asked the same twice would know which answers are known.
    """
    generator = np.random.default_rng((config.seed, seed))
    objects, known = ground.objects(), ground.consensus()
    objects = objects[~objects["object_id"].isin(asked)]
    pool = _pool(ground, objects, known, split or SplitConfig())
    pool = pool.iloc[np.sort(generator.permutation(len(pool))[: config.pool])]
    strategy = strategy_of(config, model)
    if pool.empty:
        return Chosen((), strategy)
    said = ground.probabilities(model, pool) if model else np.zeros((len(pool), 0))
    candidates = _candidates(ground, pool, said, strategy, config.rare_class)
    found = choose(strategy, candidates, config.count, generator, config.random_share)
    items = _items(ground, pool.iloc[found.index], said[found.index], found.reason, model)
    mixed = [*items, *_gold(ground, objects, config, generator)]
    order = generator.permutation(len(mixed)).tolist()
    return Chosen(tuple(mixed[place] for place in order), strategy)


def strategy_of(config: RoundConfig, model: ModelRef | None) -> str:
    """Return the strategy that is used: without a model, none that needs one."""
    return RANDOM if config.strategy in NEEDS_MODEL and model is None else config.strategy


def _pool(
    ground: Ground, objects: pd.DataFrame, known: pd.Series, split: SplitConfig
) -> pd.DataFrame:
    """Return the objects that may be asked about."""
    free = objects[~objects["object_id"].isin(known.index)]
    if not frozen_ids(ground.settings, ground.downstream, ground.snapshot.survey, split):
        return free
    ids = free["object_id"].to_numpy(dtype=str)
    splits = assign_splits(free["ra"].to_numpy(), free["dec"].to_numpy(), ids, split)
    return free[np.isin(splits, ("train", "val"))]


def _candidates(
    ground: Ground, pool: pd.DataFrame, said: Array, strategy: str, rare: str
) -> Candidates:
    """Return what the strategy looks at; embeddings only where it does, and of one standard."""
    if strategy in (RANDOM, "margin", "entropy"):
        return Candidates(said, np.zeros((len(pool), 1)))
    members = None
    if strategy == "disagreement":
        newest = sorted(
            tracking.model_versions(ground.settings, ground.downstream),
            key=lambda record: record.created_ms,
        )[-MEMBERS:]
        members = np.stack([ground.probabilities(item.model, pool) for item in newest])
    known = ground.consensus()
    wanted = known[known == rare] if strategy == "rare" else known
    if strategy == "rare" and wanted.empty:
        raise BadAcquisition(
            f'"rare" looks for objects like those labelled {rare!r}, of which there are none: '
            "label one, or set rare_class"
        )
    objects = ground.objects()
    labelled = objects[objects["object_id"].isin(wanted.index)]
    both = standardised(ground.vectors(pd.concat([pool, labelled])))
    vectors, others = both[: len(pool)], both[len(pool) :]
    return Candidates(said, vectors, members=members, labelled=others, positives=others)


def _items(
    ground: Ground,
    chosen: pd.DataFrame,
    said: Array,
    reasons: tuple[str, ...],
    model: ModelRef | None,
) -> list[QueueItem]:
    name = f"{model.downstream} v{model.version}" if model else ""
    items = []
    for row, why, probability in zip(chosen[KEY].to_numpy(), reasons, said, strict=True):
        best = int(probability.argmax()) if model else 0
        proposal = ground.answers[best] if model else ""
        confidence = float(probability[best]) if model else 0.0
        items.append(QueueItem(*(int(v) for v in row), why, proposal, confidence, name))
    return items


def _gold(
    ground: Ground, objects: pd.DataFrame, config: RoundConfig, generator: np.random.Generator
) -> list[QueueItem]:
    """Return objects with a known answer; nothing about them tells that it is known."""
    path, number = ground.settings.labels_path, round(config.count * config.gold_share)
    if not number or not path.is_file():
        return []
    labels = read_labels(path, ground.snapshot.survey, ground.downstream)
    known = gold_answers(labels, answer_groups(create_task(ground.downstream)))
    known = known.merge(objects[KEY], on=KEY).sort_values(KEY)
    drawn = known.iloc[generator.permutation(len(known))[:number]]
    return [
        QueueItem(*(int(row[name]) for name in KEY), config.strategy, gold=str(row["answer"]))
        for row in drawn.to_dict("records")
    ]
