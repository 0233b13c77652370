"""From what happened to a unit to its ledger row and its receipt; pure values."""

from typing import Any

from storage.brick_ledger import BrickRecord
from storage.brick_rows import NO_ROWS, RowRange
from storage.schema import BrickState
from tasks.references import Outcome, UnitReceipt
from tasks.sources import UnitCutouts, UnitPlan

_STATES = {
    "empty": (BrickState.EMPTY, Outcome.EMPTY),
    "failed": (BrickState.FAILED, Outcome.FAILED),
    "quarantined": (BrickState.QUARANTINED, Outcome.QUARANTINED),
}


def account_of(found: UnitCutouts) -> dict[str, Any]:
    """Return what a worker sends back of a unit beside its fork: what the ledger keeps."""
    return {
        "not_selected": found.not_selected,
        "without_cutout": found.without_cutout,
        "notes": list(found.notes),
        "verification": found.verification,
        "files": found.files,
        "quality": found.quality,
        "neighbours": found.neighbours,
    }


def outcome_of(
    plan: UnitPlan, rows: RowRange, digest: str, account: dict[str, Any]
) -> tuple[BrickRecord, UnitReceipt]:
    """Return ledger row and receipt of a unit that was read; its plan says what was found."""
    record = BrickRecord(
        brickname=plan.name,
        brickid=plan.brickid,
        state=BrickState.WRITTEN if plan.n_objects else BrickState.EMPTY,
        rows=rows if plan.n_objects else NO_ROWS,
        n_objects=plan.n_objects,
        content_digest=plan.digest,
        config_digest=digest,
        fingerprint=plan.fingerprint,
        verification=account["verification"],
        receipt=account,
    )
    receipt = UnitReceipt(
        name=plan.name,
        outcome=Outcome.WRITTEN if plan.n_objects else Outcome.EMPTY,
        objects=plan.n_objects,
        without_cutout={key: len(ids) for key, ids in account["without_cutout"].items()},
        not_selected=account["not_selected"],
        verification=account["verification"],
        notes=tuple(account["notes"]),
    )
    return record, receipt


def unread(plan: UnitPlan, digest: str) -> tuple[BrickRecord, UnitReceipt]:
    """Return ledger row and receipt of a unit that is empty, cannot be read or is quarantined."""
    state, outcome = _STATES[plan.status]
    record = BrickRecord(
        brickname=plan.name,
        brickid=plan.brickid,
        state=state,
        content_digest=plan.digest,
        config_digest=digest,
        fingerprint=plan.fingerprint,
        receipt={"message": plan.reason, "not_selected": plan.not_selected},
    )
    receipt = UnitReceipt(
        name=plan.name,
        outcome=outcome,
        not_selected=plan.not_selected,
        verification="not read",
        message=plan.reason,
    )
    return record, receipt


def present(name: str, objects: int) -> UnitReceipt:
    """Return the receipt of a unit that is in the store as it is."""
    return UnitReceipt(name=name, outcome=Outcome.ALREADY_PRESENT, objects=objects, verification="")
