import pytest
from pydantic import ValidationError

from tasks.references import Outcome, Receipt, SnapshotRef, UnitReceipt


def make_receipt(*outcomes: Outcome) -> Receipt:
    units = (
        UnitReceipt(name=f"brick{i}", outcome=outcome, objects=10)
        for i, outcome in enumerate(outcomes)
    )
    return Receipt.of("dr10/south", "S", units)


def test_a_receipt_counts_every_unit_once():
    receipt = make_receipt(Outcome.WRITTEN, Outcome.WRITTEN, Outcome.FAILED, Outcome.EMPTY)
    assert receipt.counts == {
        "written": 2,
        "already_present": 0,
        "empty": 1,
        "skipped": 0,
        "quarantined": 0,
        "failed": 1,
    }
    assert receipt.total == 4


def test_a_receipt_of_many_units_keeps_all_counts_and_the_failures(monkeypatch):
    monkeypatch.setattr(Receipt, "KEPT_UNITS", 3)
    receipt = make_receipt(*[Outcome.WRITTEN] * 5, Outcome.FAILED, Outcome.QUARANTINED)
    assert receipt.total == 7
    assert receipt.objects == 50
    assert [unit.outcome for unit in receipt.units] == [
        Outcome.FAILED,
        Outcome.QUARANTINED,
        Outcome.WRITTEN,
    ]


def test_objects_of_failed_units_are_not_in_the_store():
    assert make_receipt(Outcome.WRITTEN, Outcome.FAILED).objects == 10


def test_the_content_digest_follows_every_value_and_nothing_else():
    one = SnapshotRef(store="s", survey="dr10/south", snapshot_id="A")
    same = SnapshotRef(snapshot_id="A", survey="dr10/south", store="s")
    other = SnapshotRef(store="s", survey="dr10/south", snapshot_id="B")
    assert one.content_digest() == same.content_digest() != other.content_digest()


def test_a_misspelt_key_is_refused():
    with pytest.raises(ValidationError, match="snapshot"):
        SnapshotRef(store="s", survey="dr10/south", snapshot_id="A", snapshot="B")
