"""What a person sees before they decide: the evidence of a challenger beside the champion."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lvm.inference import predict
from tasks.datasets import dataset_of, labelled_objects, object_ids
from tasks.deciding import approvals
from tasks.decisions import Case, Event, find_case, read_events
from tasks.desk_pages_evidence import (
    DriftView,
    FigureRow,
    ReliabilityChart,
    drift_figures,
    drift_view,
    figure_rows,
    reliability_chart,
)
from tasks.embedded import REPORTS
from tasks.errors import TaskError
from tasks.evidence import evidence_digest
from tasks.loaders import CutoutLoader
from tasks.models import load_model
from tasks.policies import broken_limits, read_policies
from tasks.references import Evaluation, EvidencePacket, Interval, ModelRef, Reference
from tasks.settings import Settings
from tasks.whole_files import whole_file

DISAGREEMENTS = 24  # pictures on the page
BATCH_SIZE = 64
CHART = 200.0  # width of the interval bars, in the units of the drawing


class UnknownCase(TaskError, LookupError):
    """No case of this id was ever opened in this home."""


class MetricRow(Reference):
    """A metric of both models, and where its bars are drawn; `better` is about the challenger."""

    name: str
    headline: bool
    challenger: Interval
    champion: Interval | None
    bar: tuple[float, float, float]
    champion_bar: tuple[float, float, float] | None
    overlap: bool


class Disagreed(Reference):
    """An object that the two models see differently, most different first."""

    object_id: str
    challenger: str
    challenger_confidence: float
    champion: str
    champion_confidence: float
    truth: str


class CaseView(Reference):
    """Everything on the page of one promotion."""

    case: Case
    packet: EvidencePacket
    metrics: tuple[MetricRow, ...]
    broken: tuple[str, ...]
    approved_by: tuple[str, ...]
    two_persons: bool
    refused: tuple[str, ...]
    disagreements: tuple[Disagreed, ...] | None
    reliability: ReliabilityChart | None
    drift: DriftView
    figures: tuple[FigureRow, ...]
    drift_figures: dict[str, str]


def view_case(settings: Settings, case_id: str) -> CaseView:
    """Return what is shown of a promotion, from the record of the gate.

    Raises
    ------
    UnknownCase
        If it was never opened here.
    """
    found = find_case(settings, case_id)
    if found is None:
        raise UnknownCase(f"no case {case_id[:12]} was opened in {settings.home}")
    case, packet = found
    policy = read_policies(settings).of(case.downstream)
    events = read_events(settings, case_id=case_id)
    return CaseView(
        case=case,
        packet=packet,
        metrics=tuple(metric_rows(packet)),
        broken=broken_limits(packet, policy),
        approved_by=tuple(item.user for item in approvals(settings, case)),
        two_persons=policy.two_persons,
        refused=tuple(str(e.body["refusal"]) for e in events if e.event is Event.REFUSED),
        disagreements=read_disagreements(settings, packet),
        reliability=reliability_chart(packet),
        drift=drift_view(packet),
        figures=figure_rows(packet),
        drift_figures=drift_figures(packet),
    )


def metric_rows(packet: EvidencePacket) -> list[MetricRow]:
    """Return the metrics, the headline first, each with the ends of its bars from 0 to `CHART`."""
    challenger, champion = packet.challenger, packet.champion
    names = sorted(challenger.metrics, key=lambda name: (name != challenger.headline, name))
    rows = []
    for name in names:
        mine = challenger.metrics[name]
        other = champion.metrics.get(name) if champion else None
        shown = [mine, other] if other else [mine]
        low = min(0.0, *(item.low for item in shown))
        high = max(1.0, *(item.high for item in shown))
        rows.append(
            MetricRow(
                name=name,
                headline=name == challenger.headline,
                challenger=mine,
                champion=other,
                bar=_bar(mine, low, high),
                champion_bar=_bar(other, low, high) if other else None,
                overlap=other is not None and mine.low <= other.high and other.low <= mine.high,
            )
        )
    return rows


def read_disagreements(settings: Settings, packet: EvidencePacket) -> tuple[Disagreed, ...] | None:
    """Return where the two models disagree most; None when that was not looked for yet."""
    path = _disagreements_path(settings, packet)
    if not path.is_file():
        return None
    return tuple(Disagreed.model_validate(item) for item in json.loads(path.read_text()))


def find_disagreements(settings: Settings, packet: EvidencePacket) -> None:
    """Let both models answer on the test split and keep where they disagree most.

    How much they disagree is half the sum of the differences of their probabilities.
    """
    challenger, champion = packet.challenger, packet.champion
    if champion is None:
        return
    dataset = dataset_of(settings, challenger.model)
    table = labelled_objects(dataset)
    test = table[table["split"] == "test"].reset_index(drop=True)
    rows = test["row"].to_numpy()
    answers = [
        _answers(settings, model, dataset.snapshot, rows)
        for model in (challenger.model, champion.model)
    ]
    mine, other = (np.column_stack(found["probability"]) for found in answers)
    different = 0.5 * np.abs(mine - other).sum(axis=1)
    order = np.argsort(-different, kind="stable")[:DISAGREEMENTS]
    truth = _truth(test, dataset.classes)
    names = object_ids(test)
    found = [
        Disagreed(
            object_id=names[index],
            challenger=str(answers[0]["answer"][index]),
            challenger_confidence=float(mine[index].max()),
            champion=str(answers[1]["answer"][index]),
            champion_confidence=float(other[index].max()),
            truth=truth[index],
        )
        for index in order.tolist()
        if different[index] > 0
    ]
    with whole_file(_disagreements_path(settings, packet)) as partial:
        partial.write_text(json.dumps([item.model_dump(mode="json") for item in found]))


def can_compare(packet: EvidencePacket) -> bool:
    """Return whether the two models give classes that can be compared object by object."""
    return packet.champion is not None and bool(packet.challenger.classes)


def slices_of(packet: EvidencePacket) -> list[tuple[str, dict[str, float], dict[str, float]]]:
    """Return the slices: name, values of the challenger, values of the champion."""
    other: Evaluation | None = packet.champion
    return [
        (name, values, other.slices.get(name, {}) if other else {})
        for name, values in packet.challenger.slices.items()
    ]


def _answers(settings: Settings, model: ModelRef, snapshot: Any, rows: Any) -> dict[str, Any]:
    """Return the probabilities, one array a class, and the answers of a model."""
    loader = CutoutLoader(snapshot, rows, {})
    columns: dict[str, list[Any]] = {}
    for _, found in predict(load_model(settings, model), loader.batches(BATCH_SIZE)):
        for name, values in found.items():
            columns.setdefault(name, []).append(np.asarray(values))
    whole = {name: np.concatenate(parts) for name, parts in columns.items()}
    probability = [values for name, values in whole.items() if name.startswith("p_")]
    return {"probability": probability, "answer": whole["answer"]}


def _truth(test: Any, classes: tuple[str, ...]) -> list[str]:
    return [classes[index] for index in test[list(classes)].to_numpy().argmax(axis=1).tolist()]


def _disagreements_path(settings: Settings, packet: EvidencePacket) -> Path:
    name = f"disagreements-{evidence_digest(packet)[:16]}.json"
    return settings.home.resolve() / REPORTS / name


def _bar(item: Interval, low: float, high: float) -> tuple[float, float, float]:
    """Return left end, value and right end of a bar."""
    span = high - low
    return tuple(CHART * (x - low) / span for x in (item.low, item.value, item.high))  # type: ignore[return-value]
