import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tasks.decisions import (
    Case,
    Decision,
    Event,
    append,
    evidence_digest,
    find_event,
    ledger_path,
    overdue_cases,
    read_events,
    record_decision,
    unfinished_decisions,
)
from tasks.references import Evaluation, EvidencePacket, Interval, ModelRef, SnapshotRef
from tasks.settings import Settings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def model(version):
    return ModelRef(downstream="morphology", version=version, run_id="r", digest=version * 64)


def case(case_id="c" * 64, deadline=NOW):
    return Case(
        case_id=case_id,
        flow_run_id="f",
        attempt=1,
        downstream="morphology",
        challenger=model("2"),
        champion=model("1"),
        evidence="e" * 64,
        deadline=deadline,
    )


def decision(approve=True, reviewer="Vera", **options):
    return Decision(case=case(), approve=approve, reviewer=reviewer, reason="why", **options)


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def test_an_event_of_a_case_is_written_once(settings):
    assert append(settings, case(), Event.MOVING, {"to": "2"})
    assert not append(settings, case(), Event.MOVING, {"to": "3"})
    assert append(settings, case("d" * 64), Event.MOVING, {"to": "4"})
    found = find_event(settings, case(), Event.MOVING)
    assert found.body == {"to": "2"}
    assert found.at.tzinfo is not None
    assert find_event(settings, case(), Event.MOVED) is None


def test_refusals_of_one_case_are_all_kept(settings):
    for ask in (1, 2, 2):
        append(settings, case(), Event.REFUSED, {"refusal": str(ask)}, ask)
    assert [item.ask for item in read_events(settings)] == [1, 2]


@pytest.mark.parametrize("statement", ["UPDATE events SET body = '{}'", "DELETE FROM events"])
def test_the_ledger_refuses_changes(settings, statement):
    append(settings, case(), Event.OPENED, {})
    database = sqlite3.connect(ledger_path(settings))
    with pytest.raises(sqlite3.IntegrityError, match="never"):
        database.execute(statement)
    database.close()
    assert len(read_events(settings)) == 1


def test_the_first_decision_of_a_case_stands(settings):
    first, at = record_decision(settings, decision(approve=False))
    second, at_again = record_decision(settings, decision(approve=True, reviewer="Edwin"))
    assert second == first == decision(approve=False)
    assert at == at_again


def test_decisions_stay_unfinished_until_stale_or_closed(settings):
    assert unfinished_decisions(settings, "morphology") == []
    record_decision(settings, decision())
    append(settings, case(), Event.MOVING, {})
    assert unfinished_decisions(settings, "morphology") == [decision()]
    assert unfinished_decisions(settings, None) == [decision()]
    assert unfinished_decisions(settings, "other") == []
    append(settings, case(), Event.CLOSED, {})
    assert unfinished_decisions(settings, "morphology") == []


def test_a_case_is_overdue_after_its_deadline_unless_decided(settings):
    append(settings, case(), Event.OPENED, {"case": case().model_dump(mode="json")})
    assert overdue_cases(settings, None, NOW - timedelta(seconds=1)) == []
    assert overdue_cases(settings, None, NOW + timedelta(seconds=1)) == [case()]
    record_decision(settings, decision())
    assert overdue_cases(settings, None, NOW + timedelta(seconds=1)) == []


def test_concurrent_writers_lose_nothing_and_agree_on_one_decision(settings):
    def work(number):
        append(settings, case(), Event.REFUSED, {"n": number}, ask=number)
        return record_decision(settings, decision(reviewer=f"reviewer {number}"))

    with ThreadPoolExecutor(8) as pool:
        standing = set(pool.map(work, range(1, 25)))
    assert len(standing) == 1
    assert len(read_events(settings)) == 25


def test_evidence_digest_changes_with_anything_that_is_shown():
    evaluation = Evaluation(
        model=model("2"),
        snapshot=SnapshotRef(store="s", survey="v", snapshot_id="i"),
        split_digest="a",
        labels_digest="b",
        test_objects=3,
        headline="accuracy",
        metrics={"accuracy": Interval(value=0.5, low=0.4, high=0.6)},
    )
    packet = EvidencePacket(challenger=evaluation)
    other = packet.model_copy(update={"facts": {"code": "x"}})
    assert len(evidence_digest(packet)) == 64
    assert evidence_digest(packet) == evidence_digest(packet.model_copy(deep=True))
    assert evidence_digest(packet) != evidence_digest(other)
