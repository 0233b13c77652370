"""The object table of a snapshot as a file for other tools: Parquet, FITS, ECSV or HATS.

Rows come in blocks of whole bricks, so that memory does not grow with the survey, and the target
appears whole or not at all. What is in the files is in `storage.export_files` and
`storage.hats_export`.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage import arrays
from storage.brick_ledger import ledger
from storage.brick_rows import valid_rows
from storage.errors import NothingToDo, SchemaMismatch, StorageError
from storage.export_columns import export_columns
from storage.export_files import (
    Columns,
    ExportPlan,
    ReadBlocks,
    write_ecsv,
    write_fits,
    write_parquet,
)
from storage.hats_export import write_hats
from storage.schema import OBJECT_COLUMNS, BrickState
from storage.survey_group import read_configurations, read_layout

BLOCK_ROWS = 65_536  # some 15 MB of 60 columns
_PLACES = ("state", "row_start", "n_objects")
_WRITERS = {
    ".parquet": write_parquet,
    ".fits": write_fits,
    ".ecsv": write_ecsv,
    ".hats": write_hats,
}


def export_objects(
    session: icechunk.Session,
    survey_key: str,
    target: str | Path,
    *,
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
    creator: str = "brickyard",
) -> ExportPlan:
    """Write the objects of a survey, one row each, in the order of the store (HATS: of the sky).

    Parameters
    ----------
    session : Session
        Read-only, on the snapshot to export.
    survey_key : str
    target : str or Path
        The ending decides: .parquet, .fits, .ecsv, or .hats for a folder.
    columns : sequence of str, optional
        All by default; `storage.export_columns.KEY_COLUMNS` are always there.
    overwrite : bool
        Replace a target that exists.
    creator : str
        Program and version, for the provenance in the file.

    Returns
    -------
    ExportPlan
        What was written.

    Raises
    ------
    SchemaMismatch
        When the ending or a column is unknown.
    StorageError
        When the target exists and may not be replaced, or the survey is not in the snapshot.
    NothingToDo
        When the survey has no object.
    """
    target = Path(target)
    writer = _WRITERS.get(target.suffix.lower())
    if writer is None:
        raise SchemaMismatch(f"{target}: end its name with one of {', '.join(_WRITERS)}")
    if target.exists() and not overwrite:
        raise StorageError(f"{target} is there already; remove it, or use --overwrite")
    layout = read_layout(session, survey_key)
    table = ledger(session, survey_key, _PLACES)
    table = table[table["state"] == int(BrickState.WRITTEN)].sort_values("row_start")
    if table.empty:
        raise NothingToDo(f"{survey_key} has no object in this snapshot; ingest bricks first")
    longest = max(len(str(name)) for name in table.index)  # the one text is the brick's name
    plan = ExportPlan(
        columns=tuple(
            replace(column, width=longest) if column.dtype == "str" else column
            for column in export_columns(layout, columns)
        ),
        rows=int(table["n_objects"].sum()),
        provenance={
            "survey": survey_key,
            "snapshot_id": str(session.snapshot_id),
            "configurations": read_configurations(session, survey_key),
            "creator": creator,
        },
    )

    def read(names: Sequence[str]) -> Iterator[Columns]:
        return _read_blocks(session, survey_key, table, names)

    _write_whole(target, plan, read)
    return plan


def _write_whole(target: Path, plan: ExportPlan, read: ReadBlocks) -> None:
    """Write beside the target and put it in place at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    _remove(part)
    is_folder = target.suffix.lower() == ".hats"
    if is_folder:
        part.mkdir()
    try:
        _WRITERS[target.suffix.lower()](part, plan, read)
        if is_folder:
            _remove(target)  # a folder cannot replace a folder
        else:
            with part.open("rb") as handle:
                os.fsync(handle.fileno())
        part.replace(target)
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()


def _read_blocks(
    session: icechunk.Session, survey_key: str, table: pd.DataFrame, names: Sequence[str]
) -> Iterator[Columns]:
    """Yield columns of the objects of bricks, some `BLOCK_ROWS` rows at a time."""
    group = arrays.open_group(session, survey_key)
    catalogue = {name: place for place, name in enumerate(read_layout(session, survey_key).columns)}
    block_of = (table["n_objects"].cumsum().to_numpy() - 1) // BLOCK_ROWS
    for _, bricks in table.groupby(block_of, sort=False):
        rows = valid_rows(bricks)
        block: dict[str, NDArray[Any]] = {"row": rows}
        if "brickname" in names:
            texts = np.array(bricks.index, dtype=object)
            block["brickname"] = np.repeat(texts, bricks["n_objects"])
        for name in OBJECT_COLUMNS:
            if name in names:
                block[name] = arrays.take_rows(arrays.get_array(group, name), rows)
        if wanted := [name for name in names if name in catalogue]:
            values = arrays.take_rows(arrays.get_array(group, "catalogue"), rows)
            block |= {name: values[:, catalogue[name]] for name in wanted}
        yield {name: block[name] for name in names}
