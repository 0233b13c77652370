import dataclasses
import shutil

import numpy as np
import pytest
from measured_survey import (
    SURVEY,
    bricks_table,
    objects_of,
    receipt,
    record_again,
    sky_patch,
    write_survey,
)

from storage import arrays
from storage.brick_ledger import BrickRecord, record_bricks
from storage.errors import StorageError
from storage.quality.checks import check_survey
from storage.quality.limits import BandLimit, Limit, QualityLimits
from storage.quality.measurements import read_measurements
from storage.quality.pictures import draw_coverage
from storage.quality.results import Level
from storage.repository import open_repository, read_session, transaction
from storage.schema import BrickState

BRICKS = sky_patch(4, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Return the folder of a healthy survey, written once."""
    path = tmp_path_factory.mktemp("store") / "survey"
    write_survey(path, BRICKS)
    return path


@pytest.fixture
def report_on(store, tmp_path):
    """Return a function that checks the survey with other receipts."""

    def report(change=None, broken=(), limits=None, table=None):
        path = tmp_path / f"survey-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(store, path)
        repository = open_repository(path)
        record_again(repository, BRICKS, change, broken)
        return check_survey(read_session(repository), SURVEY, limits, table)

    return report


def by_name(report):
    return {check.name: check for check in report.checks}


def test_a_healthy_survey_passes_every_check(store):
    session = read_session(open_repository(store))
    healthy = check_survey(session, SURVEY, None, bricks_table(BRICKS))
    assert {check.name: check.level for check in healthy.checks if check.level != "pass"} == {}
    assert healthy.level is Level.PASS
    assert len(by_name(healthy)) == len(healthy.checks)
    assert healthy.facts["bricks"] == "12 written"
    assert healthy.facts["checksums"] == "12 verified"
    assert healthy.facts["not selected"] == "56,400 too_faint, 6,000 not_primary"
    area = float(healthy.facts["area"].split()[0])
    assert area == pytest.approx(12 * 0.0624, rel=0.01)


def test_without_a_bricks_table_its_checks_are_not_measured(report_on):
    checks = by_name(report_on())
    assert checks["counts against the table"].level is Level.NOT_MEASURED
    assert checks["bricks of the table"].level is Level.NOT_MEASURED
    assert checks["depth"].level is Level.PASS


def spoil(**values):
    """Return a change of the r band of every brick."""

    def change(receipt, _):
        receipt["quality"]["bands"]["r"].update(values)

    return change


@pytest.mark.parametrize(
    ("name", "values", "level"),
    [
        ("depth", {"depth": 22.0, "psfdepth": 22.0}, Level.FAIL),
        ("depths agree", {"psfdepth": 24.5}, Level.FAIL),
        ("PSF width", {"psfsize": 2.9}, Level.FAIL),
        ("noise against invvar", {"chi": 3.0}, Level.FAIL),
        ("noise against invvar", {"chi": 0.2}, Level.FAIL),
        ("background", {"background": 0.01}, Level.FAIL),
        ("pixels that are numbers", {"not_finite": 0.01}, Level.FAIL),
        ("pixels with data", {"with_data": 0.5}, Level.FAIL),
        ("bands present", {"with_data": 0.0, "depth": None}, Level.FAIL),
        ("depth", {"depth": None}, Level.PASS),
    ],
)
def test_what_is_wrong_with_the_pixels_is_found(report_on, name, values, level):
    check = by_name(report_on(spoil(**values)))[name]
    assert check.level is level
    assert ("r not measured" in check.found) is (values.get("depth", 0) is None and name == "depth")
    if level is Level.FAIL:
        assert "100.0% of bricks miss" in check.found
        assert check.advice
        assert len(check.examples) == 10


def test_some_bad_bricks_are_a_warning_that_names_them(report_on):
    def change(receipt, number):
        if number == 3:
            receipt["quality"]["bad"] = 0.9

    limits = QualityLimits(masked=Limit(0.01, 0.5))
    check = by_name(report_on(change, limits=limits))["masked pixels"]
    assert check.level is Level.WARN
    assert check.examples == (BRICKS[3].brickname,)
    assert "NPRIMARY 7.00%" in check.found


def test_counts_and_missing_bricks_are_held_against_the_table(report_on):
    def change(receipt, number):
        receipt["quality"]["primary"] -= 2000 * (number == 5) + 10  # 10 are tolerated

    more = [*BRICKS, *sky_patch(1, 1, dec=30.0)]
    checks = by_name(report_on(change, table=bricks_table(more)))
    counts, bricks = checks["counts against the table"], checks["bricks of the table"]
    assert counts.level is Level.FAIL
    assert counts.examples == (BRICKS[5].brickname,)
    assert counts.found.startswith("1 of 12 ")
    assert bricks.level is Level.WARN
    assert bricks.examples == (more[-1].brickname,)


def test_depth_of_the_table_is_a_second_opinion(report_on):
    table = bricks_table(BRICKS)
    table["psfdepth_z"] = 22.0
    check = by_name(report_on(table=table))["depths agree"]
    assert check.level is Level.FAIL
    assert "z 1.1" in check.found
    table["psfdepth_z"] = 0.0  # the survey's way to say that there is no data
    assert by_name(report_on(table=table))["depths agree"].level is Level.PASS


def test_bricks_of_the_other_region_are_not_missed(report_on):
    other = sky_patch(1, 1, dec=70.0)
    table = bricks_table([*BRICKS, *other])
    table["survey_primary"] = table["brickname"] != other[0].brickname
    check = by_name(report_on(table=table))["bricks of the table"]
    assert check.level is Level.PASS


def test_failed_and_quarantined_bricks_are_told_apart(report_on):
    failed, bad, waiting = sky_patch(3, 1, dec=40.0)
    report = report_on(
        broken=[
            (failed, BrickState.FAILED, "CorruptFile: image-g.fits.fz: truncated"),
            (bad, BrickState.QUARANTINED, "ChecksumMismatch: tractor"),
            (waiting, BrickState.FETCHED, ""),
        ],
    )
    checks = by_name(report)
    assert checks["failed bricks"].level is Level.FAIL
    assert "1 CorruptFile" in checks["failed bricks"].found
    assert checks["failed bricks"].examples == (failed.brickname,)
    assert checks["quarantined bricks"].examples == (bad.brickname,)
    assert checks["unfinished bricks"].level is Level.WARN
    assert report.measurements.problem_kinds == {
        ("failed", "CorruptFile"): 1,
        ("quarantined", "ChecksumMismatch"): 1,
    }
    assert report.facts["bricks"] == "12 written, 1 failed, 1 fetched, 1 quarantined"


def test_a_brick_that_failed_anew_keeps_its_cutouts_and_is_a_warning(report_on):
    def change(receipt, number):
        if number == 0:
            receipt["last_failure"] = {"message": "CorruptFile: truncated"}

    check = by_name(report_on(change))["failed bricks"]
    assert check.level is Level.WARN
    assert "1 could not be read anew" in check.found


def test_losses_at_edges_are_counted_by_reason_without_names(report_on):
    def change(receipt, number):
        if number in (1, 2):
            reason = f"edge: neighbour {BRICKS[number + 1].brickname} absent"
            receipt["without_cutout"] = {reason: [7, 8]}
            receipt["neighbours"] = {"1500p020": "absent", "1502p020": "unreadable: truncated"}

    check = by_name(report_on(change))["objects without a cutout"]
    assert check.level is Level.FAIL
    assert "4 edge: neighbour <brick> absent" in check.found
    assert "2 absent, 2 unreadable" in check.found
    assert set(check.examples) == {BRICKS[1].brickname, BRICKS[2].brickname}


def test_receipts_of_older_ingests_are_not_measured(report_on):
    def change(receipt, number):
        if number:
            receipt.clear()  # of the first version of the store

    checks = by_name(report_on(change))
    assert checks["bricks measured"].level is Level.WARN
    assert checks["bricks measured"].found.startswith("1 of 12")
    assert checks["depth"].level is Level.PASS
    assert checks["outliers"].level is Level.NOT_MEASURED

    checks = by_name(report_on(lambda receipt, _: receipt.clear()))
    assert checks["depth"].level is Level.NOT_MEASURED
    assert checks["masked pixels"].level is Level.NOT_MEASURED


def test_outliers_are_found_and_sorted(report_on):
    def change(receipt, number):
        bands = receipt["quality"]["bands"]
        if number == 4:
            bands["g"]["depth"] -= 2.0
        if number == 7:
            bands["z"]["psfsize"] += 0.9
            receipt["quality"]["primary"] = 200

    report = report_on(change)
    found = {(item.brickname, item.quantity) for item in report.outliers}
    assert found == {
        (BRICKS[4].brickname, "depth g"),
        (BRICKS[7].brickname, "psfsize z"),
        (BRICKS[7].brickname, "objects per deg²"),
    }
    sigmas = [abs(item.sigmas) for item in report.outliers]
    assert sigmas == sorted(sigmas, reverse=True)
    density = next(item for item in report.outliers if "objects" in item.quantity)
    assert density.value == pytest.approx(200 / 0.0624, rel=0.02)
    assert by_name(report)["outliers"].level is Level.FAIL  # 2 of 12 are many


def test_damaged_object_tables_fail(tmp_path):
    repository = write_survey(tmp_path / "survey", BRICKS[:2])
    with transaction(repository, "damage") as session:
        group = arrays.open_group(session, SURVEY, "r+")
        arrays.get_array(group, "objid")[0:1] = -1
        arrays.get_array(group, "invvar")[1:2] = np.inf
    checks = by_name(check_survey(read_session(repository), SURVEY))
    assert checks["objects stored"].level is Level.FAIL
    assert "1 missing" in checks["objects stored"].found
    assert checks["stored cutouts (sample)"].level is Level.FAIL


def test_a_band_without_limit_is_shown_and_not_judged(report_on):
    limits = QualityLimits(depth_least=BandLimit(g=24.0))
    check = by_name(report_on(spoil(depth=20.0), limits=limits))["depth"]
    assert check.level is Level.PASS
    assert "r 20.00 mag" in check.found


def test_measurements_are_read_in_blocks(store, monkeypatch):
    session = read_session(open_repository(store))
    whole = read_measurements(session, SURVEY).bricks
    monkeypatch.setattr("storage.quality.measurements._BLOCK", 5)
    parts = read_measurements(session, SURVEY).bricks
    assert whole.equals(parts)
    assert not whole.isna().to_numpy().any()


def test_bricks_that_lost_all_objects_count_too(store, tmp_path):
    shutil.copytree(store, tmp_path / "survey")
    repository = open_repository(tmp_path / "survey")
    brick = sky_patch(1, 1, dec=20.0)[0]
    account = receipt() | {"without_cutout": {"edge: neighbour 0001p000 absent": [1, 2]}}
    record = BrickRecord(brick.brickname, brick.brickid, BrickState.EMPTY, receipt=account)
    with transaction(repository, "empty") as session:
        record_bricks(session, SURVEY, [record])
    report = check_survey(read_session(repository), SURVEY)
    check = by_name(report)["objects without a cutout"]
    assert check.found.startswith("2 of 38 ")
    assert check.examples == (brick.brickname,)
    assert len(report.measurements.measured) == 13
    assert report.facts["bricks"] == "12 written, 1 empty"


def test_pictures_without_places_are_checked_as_far_as_they_go(tmp_path):
    block = dataclasses.replace(BRICKS[0], brickname="block-000", brickid=0)
    places = objects_of(block).assign(ra=np.nan, dec=np.nan)
    repository = write_survey(tmp_path / "survey", [block], objects={"block-000": places})
    report = check_survey(read_session(repository), SURVEY)
    checks = by_name(report)
    assert checks["objects stored"].level is Level.PASS
    assert "3 without a position" in checks["objects stored"].found
    assert checks["duplicates across borders"].level is Level.PASS
    assert report.facts["area"] == "unknown"
    assert draw_coverage(report.measurements, None) is None


def test_a_survey_that_is_not_there_is_refused(store):
    with pytest.raises(StorageError, match="dr9/north"):
        check_survey(read_session(open_repository(store)), "dr9/north")
