"""Blocks of cutouts that break the schema are refused with a reason."""

import numpy as np
import pytest
import xarray as xr

from storage.errors import SchemaMismatch
from storage.schema import SurveyLayout
from storage.validation import validate


def test_a_good_block_passes(make_block, layout):
    validate(make_block(3), layout)
    validate(make_block(0), layout)


def _with_value(name: str, value: float):
    def change(block: xr.Dataset) -> xr.Dataset:
        values = block[name].values.copy()
        values.flat[0] = value
        return block.assign({name: (block[name].dims, values)})

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda block: block.drop_vars("maskbits"), "'maskbits' is absent"),
        (lambda block: block.assign(image=block["image"].astype("float64")), "'image' is float64"),
        (lambda block: block.isel(band=[0, 1]), "'image' is float32"),
        (lambda block: block.isel(band=[1, 0, 2]), "coordinate 'band'"),
        (lambda block: block.drop_vars("column"), "coordinate 'column'"),
        (lambda block: block.isel(x=slice(0, 4)), "'image' is float32"),
        (_with_value("image", np.nan), "NaN or inf in 'image'"),
        (_with_value("image", np.inf), "NaN or inf in 'image'"),
        (_with_value("invvar", -1.0), "'invvar' must be finite"),
        (_with_value("invvar", np.inf), "'invvar' must be finite"),
        (_with_value("objid", -1), "'objid' must be 0 or more"),
        (_with_value("objid", 3), "'objid' must be 0 or more, and each only once"),
    ],
)
def test_broken_blocks_are_refused(make_block, layout, change, reason):
    with pytest.raises(SchemaMismatch, match=reason):
        validate(change(make_block(3)), layout)


def test_the_size_of_another_survey_is_refused(make_block):
    with pytest.raises(SchemaMismatch, match="own bands and cutout size"):
        validate(make_block(3), SurveyLayout(bands=("g", "r", "z"), size=16))
