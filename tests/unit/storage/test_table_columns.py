"""Columns and rows of tables, as astropy reads them, and damage as errors."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from storage import table_columns
from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch
from storage.table_columns import column_names, file_version, iterate_columns, read_fits_rows

ROWS = 1000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    number = np.arange(ROWS)
    columns = [
        fits.Column("ID", "J", array=number),
        fits.Column("BIG", "J", bzero=2**31, array=number.astype(np.uint32) + 2**31),
        fits.Column("SCALED", "I", array=number),
        fits.Column("GOOD", "L", array=number % 3 == 0),
        fits.Column("NAME", "6A", array=[f"n{value}" for value in number]),
        fits.Column("FLUX", "3E", array=np.outer(number, [1, 2, 3]).astype(np.float32)),
        fits.Column("ANY", "PE()", array=np.array([np.ones(2)] * ROWS, dtype=object)),
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update(RELEASE=9010, TSCAL3=0.5, TZERO3=3.0)
    path = tmp_path / "table.fits"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def test_blocks_are_what_astropy_reads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_columns, "BLOCK_ROWS", 300)
    names = ("ID", "BIG", "SCALED", "GOOD", "NAME", "FLUX")
    assert column_names(path) == (*names, "ANY")
    blocks = list(iterate_columns(path, names))
    assert [len(block["ID"]) for block in blocks] == [300, 300, 300, 100]
    with fits.open(path) as hdus:
        for name in names:
            found = np.concatenate([block[name] for block in blocks])
            assert (found == hdus[1].data[name]).all()
            assert found.dtype.isnative
    assert blocks[0]["GOOD"].dtype == bool


@pytest.mark.parametrize("zipped", [False, True])
def test_chosen_rows(path: Path, zipped: bool) -> None:
    if zipped:
        Table.read(path)[["ID", "NAME", "GOOD"]].write(path.with_suffix(".fits.gz"))
        path = path.with_suffix(".fits.gz")
    rows = np.array([0, 3, 4, 700, 999])
    columns, header = read_fits_rows(path, rows)
    assert columns["id"].tolist() == rows.tolist()
    assert columns["name"].tolist() == [f"n{row}" for row in rows]
    assert columns["good"].tolist() == [True, True, False, False, True]
    assert "any" not in columns
    assert header["NAXIS2"] == ROWS
    assert len(read_fits_rows(path, rows[:0])[0]["id"]) == 0


def test_tables_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BrickNotFound, match="is not there"):
        column_names(tmp_path / "absent.fits")
    with pytest.raises(BrickNotFound, match="is not there"):
        file_version(tmp_path / "absent.fits")
    path.write_bytes(path.read_bytes()[:-6000])
    with pytest.raises(CorruptFile):
        list(iterate_columns(path, ["ID"]))
    bad = tmp_path / "bad.parquet"
    bad.write_bytes(b"PAR1 no")
    with pytest.raises(CorruptFile, match="no readable table"):
        column_names(bad)
    with pytest.raises(CorruptFile, match="no readable table"):
        list(iterate_columns(bad, ["a"]))
    with pytest.raises(SchemaMismatch, match="give a table as one of"):
        column_names(path.rename(tmp_path / "table.png"))
    image = tmp_path / "image.fits"
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(image)
    with pytest.raises(SchemaMismatch, match="no uncompressed binary table"):
        column_names(image)


def test_an_absent_column_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(CorruptFile, match="no readable table"):
        list(iterate_columns(path, ["c"]))
