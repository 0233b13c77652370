"""Check a block of cutouts against the schema before it is written."""

from collections.abc import Hashable, Mapping

import numpy as np
import xarray as xr

from storage.errors import SchemaMismatch
from storage.schema import OBJECT_COLUMNS, PIXEL_ARRAYS, ArraySpec, SurveyLayout, survey_specs


def validate(dataset: xr.Dataset, layout: SurveyLayout) -> None:
    """Refuse a block of cutouts that breaks the schema.

    Parameters
    ----------
    dataset : Dataset
        ``image`` and ``invvar`` (object, band, y, x) float32, ``maskbits`` (object, y, x) int32,
        the `OBJECT_COLUMNS` (object,), ``catalogue`` (object, column) float32, and the coordinates
        ``band`` and ``column``.
    layout : SurveyLayout
        The layout of the survey group it goes to.

    Raises
    ------
    SchemaMismatch
        When an array is absent, or has other dims, shape, dtype, bands or columns, or when a value
        breaks a rule: NaN or inf in ``image``, negative or non-finite ``invvar``, ``objid`` below 0
        or twice in the block.
    """
    specs = {spec.name: spec for spec in survey_specs(layout)}
    lengths = layout.lengths() | {"object": dataset.sizes.get("object", 0)}
    for name in (*PIXEL_ARRAYS, *OBJECT_COLUMNS, "catalogue"):
        if name not in dataset:
            raise SchemaMismatch(f"block of cutouts: array {name!r} is absent; add it")
        dtype = "float32" if name == "image" else specs[name].dtype
        _check_array(dataset[name], specs[name], dtype, lengths)
    _check_labels(dataset, "band", layout.bands)
    _check_labels(dataset, "column", layout.columns)
    _check_values(dataset)


def _check_array(
    array: xr.DataArray, spec: ArraySpec, dtype: str, lengths: Mapping[str, int]
) -> None:
    expected = tuple(lengths[dim] for dim in spec.dims)
    if array.dims != spec.dims or array.shape != expected or array.dtype != np.dtype(dtype):
        raise SchemaMismatch(
            f"block of cutouts: {spec.name!r} is {array.dtype} {dict(array.sizes)}, "
            f"the survey holds {dtype} {dict(zip(spec.dims, expected, strict=True))}; "
            "read the brick with the survey's own bands and cutout size"
        )


def _check_labels(dataset: xr.Dataset, name: Hashable, expected: tuple[str, ...]) -> None:
    labels = tuple(str(value) for value in dataset[name].values) if name in dataset.coords else ()
    if labels != expected:
        raise SchemaMismatch(
            f"block of cutouts: coordinate {name!r} is {labels}, the survey has {expected}; "
            "order the block as the survey"
        )


def _check_values(dataset: xr.Dataset) -> None:
    invvar, objid = dataset["invvar"].values, dataset["objid"].values
    if not np.isfinite(dataset["image"].values).all():
        raise SchemaMismatch("block of cutouts: NaN or inf in 'image'; set it to 0 with invvar 0")
    if not (np.isfinite(invvar).all() and (invvar >= 0).all()):
        raise SchemaMismatch("block of cutouts: 'invvar' must be finite and not negative")
    if (objid < 0).any() or len(np.unique(objid)) != len(objid):
        raise SchemaMismatch("block of cutouts: 'objid' must be 0 or more, and each only once")
