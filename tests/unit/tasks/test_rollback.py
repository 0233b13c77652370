"""Taking champions back, and what was moved past the decisions, with a real registry."""

import pytest
from promotion_gate import champions, decision, evidence, registers, state_of

from tasks import tracking as registry
from tasks.answers import InvalidDecision
from tasks.audit import audit_registry, find_disagreements
from tasks.champions import recorded_moves
from tasks.decisions import Event, append, read_events
from tasks.grounds import note_grounds, what_changed
from tasks.outcomes import PromotionStatus, describe_outcome
from tasks.promotion import carry_out
from tasks.rollback import RollbackRequest, roll_back
from tasks.users import NotAllowed, User

VERA = User("vera", frozenset({"approver"}))
ANN = User("ann", frozenset({"annotator"}))


@pytest.fixture
def candidate(tracking):
    return registers(tracking)


@pytest.fixture
def three(tracking, candidate):
    """Return three versions that became champion one after the other."""
    models = [candidate(digit) for digit in "abd"]
    for before, model in zip([None, *models], models, strict=False):
        carry_out(tracking, decision(model, before, case_id=model.version))
    assert champions(tracking) == ["3", "2", None]
    return models


def back(tracking, version, user=VERA, reason="it calls stars galaxies"):
    request = RollbackRequest(downstream="morphology", champion_version=version, reason=reason)
    return roll_back(tracking, user, request)


def test_a_rollback_is_a_recorded_decision_and_pressing_twice_takes_back_one(tracking, three):
    outcome = back(tracking, "3")
    assert outcome.status is PromotionStatus.ROLLED_BACK
    assert "version 2 is champion again: rolled back by vera" in describe_outcome(outcome)
    assert champions(tracking) == ["2", "1", None]
    before = state_of(tracking)
    assert back(tracking, "3") == outcome
    assert state_of(tracking) == before
    tags = registry.version_tags(tracking, three[2])
    assert (tags["rolled_back_to"], tags["rolled_back.user"]) == ("2", "vera")
    assert tags["decision"] == "approved"
    assert registry.version_tags(tracking, three[1])["restored.reason"] == "it calls stars galaxies"
    assert find_disagreements(tracking) == ()


def test_rollbacks_go_back_to_the_first_and_then_say_so(tracking, three, candidate):
    back(tracking, "3")
    back(tracking, "2")
    assert champions(tracking) == ["1", None, None]
    with pytest.raises(InvalidDecision, match="first champion"):
        back(tracking, "1")
    later = candidate("e")
    carry_out(tracking, decision(later, three[0], case_id="e"))
    assert champions(tracking) == ["4", "1", None]
    back(tracking, "4")
    assert champions(tracking) == ["1", None, None]


def test_rollbacks_that_are_refused_change_nothing(tracking, three):
    before = state_of(tracking)
    with pytest.raises(NotAllowed, match="ann may not decide"):
        back(tracking, "3", ANN)
    with pytest.raises(InvalidDecision, match="reason is blank"):
        back(tracking, "3", reason=" ")
    with pytest.raises(InvalidDecision, match="is not the champion"):
        back(tracking, "2")
    with pytest.raises(InvalidDecision, match="never was made champion"):
        back(tracking, "9")
    registry.set_alias(tracking, three[0], registry.CHAMPION)
    with pytest.raises(InvalidDecision, match="is not the champion"):
        back(tracking, "3")
    registry.set_alias(tracking, three[2], registry.CHAMPION)
    assert state_of(tracking) == before


def test_an_audit_names_what_was_moved_by_hand_and_puts_it_back_once(tracking, three):
    assert audit_registry(tracking).clean
    registry.set_alias(tracking, three[0], registry.CHAMPION)
    registry.remove_alias(tracking, "morphology", registry.PREVIOUS_CHAMPION)
    found = find_disagreements(tracking)
    assert [item.sentence for item in found] == [
        "'champion' of morphology is at version 1, but the decisions put it at version 3",
        "'previous_champion' of morphology is at no version, but the decisions put it at version 2",
    ]
    report = audit_registry(tracking)  # the policy does not say put_back
    assert not report.clean
    assert champions(tracking) == ["1", None, None]
    with pytest.raises(NotAllowed):
        audit_registry(tracking, ANN)
    assert champions(tracking) == ["1", None, None]
    assert audit_registry(tracking, VERA).clean
    assert champions(tracking) == ["3", "2", None]
    put = [item.body for item in read_events(tracking) if item.event is Event.PUT_BACK]
    assert [item["user"] for item in put] == ["vera", "vera"]
    assert audit_registry(tracking, VERA).found == ()


def test_the_policy_may_have_it_put_back(tracking, candidate):
    rival = candidate("a")
    registry.set_alias(tracking, rival, registry.CHAMPION)
    (found,) = find_disagreements(tracking)
    assert found.sentence == "'champion' of morphology is at version 1, which nobody decided"
    (tracking.home / "policies.toml").write_text("[promotion.morphology]\nput_back = true\n")
    assert audit_registry(tracking).put_back == (found,)
    assert champions(tracking) == [None, None, None]


def test_an_approved_version_with_other_weights_is_named(tracking, candidate):
    model = candidate("a")
    carry_out(tracking, decision(model, None))
    registry.tag_version(tracking, model, {"digest": "f" * 64})
    (found,) = find_disagreements(tracking)
    assert "weights or its run are not those that were approved" in found.sentence


def test_changed_test_split_makes_an_approval_stale(tracking, candidate):
    model = candidate("a")
    registry.tag_version(tracking, model, {"split_digest": "5" * 64, "mode": "head"})
    asked = decision(model, None)
    note_grounds(tracking, asked.case, evidence(model))
    assert what_changed(tracking, asked.case) == ()
    registry.tag_version(tracking, model, {"mode": "full"})
    assert what_changed(tracking, asked.case) == ()
    registry.tag_version(tracking, model, {"split_digest": "6" * 64})
    assert what_changed(tracking, asked.case) == ("challenger",)
    assert carry_out(tracking, asked).status is PromotionStatus.STALE
    assert champions(tracking) == [None, None, None]


def test_old_records_of_moves_are_understood(tracking, candidate):
    old, new = candidate("a"), candidate("b")
    case = decision(new, old).case
    append(tracking, case, Event.OPENED, {"case": case.model_dump(mode="json")})
    append(tracking, case, Event.MOVED, {"to": new.model_dump(mode="json")})
    (move,) = recorded_moves(tracking, "morphology")
    assert (move.to, move.previous) == (new, old)
