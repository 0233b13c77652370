"""What is other in a catalogue than in the one before it, counted, and whether that is too much.

Two sides are compared a block of bricks at a time, so that memory does not grow with the survey.
Objects are the same when their ids are; they count as changed when their brick has other content,
or another model made the row. What it says, as Markdown and as a page, is in `tasks.release_page`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from storage.catalogue import ID_COLUMNS, read_bricks, read_column_notes
from tasks.prediction_files import ID_NOTES, prediction_path
from tasks.references import ModelRef, Reference
from tasks.releases import Release, read_release_bricks
from tasks.settings import Settings
from tasks.shifts import difference_interval, drift_index

ANSWER = "answer"
BLOCK_BRICKS = 256  # some 50,000 objects
EDGE_BRICKS = 64  # whose objects the bins of numbers are found from
BINS = 10

Rows = Callable[[Sequence[str], Sequence[str]], pd.DataFrame]


class ReleaseLimits(Reference):
    """What may change between two releases before a person must look.

    Parameters
    ----------
    class_shift : float
        Of the share of a class, where its 95 % interval leaves out zero.
    removed : float
        Share of the objects before that are gone.
    flipped : float
        Share of the objects in both whose answer is another.
    drift : float
        Population stability index of a number that the model gives; 0.2 is commonly called large.
    """

    class_shift: float = Field(default=0.05, gt=0)
    removed: float = Field(default=0.01, ge=0)
    flipped: float = Field(default=0.1, ge=0)
    drift: float = Field(default=0.2, gt=0)


class ClassShift(Reference):
    """Share of a class before and after; the 95 % interval is that of the difference."""

    name: str
    before: float
    after: float
    low: float
    high: float

    @property
    def shift(self) -> float:
        """Return the difference, after less before."""
        return self.after - self.before


class NumberShift(Reference):
    """Mean of a column before and after, and how far its distribution moved (`drift_index`)."""

    name: str
    before: float
    after: float
    drift: float


class ReleaseDiff(Reference):
    """What is other after than before; `broken` says which limits were passed."""

    before: str
    after: str
    models: tuple[ModelRef, ModelRef]
    bricks: dict[str, int]
    objects: dict[str, int]
    classes: tuple[ClassShift, ...]
    numbers: tuple[NumberShift, ...]
    broken: tuple[str, ...] = ()

    @property
    def same_model(self) -> bool:
        """Return whether one model made both."""
        return self.models[0].digest == self.models[1].digest


@dataclass(frozen=True)
class Side:
    """One of two catalogues.

    `bricks` as for `tasks.releases.state_of`, at least one; `rows` gives columns of the objects of
    some of them.
    """

    name: str
    model: ModelRef
    bricks: pd.DataFrame
    columns: tuple[str, ...]
    rows: Rows


def side_of_release(release: Release, folder: Path) -> Side:
    """Return a published release as a side."""

    def rows(names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
        return read_bricks(folder, names, columns)

    columns = tuple(read_column_notes(folder))
    return Side(release.tag, release.model, read_release_bricks(folder), columns, rows)


def side_of_predictions(
    settings: Settings, survey: str, model: ModelRef, bricks: pd.DataFrame
) -> Side:
    """Return what is predicted and not yet published as a side."""

    def files(names: Sequence[str]) -> list[Path]:
        versions = bricks.loc[list(names), "version"]
        return [prediction_path(settings, survey, model, str(n), v) for n, v in versions.items()]

    def rows(names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
        tables = [pq.ParquetFile(path).read(columns=list(columns)) for path in files(names)]
        return pa.concat_tables(tables).to_pandas()

    columns = tuple(read_column_notes(files(bricks.index[:1])[0]))
    return Side(f"version {model.version}, not published", model, bricks, columns, rows)


def compare_sides(before: Side, after: Side, limits: ReleaseLimits | None = None) -> ReleaseDiff:
    """Count what is other after than before, and say which limits that passes."""
    groups = _brick_groups(before, after)
    tally = _Tally(_common_columns(before, after), before)
    for names in _blocks(sorted({*before.bricks.index, *after.bricks.index})):
        old, new = (_rows(side, names, tally.columns) for side in (before, after))
        tally.add(old, new, groups["same"])
    found = ReleaseDiff(
        before=before.name,
        after=after.name,
        models=(before.model, after.model),
        bricks={name: len(bricks) for name, bricks in groups.items()},
        objects=tally.objects,
        classes=tally.class_shifts(),
        numbers=tally.number_shifts(),
    )
    return found.model_copy(update={"broken": tuple(broken_limits(found, limits))})


def broken_limits(found: ReleaseDiff, limits: ReleaseLimits | None = None) -> Iterator[str]:
    """Yield, for people, every limit that is passed."""
    limits = limits or ReleaseLimits()
    counts = found.objects
    total = counts["unchanged"] + counts["changed"]
    before = total + counts["removed"]
    if before and counts["removed"] / before > limits.removed:
        share = counts["removed"] / before
        yield f"{share:.2%} of the objects are gone (limit {limits.removed:.2%})"
    if total and counts["flipped"] / total > limits.flipped:
        share = counts["flipped"] / total
        yield f"{share:.2%} of the objects have another answer (limit {limits.flipped:.2%})"
    for one in found.classes:
        if abs(one.shift) > limits.class_shift and not one.low <= 0 <= one.high:
            yield (
                f"the share of {one.name} went from {one.before:.3f} to {one.after:.3f} "
                f"(limit {limits.class_shift})"
            )
    for number in found.numbers:
        if number.drift > limits.drift:
            yield f"{number.name} drifted by {number.drift:.2f} (limit {limits.drift})"


@dataclass
class _Number:
    """A column of numbers: bins, and for both sides counts in them, sum and number."""

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    finite: list[int] = field(default_factory=lambda: [0, 0])

    def add(self, side: int, values: npt.NDArray[np.float64]) -> None:
        known = values[np.isfinite(values)]
        places = np.searchsorted(self.edges, known, side="right")
        self.counts[side] += np.bincount(places, minlength=len(self.edges) + 1)
        self.sums[side] += float(known.sum())
        self.finite[side] += len(known)


class _Tally:
    """Counts that grow block by block; nothing of a block is kept."""

    def __init__(self, columns: tuple[list[str], list[str]], before: Side) -> None:
        texts, numbers = columns
        self.columns = ["brickname", *ID_COLUMNS, *texts, *numbers]
        self.objects = dict.fromkeys(("added", "removed", "changed", "unchanged", "flipped"), 0)
        self._answers = ANSWER in texts
        self._classes: dict[str, list[int]] = {}
        step = max(1, len(before.bricks) // EDGE_BRICKS)
        sample = _rows(before, list(before.bricks.index[::step][:EDGE_BRICKS]), self.columns)
        self._numbers = {name: _bins(sample[name].to_numpy(np.float64)) for name in numbers}

    def add(self, old: pd.DataFrame, new: pd.DataFrame, same: set[str]) -> None:
        """Count the rows of the same bricks on both sides."""
        for side, rows in enumerate((old, new)):
            for name, number in self._numbers.items():
                number.add(side, rows[name].to_numpy(np.float64))
            for answer, count in rows[ANSWER].value_counts().items() if self._answers else ():
                self._classes.setdefault(str(answer), [0, 0])[side] += int(count)
        keep = ["brickname", *ID_COLUMNS, *([ANSWER] if self._answers else [])]
        both = old[keep].merge(
            new[keep], on=list(ID_COLUMNS), how="outer", suffixes=("", "_new"), indicator=True
        )
        kept = both[both["_merge"] == "both"]
        unchanged = int(kept["brickname"].isin(same).sum())
        self.objects["removed"] += int((both["_merge"] == "left_only").sum())
        self.objects["added"] += int((both["_merge"] == "right_only").sum())
        self.objects["unchanged"] += unchanged
        self.objects["changed"] += len(kept) - unchanged
        if self._answers:
            self.objects["flipped"] += int((kept[ANSWER] != kept[f"{ANSWER}_new"]).sum())

    def class_shifts(self) -> tuple[ClassShift, ...]:
        """Return the shares of all classes, in the order of their names."""
        totals = tuple(sum(counts[side] for counts in self._classes.values()) for side in (0, 1))
        found = []
        for name, counts in sorted(self._classes.items()):
            low, high = difference_interval((counts[0], counts[1]), (totals[0], totals[1]))
            shares = [count / max(total, 1) for count, total in zip(counts, totals, strict=True)]
            shift = ClassShift(name=name, before=shares[0], after=shares[1], low=low, high=high)
            found.append(shift)
        return tuple(found)

    def number_shifts(self) -> tuple[NumberShift, ...]:
        """Return the shifts of all columns of numbers."""
        return tuple(
            NumberShift(
                name=name,
                before=number.sums[0] / max(number.finite[0], 1),
                after=number.sums[1] / max(number.finite[1], 1),
                drift=drift_index(number.counts[0], number.counts[1]),
            )
            for name, number in self._numbers.items()
        )


def _brick_groups(before: Side, after: Side) -> dict[str, set[str]]:
    old, new = before.bricks["version"], after.bricks["version"]
    common = old.index.intersection(new.index)
    same_model = (before.model.version, before.model.digest) == (
        after.model.version,
        after.model.digest,
    )
    equal = (old[common] == new[common]).to_numpy(bool) & same_model
    return {
        "same": set(common[equal]),
        "changed": set(common[~equal]),
        "added": set(new.index.difference(old.index)),
        "removed": set(old.index.difference(new.index)),
    }


def _common_columns(before: Side, after: Side) -> tuple[list[str], list[str]]:
    """Return the columns that the models of both sides give: texts, and numbers."""
    kinds = []
    for side in (before, after):
        rows = side.rows(list(side.bricks.index[:1]), side.columns)
        kinds.append({name: rows[name].dtype.kind for name in side.columns if name not in ID_NOTES})
    common = [name for name in kinds[0] if name in kinds[1]]
    numbers = [name for name in common if all(kind[name] in "iuf" for kind in kinds)]
    return [name for name in common if name not in numbers], numbers


def _rows(side: Side, names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    known = [name for name in names if name in side.bricks.index]
    if known:
        return side.rows(known, columns)
    kinds = {name: np.int64 if name in ID_COLUMNS else object for name in columns}
    return pd.DataFrame({name: np.empty(0, kind) for name, kind in kinds.items()})


def _blocks(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), BLOCK_BRICKS):
        yield names[start : start + BLOCK_BRICKS]


def _bins(values: npt.NDArray[np.float64]) -> _Number:
    """Return bins of about equal numbers of objects, open at both ends."""
    known = values[np.isfinite(values)]
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    edges = np.unique(np.quantile(known, inner)) if len(known) else np.zeros(1)
    return _Number(edges, np.zeros((2, len(edges) + 1), np.int64))
