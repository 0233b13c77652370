import numpy as np
import pandas as pd
import pytest
from measured_survey import SURVEY, objects_of, sky_patch, write_survey

from storage import arrays
from storage.bricks import brick_from_id
from storage.quality import objects
from storage.quality.measurements import read_measurements
from storage.quality.objects import read_object_facts, sample_objects
from storage.repository import read_session, transaction

ARCSEC = 1 / 3600


def facts_of(repository, separation=1.0):
    session = read_session(repository)
    bricks = read_measurements(session, SURVEY).bricks
    return read_object_facts(session, SURVEY, bricks, separation)


def table(*places):
    objid, ra, dec = zip(*places, strict=True)
    return pd.DataFrame({"objid": objid, "ra": ra, "dec": dec})


def test_a_clean_survey_has_every_object_once(tmp_path):
    facts = facts_of(write_survey(tmp_path / "survey", sky_patch(2, 2)))
    assert facts.objects == 12
    assert (facts.padding, facts.repeated, facts.outside, facts.in_pairs) == (0, 0, 0, 0)
    assert facts.without_position == 0


@pytest.mark.parametrize("dec", [2.0, 60.0, -80.0])
@pytest.mark.parametrize(("apart", "found"), [(0.6, 2), (1.4, 0)])
def test_one_source_in_two_bricks_is_found_across_the_border(tmp_path, dec, apart, found):
    east, west = sky_patch(1, 1, dec=dec)[0], None
    west = brick_from_id(east.brickid + 1)
    half = 0.5 * apart * ARCSEC / np.cos(np.radians(dec))
    repository = write_survey(
        tmp_path / "survey",
        [east, west],
        objects={
            east.brickname: table((5, east.ra2 - half, east.dec), (6, east.ra, east.dec)),
            west.brickname: table((9, west.ra1 + half, west.dec)),
        },
    )
    facts = facts_of(repository)
    assert facts.in_pairs == found
    assert facts.near_border == 2
    if found:
        pair = facts.pairs[0]
        assert dict(zip(pair.bricknames, pair.objids, strict=True)) == {
            east.brickname: 5,
            west.brickname: 9,
        }
        assert pair.separation_arcsec == pytest.approx(apart, rel=1e-3)


def test_pairs_are_found_across_ra_0_and_between_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "BLOCK_ROWS", 2)
    last, first = sky_patch(1, 1, ra=359.9)[0], sky_patch(1, 1, ra=0.1)[0]
    repository = write_survey(
        tmp_path / "survey",
        [last, *sky_patch(3, 1, ra=120.1), first],
        objects={
            last.brickname: table((1, 360.0 - 0.2 * ARCSEC, 2.0)),
            first.brickname: table((2, 0.2 * ARCSEC, 2.0)),
        },
    )
    facts = facts_of(repository)
    assert facts.in_pairs == 2
    assert facts.objects == 11


def test_neighbours_of_one_brick_are_no_pair(tmp_path):
    brick = sky_patch(1, 1)[0]
    close = table((1, brick.ra, brick.dec1 + 1e-5), (2, brick.ra, brick.dec1 + 2e-5))
    facts = facts_of(write_survey(tmp_path / "survey", [brick], objects={brick.brickname: close}))
    assert facts.near_border == 2
    assert facts.in_pairs == 0


def test_objects_outside_of_their_brick_and_doubled_ones_are_counted(tmp_path):
    one, two = sky_patch(2, 1)
    strange = table((1, two.ra, two.dec), (4, one.ra, one.dec), (5, one.ra, one.dec))
    repository = write_survey(tmp_path / "survey", [one, two], objects={one.brickname: strange})
    with transaction(repository, "damage") as session:
        arrays.get_array(arrays.open_group(session, SURVEY, "r+"), "objid")[2:3] = 4
    facts = facts_of(repository)
    assert facts.outside == 1
    assert facts.outside_bricks == (one.brickname,)
    assert facts.repeated == 1


def test_rows_that_lost_their_object_are_counted(tmp_path):
    repository = write_survey(tmp_path / "survey", sky_patch(2, 1))
    with transaction(repository, "damage") as session:
        group = arrays.open_group(session, SURVEY, "r+")
        arrays.get_array(group, "objid")[0:2] = -1
        arrays.get_array(group, "ra")[0:1] = np.nan
    facts = facts_of(repository)
    assert facts.padding == 2
    assert facts.without_position == 1
    assert facts.repeated == 0


def test_sample_sees_missing_flux_and_pixels_without_data(tmp_path):
    repository = write_survey(tmp_path / "survey", sky_patch(2, 1))
    with transaction(repository, "damage") as session:
        group = arrays.open_group(session, SURVEY, "r+")
        arrays.get_array(group, "catalogue")[0:3] = np.nan
        arrays.get_array(group, "invvar")[0:3, 1] = 0
    session = read_session(repository)
    sample = sample_objects(session, SURVEY, read_measurements(session, SURVEY).bricks)
    assert sample.objects == sample.cutouts == 6
    assert sample.flux_missing == {"g": 0.5, "r": 0.5, "z": 0.5}
    assert sample.no_data == {"g": 0.0, "r": 0.5, "z": 0.0}
    assert sample.not_finite == 0


def test_a_survey_without_objects_has_an_empty_sample(tmp_path):
    brick = sky_patch(1, 1)[0]
    none = objects_of(brick).iloc[:0]
    repository = write_survey(tmp_path / "survey", [brick], objects={brick.brickname: none})
    session = read_session(repository)
    bricks = read_measurements(session, SURVEY).bricks
    assert sample_objects(session, SURVEY, bricks).cutouts == 0
    assert read_object_facts(session, SURVEY, bricks, 1.0).objects == 0
