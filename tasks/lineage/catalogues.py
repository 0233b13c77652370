"""Catalogues as files: ours, and copies that were given away.

A Parquet file carries its provenance in its metadata, a FITS table in its header, so a copy says
where it comes from wherever it lies. A folder is one catalogue of one or many Parquet files.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from astropy.io import fits

from storage.catalogue import (
    FILE_NAME,
    ID_COLUMNS,
    METADATA_KEY,
    format_object_id,
    parse_object_id,
)
from storage.errors import SchemaMismatch
from tasks.errors import TaskError
from tasks.references import ModelRef
from tasks.settings import Settings

PARQUET, FITS = (".parquet", ".parq", ".pq"), (".fits", ".fit", ".fits.gz")
PROVENANCE_CARD = "PROVENAN"  # of the header that `storage.export_files.write_fits` writes
OBJECT_ID = "object_id"
HATS_FILE, MANIFEST = "hats.properties", "release.json"

Key = tuple[int, int, int]
Row = dict[str, Any]


class UnreadableCatalogue(TaskError, ValueError):
    """A file is no catalogue, or the row asked for is not in it."""


@dataclass(frozen=True)
class CatalogueFile:
    """A catalogue on disk; made by `open_catalogue`."""

    place: Path

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Return the provenance that it carries; empty where a tool has dropped it."""
        if self._is_fits:
            return _fits_provenance(self.place)
        raw = (pq.read_schema(self.files[0]).metadata or {}).get(METADATA_KEY)
        return dict(json.loads(raw)) if raw else {}

    @cached_property
    def files(self) -> list[Path]:
        """Return the files that hold its rows, in order."""
        if self.place.is_file():
            return [self.place]
        whole = self.place / FILE_NAME
        if whole.is_file():  # of a release, which has the same rows once more as HATS
            return [whole]
        inside = self.place / "dataset"
        found = sorted((inside if inside.is_dir() else self.place).rglob("*.parquet"))
        return [path for path in found if not path.name.startswith(("_", "."))]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """Return what the folder of a release says of it; empty for any other catalogue."""
        path = self.place / MANIFEST
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    @property
    def survey(self) -> str:
        """Return the survey; empty where it is not said."""
        return str(self.metadata.get("survey") or self._snapshot.get("survey", ""))

    @property
    def snapshot_id(self) -> str:
        """Return the snapshot of cutouts it was made from; empty where it is not said."""
        return str(self._snapshot.get("snapshot_id") or self.metadata.get("snapshot_id", ""))

    @property
    def model(self) -> ModelRef | None:
        """Return the model that made it; None for a table of objects, or where it is not said."""
        found = self.metadata.get("model")
        if not isinstance(found, Mapping):
            return None
        known = {name: str(found.get(name, "")) for name in ModelRef.model_fields}
        return ModelRef.model_validate(known)

    @property
    def model_tags(self) -> dict[str, str]:
        """Return what the registry said of the model when the catalogue was made."""
        found = self.metadata.get("lineage")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, Mapping) else {}

    def count(self) -> int:
        """Return its number of rows."""
        return len(self._fits_rows) if self._is_fits else int(self._dataset.count_rows())

    def count_of_brick(self, brickid: int) -> int:
        """Return how many of its rows are objects of a brick."""
        if self._is_fits:
            return int(np.count_nonzero(self._fits_rows["brickid"] == brickid))
        if "brickid" not in self._dataset.schema.names:
            return 0
        return int(self._dataset.count_rows(filter=ds.field("brickid") == brickid))

    def find(self, key: Key) -> Row | None:
        """Return the row of an object by (release, brickid, objid), or None."""
        if self._is_fits:
            rows = self._fits_rows
            chosen = np.ones(len(rows), dtype=bool)
            for name, value in zip(ID_COLUMNS, key, strict=True):
                chosen &= rows[name] == value
            places = np.flatnonzero(chosen)
            return self._fits_row(int(places[0])) if len(places) else None
        names = self._dataset.schema.names
        if set(ID_COLUMNS) <= set(names):
            wanted = pa.scalar(True)
            for name, value in zip(ID_COLUMNS, key, strict=True):
                wanted = (ds.field(name) == value) & wanted
        elif OBJECT_ID in names:
            wanted = ds.field(OBJECT_ID) == format_object_id(*key)
        else:
            return None
        found: list[Row] = self._dataset.to_table(filter=wanted).slice(0, 1).to_pylist()
        return found[0] if found else None

    def row(self, number: int) -> Row:
        """Return a row by its place, from 0.

        Raises
        ------
        UnreadableCatalogue
            If it has no such row.
        """
        rows = self.count()
        if not 0 <= number < rows:
            raise UnreadableCatalogue(
                f"{self.place} has {rows} rows, numbered from 0: there is no row {number}"
            )
        if self._is_fits:
            return self._fits_row(number)
        found: list[Row] = self._dataset.take(pa.array([number])).to_pylist()
        return found[0]

    @property
    def _is_fits(self) -> bool:
        return self.place.is_file() and self.place.name.lower().endswith(FITS)

    @property
    def _snapshot(self) -> Mapping[str, Any]:
        found = self.metadata.get("snapshot")
        return found if isinstance(found, Mapping) else {}

    @cached_property
    def _dataset(self) -> Any:
        return ds.dataset([str(path) for path in self.files], format="parquet")

    @cached_property
    def _fits_rows(self) -> Any:
        return _fits_table(self.place)

    def _fits_row(self, number: int) -> Row:
        rows = self._fits_rows
        return {name.lower(): _plain(rows[name][number]) for name in rows.names}


def open_catalogue(place: str | Path) -> CatalogueFile:
    """Return a catalogue: the folder of one, or a single Parquet or FITS file.

    Raises
    ------
    UnreadableCatalogue
        If there is none at that place.
    """
    path = Path(place)
    if path.name == MANIFEST:
        path = path.parent
    found = CatalogueFile(path)
    readable = path.is_dir() or path.name.lower().endswith((*PARQUET, *FITS))
    if not readable or not found.files:
        raise UnreadableCatalogue(
            f"{place} is no catalogue: give its folder, or a .parquet or .fits file of one"
        )
    try:
        _ = found.metadata  # a file that was cut short shows here
    except (OSError, pa.ArrowInvalid, json.JSONDecodeError) as error:
        raise UnreadableCatalogue(f"{place} cannot be read: {error}") from error
    return found


def published_catalogues(settings: Settings) -> Iterator[CatalogueFile]:
    """Yield the catalogues of a home, in order of their folders."""
    root = settings.catalogue_path
    folders = {path.parent for name in (HATS_FILE, FILE_NAME) for path in root.rglob(name)}
    for folder in sorted(folders):
        if not folders & set(folder.parents):
            found = CatalogueFile(folder)
            if found.files and found.metadata:
                yield found


def key_of(row: Mapping[str, Any]) -> Key:
    """Return (release, brickid, objid) of a row.

    Raises
    ------
    UnreadableCatalogue
        If the row says neither these nor an object id.
    """
    if all(row.get(name) is not None for name in ID_COLUMNS):
        release, brickid, objid = (int(row[name]) for name in ID_COLUMNS)
        return release, brickid, objid
    try:
        return parse_object_id(str(row.get(OBJECT_ID, "")))
    except SchemaMismatch as error:
        raise UnreadableCatalogue(
            f"a row without object: it needs the columns {', '.join(ID_COLUMNS)}, or {OBJECT_ID}"
        ) from error


def _fits_provenance(path: Path) -> dict[str, Any]:
    with fits.open(path) as hdus:
        for hdu in hdus:
            if PROVENANCE_CARD in hdu.header:
                return dict(json.loads(hdu.header[PROVENANCE_CARD]))
            if "SNAPSHOT" in hdu.header:
                names = {"survey": "SURVEY", "snapshot_id": "SNAPSHOT"}
                return {name: str(hdu.header.get(card, "")) for name, card in names.items()}
    return {}


def _fits_table(path: Path) -> Any:
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            if isinstance(hdu, fits.BinTableHDU):
                return hdu.data
    raise UnreadableCatalogue(f"{path} holds no table")


def _plain(value: Any) -> Any:
    """Return a value of a FITS table as Python has it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.strip() if isinstance(value, str) else np.asarray(value).item()
