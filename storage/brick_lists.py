"""Lists of bricks: the whole sky as columns, and files of brick names that people write.

For single bricks, with their neighbours and projections, see `storage.bricks`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.bricks import BRICK_SIZE_DEG, NUMBER_OF_BRICKS, brick_at
from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch
from storage.legacysurvey import BRICK_NAME
from storage.table_columns import TABLE_SUFFIXES, column_names, iterate_columns

_SHOWN = 10  # places of wrong or repeated names in one message
_ROW_OF_KEY = 20_000  # larger than any declination in tenths with its sign: keys are unique


@dataclass(frozen=True)
class BrickList:
    """Brick names of a file in its order, each once; `notes` says what stood there twice."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_brick_names(path: str | Path) -> BrickList:
    """Read a file of bricks.

    Parameters
    ----------
    path : str or Path
        Text with one brick name a line (``#`` starts a comment), or a CSV, ECSV, FITS or Parquet
        table with a column brickname, or else brickid, in any case.

    Raises
    ------
    BrickNotFound
        When the file is absent or lists no brick, or a name or number is of no brick of the sky;
        the message gives the lines (of a table: the rows, from 1).
    SchemaMismatch, CorruptFile
        When a table has neither column, or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise BrickNotFound(f"list of bricks {path} is not there; correct the path")
    is_table = path.name.lower().endswith(TABLE_SUFFIXES)
    places, names = _from_table(path) if is_table else _from_text(path)
    if not names:
        raise BrickNotFound(f"{path} lists no brick; write one name a line, such as 1238p245")
    word = "row" if is_table else "line"
    known = brickids_of(names) > 0
    if not known.all():
        wrong = [(places[index], names[index]) for index in np.flatnonzero(~known)]
        raise BrickNotFound(
            f"{path}: {len(wrong)} of {len(names)} entries are no brick of the sky: "
            f"{_shown(wrong, word)}; correct or remove them"
        )
    seen: dict[str, int] = {}
    again = []
    for place, name in zip(places, names, strict=True):
        if name in seen:
            again.append((place, f"{name} (first {word} {seen[name]})"))
        else:
            seen[name] = place
    notes = (f"{path}: {len(again)} repeated: {_shown(again, word)}",) if again else ()
    return BrickList(tuple(seen), notes)


@cache
def sky_bricks() -> Mapping[str, NDArray[Any]]:
    """Return the geometry of all bricks of the sky as columns, in order of BRICKID.

    Returns
    -------
    mapping of str to ndarray, shape (662174,)
        ``brickid`` (int32), ``ra1``, ``ra2``, ``dec1``, ``dec2`` (float64 [deg]) as in
        `storage.bricks.Brick`, and ``key``, the number that `name_keys` gives of the name.
    """
    centres = np.arange(round(180.0 / BRICK_SIZE_DEG) + 1) * BRICK_SIZE_DEG - 90.0
    first = np.array([brick_at(0.0, dec).brickid for dec in centres])
    columns = np.diff([*first, NUMBER_OF_BRICKS + 1])
    row = np.repeat(np.arange(len(centres)), columns)
    brickid = np.arange(1, NUMBER_OF_BRICKS + 1, dtype=np.int32)
    column = brickid - first[row]
    ra1, ra2 = (360.0 * edge / columns[row] for edge in (column, column + 1))
    ra, dec = 0.5 * (ra1 + ra2), centres[row]
    tenths = np.rint(np.abs(dec) * 1e4).astype(np.int64) // 1000
    key = np.rint(ra * 1e4).astype(np.int64) // 1000 * _ROW_OF_KEY + tenths + 10_000 * (dec >= 0)
    half = BRICK_SIZE_DEG / 2
    dec1, dec2 = np.maximum(dec - half, -90.0), np.minimum(dec + half, 90.0)
    return {"brickid": brickid, "key": key, "ra1": ra1, "ra2": ra2, "dec1": dec1, "dec2": dec2}


def name_keys(bricknames: Sequence[str]) -> NDArray[np.int64]:
    """Return one number a name, -1 where the text has not the form of a brick name."""
    return np.array(
        [
            int(name[:4]) * _ROW_OF_KEY + int(name[5:]) + 10_000 * (name[4] == "p")
            if BRICK_NAME.fullmatch(name)
            else -1
            for name in bricknames
        ],
        dtype=np.int64,
    )


def brickids_of(bricknames: Sequence[str]) -> NDArray[np.int32]:
    """Return the BRICKID of every name, 0 where no brick of the sky has it; quick for many."""
    keys, order = _sorted_keys()
    wanted = name_keys(bricknames)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, order[place] + 1, 0).astype(np.int32)


def brick_areas(bricknames: Sequence[str]) -> pd.DataFrame:
    """Return the primary areas of bricks, one row a name in the order given.

    Returns
    -------
    DataFrame
        ``brickname``, ``brickid``, ``ra1``, ``ra2``, ``dec1``, ``dec2`` [deg].

    Raises
    ------
    BrickNotFound
        When a name is of no brick of the sky.
    """
    brickids = brickids_of(bricknames)
    if not brickids.all():
        name = list(bricknames)[int(np.flatnonzero(brickids == 0)[0])]
        raise BrickNotFound(f"no brick of the sky is called {name!r}; check the name")
    columns = {name: values[brickids - 1] for name, values in sky_bricks().items() if name != "key"}
    return pd.DataFrame({"brickname": np.array(list(bricknames), dtype=object), **columns})


def names_of(brickids: NDArray[np.integer[Any]]) -> list[str]:
    """Return brick names, empty where a number is not in 1..662,174."""
    inside = (brickids >= 1) & (brickids <= NUMBER_OF_BRICKS)
    keys = sky_bricks()["key"][np.where(inside, brickids, 1) - 1]
    ra, rest = np.divmod(keys, _ROW_OF_KEY)
    north, dec = np.divmod(rest, 10_000)
    rows = zip(inside.tolist(), ra.tolist(), north.tolist(), dec.tolist(), strict=True)
    return [f"{a:04d}{'p' if n else 'm'}{d:03d}" if good else "" for good, a, n, d in rows]


@cache
def _sorted_keys() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    keys = sky_bricks()["key"]
    order = np.argsort(keys)
    return keys[order], order


def _from_text(path: Path) -> tuple[list[int], list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise CorruptFile(
            f"{path} is no text; give names, or a table ending in {', '.join(TABLE_SUFFIXES)}"
        ) from error
    found = [(place, line.partition("#")[0].strip()) for place, line in enumerate(lines, start=1)]
    found = [(place, name) for place, name in found if name and name.lower() != "brickname"]
    return [place for place, _ in found], [name for _, name in found]


def _from_table(path: Path) -> tuple[list[int], list[str]]:
    available = {name.lower(): name for name in column_names(path)}
    column = available.get("brickname") or available.get("brickid")
    if column is None:
        raise SchemaMismatch(
            f"{path}: no column brickname or brickid among {', '.join(available)}; rename one"
        )
    blocks = [block[column] for block in iterate_columns(path, [column])]
    values = np.concatenate(blocks) if blocks else np.empty(0, dtype=object)
    if values.dtype.kind in "iu":
        names = names_of(values)
        names = [name or str(value) for name, value in zip(names, values.tolist(), strict=True)]
    else:
        names = [str(value).strip() for value in values]
    return list(range(1, len(names) + 1)), names


def _shown(places: Iterable[tuple[int, str]], word: str) -> str:
    entries = [f"{word} {place} {text!r}" for place, text in places]
    more = f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else ""
    return ", ".join(entries[:_SHOWN]) + more
