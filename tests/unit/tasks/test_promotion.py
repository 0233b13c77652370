"""Carrying out decisions against a real registry; no server. The holds: tests/integration."""

import ast
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from promotion_gate import champions, decision, registers, state_of

from tasks import tracking as registry
from tasks.decisions import Event, append, read_events, record_decision
from tasks.promotion import (
    NoCandidate,
    PromotionStatus,
    carry_out,
    describe_outcome,
    find_challenger,
    settle_unfinished,
)

REPOSITORY = Path(__file__).resolve().parents[3]
ALIAS_CALLS = {"set_alias", "remove_alias"}
MLFLOW_ALIAS_CALLS = {"set_registered_model_alias", "delete_registered_model_alias"}


@pytest.fixture
def candidate(tracking):
    return registers(tracking)


def functions_called(path):
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Attribute | ast.Name):
            yield getattr(node, "attr", getattr(node, "id", ""))
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # getattr(tracking, "set_alias")


def test_nobody_but_promotion_moves_an_alias():
    files = [
        path
        for package in ("flows", "tasks", "lvm", "storage")
        for path in (REPOSITORY / package).rglob("*.py")
    ]
    movers, mlflow_users = set(), set()
    for path in files:
        called = set(functions_called(path))
        name = path.relative_to(REPOSITORY).as_posix()
        offered = name == "tasks/tracking/__init__.py"  # the public names of the package
        movers |= {name} if called & ALIAS_CALLS and not offered else set()
        mlflow_users |= {name} if called & MLFLOW_ALIAS_CALLS else set()
    # tasks/tracking makes the calls and calls none of them by itself.
    assert {name for name in movers if not name.startswith("tasks/tracking/")} == {
        "tasks/promotion.py"
    }
    assert mlflow_users == {"tasks/tracking/registry.py"}


def test_approval_moves_champion_and_keeps_the_previous_one(tracking, candidate):
    old, new = candidate("a"), candidate("b")
    registry.set_alias(tracking, old, registry.CHAMPION)
    registry.set_alias(tracking, new, registry.CHALLENGER)
    outcome = carry_out(tracking, decision(new, old))
    assert outcome.status is PromotionStatus.APPROVED
    assert outcome.champion == new
    assert champions(tracking) == ["2", "1", None]
    tags = registry.version_tags(tracking, new)
    assert tags["decision"] == "approved"
    assert (tags["decision.reviewer"], tags["decision.reason"]) == ("Vera", "better")
    assert (tags["decision.evidence"], tags["decision.case"]) == ("e" * 64, "c" * 64)
    after = registry.version_tags(tracking, old)
    assert (after["succeeded_by"], after["succeeded.reviewer"]) == ("2", "Vera")
    assert after["succeeded.at"] == tags["decision.at"]
    text = registry.read_artifact(tracking, new.run_id, "promotion/cccccccccccc/decision.json")
    assert json.loads(text)["decision"]["reviewer"] == "Vera"


def test_carrying_out_twice_changes_nothing(tracking, candidate):
    old, new, later = candidate("a"), candidate("b"), candidate("d")
    registry.set_alias(tracking, old, registry.CHAMPION)
    first = carry_out(tracking, decision(new, old))
    before = state_of(tracking)
    assert carry_out(tracking, decision(new, old)) == first
    assert state_of(tracking) == before
    carry_out(tracking, decision(later, new, case_id="d"))
    again = carry_out(tracking, decision(new, old))
    assert again.status is PromotionStatus.APPROVED
    assert champions(tracking) == ["3", "2", None]


def test_rejection_moves_nothing(tracking, candidate):
    old, new = candidate("a"), candidate("b")
    registry.set_alias(tracking, old, registry.CHAMPION)
    outcome = carry_out(tracking, decision(new, old, approve=False))
    assert outcome.status is PromotionStatus.REJECTED
    assert champions(tracking) == ["1", None, None]
    assert "rejected by Vera" in describe_outcome(outcome)


def test_second_answer_to_a_case_does_not_replace_the_first(tracking, candidate):
    new = candidate("a")
    carry_out(tracking, decision(new, None, approve=False))
    outcome = carry_out(tracking, decision(new, None, approve=True))
    assert outcome.status is PromotionStatus.REJECTED
    assert champions(tracking) == [None, None, None]


def test_champion_changed_since_the_evidence_is_stale(tracking, candidate):
    old, new, rival = candidate("a"), candidate("b"), candidate("d")
    registry.set_alias(tracking, rival, registry.CHAMPION)
    outcome = carry_out(tracking, decision(new, old))
    assert outcome.status is PromotionStatus.STALE
    assert champions(tracking) == ["3", None, None]
    registry.set_alias(tracking, old, registry.CHAMPION)  # even if it comes back later
    assert carry_out(tracking, decision(new, old)).status is PromotionStatus.STALE
    assert champions(tracking) == ["1", None, None]


def test_challenger_that_is_not_what_was_shown_is_stale(tracking, candidate):
    new = candidate("a")
    shown = new.model_copy(update={"digest": "f" * 64})
    assert carry_out(tracking, decision(shown, None)).status is PromotionStatus.STALE
    gone = new.model_copy(update={"version": "9"})
    assert carry_out(tracking, decision(gone, None, case_id="d")).status is PromotionStatus.STALE
    assert champions(tracking) == [None, None, None]


def test_alias_set_by_hand_to_the_challenger_is_not_taken_for_our_own_crash(tracking, candidate):
    old, new = candidate("a"), candidate("b")
    registry.set_alias(tracking, new, registry.CHAMPION)
    assert carry_out(tracking, decision(new, old)).status is PromotionStatus.STALE


LAST_WRITE = 8  # intent, two aliases, record, two tags, alias challenger, end of the case


class Crash(BaseException):
    """What a kill looks like to the code that it interrupts."""


@pytest.mark.parametrize("step", range(1, LAST_WRITE + 1))
def test_crash_at_any_step_is_repaired_by_the_next_run(tracking, candidate, monkeypatch, step):
    old, new = candidate("a"), candidate("b")
    registry.set_alias(tracking, old, registry.CHAMPION)
    registry.set_alias(tracking, new, registry.CHALLENGER)
    writes = 0

    def fail_after(write):
        def wrapped(*arguments, **options):
            nonlocal writes
            result = write(*arguments, **options)
            writes += 1
            if writes == step:
                raise Crash
            return result

        return wrapped

    with monkeypatch.context() as patch:
        for name in ("set_alias", "remove_alias", "tag_version"):
            patch.setattr(registry, name, fail_after(getattr(registry, name)))
        patch.setattr("tasks.promotion.append", fail_after(append))
        with pytest.raises(Crash):
            carry_out(tracking, decision(new, old))
    outcomes = settle_unfinished(tracking, "morphology")
    assert len(outcomes) == (0 if step == LAST_WRITE else 1)
    assert champions(tracking) == ["2", "1", None]
    events = [item.event for item in read_events(tracking)]
    assert sorted(events) == sorted(set(events))
    assert {Event.DECIDED, Event.MOVING, Event.MOVED, Event.CLOSED} == set(events)
    assert registry.version_tags(tracking, new)["decision"] == "approved"
    assert registry.version_tags(tracking, old)["succeeded_by"] == "2"


def test_crash_right_after_the_decision_was_recorded_is_repaired(tracking, candidate):
    new = candidate("a")
    record_decision(tracking, decision(new, None))
    (outcome,) = settle_unfinished(tracking)
    assert outcome.status is PromotionStatus.APPROVED
    assert champions(tracking) == ["1", None, None]


def test_case_nobody_decided_is_rejected_after_its_deadline(tracking, candidate):
    new = candidate("a")
    late = decision(new, None).case.model_copy(
        update={"deadline": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    append(tracking, late, Event.OPENED, {"case": late.model_dump(mode="json")})
    (outcome,) = settle_unfinished(tracking, "morphology")
    assert outcome.status is PromotionStatus.EXPIRED
    assert "no decision by 2026-01-01" in describe_outcome(outcome)
    assert registry.version_tags(tracking, new)["decision"] == "expired"
    assert settle_unfinished(tracking, "morphology") == []


def test_forgotten_case_does_not_cover_a_later_approval(tracking, candidate):
    new = candidate("a")
    late = decision(new, None, case_id="d").case
    late = late.model_copy(update={"deadline": datetime(2026, 1, 1, tzinfo=UTC)})
    append(tracking, late, Event.OPENED, {"case": late.model_dump(mode="json")})
    carry_out(tracking, decision(new, None))
    settle_unfinished(tracking, "morphology")
    assert registry.version_tags(tracking, new)["decision"] == "approved"
    assert champions(tracking) == ["1", None, None]


def test_default_challenger_is_the_newest_that_nobody_decided_on(tracking, candidate):
    with pytest.raises(NoCandidate, match="brickyard finetune"):
        find_challenger(tracking, "morphology")
    first, second, third = candidate("a"), candidate("b"), candidate("d")
    assert find_challenger(tracking, "morphology") == third
    carry_out(tracking, decision(third, None, approve=False))
    assert find_challenger(tracking, "morphology") == second
    carry_out(tracking, decision(second, None, case_id="d"))
    with pytest.raises(NoCandidate):
        find_challenger(tracking, "morphology")
    assert find_challenger(tracking, "morphology", "1") == first
    with pytest.raises(registry.UnknownModel):
        find_challenger(tracking, "morphology", "9")
