import base64
import io
import re

import pytest
from measured_survey import SURVEY, bricks_table, record_again, sky_patch, write_survey
from PIL import Image

from storage.bricks import brick_at
from storage.quality.checks import check_survey
from storage.quality.documents import html_report, markdown_report, verdict
from storage.repository import open_repository, read_session
from storage.schema import BrickState

BRICKS = sky_patch(4, 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "survey"
    write_survey(path, BRICKS)
    return path


def check(store):
    return check_survey(read_session(open_repository(store)), SURVEY, None, bricks_table(BRICKS))


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    def change(receipt, number):
        if number == 2:
            receipt["quality"]["bands"]["g"]["depth"] = 20.0

    repository = write_survey(tmp_path_factory.mktemp("spoilt") / "survey", BRICKS)
    broken = [
        (sky_patch(1, 1, dec=9.0)[0], BrickState.FAILED, "CorruptFile: <b>a|b</b>.fits: truncated")
    ]
    record_again(repository, BRICKS, change, broken)
    return check_survey(read_session(repository), SURVEY)


def pictures(page):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(data))) for data in found]


def test_page_shows_every_check_and_four_pictures_and_needs_nothing_else(store):
    report = check(store)
    page = html_report(report, made="2026-11-24 12:00 UTC", bricks_table=bricks_table(BRICKS))
    for item in report.checks:
        assert item.name in page
    assert "The survey passes." in page
    assert report.snapshot in page
    assert "2026-11-24 12:00 UTC" in page
    assert "depth_tolerance" in page  # the limits are part of the report
    assert len(pictures(page)) == 4
    for picture in pictures(page):
        assert min(picture.size) > 300
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10
    assert "http" not in re.sub(r'base64,[^"]+', "", page)


def test_page_puts_what_failed_first_and_escapes_messages(spoilt):
    page = html_report(spoilt, made="now")
    assert page.index("failed bricks") < page.index("objects stored")
    assert "&lt;b&gt;a|b&lt;/b&gt;.fits" in page
    assert "<b>a|b" not in page
    assert "robust z" in page
    assert "The survey does not pass." in page


def test_markdown_says_the_same_in_short(spoilt):
    text = markdown_report(spoilt)
    assert text.startswith(f"# Quality of {SURVEY}")
    assert verdict(spoilt) in text
    assert "| failed bricks | **fail** | 1 of 13 (7.69%); 1 CorruptFile |" in text
    assert "## What to do" in text
    assert re.search(rf"\| {BRICKS[2].brickname} \| depth g \| 20 \| 24\.\d+ \| -\d", text)
    assert "base64" not in text


def test_a_report_without_measurements_has_only_the_map(tmp_path, store):
    repository = write_survey(tmp_path / "survey", BRICKS[:2])
    record_again(repository, BRICKS[:2], lambda receipt, _: receipt.clear())
    page = html_report(check_survey(read_session(repository), SURVEY), made="now")
    assert len(pictures(page)) == 1
    assert "not measured" in page


def test_the_whole_sky_is_drawn_for_wide_surveys(tmp_path):
    bricks = [brick_at(ra, dec) for ra in (10.0, 130.0, 250.0) for dec in (-30.0, 30.0)]
    repository = write_survey(tmp_path / "survey", bricks)
    page = html_report(check_survey(read_session(repository), SURVEY), made="now")
    coverage = pictures(page)[0]
    assert coverage.width > coverage.height
    green = (47, 125, 91)  # of written bricks
    assert green in {colour for _, colour in coverage.convert("RGB").getcolors(1 << 20)}
