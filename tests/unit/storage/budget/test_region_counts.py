import numpy as np
import pytest
from astropy.table import Table

from storage.budget import read_region_counts
from storage.errors import BrickNotFound, CorruptFile
from storage.selection import Selection


def region_table(**columns):
    values = {
        "brickname": ["1238p245", "1501p010", "1503p010"],
        "brickid": np.array([-1, 5, 6], np.int16),  # as in DR9, where it overflows
        "nobjs": [100, 200, 300],
        "npsf": np.array([40, 80, 120], np.int16),
        "nrex": [20, 40, 60],
        "nexp": [15, 30, 45],
        "ndev": [10, 20, 30],
        "nser": [10, 20, 30],
        "ndup": [5, 10, 15],
        "nexp_g": np.array([7, 8, 9], np.int16),  # exposures, not objects
    }
    return Table(values | columns)


def test_the_types_of_a_selection_are_counted(tmp_path):
    path = tmp_path / "survey-bricks-dr9-south.fits.gz"
    region_table().write(path)
    counts = read_region_counts(path)
    assert counts.bricknames.tolist() == ["1238p245", "1501p010", "1503p010"]
    assert counts.candidates(Selection()).tolist() == [55.0, 110.0, 165.0]
    assert counts.candidates(Selection(include_types=("EXP",), exclude_types=())).tolist() == [
        15.0,
        30.0,
        45.0,
    ]
    assert counts.match(["1503p010", "0001m002"]).tolist() == [2, -1]


def test_upper_case_names_and_old_types_are_understood(tmp_path):
    table = Table({"BRICKNAME": ["1238p245"], "NSIMP": [3], "NREX": [2], "NPSF": [9]})
    table.write(tmp_path / "old.fits")
    assert read_region_counts(tmp_path / "old.fits").candidates(Selection()).tolist() == [5.0]


def test_a_table_of_totals_counts_all_objects(tmp_path):
    Table({"brickname": ["1238p245"], "nobjs": [70]}).write(tmp_path / "totals.fits")
    assert read_region_counts(tmp_path / "totals.fits").candidates(Selection()).tolist() == [70.0]


def test_a_table_of_names_counts_nothing(tmp_path):
    Table({"brickname": ["1238p245"]}).write(tmp_path / "names.csv")
    assert read_region_counts(tmp_path / "names.csv").candidates(Selection()) is None


@pytest.mark.parametrize(
    ("table", "error", "match"),
    [
        (Table({"name": ["1238p245"]}), CorruptFile, "BRICKNAME"),
        (Table({"brickname": ["1238p245", "9999p999"]}), BrickNotFound, "'9999p999' in row 2"),
        (Table({"brickname": ["1238p245", "1238p245"]}), CorruptFile, "1238p245 is listed twice"),
        (Table({"brickname": np.empty(0, "U8")}), BrickNotFound, "lists no brick"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, table, error, match):
    table.write(tmp_path / "wrong.fits")
    with pytest.raises(error, match=match):
        read_region_counts(tmp_path / "wrong.fits")
