"""A release with as many bricks as DR10 and no files, for what ingest costs besides pixels.

A module of its own, so that workers import no more than they need.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage.brick_lists import names_of
from storage.brick_rows import RowRange
from storage.schema import SurveyLayout
from tasks.brick_worker import Written
from tasks.sources import UnitCutouts, UnitList, UnitPlan

SURVEY, BRICKS, OBJECTS = "dr10/south", 366_898, 207
NAMES = tuple(names_of(np.arange(1, BRICKS + 1)))
NUMBERS = {name: number for number, name in enumerate(NAMES, start=1)}
# As long as those of real bricks.
ACCOUNT: dict[str, Any] = {
    "not_selected": {"type": 1200, "mag": 5600},
    "without_cutout": {"no_data": list(range(20))},
    "notes": [],
    "verification": "verified",
    "files": {f"legacysurvey-{number}-image.fits.fz": "f" * 64 for number in range(6)},
    "quality": {"depth": 24.1},
    "neighbours": {},
}


def digest_of(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


@dataclass(frozen=True)
class SimulatedSource:
    """A release of all bricks without files; every brick has as many objects as the mean one."""

    def list_units(self, wanted: list[str] | None, name_list: str | None = None) -> UnitList:
        return UnitList(tuple(wanted) if wanted else NAMES)

    def fingerprints(self, names: Sequence[str]) -> dict[str, str]:
        return {name: digest_of(name) for name in names}

    def layout(self) -> SurveyLayout:
        return SurveyLayout(("g", "r", "z"))

    def config_digest(self) -> str:
        return "c" * 64

    def configuration(self) -> dict[str, Any]:
        return {}

    def survey(self, name: str) -> UnitPlan:
        content = digest_of(name)
        number = NUMBERS[name]
        return UnitPlan(name, number, content, OBJECTS, "ready", fingerprint=content)

    def read(self, name: str) -> UnitCutouts:
        raise NotImplementedError("no pixel is read here")

    def forget(self, names: Sequence[str]) -> None:
        """Do nothing."""


def write_nothing(session: Any, request: Any, name: str, rows: RowRange) -> Written:
    """Stand in for the worker's reading and writing of a brick."""
    return Written(session, OBJECTS, digest_of(name), ACCOUNT)
