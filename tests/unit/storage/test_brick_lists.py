"""All bricks of the sky as columns, and files of brick names."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from storage.brick_lists import (
    brick_areas,
    brickids_of,
    names_of,
    read_brick_names,
    sky_bricks,
)
from storage.bricks import NUMBER_OF_BRICKS, brick_from_id, read_survey_bricks
from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch

NAMES = ("1238p245", "0591m305", "0959p805")


def test_the_sky_agrees_with_single_bricks() -> None:
    sky = sky_bricks()
    assert len(np.unique(sky["key"])) == NUMBER_OF_BRICKS
    ids = np.concatenate([[1, NUMBER_OF_BRICKS], np.random.default_rng(3).integers(1, 662175, 300)])
    bricks = [brick_from_id(int(brickid)) for brickid in ids]
    assert names_of(ids) == [brick.brickname for brick in bricks]
    assert brickids_of(names_of(ids)).tolist() == ids.tolist()
    for column in ("ra1", "ra2", "dec1", "dec2"):
        assert sky[column][ids - 1].tolist() == [getattr(brick, column) for brick in bricks]


def test_the_sky_agrees_with_the_survey(real_data: Path) -> None:
    path = real_data / "bricks" / "dr6_brick_0959p805" / "survey-bricks.fits.gz"
    table = read_survey_bricks(path)
    assert brickids_of(table["brickname"].tolist()).tolist() == table["brickid"].tolist()
    areas = brick_areas(table["brickname"].tolist())
    for column in ("ra1", "ra2", "dec1", "dec2"):
        np.testing.assert_allclose(areas[column], table[column], atol=1e-9)


def test_unknown_bricks() -> None:
    assert brickids_of(["1238p245", "1238p246", "nonsense"]).tolist() == [467899, 0, 0]
    assert names_of(np.array([0, 662175, 1])) == ["", "", brick_from_id(1).brickname]
    with pytest.raises(BrickNotFound, match="'1238p246'"):
        brick_areas(["1238p245", "1238p246"])


def test_a_text_of_names(tmp_path: Path) -> None:
    path = tmp_path / "bricks.txt"
    path.write_text(f"# mine\nbrickname\n{NAMES[0]}\n\n  {NAMES[1]}  # near\n{NAMES[2]}\n")
    found = read_brick_names(path)
    assert tuple(found) == NAMES
    assert (len(found), found.notes) == (3, ())


@pytest.mark.parametrize("name", ["a.csv", "a.fits", "a.fits.gz", "a.ecsv", "a.parquet"])
@pytest.mark.parametrize("column", ["BRICKNAME", "brickname", "BRICKID"])
def test_tables(tmp_path: Path, name: str, column: str) -> None:
    values = brickids_of(NAMES) if column == "BRICKID" else list(NAMES)
    table = pd.DataFrame({"other": [1.0, 2.0, 3.0], column: values})
    path = tmp_path / name
    if name == "a.parquet":
        table.to_parquet(path)
    elif name == "a.csv":
        table.to_csv(path, index=False)
    else:
        Table({key: table[key].to_list() for key in table}).write(path)
    assert tuple(read_brick_names(path)) == NAMES


def test_the_list_of_the_patched_bricks(real_data: Path) -> None:
    found = read_brick_names(real_data / "bricks" / "misc" / "dr9-south-patched-bricks.fits")
    assert len(found) == 1691
    assert found.names[0] == "3436m652"


def test_repeated_names_are_told(tmp_path: Path) -> None:
    path = tmp_path / "bricks.txt"
    path.write_text(f"{NAMES[0]}\n{NAMES[1]}\n{NAMES[0]}\n")
    found = read_brick_names(path)
    assert found.names == NAMES[:2]
    assert found.notes == (f"{path}: 1 repeated: line 3 '{NAMES[0]} (first line 1)'",)


def test_wrong_names_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "bricks.txt"
    path.write_text(f"{NAMES[0]}\n1238p246\nwhat\n")
    with pytest.raises(
        BrickNotFound, match=r"2 of 3 entries .*: line 2 '1238p246', line 3 'what'; correct"
    ):
        read_brick_names(path)
    table = tmp_path / "bricks.csv"
    table.write_text("brickid\n" + "\n".join("0" for _ in range(12)) + "\n")
    with pytest.raises(BrickNotFound, match=r"row 1 '0', .* and 2 more"):
        read_brick_names(table)


def test_files_that_list_no_bricks(tmp_path: Path) -> None:
    with pytest.raises(BrickNotFound, match="is not there"):
        read_brick_names(tmp_path / "absent.txt")
    empty = tmp_path / "empty.txt"
    empty.write_text("# none\n")
    with pytest.raises(BrickNotFound, match="lists no brick"):
        read_brick_names(empty)
    other = tmp_path / "other.csv"
    other.write_text("name\n1238p245\n")
    with pytest.raises(SchemaMismatch, match="no column brickname or brickid"):
        read_brick_names(other)
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CorruptFile, match="no text"):
        read_brick_names(binary)
