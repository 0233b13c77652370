import numpy as np
import pandas as pd
import pytest

from storage.errors import SchemaMismatch
from storage.schema import catalogue_columns
from storage.selection import Selection, select
from storage.tractor import ObjectType


@pytest.fixture
def table() -> pd.DataFrame:
    number = 6
    rows = pd.DataFrame(
        {
            "release": 10000,
            "brickid": 1,
            "objid": np.arange(number),
            "ra": [359.9, 0.1, 0.2, 0.3, 0.4, np.nan],
            "dec": np.linspace(0, 1, number),
            "type": [ObjectType[name] for name in ("EXP", "PSF", "DEV", "SER", "DUP", "EXP")],
            "brick_primary": [True, True, False, True, True, True],
        }
    )
    columns = pd.DataFrame(np.nan, index=rows.index, columns=list(catalogue_columns("grz")))
    table = pd.concat([rows, columns], axis=1)
    for band in "grz":
        table[f"flux_{band}"] = [100.0, 100.0, 100.0, 8.0, 0.0, 100.0]
        table[f"flux_ivar_{band}"] = 1.0
        table[f"mw_transmission_{band}"] = 1.0
    return table


def test_default_counts_each_object_once(table: pd.DataFrame) -> None:
    selected = select(table, Selection())
    assert selected.table["objid"].tolist() == [0]
    assert selected.dropped == {
        "no_position": 1,
        "type_PSF": 1,
        "type_DUP": 1,
        "not_primary": 1,
        "too_faint": 1,
    }
    assert sum(selected.dropped.values()) + len(selected.table) == len(table)


def test_magnitude_is_dereddened(table: pd.DataFrame) -> None:
    table["mw_transmission_z"] = 0.7  # 8 nanomaggies become 11.4: brighter than 20
    assert 3 in select(table, Selection()).table["objid"].tolist()


def test_without_extinction_the_note_says_so(table: pd.DataFrame) -> None:
    table["mw_transmission_z"] = np.nan
    selected = select(table, Selection())
    assert selected.table["objid"].tolist() == [0]
    assert any("not dereddened" in note for note in selected.notes)


def test_a_band_without_measurements_gives_way(table: pd.DataFrame) -> None:
    table["flux_z"], table["flux_ivar_z"] = 0.0, 0.0
    table["flux_r"] *= 2
    selected = select(table, Selection())
    assert selected.table["objid"].tolist() == [0, 3]
    assert "selected on band r" in selected.notes[0]


def test_no_flux_anywhere(table: pd.DataFrame) -> None:
    for band in "grz":
        table[f"flux_{band}"] = np.nan
    selected = select(table, Selection())
    assert len(selected.table) == 0
    assert selected.dropped["no_flux"] == 2
    assert "without flux" in selected.notes[0]


def test_no_magnitude_limit_keeps_objects_without_flux(table: pd.DataFrame) -> None:
    rule = Selection(max_mag=None, exclude_types=(), primary_only=False)
    assert select(table, rule).table["objid"].tolist() == [0, 1, 2, 3, 4]


def test_brightest_are_kept_in_catalogue_order(table: pd.DataFrame) -> None:
    table["flux_z"] = [10.0, 30.0, 20.0, 40.0, 0.0, 1.0]
    rule = Selection(max_mag=None, exclude_types=("DUP",), primary_only=False, max_objects=2)
    selected = select(table, rule)
    assert sorted(selected.table["objid"]) == [1, 3]
    assert selected.dropped["over_max_objects"] == 2


def test_ranges_may_cross_zero(table: pd.DataFrame) -> None:
    rule = Selection(None, exclude_types=(), primary_only=False, ra_range=(359.8, 0.15))
    assert select(table, rule).table["objid"].tolist() == [0, 1]
    rule = Selection(None, exclude_types=(), primary_only=False, dec_range=(0.1, 0.5))
    assert select(table, rule).table["objid"].tolist() == [1, 2]


def test_an_empty_table(table: pd.DataFrame) -> None:
    assert len(select(table[:0], Selection()).table) == 0


@pytest.mark.parametrize("options", [{"exclude_types": ("STAR",)}, {"max_objects": 0}])
def test_rules_that_make_no_sense(options: dict) -> None:
    with pytest.raises(SchemaMismatch):
        Selection(**options)
