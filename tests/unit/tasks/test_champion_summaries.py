"""What the first page says of champions that were taken back and came back."""

import pytest
from promotion_gate import champions, decision, registers

from tasks import tracking as registry
from tasks.desk_pages import champions_of
from tasks.promotion import carry_out
from tasks.rollback import RollbackRequest, roll_back
from tasks.users import User

VERA = User("vera", frozenset({"approver"}))


@pytest.fixture
def three(tracking):
    """Return three versions that became champion one after the other."""
    register = registers(tracking)
    models = [register(digit) for digit in "abd"]
    for before, model in zip([None, *models], models, strict=False):
        carry_out(tracking, decision(model, before, case_id=model.version))
    return models


def take_back(settings, version, reason="it calls stars galaxies"):
    request = RollbackRequest(downstream="morphology", champion_version=version, reason=reason)
    roll_back(settings, VERA, request)


def summary(settings):
    [found] = champions_of(settings, [])
    return found


def test_a_champion_that_came_back_says_who_took_which_back(tracking, three):
    assert (summary(tracking).version, summary(tracking).previous) == ("3", "2")
    assert summary(tracking).returned is None
    take_back(tracking, "3")
    found = summary(tracking)
    assert (found.version, found.previous) == ("2", "1")
    returned = found.returned
    assert (returned.instead_of, returned.by) == ("3", "vera")
    assert returned.reason == "it calls stars galaxies"
    assert returned.at[:4].isdecimal()
    take_back(tracking, "2", "that one too")
    found = summary(tracking)
    assert (found.version, found.previous) == ("1", "")  # there is none before the first
    assert (found.returned.instead_of, found.returned.reason) == ("2", "that one too")


def test_a_version_that_is_approved_after_it_came_back_is_a_champion_as_any_other(tracking, three):
    take_back(tracking, "3")
    last = registers(tracking)("e")
    carry_out(tracking, decision(last, three[1], case_id="e"))
    assert summary(tracking).returned is None
    carry_out(tracking, decision(three[1], last, case_id="f"))
    found = summary(tracking)
    assert (found.version, found.previous, found.returned) == ("2", "4", None)


def test_a_champion_that_was_moved_by_hand_promises_no_way_back(tracking, three):
    registry.set_alias(tracking, three[0], registry.CHAMPION)
    assert champions(tracking)[0] == "1"
    assert summary(tracking).previous == ""
