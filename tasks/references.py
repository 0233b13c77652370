"""The small frozen values that travel between flows and tasks: references, receipts, evidence.

Nothing here holds pixels, tensors, open stores or models; everything fits into a JSON document,
so that it can be a Prefect parameter, a persisted result, an MLflow tag or an artifact.
"""

import hashlib
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field


class Reference(BaseModel):
    """Base of all references: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def content_digest(self) -> str:
        """Return the SHA-256 of the canonical JSON text, as 64 hexadecimal digits."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class SnapshotRef(Reference):
    """One snapshot of one survey in the cutout repository of a store."""

    store: str
    survey: str
    snapshot_id: str


class EncoderRef(Reference):
    """An encoder on disk; `digest` is checked by whoever loads it."""

    path: str
    digest: str


class EmbeddingsRef(Reference):
    """Embeddings of one survey by one encoder, as committed."""

    store: str
    survey: str
    encoder_digest: str
    snapshot_id: str
    survey_snapshot_id: str


class ModelRef(Reference):
    """A version of a registered downstream model.

    `downstream` is the name of the downstream task and of the MLflow registered model; `digest`
    is that of the weights and configuration, so that a changed version is noticed.
    """

    downstream: str
    version: str
    run_id: str
    digest: str


class DatasetRef(Reference):
    """Objects, answers and splits of a training or a test, frozen.

    `options` are those of the downstream task, which may decide what an answer is. Votes come from
    the label ledger: `question`, `classes`, and `labels_as_of` (ISO 8601, UTC), the time up to
    which its rows count; without votes these are empty, and the snapshot holds the answers.
    `counts` are objects by split and class, as `{"train": {"spiral": 120}}`, or by split alone, as
    `{"train": {"objects": 120}}`; `left_out` counts the others by reason. `test_record` is the
    file of the frozen test split (`tasks.frozen_tests`), `test_digest` that of the ids in it.
    """

    downstream: str
    snapshot: SnapshotRef
    options: dict[str, Any] = Field(default_factory=dict)
    labels_path: str = ""
    question: str = ""
    classes: tuple[str, ...] = ()
    labels_as_of: str = ""
    labels_digest: str = ""
    healpix_order: int
    fractions: tuple[float, float, float]
    salt: str
    border_arcsec: float
    split_digest: str = ""
    counts: dict[str, dict[str, int]] = Field(default_factory=dict)
    left_out: dict[str, int] = Field(default_factory=dict)
    test_record: str = ""
    test_digest: str = ""

    def totals(self) -> dict[str, int]:
        """Return the number of objects of each split."""
        return {split: sum(found.values()) for split, found in self.counts.items()}


class CatalogueRef(Reference):
    """A published catalogue of predictions."""

    path: str
    digest: str
    rows: int
    model: ModelRef
    snapshot: SnapshotRef


class Outcome(StrEnum):
    """What happened to one unit of work; "nothing to do" is not an error."""

    WRITTEN = "written"
    ALREADY_PRESENT = "already_present"
    EMPTY = "empty"
    SKIPPED = "skipped"
    QUARANTINED = "quarantined"
    FAILED = "failed"


#: Outcomes that a person should look at.
BROKEN = (Outcome.FAILED, Outcome.QUARANTINED)


class UnitReceipt(Reference):
    """What became of one brick (or one block of an image folder).

    `without_cutout` counts the objects that were selected but have no cutout, by reason;
    `not_selected` those that the selection left out, by reason.
    """

    name: str
    outcome: Outcome
    objects: int = 0
    without_cutout: dict[str, int] = Field(default_factory=dict)
    not_selected: dict[str, int] = Field(default_factory=dict)
    verification: str = "unverified"
    message: str = ""
    notes: tuple[str, ...] = ()


class Receipt(Reference):
    """What one run of a flow did; `total` units went in and as many come out.

    `counts` and `objects` cover every unit. `units` holds at most `KEPT_UNITS` of them, those that
    failed first; the file `log`, where there is one, has them all, one JSON document a line. `tag`
    is the name of the snapshot, where the run gave it one.
    """

    KEPT_UNITS: ClassVar[int] = 1000

    survey: str
    snapshot_id: str
    counts: dict[str, int]
    objects: int
    units: tuple[UnitReceipt, ...] = ()
    tag: str = ""
    log: str = ""

    @classmethod
    def of(
        cls,
        survey: str,
        snapshot_id: str,
        units: Iterable[UnitReceipt],
        *,
        tag: str = "",
        log: str = "",
    ) -> "Receipt":
        """Count units as they come; objects of broken units are not counted."""
        counts = dict.fromkeys((outcome.value for outcome in Outcome), 0)
        objects = 0
        broken: list[UnitReceipt] = []
        others: list[UnitReceipt] = []
        for unit in units:
            counts[unit.outcome.value] += 1
            objects += 0 if unit.outcome in BROKEN else unit.objects
            kept = broken if unit.outcome in BROKEN else others
            if len(kept) < cls.KEPT_UNITS:
                kept.append(unit)
        return cls(
            survey=survey,
            snapshot_id=snapshot_id,
            counts=counts,
            objects=objects,
            units=tuple([*broken, *others][: cls.KEPT_UNITS]),
            tag=tag,
            log=log,
        )

    @property
    def total(self) -> int:
        """Return the number of units of work."""
        return sum(self.counts.values())


class Interval(Reference):
    """A measured value with the limits of its 95 % interval."""

    value: float
    low: float
    high: float


class ReliabilityBin(Reference):
    """Answers of about one confidence: its mean, the share that was right, and how many."""

    confidence: float
    accuracy: float
    objects: int


class Evaluation(Reference):
    """How a model does on one frozen test split.

    `test_objects` of those in the split were measured: all, or, where answers are images, those
    that `tasks.datasets` draws. `confusion[i][j]` counts objects of class `classes[i]` that were
    given `classes[j]`, empty for tasks without classes. `slices`
    holds the headline metric per slice, as `{"z 17-18": {"n": 40, "balanced_accuracy": 0.8}}`.
    `baselines` are the headline metric of simpler methods on the same split. `worst` are object
    ids of the most confident errors. `reliability` has no empty bins; it is empty for tasks without
    classes.
    """

    model: ModelRef
    snapshot: SnapshotRef
    split_digest: str
    labels_digest: str
    test_objects: int
    headline: str
    higher_is_better: bool = True
    metrics: dict[str, Interval]
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    per_class: dict[str, dict[str, float]] = Field(default_factory=dict)
    slices: dict[str, dict[str, float]] = Field(default_factory=dict)
    baselines: dict[str, float] = Field(default_factory=dict)
    worst: tuple[str, ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()


class DriftEvidence(Reference):
    """Whether the data moved between the champion's training and the challenger's evidence.

    `alarm` is None while that is unknown; `sentence` says then why. `sides` are what was compared,
    the champion's first, `rows` what was found: name, value, meaning. `report` names the artifact
    of the challenger's run that has the whole of it.
    """

    alarm: bool | None
    sentence: str
    encoder: str = ""
    sides: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    notes: tuple[str, ...] = ()
    report: str = ""


class EvidencePacket(Reference):
    """What a person decides on: the challenger, and the champion on the same test split.

    `champion` is None when no champion exists yet. `facts` are the lineage lines shown to the
    reviewer (training snapshot, encoder digest, labels, code version, run). `figures` are the
    SHA-256 of PNG files by side ("challenger", "champion", "drift") and name; the files are with
    the challenger's run (`tasks.evidence_figures`).
    """

    challenger: Evaluation
    champion: Evaluation | None = None
    facts: dict[str, str] = Field(default_factory=dict)
    drift: DriftEvidence | None = None
    figures: dict[str, dict[str, str]] = Field(default_factory=dict)
