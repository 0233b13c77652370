"""The log of a run's receipts: one JSON document a unit and line, written as the run goes.

A run over a whole survey has hundreds of thousands of units. They go to a file as soon as their
commit is made, so that neither memory nor a killed run loses them; the `Receipt` of the run counts
them all and holds the ones that a person should see.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from tasks.references import Outcome, Receipt, UnitReceipt
from tasks.settings import Settings

logger = logging.getLogger(__name__)


def new_log(settings: Settings, survey: str) -> str:
    """Return the path of a new log below the home; the file appears with its first units."""
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name = f"{survey.replace('/', '-')}-{started}-{uuid4().hex[:6]}.jsonl"
    return str(settings.receipts_path / name)


def append_units(log: str, units: Iterable[UnitReceipt]) -> None:
    """Add units to a log, and wait until the disk has them."""
    lines = "".join(_line(unit) for unit in units)
    path = Path(log)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(lines)
        handle.flush()
        os.fsync(handle.fileno())


def read_units(log: str) -> Iterator[UnitReceipt]:
    """Yield the units of a log, one at a time; none where nothing was logged.

    The last line of a run that was killed may be cut; it is left out, as its commit may be.
    """
    path = Path(log)
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as handle:
        for line in handle:
            if line.endswith("\n"):
                yield UnitReceipt.model_validate_json(line)


def close_log(log: str, survey: str, snapshot_id: str, tag: str = "") -> Receipt:
    """Return the receipt of a run from its log."""
    return Receipt.of(survey, snapshot_id, read_units(log), tag=tag, log=log)


def _line(unit: UnitReceipt) -> str:
    """Return a unit as a line of the log of receipts, and tell the log of the process about it."""
    logger.log(
        logging.DEBUG if unit.outcome is Outcome.ALREADY_PRESENT else logging.INFO,
        "%s %s, %d objects%s",
        unit.name,
        unit.outcome.value,
        unit.objects,
        f": {unit.message}" if unit.message else "",
        extra={"brick": unit.name, "outcome": unit.outcome.value, "objects": unit.objects},
    )
    return unit.model_dump_json() + "\n"
