"""Regions of the sky: positions in them, and no brick left out that could have an object."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units
from astropy.io import fits
from astropy_healpix import HEALPix
from mocpy import MOC

from storage.brick_lists import names_of
from storage.bricks import brick_at, brick_from_name
from storage.errors import BrickNotFound, CorruptFile, SchemaMismatch
from storage.footprint import bricks_inside, outside
from storage.selection import Selection

CENTRES = ((150.0, 2.2, 0.3), (0.02, -31.0, 0.6), (210.0, 88.2, 0.4), (47.0, 60.0, 0.05))


def cone(path: Path, ra: float, dec: float, radius: float, order: int = 12) -> MOC:
    place = {"lon": ra * units.deg, "lat": dec * units.deg, "radius": radius * units.deg}
    moc = MOC.from_cone(**place, max_depth=order)
    moc.save(str(path), format="fits" if path.suffix == ".fits" else "json")
    return moc


def scattered(ra: float, dec: float, reach: float, number: int = 4000) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(5)
    decs = np.clip(dec + rng.uniform(-reach, reach, number), -89.99, 89.99)
    ras = ra + rng.uniform(-reach, reach, number) / np.cos(np.radians(decs))
    return np.mod(ras, 360.0), decs


def owners(ra: np.ndarray, dec: np.ndarray) -> list[str]:
    return [brick_at(*place).brickname for place in zip(ra, dec, strict=True)]


@pytest.mark.parametrize("suffix", [".fits", ".json"])
def test_positions_in_a_moc(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"area{suffix}"
    cone(path, 150.0, 2.2, 0.3)
    reasons = outside(
        Selection(moc=str(path)), np.array([150.0, 151.0, np.nan]), np.array([2.2, 2.2, 2.2])
    )
    assert reasons["outside_moc"].tolist() == [False, True, False]


@pytest.mark.parametrize(("ra", "dec", "radius"), CENTRES)
@pytest.mark.parametrize("order", [7, 12])
def test_no_brick_with_a_place_in_the_region_is_left_out(
    tmp_path: Path, ra: float, dec: float, radius: float, order: int
) -> None:
    moc = cone(tmp_path / "area.fits", ra, dec, radius, order)
    ras, decs = scattered(ra, dec, radius + 1.0)
    names = owners(ras, decs)
    cover = bricks_inside(Selection(moc=str(tmp_path / "area.fits")), sorted(set(names)))
    inside = dict(zip(cover.bricknames, cover.inside, strict=True))
    hit = moc.contains_lonlat(ras * units.deg, decs * units.deg)
    assert hit.any()
    assert all(inside[name] for name, there in zip(names, hit, strict=True) if there)
    assert cover.counts()["outside_moc"] > 0
    # What is kept beyond need lies within a cell or so of the region.
    kept = [brick_from_name(name) for name, good in inside.items() if good]
    separation = [
        np.hypot((np.mod(b.ra - ra + 180, 360) - 180) * np.cos(np.radians(dec)), b.dec - dec)
        for b in kept
        if abs(dec) < 85
    ]
    cell = 0.46 if order == 7 else 0.0
    assert all(apart < radius + cell + 0.45 for apart in separation)


@pytest.mark.parametrize(("ra", "dec", "radius"), CENTRES)
def test_boxes_leave_out_no_brick_with_a_place_in_them(
    ra: float, dec: float, radius: float
) -> None:
    wide = min(radius / np.cos(np.radians(dec)), 179.0)
    rule = Selection(
        ra_range=((ra - wide) % 360.0, (ra + wide) % 360.0),
        dec_range=(dec - radius, dec + radius),
    )
    ras, decs = scattered(ra, dec, radius + 0.6)
    names = owners(ras, decs)
    cover = bricks_inside(rule, sorted(set(names)))
    inside = dict(zip(cover.bricknames, cover.inside, strict=True))
    left_out = np.any(list(outside(rule, ras, decs).values()), axis=0)
    assert not left_out.all()
    assert all(inside[n] for n, there in zip(names, ~left_out, strict=True) if there)
    assert not cover.inside.all()


def test_a_box_on_brick_borders_takes_no_neighbours_of_primary_objects() -> None:
    brick = brick_from_name("1501p022")
    box = {"ra_range": (brick.ra1 + 0.01, brick.ra2 - 0.01), "dec_range": (brick.dec1, brick.dec2)}
    around = [brick.brickname, brick_at(brick.ra2 + 0.01, brick.dec).brickname]
    assert bricks_inside(Selection(**box), around).inside.tolist() == [True, False]
    nearer = box | {"ra_range": (brick.ra1 + 0.01, brick.ra2 - 0.001)}
    assert bricks_inside(Selection(**nearer, primary_only=False), around).inside.all()


@pytest.mark.parametrize("nested", [True, False])
def test_lists_of_cells(tmp_path: Path, nested: bool) -> None:
    grid = HEALPix(nside=2**6, order="nested" if nested else "ring")
    cell = int(grid.lonlat_to_healpix(150.0 * units.deg, 2.2 * units.deg))
    text = tmp_path / "cells.txt"
    text.write_text(f"{cell}\n{cell}\n")
    table = tmp_path / "cells.fits"
    hdu = fits.BinTableHDU.from_columns([fits.Column("PIXEL", "K", array=np.array([cell]))])
    hdu.header.update(NSIDE=64, ORDERING="NESTED" if nested else "RING")
    hdu.writeto(table)
    order = {"healpix_order": 6, "healpix_nested": nested}
    for rule in (
        Selection(healpix=(cell,), **order),
        Selection(healpix=str(text), **order),
        Selection(healpix=str(table)),
    ):
        found = outside(rule, np.array([150.0, 250.0]), np.array([2.2, 2.2]))["outside_healpix"]
        assert found.tolist() == [False, True]
        assert bricks_inside(rule, ["1501p022", "2501p022"]).reasons.tolist() == [
            "",
            "outside_healpix",
        ]


def test_cells_that_cannot_be(tmp_path: Path) -> None:
    text, empty, bare = tmp_path / "cells.txt", tmp_path / "empty.txt", tmp_path / "bare.csv"
    text.write_text("5 900")
    empty.write_text("")
    bare.write_text("a,b\n1,2\n")
    places = np.array([1.0]), np.array([1.0])
    with pytest.raises(SchemaMismatch, match="give healpix_order"):
        outside(Selection(healpix=str(text)), *places)
    with pytest.raises(SchemaMismatch, match="0 to 191"):
        outside(Selection(healpix=str(text), healpix_order=2), *places)
    with pytest.raises(BrickNotFound, match="no HEALPix cell"):
        outside(Selection(healpix=str(empty), healpix_order=2), *places)
    with pytest.raises(SchemaMismatch, match="no column of cells"):
        outside(Selection(healpix=str(bare), healpix_order=2), *places)


def test_mocs_that_are_none(tmp_path: Path) -> None:
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"no FITS file at all")
    places = np.array([1.0]), np.array([1.0])
    with pytest.raises(CorruptFile, match="no readable MOC"):
        outside(Selection(moc=str(bad)), *places)
    with pytest.raises(SchemaMismatch, match="give a MOC"):
        outside(Selection(moc=str(bad.rename(tmp_path / "bad.png"))), *places)
    with pytest.raises(BrickNotFound, match="is not there"):
        outside(Selection(moc=str(tmp_path / "absent.fits")), *places)


def test_a_changed_moc_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "area.json"
    places = np.array([150.0]), np.array([2.2])
    path.write_text('{"3": [0]}')
    assert outside(Selection(moc=str(path)), *places)["outside_moc"].all()
    path.write_text('{"0": [0,1,2,3,4,5,6,7,8,9,10,11]}')
    assert not outside(Selection(moc=str(path)), *places)["outside_moc"].any()


def test_bricks_without_listed_objects(tmp_path: Path) -> None:
    brick = brick_from_name("1501p022")
    ids, places = tmp_path / "ids.csv", tmp_path / "places.csv"
    ids.write_text(f"BRICKID,OBJID\n{brick.brickid},7\n")
    places.write_text(f"ra,dec\n{brick.ra},{brick.dec}\n")
    for path in (ids, places):
        cover = bricks_inside(Selection(objects_from=str(path)), ["1501p022", "1501p025"])
        assert cover.reasons.tolist() == ["", "not_listed"]
        assert cover.counts() == {"not_listed": 1}


def test_tables_of_bricks_and_unknown_names() -> None:
    rule = Selection(dec_range=(0.0, 90.0))
    table = pd.DataFrame({"brickname": ["1238p245", "1238m245"]})
    assert bricks_inside(rule, table).inside.tolist() == [True, False]
    cover = bricks_inside(rule, ["1238m245", "1238p246", "what"])
    assert cover.reasons.tolist() == ["outside_dec_range", "", ""]
    assert bricks_inside(Selection(), ["1238p245"]).counts() == {}


def test_a_first_reason_is_the_only_one() -> None:
    cover = bricks_inside(
        Selection(ra_range=(0, 10), dec_range=(50, 60)), ["1238p245", "0049p100", "0049p550"]
    )
    assert cover.reasons.tolist() == ["outside_ra_range", "outside_dec_range", ""]


def test_bricks_at_the_poles_are_kept(tmp_path: Path) -> None:
    cone(tmp_path / "area.fits", 10.0, 89.9, 0.05)
    rule = Selection(moc=str(tmp_path / "area.fits"))
    assert bricks_inside(rule, names_of(np.array([662174]))).inside.all()
