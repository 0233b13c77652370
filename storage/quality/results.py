"""What a check of a survey says: levels, checks, outliers, the report. Plain values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from storage.quality.limits import Limit, QualityLimits
from storage.quality.measurements import SurveyMeasurements

EXAMPLES = 10  # bricks named in a check; the rest is in the ledger


class Level(StrEnum):
    """How a check ended, best first."""

    PASS = "pass"
    NOT_MEASURED = "not measured"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One check: what was found, what was allowed, what it means and what to do about it.

    ``examples`` names bricks that miss the limit, `EXAMPLES` at most.
    """

    name: str
    level: Level
    found: str
    allowed: str
    meaning: str
    advice: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outlier:
    """A brick that stands out: in what, its value, the survey's median, the robust z-score."""

    brickname: str
    quantity: str
    value: float
    median: float
    sigmas: float


@dataclass(frozen=True)
class QualityReport:
    """All checks of one snapshot of a survey, and what they were made from.

    ``facts`` are lines for people, ``limits`` what the checks were held to. ``outliers`` are
    sorted, the furthest first, and cut to a readable number; the check "outliers" has the count.
    """

    survey: str
    snapshot: str
    checks: tuple[Check, ...]
    outliers: tuple[Outlier, ...]
    facts: Mapping[str, str]
    limits: QualityLimits
    measurements: SurveyMeasurements

    @property
    def level(self) -> Level:
        """Return the worst level of all checks."""
        order = list(Level)
        return max((check.level for check in self.checks), key=order.index, default=Level.PASS)

    def count(self, level: Level) -> int:
        """Return how many checks ended so."""
        return sum(check.level is level for check in self.checks)


def graded(value: float, limit: Limit) -> Level:
    """Return the level of a value; NaN was not measured."""
    if math.isnan(value):
        return Level.NOT_MEASURED
    if value > limit.fail:
        return Level.FAIL
    return Level.WARN if value > limit.warn else Level.PASS


def fraction(part: int, whole: int) -> float:
    """Return a fraction; 0 of nothing is 0."""
    return part / whole if whole else 0.0


def share(part: int, whole: int) -> str:
    """Write a count with its whole and the percentage."""
    if not part or not whole:
        return f"none of {whole:,}"
    return f"{part:,} of {whole:,} ({fraction(part, whole):.2%})"
