"""The report on a survey: what is there is shown, what is not is said, nothing else is needed."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from desk_home import SURVEY, make_desk

from storage.errors import StorageError
from tasks.receipts import append_units, new_log
from tasks.references import Interval, Outcome, UnitReceipt
from tasks.run_report import report_survey
from tasks.run_report.drawing import draw_intervals, draw_plane
from tasks.run_report.flow_runs import flow_run_section
from tasks.settings import Settings

PNG = b"\x89PNG"


@pytest.fixture
def settings(empty_tracking, tracking) -> Settings:
    return make_desk(tracking.home, people=False).settings


@pytest.mark.timeout(60)
def test_a_report_shows_what_there_is_and_says_what_is_not(settings):
    units = [
        UnitReceipt(name="b1", outcome=Outcome.WRITTEN, objects=8, without_cutout={"edge": 3}),
        UnitReceipt(name="b9", outcome=Outcome.FAILED, message="<b>cut</b> short"),
    ]
    append_units(new_log(settings, SURVEY), units)
    made = report_survey(settings, SURVEY)
    text = Path(made.path).read_text(encoding="utf-8")
    assert set(made.missing) == {"Embeddings", "Models and decisions"}
    assert "1 written, 1 failed; 8 objects" in text
    assert "3 edge" in text
    assert "&lt;b&gt;cut&lt;/b&gt; short" in text
    assert "16 objects have a cutout" in text
    assert "<td>elliptical</td><td>16</td><td>100.0%</td>" in text
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", text)
    assert len(pictures) >= 2
    assert all(base64.b64decode(data).startswith(PNG) for data in pictures)
    assert not re.findall(r"<(?:script|link)|src=\"http", text)


def test_an_unknown_survey_is_an_error(settings):
    with pytest.raises(StorageError, match="not in the store"):
        report_survey(settings, "dr10/north")


def test_what_is_no_run_is_said():
    assert "no id of a flow run" in flow_run_section("yesterday").missing


def test_pictures_are_drawn_of_little_too():
    assert draw_plane(np.zeros((1, 4), np.float32)).startswith(PNG)
    assert draw_plane(np.eye(5, dtype=np.float16)).startswith(PNG)
    assert draw_intervals({"a": Interval(value=0.5, low=0.4, high=0.6)}).startswith(PNG)
