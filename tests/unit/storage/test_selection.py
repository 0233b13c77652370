import json
import tomllib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter

from storage.errors import BrickNotFound, SchemaMismatch
from storage.schema import catalogue_columns
from storage.selection import Selection, external_files, select
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


def kept(table: pd.DataFrame, **rules: object) -> tuple[list[int], dict[str, int]]:
    """Return the objid that rules alone keep, and what they count."""
    free = {"max_mag": None, "exclude_types": (), "primary_only": False} | rules
    selected = select(table, Selection(**free))
    return selected.table["objid"].tolist(), dict(selected.dropped)


def test_types_to_include(table: pd.DataFrame) -> None:
    assert kept(table, include_types=("EXP", "DEV")) == (
        [0, 2],
        {"no_position": 1, "type_PSF": 1, "type_SER": 1, "type_DUP": 1},
    )


def test_number_of_exposures(table: pd.DataFrame) -> None:
    table["nobs_g"] = [3.0, 3, 1, 3, 3, 3]
    table["nobs_r"] = [2.0, 0, 2, 2, np.nan, 2]
    table["nobs_z"] = 9.0
    assert kept(table, min_nobs=2) == (
        [0, 3],
        {"no_position": 1, "nobs_g_below_2": 1, "nobs_r_below_2": 1, "nobs_r_unknown": 1},
    )
    assert kept(table, min_nobs=(("g", 2),))[0] == [0, 1, 3, 4]
    with pytest.raises(SchemaMismatch, match="band i"):
        kept(table, min_nobs=(("i", 1),))


def test_bits_of_the_catalogue(table: pd.DataFrame) -> None:
    table["maskbits"] = [0.0, 2.0, 4096.0, np.nan, 2.0 + 4096.0, 0.0]
    assert kept(table, exclude_maskbits=("BRIGHT", 12)) == (
        [0],
        {"no_position": 1, "maskbits_BRIGHT": 2, "maskbits_GALAXY": 1, "maskbits_unknown": 1},
    )
    assert kept(table)[0] == [0, 1, 2, 3, 4]


def test_listed_objects_only(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("brickid,objid\n1,3\n1,0\n2,1\n")
    assert kept(table, objects_from=str(path)) == ([0, 3], {"no_position": 1, "not_listed": 3})


def test_cells_of_the_sky(table: pd.DataFrame) -> None:
    everywhere = tuple(range(12))
    assert kept(table, healpix=everywhere, healpix_order=0)[0] == [0, 1, 2, 3, 4]
    assert kept(table, healpix=(4,), healpix_order=0)[0] == [0, 1, 2, 3, 4]  # centre at (0, 0)
    assert kept(table, healpix=(6,), healpix_order=0) == (
        [],
        {"no_position": 1, "outside_healpix": 5},
    )


def test_files_that_a_selection_refers_to(tmp_path: Path) -> None:
    moc, cells, sweeps = tmp_path / "a.fits", tmp_path / "cells.txt", tmp_path / "sweep"
    sweeps.mkdir()
    wanted = [moc, cells, sweeps / "sweep-000m005-005p000.fits"]
    for path in (*wanted, sweeps / "README"):
        path.touch()
    rule = Selection(moc=str(moc), healpix=str(cells), objects_from=str(sweeps))
    assert external_files(rule) == tuple(wanted)
    assert external_files(Selection(healpix=(1,), healpix_order=0)) == ()
    with pytest.raises(BrickNotFound, match="absent.csv is not there"):
        external_files(Selection(objects_from=str(tmp_path / "absent.csv")))


def test_a_selection_survives_json_and_comes_back_from_toml() -> None:
    text = """
    max_mag = 19.0
    include_types = ["EXP", "DEV"]
    exclude_types = []
    min_nobs = [["g", 2], ["z", 1]]
    exclude_maskbits = ["BRIGHT", 11]
    healpix = [1, 2]
    healpix_order = 3
    """
    rule = TypeAdapter(Selection).validate_python(tomllib.loads(text))
    assert rule.min_nobs == (("g", 2), ("z", 1))
    assert rule.exclude_maskbits == ("BRIGHT", 11)
    assert TypeAdapter(Selection).validate_json(json.dumps(asdict(rule))) == rule
    assert TypeAdapter(Selection).validate_python({"min_nobs": 2, "healpix": "a.txt"}).min_nobs == 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"include_types": ("STAR",)}, "include_types"),
        ({"include_types": ("PSF",)}, "included and excluded"),
        ({"exclude_maskbits": ("HALO",)}, "HALO"),
        ({"exclude_maskbits": (24,)}, "24"),
        ({"healpix": (1,)}, "healpix_order"),
        ({"healpix": (), "healpix_order": 1}, "healpix"),
        ({"healpix_order": 30}, "healpix_order 30"),
        ({"match_arcsec": 0.0}, "match_arcsec"),
    ],
)
def test_other_rules_that_make_no_sense(options: dict, word: str) -> None:
    with pytest.raises(SchemaMismatch, match=word):
        Selection(**options)
