"""Splits depend on position and configuration only."""

from dataclasses import replace

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import SchemaMismatch
from storage.splits import (
    BORDER,
    SPLIT_NAMES,
    SplitConfig,
    assign_splits,
    sky_cells,
    split_digest,
)


@pytest.fixture
def sky():
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
    return ra, dec, np.array([f"10000-1-{i}" for i in range(4000)])


def test_fractions_are_met(sky):
    splits = assign_splits(*sky, SplitConfig(train=0.5, val=0.3, test=0.2))
    found = [(splits == name).mean() for name in SPLIT_NAMES]
    assert found == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


def test_adding_objects_moves_nobody(sky):
    ra, dec, ids = sky
    few = assign_splits(ra[:100], dec[:100], ids[:100], SplitConfig())
    many = assign_splits(ra, dec, ids, SplitConfig())
    np.testing.assert_array_equal(few, many[:100])


def test_no_cell_is_in_two_splits(sky):
    ra, dec, ids = sky
    config = SplitConfig(healpix_order=3)
    splits = assign_splits(ra, dec, ids, config)
    cells = sky_cells(ra, dec, config.healpix_order)
    assert len(np.unique(cells)) > 500
    for cell in np.unique(cells):
        assert len(np.unique(splits[(cells == cell) & (splits != BORDER)])) <= 1


def test_the_id_does_not_count_where_there_is_a_position(sky):
    ra, dec, ids = sky
    config = SplitConfig()
    expected = assign_splits(ra, dec, ids, config)
    np.testing.assert_array_equal(assign_splits(ra, dec, ids[::-1], config), expected)


def test_the_id_decides_without_a_position(sky):
    _, _, ids = sky
    nowhere = np.full(len(ids), np.nan)
    config = SplitConfig()
    splits = assign_splits(nowhere, nowhere, ids, config)
    order = np.random.default_rng(0).permutation(len(ids))
    np.testing.assert_array_equal(
        assign_splits(nowhere, nowhere, ids[order], config), splits[order]
    )
    assert (splits == "train").mean() == pytest.approx(0.6, abs=0.03)


def test_these_assignments_never_change():
    # A frozen test split is only frozen while this holds.
    ra, dec = np.array([0.0, 10.0, 200.0, 359.9, np.nan]), np.array([0.0, -5.0, 60.0, 89.0, 1.0])
    splits = assign_splits(ra, dec, [f"9010-5-{i}" for i in range(5)], SplitConfig())
    assert splits.tolist() == ["train", "train", "train", "test", "train"]


def test_salt_and_digest(sky):
    ra, dec, ids = sky
    config, other = SplitConfig(), SplitConfig(salt="another")
    splits = assign_splits(ra, dec, ids, config)
    assert (assign_splits(ra, dec, ids, other) != splits).mean() > 0.3
    digest = split_digest(ids, splits, config)
    assert split_digest(ids[::-1], splits[::-1], config) == digest
    assert split_digest(ids, splits, other) != digest
    moved = splits.copy()
    moved[0] = "test" if moved[0] != "test" else "val"
    assert split_digest(ids, moved, config) != digest


@given(seed=st.integers(0, 2**32 - 1), apart=st.floats(0.0, 1.0), polar=st.booleans())
@settings(max_examples=12)
def test_no_twin_is_in_another_split(seed, apart, polar):
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, 1500), np.degrees(np.arcsin(rng.uniform(-1, 1, 1500)))
    if polar:  # where cells are distorted most, and where RA means little
        dec = np.sign(dec) * (90 - rng.uniform(0, 0.05, 1500))
    here = SkyCoord(ra, dec, unit="deg")
    there = here.directional_offset_by(rng.uniform(0, 360, 1500) * u.deg, apart * u.arcsec)
    # Cells of 13 arcsec, so that hundreds of the pairs have a border between them.
    config, ids = SplitConfig(healpix_order=14), [str(number) for number in range(1500)]
    one = assign_splits(ra, dec, ids, config)
    other = assign_splits(there.ra.deg, there.dec.deg, ids, config)
    placed = (one != BORDER) & (other != BORDER)
    assert (one[placed] == other[placed]).all()


def test_the_border_takes_nothing_from_the_test_split_and_little_from_the_others(sky):
    ra, dec, ids = sky
    config = SplitConfig(healpix_order=13)
    whole = assign_splits(ra, dec, ids, replace(config, border_arcsec=0.0))
    kept = assign_splits(ra, dec, ids, config)
    assert (kept[whole == "test"] == "test").all()
    assert set(kept[kept != whole]) == {BORDER}
    assert 0 < (kept == BORDER).mean() < 0.15  # of cells of 26 arcsec


@pytest.mark.parametrize(
    "bad",
    [
        {"train": 0.9},
        {"train": -0.1, "val": 0.9},
        {"healpix_order": 30},
        {"border_arcsec": -1.0},
        {"healpix_order": 16},  # cells of 3.2 arcsec would be all border
    ],
)
def test_impossible_configurations_are_refused(bad):
    with pytest.raises(SchemaMismatch):
        SplitConfig(**bad)


def test_lengths_must_agree():
    with pytest.raises(SchemaMismatch, match="one of each an object"):
        assign_splits(np.zeros(2), np.zeros(2), ["a"], SplitConfig())


def test_no_objects_give_no_splits():
    assert len(assign_splits(np.zeros(0), np.zeros(0), [], SplitConfig())) == 0
