from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from tiny_bricks import BRICK, TinyBrick

from storage.bricks import brick_from_name
from storage.errors import CorruptFile, SchemaMismatch
from storage.schema import OBJECT_COLUMNS, OBJECT_TYPE_NAMES, catalogue_columns
from storage.tractor import ObjectType, Tractor, read_tractor

BANDS = ("g", "r", "z")


@pytest.fixture
def tiny(tmp_path: Path) -> TinyBrick:
    return TinyBrick(tmp_path)


def read(tiny: TinyBrick, table: Table | None = None) -> Tractor:
    return read_tractor(tiny.write_tractor(table), BRICK, BANDS)


def test_codes_are_those_of_the_schema() -> None:
    assert tuple(ObjectType.__members__) == OBJECT_TYPE_NAMES
    assert [int(code) for code in ObjectType] == list(range(len(OBJECT_TYPE_NAMES)))


def test_columns_of_dr10(tiny: TinyBrick) -> None:
    table = read(tiny).table
    assert list(table) == [*OBJECT_COLUMNS, "brick_primary", *catalogue_columns(BANDS)]
    assert table["type"].tolist() == [ObjectType.EXP, ObjectType.DEV, ObjectType.SER]
    assert table["objid"].tolist() == [10, 11, 12]
    assert table["flux_r"].tolist() == [50.0, 40.0, 30.0]
    assert table["fiberflux_g"].isna().all()
    assert table.dtypes["objid"] == np.int64


def test_old_types_and_padding(tiny: TinyBrick) -> None:
    table = tiny.table()
    table["type"] = ["SIMP", "psf ", "COMP"]
    assert read(tiny, table).table["type"].tolist() == [
        ObjectType.REX,
        ObjectType.PSF,
        ObjectType.COMP,
    ]
    table["type"] = ["EXP", "EXP", "BLOB"]
    with pytest.raises(SchemaMismatch, match="BLOB"):
        read(tiny, table)


def test_arrays_over_bands(tiny: TinyBrick) -> None:
    table = tiny.table()
    table.remove_columns([name for name in table.colnames if name[-2:] in ("_g", "_r", "_z")])
    table["DECAM_FLUX"] = np.arange(18, dtype=np.float32).reshape(3, 6)
    table["DECAM_MW_TRANSMISSION"] = np.full((3, 6), 0.5, np.float32)
    found = read(tiny, table).table
    assert found["flux_g"].tolist() == [1, 7, 13]
    assert found["flux_z"].tolist() == [4, 10, 16]
    assert found["mw_transmission_z"].tolist() == [0.5] * 3
    table["DECAM_FLUX"] = np.zeros((3, 4), np.float32)
    with pytest.raises(SchemaMismatch, match="decam_flux has 4 values"):
        read(tiny, table)


def test_intermediate_catalogue_names_its_bands_in_the_header(tiny: TinyBrick) -> None:
    table = tiny.table()
    table.remove_columns([name for name in table.colnames if name[-2:] in ("_g", "_r", "_z")])
    table.remove_column("release")
    table["flux"] = np.arange(3, dtype=np.float32).reshape(3, 1)
    table.meta.update({"BAND0": "z", "DRVERSIO": 5000})
    tractor = read(tiny, table)
    assert tractor.table["flux_z"].tolist() == [0, 1, 2]
    assert tractor.table["flux_g"].isna().all()
    assert set(tractor.table["release"]) == {5000}
    assert any("without RELEASE" in note for note in tractor.notes)


def test_shapes_before_dr9(tiny: TinyBrick) -> None:
    table = tiny.table()
    table["type"] = ["EXP", "DEV", "COMP"]
    table["fracdev"] = np.array([0, 1, 0.8], np.float32)
    table["shapeexp_r"] = np.array([1, 0, 2], np.float32)
    table["shapedev_r"] = np.array([0, 3, 4], np.float32)
    found = read(tiny, table).table
    assert found["shape_r"].tolist() == [1, 3, 4]
    assert found["sersic"].tolist()[:2] == [1, 4]
    assert np.isnan(found["sersic"][2])


def test_transmission_from_ebv(tiny: TinyBrick) -> None:
    table = tiny.table()
    table.remove_column("mw_transmission_z")
    tractor = read(tiny, table)
    assert tractor.table["mw_transmission_z"][0] == pytest.approx(10 ** (-0.4 * 1.211 * 0.05))
    assert any("computed from EBV" in note for note in tractor.notes)


def test_what_a_catalogue_lacks_is_told(tiny: TinyBrick) -> None:
    tractor = read_tractor(tiny.write_tractor(), BRICK, (*BANDS, "i"))
    assert "catalogue without fluxes in band i: stored as missing" in tractor.notes
    missing = next(note for note in tractor.notes if "fiberflux" in note)
    assert "flux_i" not in missing
    assert "ebv" not in missing
    assert tractor.table["flux_i"].isna().all()


def test_bits_by_the_names_in_the_header(tiny: TinyBrick) -> None:
    table = tiny.table()
    table["maskbits"] = np.array([1 << 3, 1 << 12, 0], np.int32)
    assert read(tiny, table).table["maskbits"].tolist() == [8.0, 4096.0, 0.0]
    table.meta["MBIT_3"] = "BRIGHT"
    assert read(tiny, table).table["maskbits"].tolist() == [2.0, 4096.0, 0.0]


def test_primary_from_the_borders(tiny: TinyBrick) -> None:
    table = tiny.table()
    table.remove_column("brick_primary")
    table["ra"][0] = BRICK.ra2 + 0.01
    assert read(tiny, table).table["brick_primary"].tolist() == [False, True, True]


def test_rows_of_other_bricks(tiny: TinyBrick) -> None:
    table = tiny.table()
    table["brickid"][1] = 7
    tractor = read(tiny, table)
    assert tractor.table["objid"].tolist() == [10, 12]
    assert any("1 catalogue rows are of other bricks" in note for note in tractor.notes)
    table["brickid"] = 7
    with pytest.raises(SchemaMismatch, match="not of 1238p245"):
        read(tiny, table)


def test_repeated_objid(tiny: TinyBrick) -> None:
    table = tiny.table()
    table["objid"][2] = 10
    tractor = read(tiny, table)
    assert tractor.table["objid"].tolist() == [10, 11]
    assert any("repeat an objid" in note for note in tractor.notes)


def test_an_empty_catalogue_is_no_error(tiny: TinyBrick) -> None:
    assert len(read(tiny, tiny.table()[:0]).table) == 0


def test_tables_that_are_no_catalogue(tiny: TinyBrick) -> None:
    with pytest.raises(SchemaMismatch, match="no column objid, type.*DR1 to DR10 have them"):
        read(tiny, Table({"RA": [1.0], "DEC": [1.0]}))
    path = tiny.write_tractor()
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(CorruptFile):
        read_tractor(path, BRICK, BANDS)


@pytest.mark.parametrize("release", ["DR3", "DR7", "DR8"])
def test_real_schemas(real_data: Path, release: str) -> None:
    folder = real_data / "bricks" / f"catalog_schema_{release}"
    paths = sorted(folder.glob("tractor-*.fits"))
    assert paths
    for path in paths:
        brick = brick_from_name(path.stem.removeprefix("tractor-"))
        table = read_tractor(path, brick, BANDS).table
        assert len(table) == 6
        assert np.isfinite(table[["flux_z", "mw_transmission_z", "ra"]]).all(axis=None)
        assert (table["shape_r"][table["type"] == ObjectType.DEV] > 0).all()


@pytest.mark.parametrize("release", ["DR3", "DR7", "DR8"])
def test_real_sweeps(real_data: Path, release: str) -> None:
    for path in sorted((real_data / "bricks" / f"catalog_schema_{release}").glob("sweep-*.fits")):
        with pytest.raises(SchemaMismatch, match="all rows are of brickid"):
            read_tractor(path, brick_from_name("0001p000"), BANDS)
