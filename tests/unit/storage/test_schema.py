"""Declared arrays and layouts."""

import numpy as np
import pytest

from storage.errors import SchemaMismatch
from storage.schema import (
    CHUNK_ROWS,
    OBJECT_COLUMNS,
    PIXEL_ARRAYS,
    SHARD_ROWS,
    SurveyLayout,
    catalogue_columns,
    column_unit,
    ledger_specs,
    padded_rows,
    shape_of,
    survey_specs,
)


def test_shards_are_whole_chunks():
    assert SHARD_ROWS % CHUNK_ROWS == 0
    for spec in survey_specs(SurveyLayout(bands=("g",))):
        assert spec.shard == SHARD_ROWS
        assert spec.shard % spec.chunk == 0


@pytest.mark.parametrize(("objects", "rows"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_bricks_own_whole_shards(objects, rows):
    assert padded_rows(objects) == rows


def test_pixels_are_float32():
    specs = {spec.name: spec for spec in survey_specs(SurveyLayout(bands=("g", "r", "z")))}
    assert specs["image"].dtype == "float32"
    assert specs["invvar"].dtype == "float32"
    assert set(PIXEL_ARRAYS) | set(OBJECT_COLUMNS) <= set(specs)


def test_catalogue_columns_follow_the_bands_and_have_units():
    columns = catalogue_columns(("g", "i"))
    assert "flux_i" in columns
    assert "flux_r" not in columns
    assert len(set(columns)) == len(columns)
    assert column_unit("flux_ivar_g") == "1/nanomaggy^2"
    assert column_unit("shape_r") == "arcsec"
    assert column_unit("psfsize_g") == "arcsec"
    assert column_unit("something_new") == "1"


def test_layout_fills_in_the_columns():
    assert SurveyLayout(bands=("z",)).columns == catalogue_columns(("z",))
    assert SurveyLayout(bands=("z",), columns=("flux_z",)).lengths()["column"] == 1


@pytest.mark.parametrize(
    "arguments", [{"bands": ()}, {"bands": ("g", "g")}, {"bands": ("g",), "size": 0}]
)
def test_impossible_layouts_are_refused(arguments):
    with pytest.raises(SchemaMismatch):
        SurveyLayout(**arguments)


def test_shape_takes_rows_first():
    spec = next(s for s in survey_specs(SurveyLayout(bands=("g", "r"))) if s.name == "image")
    assert shape_of(spec, {"band": 2, "y": 5, "x": 5}, 7) == (7, 2, 5, 5)


def test_ledger_strings_have_a_stable_zarr_type():
    # Fixed-length strings have no Zarr v3 specification and would warn at every write.
    kinds = {spec.dtype for spec in ledger_specs()}
    assert all(kind == "str" or np.dtype(kind).kind in "iu" for kind in kinds)
