"""Rank the objects of a survey by how rare they look, and show the rarest."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.search.objects import objects_at
from storage.search.rarity import NeighbourDistance
from storage.search.vectors import iterate_vectors, sample_vectors
from tasks.embedded import EmbeddedSurvey, open_embedded, report_path
from tasks.progress import report
from tasks.references import EmbeddingsRef, EncoderRef, Reference
from tasks.settings import Settings
from tasks.whole_files import whole_file

METHODS = ("both", "neighbours", "forest")
SHOWN = 48  # on the sheet, and named in the reference
_NORMAL_MAD = 1.4826  # standard deviations of a normal distribution in a median absolute deviation

Rows = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float16]
Scores = npt.NDArray[np.float32]
Scorer = Callable[[Rows, Vectors], Scores]


@dataclass(frozen=True)
class AnomalyConfig:
    """How rarity is measured.

    Parameters
    ----------
    method : "neighbours" (distance to the k-th nearest of a sample), "forest" (isolation forest),
        or "both": the mean of their robust standard scores
    neighbours : the k
    sample : objects in the sample, which costs its size times that of the survey
    trees : of the forest
    keep : objects in the table that is written
    """

    method: str = "both"
    neighbours: int = 5
    sample: int = 10_000
    trees: int = 200
    keep: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method {self.method!r}: choose one of {METHODS}")


class RareObject(Reference):
    """An object, and its rarity: robust standard deviations from the median object's."""

    object_id: str
    row: int
    ra: float
    dec: float
    rarity: float


class AnomalyRanking(Reference):
    """The rarest objects of a survey; the file `table` has more, the `picture` shows the top."""

    embeddings: EmbeddingsRef
    method: str
    total: int
    bricks_left_out: int
    top: tuple[RareObject, ...]
    table: str
    picture: str


@task(name="rank-anomalies", cache_policy=NO_CACHE)
def rank_anomalies(
    settings: Settings,
    survey: str,
    encoder: EncoderRef,
    config: AnomalyConfig | None = None,
    picture: str = "",
) -> AnomalyRanking:
    """Score every embedded object of a survey and keep the rarest.

    Parameters
    ----------
    picture : str
        PNG file of the sheet; empty: beside the table, in `<home>/reports`.
    """
    chosen = config or AnomalyConfig()
    source = open_embedded(settings, survey, encoder)
    rows, rarity = _rarest(source, chosen)
    table = objects_at(source.session, survey, rows).assign(rarity=rarity)
    path = report_path(settings, "anomalies", survey, ".parquet")
    _write_table(table, path)
    sheet = Path(picture) if picture else path.with_suffix(".png")
    shown = table.head(SHOWN)
    source.sheet(shown["row"].to_numpy(), [f"{value:.1f}" for value in shown["rarity"]], sheet)
    names = ["object_id", "row", "ra", "dec", "rarity"]
    return AnomalyRanking(
        embeddings=source.embeddings,
        method=chosen.method,
        total=source.rows.total,
        bricks_left_out=source.rows.left_out,
        top=tuple(RareObject(**record) for record in shown[names].to_dict("records")),
        table=str(path),
        picture=str(sheet),
    )


def rarity_of(rows: Rows, sample: Vectors, config: AnomalyConfig) -> Scorer:
    """Return a function that gives the rarity of objects, measured against a sample of them."""
    scorers: list[Scorer] = []
    if config.method in ("both", "neighbours"):
        neighbours = min(config.neighbours, len(rows) - 1)
        scorers.append(_standard(NeighbourDistance(rows, sample, neighbours).score, rows, sample))
    if config.method in ("both", "forest"):
        scorers.append(_standard(_forest(sample, config), rows, sample))

    def score(rows: Rows, vectors: Vectors) -> Scores:
        return np.mean([scorer(rows, vectors) for scorer in scorers], axis=0, dtype=np.float32)

    return score


def _rarest(source: EmbeddedSurvey, config: AnomalyConfig) -> tuple[Rows, Scores]:
    """Return the rarest rows, rarest first; only these are held while the survey streams by."""
    sample = sample_vectors(source.vectors, source.rows, config.sample, config.seed)
    score = rarity_of(*sample, config)
    best_rows, best = np.empty(0, np.int64), np.empty(0, np.float32)
    done = 0
    for rows, vectors in iterate_vectors(source.vectors, source.rows):
        best_rows, best = np.append(best_rows, rows), np.append(best, score(rows, vectors))
        order = np.lexsort((best_rows, -best))[: config.keep]
        best_rows, best = best_rows[order], best[order]
        done += len(rows)
        report("objects scored", done, source.rows.total)
    return best_rows, best


def _forest(sample: Vectors, config: AnomalyConfig) -> Scorer:
    from sklearn.ensemble import IsolationForest  # a second to load

    forest = IsolationForest(n_estimators=config.trees, random_state=config.seed)
    forest.fit(np.asarray(sample, dtype=np.float32))

    def score(rows: Rows, vectors: Vectors) -> Scores:
        return -forest.score_samples(np.asarray(vectors, dtype=np.float32)).astype(np.float32)

    return score


def _standard(scorer: Scorer, rows: Rows, sample: Vectors) -> Scorer:
    """Turn a score into robust standard deviations from the median of the sample."""
    known = scorer(rows, sample)
    middle = np.median(known)
    spread = _NORMAL_MAD * np.median(np.abs(known - middle))
    scale = spread if spread > 0 else 1.0

    def score(rows: Rows, vectors: Vectors) -> Scores:
        return np.asarray((scorer(rows, vectors) - middle) / scale, dtype=np.float32)

    return score


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with whole_file(path) as partial:
        table.to_parquet(partial, index=False)
