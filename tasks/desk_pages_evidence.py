"""The parts of an evidence packet that are drawn: reliability, drift, figures of the runs."""

from collections.abc import Iterable

from scipy.stats import binomtest

from tasks.evidence_figures import DRIFT
from tasks.policies import DRIFT_FACT, drift_alarm
from tasks.references import Evaluation, EvidencePacket, Reference, ReliabilityBin

PLOT = 300.0  # side of the diagram, in the units of the drawing
DOTS = (2.5, 7.0)  # smallest and largest radius, by the number of objects
DRAWN = "reliability"  # the figure of a run that the diagram of both models stands for


class Dot(Reference):
    """A bin of a reliability diagram, and where it is drawn; `low` and `high` are of 95 %."""

    x: float
    y: float
    low: float
    high: float
    radius: float
    confidence: float
    accuracy: float
    objects: int


class ReliabilityChart(Reference):
    """The dots of both models, with y downwards as in a drawing."""

    challenger: tuple[Dot, ...]
    champion: tuple[Dot, ...]


class DriftView(Reference):
    """Whether the data moved: "alarm", "none" or "unknown", and the evidence for it."""

    state: str
    sentence: str
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    report: str


class FigureRow(Reference):
    """Figures of one name, by side: the beginning of their digest, empty where there is none."""

    name: str
    challenger: str
    champion: str


def reliability_chart(packet: EvidencePacket) -> ReliabilityChart | None:
    """Return where the reliability of both models is drawn; None for tasks without classes."""
    if not packet.challenger.reliability:
        return None
    return ReliabilityChart(challenger=_dots(packet.challenger), champion=_dots(packet.champion))


def drift_view(packet: EvidencePacket) -> DriftView:
    """Return what is shown about drift; what the packet does not say is unknown."""
    alarm, found = drift_alarm(packet), packet.drift
    return DriftView(
        state={True: "alarm", False: "none", None: "unknown"}[alarm],
        sentence=packet.facts.get(DRIFT_FACT, "this evidence was made without looking for drift"),
        rows=found.rows if found else (),
        notes=found.notes if found else (),
        report=found.report if found else "",
    )


def figure_rows(packet: EvidencePacket) -> tuple[FigureRow, ...]:
    """Return the figures that the two runs logged, side by side; the drawn diagram is left out."""
    mine = packet.figures.get("challenger", {})
    other = packet.figures.get("champion", {})
    names: Iterable[str] = dict.fromkeys((*mine, *other))
    if packet.challenger.reliability:
        names = (name for name in names if name != DRAWN)
    return tuple(
        FigureRow(name=name, challenger=mine.get(name, "")[:12], champion=other.get(name, "")[:12])
        for name in names
    )


def drift_figures(packet: EvidencePacket) -> dict[str, str]:
    """Return the figures of the drift report, with the beginnings of their digests."""
    return {name: digest[:12] for name, digest in packet.figures.get(DRIFT, {}).items()}


def _dots(evaluation: Evaluation | None) -> tuple[Dot, ...]:
    if evaluation is None or not evaluation.reliability:
        return ()
    most = max(item.objects for item in evaluation.reliability)
    return tuple(_dot(item, most) for item in evaluation.reliability)


def _dot(item: ReliabilityBin, most: int) -> Dot:
    right = round(item.accuracy * item.objects)
    interval = binomtest(right, item.objects).proportion_ci(method="wilson")
    small, large = DOTS
    return Dot(
        x=PLOT * item.confidence,
        y=PLOT * (1 - item.accuracy),
        low=PLOT * (1 - interval.low),
        high=PLOT * (1 - interval.high),
        radius=small + (large - small) * (item.objects / most) ** 0.5,
        confidence=item.confidence,
        accuracy=item.accuracy,
        objects=item.objects,
    )
