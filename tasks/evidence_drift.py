"""Whether the data moved between the champion's training and the challenger's evidence.

The embeddings of the two snapshots are compared, by one encoder. Where that cannot be done the
answer is "unknown", with the reason: never that nothing moved.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from storage.drift.documents import (
    DriftReport,
    difference_rows,
    draw_shifts,
    html_report,
    outlier_rows,
    verdict,
)
from storage.drift.two_sample import DriftLimits
from storage.errors import StorageError
from tasks import tracking
from tasks.datasets import dataset_of
from tasks.drift import drift_report, open_side
from tasks.embedded import NothingEmbedded
from tasks.encoders import NotEmbedded
from tasks.references import DriftEvidence, EncoderRef, ModelRef, SnapshotRef
from tasks.settings import Settings

ENCODER_TAG = "encoder_digest"  # of a version
SHORT = 12  # digits of a digest that people read


@dataclass(frozen=True)
class MeasuredDrift:
    """What was found, and the documents of it: a page and a picture, where it was measured."""

    evidence: DriftEvidence
    page: str = ""
    picture: bytes = b""


def drift_evidence(
    settings: Settings, challenger: ModelRef, champion: ModelRef | None
) -> MeasuredDrift:
    """Compare the snapshot that the champion learned from with that of the challenger.

    Either model's encoder will do that has embedded both; the challenger's is tried first.
    """
    if champion is None:
        return _unknown("there is no champion, so there is nothing to compare with")
    before, now = (dataset_of(settings, model).snapshot for model in (champion, challenger))
    if (before.survey, before.snapshot_id) == (now.survey, now.snapshot_id):
        return _unknown(
            f"champion and challenger stand on one snapshot, {now.snapshot_id} of {now.survey}, so "
            "there are no two to compare"
        )
    found = [
        tracking.version_tags(settings, m).get(ENCODER_TAG, "") for m in (challenger, champion)
    ]
    encoders = list(dict.fromkeys(filter(None, found)))
    reasons = []
    for digest in encoders:
        try:
            return _measured(_report(settings, digest, before, now))
        except (NotEmbedded, NothingEmbedded, StorageError) as error:
            reasons.append(f"by encoder {digest[:SHORT]}: {error}")
    what = "no encoder has embeddings of both snapshots that can be compared"
    return _unknown("; ".join([what, *reasons]) if encoders else "no encoder is recorded with them")


def _report(settings: Settings, digest: str, before: SnapshotRef, now: SnapshotRef) -> DriftReport:
    names = f"{before.survey}@{before.snapshot_id}", f"{now.survey}@{now.snapshot_id}"
    encoder = EncoderRef(path="", digest=digest)  # its embeddings are read, it does not run
    one, other = (open_side(settings, encoder, name) for name in names)
    return drift_report(names, one, other, DriftLimits())


def _measured(report: DriftReport) -> MeasuredDrift:
    bricks = [(f"brick {name}", shift, "stands out") for name, _, shift, _ in outlier_rows(report)]
    evidence = DriftEvidence(
        alarm=report.alarm,
        sentence=verdict(report),
        encoder=report.encoder,
        sides=(report.first, report.second),
        rows=(*difference_rows(report), *bricks),
        notes=report.notes,
    )
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return MeasuredDrift(evidence, html_report(report, made=made), draw_shifts(report))


def _unknown(why: str) -> MeasuredDrift:
    return MeasuredDrift(DriftEvidence(alarm=None, sentence=why))
