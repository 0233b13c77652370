"""What the ledger of a snapshot says of all its bricks, as one table and some counts.

Receipts are read in blocks, so that the memory needed is that of the table: some 200 bytes a brick.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import icechunk
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage import arrays
from storage.brick_ledger import ledger
from storage.bricks import NUMBER_OF_BRICKS, brick_from_id
from storage.schema import RECEIPT_CHUNK_ROWS, BrickState
from storage.survey_group import LEDGER, read_layout

BAND_QUANTITIES = (
    "with_data",
    "not_finite",
    "psfsize",
    "depth",
    "psfdepth",
    "background",
    "noise",
    "chi",
)
_BLOCK = 32 * RECEIPT_CHUNK_ROWS  # receipts in memory at a time: a few MB
_PROBLEMS_KEPT = 200  # messages; all of them are counted
_GEOMETRY = ("ra", "dec", "ra1", "ra2", "dec1", "dec2")
_BROKEN = (BrickState.FAILED, BrickState.QUARANTINED)
_READ = (BrickState.WRITTEN, BrickState.EMPTY)
_NAME_IN_TEXT = re.compile(r"\b\d{4}[pm]\d{3}\b")


@dataclass(frozen=True)
class Problem:
    """A brick that could not be read, or not anew: its state in the ledger and the message."""

    brickname: str
    state: str
    message: str


@dataclass(frozen=True)
class SurveyMeasurements:
    """All that the checks know of the bricks of a snapshot.

    Parameters
    ----------
    bands : tuple of str
    bricks : DataFrame
        One row a brick of the ledger, indexed by brickname: ``brickid``, ``state``, ``row_start``,
        ``n_objects``, ``verification`` (categorical), ``ra``, ``dec``, ``ra1``, ``ra2``, ``dec1``,
        ``dec2`` [deg] and ``area`` [deg2] (NaN for blocks of pictures), ``measured`` (bool),
        ``objects``, ``primary`` (catalogue rows), ``bad`` (fraction masked), ``lost`` (selected
        objects without a cutout), and ``<quantity>_<band>`` for the `BAND_QUANTITIES`. NaN where a
        receipt does not say.
    not_selected, without_cutout : mapping
        Objects by reason; names of bricks in reasons are replaced by "<brick>".
    neighbours : mapping
        Neighbouring bricks that cutouts at the edge needed, by what became of it.
    masked : mapping
        Mean fraction of pixels by mask bit, over measured bricks.
    types : mapping
        Primary objects of measured bricks by type.
    problems : tuple of Problem
        The first `_PROBLEMS_KEPT`; ``problem_kinds`` counts all by state and kind of error.
    """

    bands: tuple[str, ...]
    bricks: pd.DataFrame
    not_selected: Mapping[str, int]
    without_cutout: Mapping[str, int]
    neighbours: Mapping[str, int]
    masked: Mapping[str, float]
    types: Mapping[str, int]
    problems: tuple[Problem, ...]
    problem_kinds: Mapping[tuple[str, str], int]

    @property
    def written(self) -> pd.DataFrame:
        """Return the rows of bricks whose cutouts are in the store."""
        return self.bricks[self.bricks["state"] == int(BrickState.WRITTEN)]

    @property
    def measured(self) -> pd.DataFrame:
        """Return the rows of bricks whose receipts have measurements, with objects or without."""
        return self.bricks[self.bricks["measured"].to_numpy(dtype=bool)]

    def in_state(self, *states: BrickState) -> list[str]:
        """Return the names of bricks in one of these states."""
        wanted = self.bricks["state"].isin([int(state) for state in states])
        return [str(name) for name in self.bricks.index[wanted]]


def read_measurements(session: icechunk.Session, survey_key: str) -> SurveyMeasurements:
    """Read the ledger and all receipts of a survey."""
    bands = read_layout(session, survey_key).bands
    table = ledger(session, survey_key, ("brickid", "state", "row_start", "n_objects"))
    names, states = table.index.to_numpy(), table["state"].to_numpy()
    collected = _Collected(bands, len(table))
    verification = np.zeros(len(table), dtype=object)
    for start, texts, checked in _blocks(session, survey_key, len(table)):
        for row, text in enumerate(texts, start):
            receipt = json.loads(text) if text else {}
            collected.add(row, str(names[row]), BrickState(int(states[row])), receipt)
            verification[row] = checked[row - start] or receipt.get("verification", "")
    table["verification"] = pd.Categorical(verification.astype(str))
    return collected.finish(pd.concat([table, _geometry(table)], axis=1))


def _blocks(
    session: icechunk.Session, survey_key: str, rows: int
) -> Iterator[tuple[int, list[str], list[str]]]:
    """Yield receipts and verifications in blocks, with the ledger row of the first."""
    group = arrays.open_group(session, f"{survey_key}/{LEDGER}")
    receipts, checked = (arrays.get_array(group, name) for name in ("receipt", "verification"))
    for start in range(0, rows, _BLOCK):
        stop = min(start + _BLOCK, rows)
        texts = [str(text) for text in arrays.read_rows(receipts, start, stop).tolist()]
        yield start, texts, [str(text) for text in arrays.read_rows(checked, start, stop).tolist()]


class _Collected:
    """Columns and counts that grow with every receipt."""

    def __init__(self, bands: tuple[str, ...], rows: int) -> None:
        self.bands = bands
        names = [f"{quantity}_{band}" for quantity in BAND_QUANTITIES for band in bands]
        self.columns: dict[str, NDArray[Any]] = {
            name: np.full(rows, np.nan, np.float32)
            for name in ("objects", "primary", "bad", "lost", *names)
        }
        self.columns["measured"] = np.zeros(rows, bool)
        self.not_selected: Counter[str] = Counter()
        self.without_cutout: Counter[str] = Counter()
        self.neighbours: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.masked: dict[str, float] = {}
        self.problems: list[Problem] = []
        self.problem_kinds: Counter[tuple[str, str]] = Counter()

    def add(self, row: int, name: str, state: BrickState, receipt: Mapping[str, Any]) -> None:
        """Take in the receipt of one brick."""
        broken = receipt if state in _BROKEN else receipt.get("last_failure")
        if broken is not None:
            self._add_problem(name, state, str(broken.get("message", "")))
        if state not in _READ:
            return
        self.not_selected.update(receipt.get("not_selected", {}))
        lost = receipt.get("without_cutout", {})
        for reason, objids in lost.items():
            self.without_cutout[_NAME_IN_TEXT.sub("<brick>", reason)] += len(objids)
        self.columns["lost"][row] = sum(map(len, lost.values()))
        for outcome in receipt.get("neighbours", {}).values():
            self.neighbours[str(outcome).partition(":")[0]] += 1
        if quality := receipt.get("quality"):
            self._add_quality(row, quality)

    def finish(self, table: pd.DataFrame) -> SurveyMeasurements:
        """Return everything, with the columns added to the table of bricks."""
        columns = pd.DataFrame(self.columns, index=table.index)
        measured = max(int(columns["measured"].sum()), 1)
        return SurveyMeasurements(
            bands=self.bands,
            bricks=pd.concat([table, columns], axis=1),
            not_selected=dict(self.not_selected),
            without_cutout=dict(self.without_cutout),
            neighbours=dict(self.neighbours),
            masked={name: total / measured for name, total in self.masked.items()},
            types=dict(self.types),
            problems=tuple(self.problems),
            problem_kinds=dict(self.problem_kinds),
        )

    def _add_problem(self, name: str, state: BrickState, message: str) -> None:
        kept = state.name.lower() if state in _BROKEN else "older version kept"
        self.problem_kinds[kept, message.partition(":")[0] or "no message"] += 1
        if len(self.problems) < _PROBLEMS_KEPT:
            self.problems.append(Problem(name, kept, message))

    def _add_quality(self, row: int, quality: Mapping[str, Any]) -> None:
        self.columns["measured"][row] = True
        for name in ("objects", "primary", "bad"):
            self.columns[name][row] = _number(quality.get(name))
        for band in self.bands:
            found = quality.get("bands", {}).get(band, {})
            for quantity in BAND_QUANTITIES:
                self.columns[f"{quantity}_{band}"][row] = _number(found.get(quantity))
        self.types.update(quality.get("types", {}))
        for name, fraction in quality.get("masked", {}).items():
            self.masked[name] = self.masked.get(name, 0.0) + fraction


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _geometry(table: pd.DataFrame) -> pd.DataFrame:
    """Return centre, borders and area of bricks; NaN for what is no brick of the sky."""
    corners = np.full((len(table), len(_GEOMETRY)), np.nan)
    for row, brickid in enumerate(table["brickid"].tolist()):
        if 1 <= brickid <= NUMBER_OF_BRICKS:
            brick = brick_from_id(brickid)
            corners[row] = [getattr(brick, name) for name in _GEOMETRY]
    places = pd.DataFrame(corners, columns=list(_GEOMETRY), index=table.index)
    height = np.degrees(np.sin(np.radians(places["dec2"])) - np.sin(np.radians(places["dec1"])))
    places["area"] = (places["ra2"] - places["ra1"]) * height
    return places
