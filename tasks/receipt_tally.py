"""Totals of all logs of receipts of a home, kept up as the logs grow: throughput and failures."""

import json
import re
from collections import Counter

from tasks.references import Outcome
from tasks.settings import Settings

_NAME = re.compile(r"(?P<survey>.+)-\d{8}T\d{6}Z-[0-9a-f]{6}\.jsonl")
#: Outcomes of which the objects are new; those of a brick that stayed were counted before.
_NEW = (Outcome.WRITTEN.value,)


class ReceiptTally:
    """Counts of units by survey and outcome, and of objects written by survey.

    Each log is read once: `update` goes on where it stopped.

    Attributes
    ----------
    units : Counter of (survey, outcome)
    objects : Counter of survey
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.receipts_path
        self._read: dict[str, int] = {}  # bytes by file name
        self.units: Counter[tuple[str, str]] = Counter()
        self.objects: Counter[str] = Counter()

    def update(self) -> None:
        """Take in what was logged since the last time; a line that is not whole waits."""
        for path in sorted(self._folder.glob("*.jsonl")):
            name = _NAME.fullmatch(path.name)
            if name is None:
                continue
            survey = name["survey"].replace("-", "/", 1)
            with path.open("rb") as handle:
                handle.seek(self._read.get(path.name, 0))
                for line in handle:
                    if line.endswith(b"\n"):
                        self._count(survey, line)
                        self._read[path.name] = self._read.get(path.name, 0) + len(line)

    def _count(self, survey: str, line: bytes) -> None:
        unit = json.loads(line)
        self.units[survey, unit["outcome"]] += 1
        self.objects[survey] += unit["objects"] if unit["outcome"] in _NEW else 0
