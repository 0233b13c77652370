"""The arrays of a survey group: names, dims, dtypes, units, chunks and shards.

One survey is one Zarr group ``<release>/<region>`` whose arrays share one growing ``object`` axis.
Every brick owns a range of whole shards on that axis, so that two bricks never write to the same
shard and workers can write side by side. This module is data and checks; it touches no store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from storage.errors import SchemaMismatch

SCHEMA_VERSION = 2
SHARD_ROWS = (
    64  # 64 x 3 x 152 x 152 float32, packed, are 14 MB: a good size on disk and in object stores
)
CHUNK_ROWS = 16  # measured: the smallest chunk that decodes at full speed (architecture.md, §0)
# An append or update rewrites whole chunks, so the larger a value, the fewer rows a chunk.
LEDGER_CHUNK_ROWS = 8192  # numbers
TEXT_CHUNK_ROWS = 1024  # names and digests
RECEIPT_CHUNK_ROWS = 64  # kilobytes of JSON each
CATALOGUE_UNITS_ATTRIBUTE = "column_units"  # on the catalogue array, one unit a column
PADDING_OBJID = -1  # rows that fill a brick's last shard, and withdrawn rows

#: Object identity and position, in the order of the object table.
OBJECT_COLUMNS = ("release", "brickid", "objid", "ra", "dec", "type")
#: Those of them that say which object a row is.
ID_COLUMNS = OBJECT_COLUMNS[:3]

#: Names of the ``type`` codes: the code is the position in this tuple (storage.tractor.ObjectType).
OBJECT_TYPE_NAMES = ("PSF", "REX", "EXP", "DEV", "SER", "DUP", "COMP", "DETECTED", "IMAGE")

#: Arrays over pixels that a block of cutouts carries.
PIXEL_ARRAYS = ("image", "invvar", "maskbits")

_BAND_COLUMN_UNITS = {
    "flux": "nanomaggy",
    "flux_ivar": "1/nanomaggy^2",
    "mw_transmission": "1",
    "fiberflux": "nanomaggy",
    "nobs": "1",
    "psfsize": "arcsec",
    "psfdepth": "1/nanomaggy^2",
    "galdepth": "1/nanomaggy^2",
    "rchisq": "1",
    "fracflux": "1",
}
_SHARED_COLUMN_UNITS = {
    "shape_r": "arcsec",
    "shape_e1": "1",
    "shape_e2": "1",
    "sersic": "1",
    "ebv": "mag",
    "bx": "pixel",
    "by": "pixel",
    "maskbits": "bits",  # below 2**24, so exact in float32
    "fitbits": "bits",
}


class BrickState(IntEnum):
    """What the ledger says of one brick."""

    ABSENT = 0  # fill value: never recorded
    WRITTEN = 1  # cutouts are in the store
    EMPTY = 2  # read without error, no object selected
    FAILED = 3  # could not be read; the receipt says why
    WITHDRAWN = 4  # taken out by name; stays out until it is asked for by name again
    FETCHED = 5  # its files are here and its rows are given; cutouts follow in the next commit
    VERIFIED = 6  # as FETCHED, and every file is the one that the survey's checksum list names
    QUARANTINED = 7  # its files contradict their checksums or one another; the receipt says how
    SUPERSEDED = 8  # in the history only: a version that a newer one of the brick replaced


@dataclass(frozen=True)
class ArraySpec:
    """One declared array of the store.

    ``chunk`` and ``shard`` give rows along the first axis; the other axes are never split.
    ``shard`` equal to ``chunk`` means an array without the sharding codec.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    chunk: int
    shard: int
    fill: int | float | str
    description: str


@dataclass(frozen=True)
class SurveyLayout:
    """What is fixed for a whole survey group when it is created.

    Parameters
    ----------
    bands : tuple of str
        One-letter bands in the order of the ``band`` axis.
    size : int
        Side of a cutout [pixel].
    unit : str
        Unit of ``image``: "nanomaggy", or "jpeg intensity" for image folders.
    pixel_scale : float
        Pixel size [arcsec]; NaN where it is unknown.
    columns : tuple of str
        Names on the ``column`` axis of ``catalogue``; empty means `catalogue_columns` of the bands.
    """

    bands: tuple[str, ...]
    size: int = 152
    unit: str = "nanomaggy"
    pixel_scale: float = 0.262
    columns: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise SchemaMismatch(f"bands {self.bands}: give at least one band, each once")
        if self.size < 1:
            raise SchemaMismatch(f"cutout size {self.size} pixels: give a size of at least 1")
        if not self.columns:
            object.__setattr__(self, "columns", catalogue_columns(self.bands))

    def lengths(self) -> dict[str, int]:
        """Return the lengths of the axes that do not grow."""
        return {
            "band": len(self.bands),
            "y": self.size,
            "x": self.size,
            "column": len(self.columns),
        }


def catalogue_columns(bands: Sequence[str]) -> tuple[str, ...]:
    """Return the names on the ``column`` axis of ``catalogue`` for these bands."""
    per_band = [f"{name}_{band}" for name in _BAND_COLUMN_UNITS for band in bands]
    return (*per_band, *_SHARED_COLUMN_UNITS)


def column_unit(column: str) -> str:
    """Return the unit of a catalogue column, "1" where it is dimensionless or not ours."""
    if column in _SHARED_COLUMN_UNITS:
        return _SHARED_COLUMN_UNITS[column]
    return _BAND_COLUMN_UNITS.get(column.rpartition("_")[0], "1")


def pixel_specs(unit: str) -> tuple[ArraySpec, ...]:
    """Declare the arrays over pixels; ``image`` is rounded as `storage.rounding` says."""
    cube = ("object", "band", "y", "x")
    plane = ("object", "y", "x")
    inverse = "1" if unit == "jpeg intensity" else f"1/{unit}^2"
    return (
        ArraySpec("image", cube, "float32", unit, CHUNK_ROWS, SHARD_ROWS, 0.0, "pixel values"),
        ArraySpec(
            "invvar", cube, "float32", inverse, CHUNK_ROWS, SHARD_ROWS, 0.0, "0 means no data"
        ),
        ArraySpec(
            "maskbits", plane, "int32", "bits", CHUNK_ROWS, SHARD_ROWS, 0, "storage.maskbits"
        ),
    )


def object_specs() -> tuple[ArraySpec, ...]:
    """Declare the arrays with one value, or one catalogue row, an object."""
    rows, axis = SHARD_ROWS, ("object",)
    nan = float("nan")
    return (
        ArraySpec("release", axis, "int32", "1", rows, rows, 0, "RELEASE code"),
        ArraySpec("brickid", axis, "int32", "1", rows, rows, 0, "BRICKID"),
        ArraySpec("objid", axis, "int64", "1", rows, rows, PADDING_OBJID, "OBJID; -1 is padding"),
        ArraySpec("ra", axis, "float64", "deg", rows, rows, nan, "right ascension (ICRS)"),
        ArraySpec("dec", axis, "float64", "deg", rows, rows, nan, "declination (ICRS)"),
        ArraySpec("type", axis, "uint8", "1", rows, rows, 255, "morphological type of the fit"),
        ArraySpec(
            "catalogue",
            ("object", "column"),
            "float32",
            "",  # one unit a column: attribute CATALOGUE_UNITS_ATTRIBUTE
            rows,
            rows,
            nan,
            "catalogue columns; NaN is missing",
        ),
    )


def survey_specs(layout: SurveyLayout) -> tuple[ArraySpec, ...]:
    """Declare every growing array of a survey group."""
    return pixel_specs(layout.unit) + object_specs()


def ledger_specs() -> tuple[ArraySpec, ...]:
    """Declare the columns of the brick ledger, the sub-group ``bricks`` of a survey group."""
    rows, text, axis = LEDGER_CHUNK_ROWS, TEXT_CHUNK_ROWS, ("brick",)
    short = RECEIPT_CHUNK_ROWS
    return (
        ArraySpec("brickname", axis, "str", "", text, text, "", "name, the key of the ledger"),
        ArraySpec("name_hash", axis, "uint64", "", rows, rows, 0, "of brickname, to find it fast"),
        ArraySpec("brickid", axis, "int32", "", rows, rows, 0, "BRICKID"),
        ArraySpec("state", axis, "uint8", "", rows, rows, 0, "storage.schema.BrickState"),
        ArraySpec("row_start", axis, "int64", "", rows, rows, 0, "first row on the object axis"),
        ArraySpec("rows", axis, "int32", "", rows, rows, 0, "rows owned: whole shards"),
        ArraySpec("n_objects", axis, "int32", "", rows, rows, 0, "leading rows that are objects"),
        ArraySpec("content_digest", axis, "str", "", text, text, "", "digest of the inputs"),
        ArraySpec("config_digest", axis, "str", "", text, text, "", "digest of the configuration"),
        ArraySpec("fingerprint", axis, "str", "", text, text, "", "of the files, without reading"),
        ArraySpec("verification", axis, "str", "", text, text, "", "what checksum lists said"),
        ArraySpec("receipt", axis, "str", "", short, short, "", "what happened, as JSON"),
    )


def history_specs() -> tuple[ArraySpec, ...]:
    """Declare the columns of the table of former versions of bricks, sub-group ``history``.

    Its key is ``<brickname>@<content digest>.<config digest>``, the digests cut to 16 digits.
    """
    rows, text, axis = LEDGER_CHUNK_ROWS, TEXT_CHUNK_ROWS, ("version",)
    return (
        ArraySpec("brickname", axis, "str", "", text, text, "", "key: name and digests"),
        ArraySpec("name_hash", axis, "uint64", "", rows, rows, 0, "of the key, to find it fast"),
        ArraySpec("brickid", axis, "int32", "", rows, rows, 0, "BRICKID"),
        ArraySpec("state", axis, "uint8", "", rows, rows, 0, "SUPERSEDED or WITHDRAWN"),
        ArraySpec("n_objects", axis, "int32", "", rows, rows, 0, "objects that it had"),
        ArraySpec("content_digest", axis, "str", "", text, text, "", "digest of the inputs"),
        ArraySpec("config_digest", axis, "str", "", text, text, "", "digest of the configuration"),
        ArraySpec("last_snapshot", axis, "str", "", text, text, "", "the last that has it"),
    )


def embedding_specs() -> tuple[ArraySpec, ...]:
    """Declare the arrays of embeddings; they share the rows of the survey's object axis."""
    rows, axis = SHARD_ROWS, ("object",)
    cube = ("object", "feature")
    return (
        ArraySpec("embedding", cube, "float16", "1", rows, rows, 0.0, "pooled features"),
        ArraySpec("release", axis, "int32", "1", rows, rows, 0, "RELEASE code"),
        ArraySpec("brickid", axis, "int32", "1", rows, rows, 0, "BRICKID"),
        ArraySpec("objid", axis, "int64", "1", rows, rows, PADDING_OBJID, "OBJID; -1 is padding"),
    )


def embedding_ledger_specs() -> tuple[ArraySpec, ...]:
    """Declare the columns of the ledger of embedded bricks."""
    rows, text, axis = LEDGER_CHUNK_ROWS, TEXT_CHUNK_ROWS, ("brick",)
    return (
        ArraySpec("brickname", axis, "str", "", text, text, "", "name, the key of the ledger"),
        ArraySpec("name_hash", axis, "uint64", "", rows, rows, 0, "of brickname, to find it fast"),
        ArraySpec("row_start", axis, "int64", "", rows, rows, 0, "first row on the object axis"),
        ArraySpec("rows", axis, "int32", "", rows, rows, 0, "rows owned: whole shards"),
        ArraySpec("n_objects", axis, "int32", "", rows, rows, 0, "leading rows that are objects"),
        ArraySpec("content_digest", axis, "str", "", text, text, "", "of the brick embedded"),
        ArraySpec("survey_snapshot", axis, "str", "", text, text, "", "snapshot that was read"),
    )


def shape_of(spec: ArraySpec, lengths: Mapping[str, int], rows: int) -> tuple[int, ...]:
    """Return the shape of an array whose first axis has ``rows`` rows."""
    return (rows, *(lengths[dim] for dim in spec.dims[1:]))


def padded_rows(n_objects: int) -> int:
    """Return the rows that a brick of ``n_objects`` owns: whole shards."""
    return -(-n_objects // SHARD_ROWS) * SHARD_ROWS
