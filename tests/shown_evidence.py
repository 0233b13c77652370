"""A promotion whose evidence lies before people, for tests of the page; no run made it."""

import hashlib
import io
from datetime import UTC, datetime, timedelta

import numpy as np
from PIL import Image

from tasks.answers import WaitingPromotion
from tasks.decisions import Case, Event, append, evidence_digest
from tasks.references import (
    DriftEvidence,
    Evaluation,
    EvidencePacket,
    Interval,
    ModelRef,
    ReliabilityBin,
    SnapshotRef,
)
from tasks.settings import Settings

CLASSES = ("elliptical", "edge-on", "spiral", "other")
SIDES = ("dr10/south@BEFORE", "dr10/south@NOW")


def measured(version: str, snapshot: str, value: float, slope: float) -> Evaluation:
    """Return an evaluation whose accuracy is so many times the confidence."""
    interval = Interval(value=value, low=value - 0.05, high=value + 0.05)
    error = Interval(value=abs(1 - slope), low=0.0, high=0.3)
    confidence = np.linspace(0.35, 0.95, 7)
    return Evaluation(
        model=ModelRef(
            downstream="morphology", version=version, run_id=f"run{version}", digest=version * 64
        ),
        snapshot=SnapshotRef(store="s", survey="dr10/south", snapshot_id=snapshot),
        split_digest="5" * 64,
        labels_digest="1" * 64,
        test_objects=210,
        headline="balanced_accuracy",
        metrics={"balanced_accuracy": interval, "expected_calibration_error": error},
        classes=CLASSES,
        confusion=tuple(tuple(int(x) for x in row) for row in np.eye(4, dtype=int) * 40 + 4),
        per_class={name: {"recall": 0.8, "precision": 0.7, "objects": 52.0} for name in CLASSES},
        reliability=tuple(
            ReliabilityBin(confidence=x, accuracy=min(1.0, slope * x), objects=int(10 + 60 * x))
            for x in confidence
        ),
    )


def drift(alarm: bool | None) -> DriftEvidence:
    """Return what a report says that raises an alarm, does not, or could not be made."""
    if alarm is None:
        return DriftEvidence(alarm=None, sentence="only one snapshot, so nothing to compare")
    return DriftEvidence(
        alarm=alarm,
        sentence="DRIFT: the two differ (p = 0.001)" if alarm else "No drift: p = 0.4",
        encoder="e" * 64,
        sides=SIDES,
        rows=(
            ("p-value", "0.001" if alarm else "0.4", "by exchanging bricks"),
            ("separation", "0.91" if alarm else "0.52", "0.5: indistinguishable"),
        ),
        notes=("2 bricks have no embeddings",),
        report="drift/abc-drift.html",
    )


def show_evidence(settings: Settings, alarm: bool | None, **changes) -> WaitingPromotion:
    """Open a case on such evidence, with figures, and return the promotion that waits."""
    found = drift(alarm)
    facts = {
        "drift": found.sentence,
        "drift_alarm": {True: "true", False: "false"}.get(alarm, "unknown"),
    }
    packet = EvidencePacket(
        challenger=measured("2", "NOW", 0.78, 0.95),
        champion=measured("1", "NOW", 0.74, 0.75),
        facts={"survey": "dr10/south", **facts},
        drift=found,
        figures={
            "challenger": {
                name: draw(settings, name, 90)
                for name in ("confusion", "reliability", "training-head")
            },
            "champion": {"confusion": draw(settings, "confusion", 160)},
            "drift": {"shifts": draw(settings, "shifts", 40)} if alarm is not None else {},
        },
    ).model_copy(update=changes)
    digest = evidence_digest(packet)
    case = Case(
        case_id=digest,
        flow_run_id="11111111-1111-1111-1111-111111111111",
        attempt=1,
        downstream="morphology",
        challenger=packet.challenger.model,
        champion=packet.champion.model if packet.champion else None,
        evidence=digest,
        deadline=datetime.now(UTC) + timedelta(days=2),
    )
    body = {"case": case.model_dump(mode="json"), "evidence": packet.model_dump(mode="json")}
    append(settings, case, Event.OPENED, body)
    return WaitingPromotion(
        flow_run_id=case.flow_run_id,
        case_id=case.case_id,
        downstream="morphology",
        version="2",
        evidence_digest=digest,
        evidence="",
        deadline=case.deadline,
        form="decision-1-1",
        url="",
    )


def draw(settings: Settings, name: str, shade: int) -> str:
    """Keep a picture where pages find it; return its digest."""
    buffer = io.BytesIO()
    pixels = np.full((220, 300), shade + len(name), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format="PNG")
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    path = settings.home / "reports" / "evidence-figures" / f"{digest}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return digest


def open_case(desk, monkeypatch, alarm: bool | None, name: str = "eve", **changes):
    """Let a promotion wait at a desk; return it and the page that a user is shown of it."""
    item = show_evidence(desk.settings, alarm, **changes)
    monkeypatch.setattr("flows.review_desk.approve.find_waiting", lambda flow_run_id: item)
    answer = desk.client(name).get(f"/approve/{item.flow_run_id}")
    assert answer.status_code == 200
    return item, answer.text
