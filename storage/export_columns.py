"""The columns of an exported object table: type, unit, meaning and UCD of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy.table import Column, Table

from storage.errors import SchemaMismatch
from storage.schema import (
    OBJECT_COLUMNS,
    OBJECT_TYPE_NAMES,
    SurveyLayout,
    column_unit,
    object_specs,
)

#: Always exported: what identifies an object, and where it is.
KEY_COLUMNS = ("release", "brickid", "objid", "ra", "dec")

_UCDS = {
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "objid": "meta.id",
    "brickid": "meta.id.part",
    "brickname": "meta.id.part",
    "type": "meta.code.class",
    "flux": "phot.flux",
    "flux_ivar": "stat.weight;phot.flux",
    "mw_transmission": "phys.absorption.gal",
    "nobs": "meta.number;obs",
    "psfsize": "instr.det.psf",
    "ebv": "phot.color.excess",
    "shape_r": "phys.angSize",
}
_PER_BAND = {
    "flux": "model flux",
    "flux_ivar": "inverse variance of the model flux",
    "mw_transmission": "Galactic transmission; flux / mw_transmission is dereddened",
    "fiberflux": "flux in a fibre of 1.5 arcsec",
    "nobs": "exposures at the object",
    "psfsize": "FWHM of the PSF",
    "psfdepth": "inverse variance of a point source; 5 sigma is 5 / sqrt(psfdepth)",
    "galdepth": "inverse variance of a galaxy of 0.45 arcsec",
    "rchisq": "reduced chi-square of the fit",
    "fracflux": "flux of other sources over the object's own",
}
_SHARED = {
    "shape_r": "half-light radius",
    "shape_e1": "ellipticity component 1",
    "shape_e2": "ellipticity component 2",
    "sersic": "Sersic index",
    "ebv": "E(B-V) of Schlegel, Finkbeiner and Davis 1998",
    "bx": "column in the coadd, from 0",
    "by": "row in the coadd, from 0",
    "maskbits": "bits of storage.maskbits.MaskBit at the object",
    "fitbits": "bits of the fit",
}
_TYPES = "type of the fit: " + ", ".join(f"{n} {name}" for n, name in enumerate(OBJECT_TYPE_NAMES))


@dataclass(frozen=True)
class ExportColumn:
    """One column: ``dtype`` is a numpy type name or "str"; ``unit`` is empty for pure numbers.

    ``width`` is that of the longest text [byte].
    """

    name: str
    dtype: str
    unit: str
    description: str
    ucd: str = ""
    width: int = 1


def export_columns(
    layout: SurveyLayout, wanted: Sequence[str] | None = None
) -> tuple[ExportColumn, ...]:
    """Return the columns of the object table of a survey, or those that are wanted of them.

    Parameters
    ----------
    layout : SurveyLayout
    wanted : sequence of str, optional
        Names, in the order of the table whatever the order here; the `KEY_COLUMNS` always come.

    Raises
    ------
    SchemaMismatch
        When the survey has no column of a wanted name.
    """
    of_rows = {spec.name: spec for spec in object_specs()}
    columns = [
        ExportColumn("brickname", "str", "", "brick, or block of an image folder"),
        ExportColumn("row", "int64", "", "row of the cutout on the object axis of the store"),
    ]
    for name in OBJECT_COLUMNS:
        spec = of_rows[name]
        text = _TYPES if name == "type" else spec.description
        columns.append(ExportColumn(name, spec.dtype, _unit(spec.unit), text))
    columns += [
        ExportColumn(name, "float32", _unit(column_unit(name)), _describe(name))
        for name in layout.columns
    ]
    known = [column.name for column in columns]
    if unknown := [name for name in wanted or () if name not in known]:
        raise SchemaMismatch(
            f"columns {', '.join(unknown)}: not in this survey; choose from {', '.join(known)}"
        )
    chosen = known if wanted is None else {*KEY_COLUMNS, *wanted}
    return tuple(_with_ucd(column) for column in columns if column.name in chosen)


def empty_table(columns: Sequence[ExportColumn]) -> Table:
    """Return an astropy table without rows, for what astropy says of types, units and meanings."""
    return Table(
        [
            Column(
                np.empty(0, f"U{column.width}" if column.dtype == "str" else column.dtype),
                name=column.name,
                unit=column.unit or None,
                description=column.description,
            )
            for column in columns
        ]
    )


def _describe(name: str) -> str:
    quantity, _, band = name.rpartition("_")
    if name in _SHARED:
        return _SHARED[name]
    return f"{_PER_BAND[quantity]}, band {band}" if quantity in _PER_BAND else name


def _unit(unit: str) -> str:
    return "" if unit in ("1", "bits") else unit


def _with_ucd(column: ExportColumn) -> ExportColumn:
    quantity = column.name.rpartition("_")[0]
    ucd = _UCDS.get(column.name, _UCDS.get(quantity, ""))
    return replace(column, ucd=ucd)
