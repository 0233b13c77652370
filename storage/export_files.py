"""Files of exported tables, written a block of rows at a time: Parquet, FITS, ECSV.

All say what they are: unit and meaning of every column, and the provenance of the table. A Parquet
file says it four times, for its readers look in different places: the fields' own metadata (pandas,
pyarrow), ``table_meta_yaml`` (astropy), an embedded VOTable (TOPCAT and other readers of the
VOParquet convention, IVOA Note 2025-01-16), and `storage.catalogue.METADATA_KEY`.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import meta
from numpy.typing import NDArray

from storage.catalogue import METADATA_KEY
from storage.errors import StorageError
from storage.export_columns import ExportColumn, empty_table

Columns = Mapping[str, NDArray[Any]]
#: Gives the blocks of the named columns, from the first row.
ReadBlocks = Callable[[Sequence[str]], Iterator[Columns]]

_FITS_BLOCK = 2880  # bytes
_FITS_FORMATS = {"int64": "K", "int32": "J", "uint8": "B", "float64": "D", "float32": "E"}
_VOTABLE_TYPES = {
    "int64": "long",
    "int32": "int",
    "uint8": "unsignedByte",
    "float64": "double",
    "float32": "float",
}


@dataclass(frozen=True)
class ExportPlan:
    """What is written: columns, number of rows, and where the table comes from."""

    columns: tuple[ExportColumn, ...]
    rows: int
    provenance: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return tuple(column.name for column in self.columns)


def write_parquet(path: Path, plan: ExportPlan, read: ReadBlocks) -> None:
    """Write a Parquet file; a block of rows becomes a row group."""
    schema = arrow_schema(plan)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for block in read(plan.names):
            writer.write_table(arrow_table(schema, block))


def write_fits(path: Path, plan: ExportPlan, read: ReadBlocks) -> None:
    """Write a FITS binary table with TUNIT, TCOMM and TUCD of every column."""
    columns = [
        fits.Column(
            column.name,
            _FITS_FORMATS.get(column.dtype, f"{column.width}A"),
            unit=column.unit or None,
            array=[],
        )
        for column in plan.columns
    ]
    hdu = fits.BinTableHDU.from_columns(columns, nrows=0, name="OBJECTS")
    header, dtype = hdu.header, hdu.columns.dtype.newbyteorder(">")
    header["NAXIS2"] = plan.rows
    for number, column in enumerate(plan.columns, start=1):
        header[f"TCOMM{number}"] = column.description
        if column.ucd:
            header[f"TUCD{number}"] = column.ucd
    header["SURVEY"] = str(plan.provenance.get("survey", ""))
    header["SNAPSHOT"] = str(plan.provenance.get("snapshot_id", ""))
    header["PROVENAN"] = json.dumps(plan.provenance, sort_keys=True)
    with path.open("wb") as handle:
        handle.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
        handle.write(header.tostring().encode("ascii"))
        written = 0
        for block in read(plan.names):
            rows = np.empty(len(block[plan.names[0]]), dtype)
            for name in plan.names:
                rows[name] = block[name]
            handle.write(rows.tobytes())
            written += len(rows)
        handle.write(b"\0" * (-written * dtype.itemsize % _FITS_BLOCK))
    _check_rows(path, written, plan)


def write_ecsv(path: Path, plan: ExportPlan, read: ReadBlocks) -> None:
    """Write an ECSV file: text, for small tables."""
    table = empty_table(plan.columns)
    table.meta.update(_plain(plan.provenance))
    head = io.StringIO()
    table.write(head, format="ascii.ecsv", delimiter=",")
    with path.open("w", encoding="utf-8", newline="") as handle:
        handle.write(head.getvalue())
        for block in read(plan.names):
            frame = pd.DataFrame({name: block[name] for name in plan.names})
            frame.to_csv(handle, header=False, index=False, na_rep="nan", lineterminator="\n")


def arrow_schema(plan: ExportPlan) -> pa.Schema:
    """Return the Arrow schema of a table, with all that a reader may ask for in its metadata."""
    fields = [
        pa.field(
            column.name,
            pa.string() if column.dtype == "str" else pa.from_numpy_dtype(np.dtype(column.dtype)),
            metadata={"unit": column.unit, "description": column.description},
        )
        for column in plan.columns
    ]
    table = empty_table(plan.columns)
    table.meta.update(_plain(plan.provenance))
    metadata: dict[str | bytes, str] = {
        "table_meta_yaml": "\n".join(meta.get_yaml_from_table(table)),
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": _votable(plan),
        METADATA_KEY: json.dumps(plan.provenance, sort_keys=True),
    }
    for column in plan.columns:
        if column.dtype == "str":  # astropy asks for the length of texts
            metadata[f"table::len::{column.name}"] = str(column.width)
    return pa.schema(fields, metadata=metadata)


def arrow_table(schema: pa.Schema, block: Columns) -> pa.Table:
    """Return a block of rows as an Arrow table."""
    return pa.Table.from_arrays(
        [pa.array(block[field.name], type=field.type) for field in schema], schema=schema
    )


def _votable(plan: ExportPlan) -> str:
    """Return a VOTable document that describes the columns and holds no data."""
    root = ElementTree.Element(
        "VOTABLE", {"version": "1.4", "xmlns": "http://www.ivoa.net/xml/VOTable/v1.3"}
    )
    resource = ElementTree.SubElement(root, "RESOURCE", {"type": "results"})
    table = ElementTree.SubElement(resource, "TABLE", {"nrows": str(plan.rows)})
    for key, value in plan.provenance.items():
        if isinstance(value, str) and value:
            values = {"name": key, "datatype": "char", "arraysize": "*", "value": value}
            ElementTree.SubElement(table, "PARAM", values)
    for column in plan.columns:
        values = {"name": column.name}
        if column.dtype == "str":
            values |= {"datatype": "char", "arraysize": "*"}
        else:
            values |= {"datatype": _VOTABLE_TYPES[column.dtype]}
        values |= {"unit": column.unit} if column.unit else {}
        values |= {"ucd": column.ucd} if column.ucd else {}
        field = ElementTree.SubElement(table, "FIELD", values)
        ElementTree.SubElement(field, "DESCRIPTION").text = column.description
    return str(ElementTree.tostring(root, encoding="unicode"))


def _plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain lists and mappings, which YAML writes without tags."""
    return dict(json.loads(json.dumps(provenance)))


def _check_rows(path: Path, written: int, plan: ExportPlan) -> None:
    if written != plan.rows:
        raise StorageError(
            f"{path}: {written} rows written, {plan.rows} announced: the store and its ledger "
            "disagree; run the quality check of the survey"
        )
