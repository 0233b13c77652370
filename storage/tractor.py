"""Tractor catalogues and sweeps of any release as one table of objects.

The columns of DR9 and DR10 are the standard; older schemas are mapped where the survey documents
how, and refused with `SchemaMismatch` otherwise. What is mapped:

* names in any case; text padded with blanks; type SIMP (DR1 to DR4) to its successor REX;
* arrays over bands: DECAM_FLUX and its kind (DR1 to DR3, order ugrizY), and those of intermediate
  catalogues (``tractor-i``, order in the header's BAND0, BAND1, ...);
* shapeexp/shapedev (before DR9) to shape_r, shape_e1, shape_e2 and sersic (EXP 1, DEV 4); for COMP
  the component with more of the flux gives the shape, and sersic stays missing;
* mw_transmission from ebv where only that is there;
* brick_primary from the brick's borders (all sweeps, and DR8 catalogues without it);
* maskbits to the bits of `storage.maskbits.MaskBit` where the header names others.

Other quantities that a release lacks are missing (NaN), and a note names them: in DR1 to DR4
fiberflux and maskbits; before DR9 psfsize and fitbits; in sweeps also bx, by and rchisq.
ALLMASK_<band> of DR3 to DR7 is another mask than MASKBITS and is not taken for it.

This module selects nothing; see `storage.selection`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.bricks import Brick
from storage.errors import SchemaMismatch
from storage.fits_files import read_table
from storage.legacysurvey import BANDS, EXTINCTION_COEFFICIENTS
from storage.maskbits import standard_bits
from storage.schema import catalogue_columns


class ObjectType(IntEnum):
    """Codes of the ``type`` column of the store."""

    PSF = 0
    REX = 1
    EXP = 2
    DEV = 3
    SER = 4
    DUP = 5
    COMP = 6  # before DR9
    DETECTED = 7  # found by storage.detection, no fit
    IMAGE = 8  # a picture of an image folder


@dataclass(frozen=True)
class Tractor:
    """The objects of one brick.

    ``table`` has the columns release, brickid, objid, ra, dec [deg], type (`ObjectType`),
    `storage.schema.catalogue_columns` of the bands (float32, NaN where the catalogue lacks one) and
    brick_primary (bool). ``notes`` says what was mapped or missing.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


_REQUIRED = ("objid", "ra", "dec", "type")
_TYPE_NAMES = {"SIMP": "REX", "PSFB": "PSF"}
_SERSIC_INDEX = {"PSF": 0.0, "REX": 1.0, "EXP": 1.0, "DEV": 4.0}
_OLD_ARRAYS = {"psfdepth": ("psfdepth", "depth"), "flux_ivar": ("flux_ivar",)}  # DR1: DECAM_DEPTH


def read_tractor(path: Path, brick: Brick, bands: Sequence[str]) -> Tractor:
    """Read the catalogue of a brick.

    Parameters
    ----------
    path : Path
        A tractor, tractor-i or sweep file; rows of other bricks are left out.
    brick : Brick
    bands : sequence of str
        Bands of the per-band columns.

    Raises
    ------
    SchemaMismatch
        When a column that identifies or places objects is missing, a type is unknown, or no row is
        of the brick.
    CorruptFile
        When the file is truncated or damaged.
    """
    rows, header = read_table(path)
    columns = {str(name).lower(): rows[name] for name in rows.dtype.names or ()}
    return from_columns(CatalogueColumns(path, columns, header), brick, bands)


def from_columns(source: "CatalogueColumns", brick: Brick, bands: Sequence[str]) -> Tractor:
    """Bring columns of a catalogue to the standard; as `read_tractor` for what is read already."""
    missing = [name for name in _REQUIRED if name not in source.columns]
    if missing:
        raise SchemaMismatch(
            f"{source.path}: no column {', '.join(missing)}; give a tractor or sweep file of the "
            "survey: those of DR1 to DR10 have them"
        )
    notes: list[str] = []
    table = _identity(source, brick, notes)
    quantities = catalogue_columns(bands)
    values = {name: _catalogue_column(source, name, bands, notes) for name in quantities}
    values |= _shapes(source, table["type"].to_numpy()) if "shape_r" not in source.columns else {}
    values |= _transmission(values, bands, notes)
    notes += _missing(values, bands)
    columns = pd.DataFrame({name: values[name] for name in quantities}, dtype=np.float32)
    table = pd.concat([table, columns], axis=1)
    return Tractor(_rows_of(source.path, table, brick, notes), tuple(notes))


@dataclass(frozen=True)
class CatalogueColumns:
    """What was read of a catalogue: columns by lower-case name, and the header."""

    path: Path
    columns: Mapping[str, NDArray[Any]]
    header: Mapping[str, Any]

    def rows(self) -> int:
        """Return the number of rows."""
        return len(self.columns["objid"])

    def one(self, name: str) -> NDArray[np.float64]:
        """Return a scalar column as float, NaN where the catalogue lacks it."""
        column = self.columns.get(name)
        if column is None or column.ndim != 1:
            return np.full(self.rows(), np.nan)
        return np.asarray(column, np.float64)

    def band(self, quantity: str, band: str) -> NDArray[np.float64]:
        """Return a per-band column, whether it is one column a band or an array over bands."""
        column = self.columns.get(f"{quantity}_{band.lower()}")
        if column is not None and column.ndim == 1:
            return np.asarray(column, np.float64)
        for old in _OLD_ARRAYS.get(quantity, (quantity,)):
            for name, order in ((f"decam_{old}", BANDS), (old, self._header_bands())):
                column = self.columns.get(name)
                if column is None or band not in order:
                    continue
                column = column.reshape(self.rows(), -1)
                if column.shape[1] != len(order):
                    raise SchemaMismatch(
                        f"{self.path}: column {name} has {column.shape[1]} values a row for bands "
                        f"{', '.join(order) or 'unknown'}; ask for a catalogue with one column a "
                        "band"
                    )
                return np.asarray(column[:, order.index(band)], np.float64)
        return np.full(self.rows(), np.nan)

    def _header_bands(self) -> tuple[str, ...]:
        keys = (f"BAND{number}" for number in range(len(BANDS)))
        return tuple(str(self.header[key]).strip() for key in keys if key in self.header)


def _identity(source: CatalogueColumns, brick: Brick, notes: list[str]) -> pd.DataFrame:
    columns, rows = source.columns, source.rows()
    release = columns.get("release")
    if release is None:
        code = int(source.header.get("RELEASE", source.header.get("DRVERSIO", 0)))
        notes.append(f"catalogue without RELEASE: taken as {code} from the header")
        release = np.full(rows, code)
    ra, dec = source.one("ra"), source.one("dec")
    primary = columns.get("brick_primary")
    if primary is None:
        notes.append("catalogue without BRICK_PRIMARY: taken from the brick's borders")
        primary = brick.owns(ra, dec)
    return pd.DataFrame(
        {
            "release": np.asarray(release, np.int32),
            "brickid": np.asarray(columns.get("brickid", np.full(rows, brick.brickid)), np.int32),
            "objid": np.asarray(columns["objid"], np.int64),
            "ra": ra,
            "dec": dec,
            "type": _types(source),
            "brick_primary": np.asarray(primary).astype(bool),
        }
    )


def _types(source: CatalogueColumns) -> NDArray[np.uint8]:
    names = np.char.upper(np.char.strip(np.asarray(source.columns["type"]).astype(str)))
    codes = np.zeros(len(names), np.uint8)
    for name in np.unique(names):
        standard = _TYPE_NAMES.get(str(name), str(name))
        if standard not in ObjectType.__members__:
            raise SchemaMismatch(
                f"{source.path}: unknown object type {str(name)!r}; known are "
                f"{', '.join(ObjectType.__members__)} and SIMP"
            )
        codes[names == name] = ObjectType[standard]
    return codes


def _catalogue_column(
    source: CatalogueColumns, name: str, bands: Sequence[str], notes: list[str]
) -> NDArray[np.float64]:
    quantity, _, band = name.rpartition("_")
    if band in bands and quantity:
        return source.band(quantity, band)
    if name == "maskbits" and name in source.columns:
        bits, unknown = standard_bits(np.asarray(source.columns[name]), source.header)
        if unknown:
            notes.append(f"catalogue maskbits {', '.join(unknown)} are unknown, left out")
        return np.asarray(bits, np.float64)
    return source.one(name)


def _missing(values: Mapping[str, NDArray[np.float64]], bands: Sequence[str]) -> list[str]:
    """Name the quantities of which the catalogue has nothing at all."""
    absent = {name for name, column in values.items() if len(column) and np.isnan(column).all()}
    notes = []
    without = [band for band in bands if f"flux_{band}" in absent]
    if without:
        notes.append(f"catalogue without fluxes in band {', '.join(without)}: stored as missing")
        absent -= {name for name in absent if name.rpartition("_")[2] in without}
    whole = {
        name.rpartition("_")[0] if name.rpartition("_")[2] in bands else name for name in absent
    }
    if whole:
        notes.append(f"catalogue without {', '.join(sorted(whole))}: stored as missing")
    return notes


def _shapes(source: CatalogueColumns, types: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """Return one shape an object from the two profiles that catalogues before DR9 hold."""
    fraction = np.nan_to_num(source.one("fracdev"), nan=0.0)
    is_comp = types == ObjectType.COMP
    is_dev = (types == ObjectType.DEV) | (is_comp & (fraction > 0.5))
    shapes = {
        f"shape_{part}": np.where(
            is_dev, source.one(f"shapedev_{part}"), source.one(f"shapeexp_{part}")
        )
        for part in ("r", "e1", "e2")
    }
    sersic = np.full(len(types), np.nan)
    for name, index in _SERSIC_INDEX.items():
        sersic[types == ObjectType[name]] = index
    return shapes | {"sersic": sersic}


def _transmission(
    values: Mapping[str, NDArray[np.float64]], bands: Sequence[str], notes: list[str]
) -> dict[str, NDArray[np.float64]]:
    """Compute transmissions that the catalogue lacks from its E(B-V)."""
    computed: dict[str, NDArray[np.float64]] = {}
    for band in bands:
        name = f"mw_transmission_{band}"
        if len(values[name]) and np.isnan(values[name]).all() and band in EXTINCTION_COEFFICIENTS:
            computed[name] = 10 ** (-0.4 * EXTINCTION_COEFFICIENTS[band] * values["ebv"])
    if computed:
        known = not np.isnan(values["ebv"]).all()
        source = "computed from EBV" if known else "the extinction is unknown"
        notes.append(f"catalogue without {', '.join(computed).upper()}: {source}")
    return computed


def _rows_of(path: Path, table: pd.DataFrame, brick: Brick, notes: list[str]) -> pd.DataFrame:
    """Keep the brick's own rows, each objid once."""
    own = (table["brickid"] == brick.brickid).to_numpy()
    if len(table) and not own.any():
        raise SchemaMismatch(
            f"{path}: all rows are of brickid {sorted(set(table['brickid']))[:3]}, not of "
            f"{brick.brickname} ({brick.brickid}); put the catalogue where it belongs"
        )
    if not own.all():
        notes.append(f"{np.count_nonzero(~own)} catalogue rows are of other bricks, left out")
    table = table[own]
    good = ((table["objid"] >= 0) & ~table["objid"].duplicated()).to_numpy()
    if not good.all():
        notes.append(f"{np.count_nonzero(~good)} catalogue rows repeat an objid, left out")
    return table[good].reset_index(drop=True)
