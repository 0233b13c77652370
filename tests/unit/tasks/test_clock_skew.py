"""A clock that jumps neither loses a decision nor makes a second one of the same case."""

from datetime import UTC, datetime, timedelta

import pytest
from promotion_gate import decision, evidence

from tasks.decisions import Event, append, find_decision, overdue_cases, record_decision
from tasks.holds import expired_decision
from tasks.references import ModelRef
from tasks.settings import Settings

NOW = datetime.now(UTC)


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def case(settings):
    """Return a case that is open until tomorrow."""
    model = ModelRef(downstream="morphology", version="1", run_id="r", digest="a" * 64)
    case = decision(model, None).case
    body = {"case": case.model_dump(mode="json"), "evidence": evidence(model).model_dump()}
    append(settings, case, Event.OPENED, body)
    return case


def overdue(settings, hours: float):
    return overdue_cases(settings, None, NOW + timedelta(hours=hours))


def test_a_clock_set_back_keeps_a_case_open(settings, case):
    assert overdue(settings, 0) == overdue(settings, -48) == []


def test_a_clock_that_ran_ahead_rejects_once_and_setting_it_right_opens_nothing(settings, case):
    assert overdue(settings, 48) == [case]
    first, at = record_decision(settings, expired_decision(case))
    assert overdue(settings, 48) == overdue(settings, 0) == []
    again, later = record_decision(settings, decision(case.challenger, None))
    assert (again, later) == (first, at)  # an approval that comes after the clock was set right
    assert find_decision(settings, case).expired


def test_an_approval_before_the_clock_ran_ahead_stands(settings, case):
    record_decision(settings, decision(case.challenger, None))
    assert overdue(settings, 48) == []
    standing, _ = record_decision(settings, expired_decision(case))
    assert standing.approve
    assert not standing.expired
