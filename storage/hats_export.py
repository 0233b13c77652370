"""An object table as a HATS catalogue: Parquet files by HEALPix cell, which LSDB opens.

The layout is that of the IVOA Note "HATS" 1.0: ``hats.properties``, ``partition_info.csv`` and
``dataset/Norder=k/Dir=d/Npix=n.parquet``, rows sorted by ``_healpix_29``, with ``_metadata`` and
``_common_metadata``. Cells are split where there are many objects. The table is read twice, for the
counts and for the rows, and rows wait on disk for their cell, so memory is that of one cell.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy_healpix import HEALPix
from numpy.typing import NDArray

from storage.errors import SchemaMismatch, StorageError
from storage.export_columns import ExportColumn
from storage.export_files import ExportPlan, ReadBlocks, arrow_schema, arrow_table

INDEX_COLUMN = "_healpix_29"
ROWS_OF_A_CELL = 250_000  # some 60 MB of 60 columns
DEEPEST_ORDER = 8  # cells of 0.05 square degrees: no survey has so many galaxies in one
_INDEX_ORDER = 29
_GROUP = 10_000  # cells in a Dir= folder, as the Note says
_WAITING = "waiting"


@dataclass(frozen=True)
class _Cells:
    """The cells of a catalogue, in order on the sky: order, number, first index of order 29."""

    order: NDArray[np.int64]
    number: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.int64]:
        return self.number << 2 * (_INDEX_ORDER - self.order)


def write_hats(folder: Path, plan: ExportPlan, read: ReadBlocks) -> None:
    """Write a HATS catalogue into a new folder.

    Raises
    ------
    SchemaMismatch
        When objects have no position, as those of an image folder without a table.
    """
    counts = _count(read)
    cells = choose_cells(counts, ROWS_OF_A_CELL)
    text = "HEALPix cell of order 29, nested"
    plan = replace(plan, columns=(ExportColumn(INDEX_COLUMN, "int64", "", text), *plan.columns))
    schema = arrow_schema(plan)
    waiting = folder / _WAITING
    _deal_out(waiting, plan, schema, cells, read)
    collected: list[Any] = []
    dataset = folder / "dataset"
    rows = [
        _write_cell(waiting / str(place), dataset, _path(order, number), collected)
        for place, (order, number) in enumerate(zip(cells.order, cells.number, strict=True))
    ]
    shutil.rmtree(waiting, ignore_errors=True)
    if sum(rows) != plan.rows:
        raise StorageError(f"{folder}: {sum(rows)} of {plan.rows} rows written; export again")
    dataset.mkdir(exist_ok=True)
    pq.write_metadata(schema, dataset / "_common_metadata")
    pq.write_metadata(schema, dataset / "_metadata", metadata_collector=collected)
    lines = [f"{order},{number}" for order, number in zip(cells.order, cells.number, strict=True)]
    (folder / "partition_info.csv").write_text("\n".join(["Norder,Npix", *lines]) + "\n")
    covered = float(np.count_nonzero(counts) / len(counts))
    _write_properties(folder, plan, cells, covered, max(rows, default=0))


def choose_cells(counts: NDArray[np.int64], most: int) -> _Cells:
    """Return the largest cells that hold at most ``most`` objects each, empty ones left out.

    Parameters
    ----------
    counts : ndarray, shape (12 * 4**k,)
        Objects in the cells of the deepest order k (nested), which may hold more than ``most``.
    """
    deepest = int(np.log2(len(counts) / 12)) // 2
    orders, numbers = [], []
    taken = np.zeros(12, bool)
    for order in range(deepest + 1):
        here = counts.reshape(12 * 4**order, -1).sum(axis=1)
        chosen = (here > 0) & ~taken & ((here <= most) | (order == deepest))
        numbers.append(np.flatnonzero(chosen))
        orders.append(np.full(len(numbers[-1]), order))
        taken = np.repeat(taken | chosen, 4)
    cells = _Cells(np.concatenate(orders), np.concatenate(numbers))
    place = np.argsort(cells.first)
    return _Cells(cells.order[place], cells.number[place])


def healpix_29(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the HEALPix cells of order 29 (nested) of positions [deg]."""
    grid = HEALPix(nside=2**_INDEX_ORDER, order="nested")
    return np.asarray(grid.lonlat_to_healpix(ra * units.deg, dec * units.deg), np.int64)


def _count(read: ReadBlocks) -> NDArray[np.int64]:
    counts = np.zeros(12 * 4**DEEPEST_ORDER, np.int64)
    for block in read(("ra", "dec")):
        ra, dec = block["ra"], block["dec"]
        if not (np.isfinite(ra) & np.isfinite(dec)).all():
            raise SchemaMismatch(
                "objects without a position have no place in a HATS catalogue; export to .parquet"
            )
        cells = healpix_29(ra, dec) >> 2 * (_INDEX_ORDER - DEEPEST_ORDER)
        counts += np.bincount(cells, minlength=len(counts))
    return counts


def _deal_out(
    waiting: Path, plan: ExportPlan, schema: pa.Schema, cells: _Cells, read: ReadBlocks
) -> None:
    """Put the rows of every block into files, one a cell and block, below ``waiting``."""
    for number, block in enumerate(read(plan.names[1:])):
        index = healpix_29(block["ra"], block["dec"])
        place = np.searchsorted(cells.first, index, side="right") - 1
        indexed: Mapping[str, NDArray[Any]] = {INDEX_COLUMN: index, **block}
        order = np.argsort(place, kind="stable")
        table = arrow_table(schema, indexed).take(pa.array(order))
        for cell, first, rows in zip(
            *np.unique(place[order], return_index=True, return_counts=True), strict=True
        ):
            path = waiting / str(cell) / f"{number:06d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.slice(first, rows), path, compression="lz4")


def _write_cell(parts: Path, dataset: Path, name: str, collected: list[Any]) -> int:
    """Write the file of a cell from the parts that wait for it; return its rows."""
    table = pa.concat_tables([pq.read_table(part) for part in sorted(parts.iterdir())])
    table = table.take(pa.array(np.argsort(table[INDEX_COLUMN].to_numpy(), kind="stable")))
    path = dataset / name
    path.parent.mkdir(parents=True, exist_ok=True)
    own: list[Any] = []
    pq.write_table(table, path, compression="zstd", metadata_collector=own)
    for metadata in own:
        metadata.set_file_path(name)
    collected += own
    shutil.rmtree(parts)
    return int(table.num_rows)


def _path(order: int, number: int) -> str:
    return f"Norder={order}/Dir={number // _GROUP * _GROUP}/Npix={number}.parquet"


def _write_properties(
    folder: Path, plan: ExportPlan, cells: _Cells, covered: float, most_rows: int
) -> None:
    size = sum(path.stat().st_size for path in (folder / "dataset").rglob("*") if path.is_file())
    survey = str(plan.provenance.get("survey", ""))
    # LSDB tells catalogues apart by this name, also when one is matched with another of its survey.
    name = str(plan.provenance.get("release") or survey).replace("/", "_")
    values = {
        "obs_collection": name,
        "obs_title": f"Objects of {survey}",
        "dataproduct_type": "object",
        "hats_nrows": plan.rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": INDEX_COLUMN,
        "hats_col_healpix_order": _INDEX_ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_order": int(cells.order.max(initial=0)),
        "hats_max_rows": most_rows,
        "hats_estsize": -(-size // 1024),
        "moc_sky_fraction": f"{covered:.6g}",
        "hats_builder": f"brickyard {plan.provenance.get('creator', '')}".strip(),
        "hats_creation_date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC"),
        "hats_version": "v1.0",
        "brickyard_snapshot": str(plan.provenance.get("snapshot_id", "")),
    }
    lines = [f"{key}={value}" for key, value in values.items()]
    (folder / "hats.properties").write_text("\n".join(["#HATS catalog", *lines]) + "\n")
