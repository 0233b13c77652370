"""The test split of a downstream task, written down once: what was in it stays in it.

The rule of the split moves nobody while positions stay. A brick that is measured again may move an
object by a tenth of an arcsecond, across the border of a cell; the record keeps it in the test
split all the same, so that no later model is trained on what an earlier one was judged by.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from storage.splits import SplitConfig
from tasks.errors import TaskError
from tasks.provenance import flat_params
from tasks.references import Reference, SnapshotRef
from tasks.settings import Settings
from tasks.whole_files import whole_file

FOLDER = "test-splits"
READ_ONLY = 0o444
DIGITS = 16


class ChangedRecord(TaskError, ValueError):
    """The record of a frozen test split is not what was written."""


class TestRecord(Reference):
    """Object ids of a frozen test split, sorted, and when and from which snapshot it was frozen."""

    downstream: str
    survey: str
    rule: dict[str, str]
    snapshot_id: str
    frozen_at: str
    ids: tuple[str, ...]

    __test__ = False  # not a test of pytest's

    @property
    def digest(self) -> str:
        """Return the digest of the ids."""
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()


def frozen_ids(
    settings: Settings, downstream: str, survey: str, split: SplitConfig
) -> frozenset[str]:
    """Return the objects that earlier data sets of this rule have in their test split."""
    newest = _newest(_folder(settings, downstream, survey, split))
    return frozenset(read_record(newest).ids) if newest else frozenset()


def freeze_ids(
    settings: Settings,
    downstream: str,
    snapshot: SnapshotRef,
    split: SplitConfig,
    ids: frozenset[str],
) -> tuple[Path, str]:
    """Record a test split; return the file and the digest of the ids in it.

    What an earlier record of the same rule has is kept. Nothing new writes nothing, and no record
    is ever written again.
    """
    folder = _folder(settings, downstream, snapshot.survey, split)
    newest = _newest(folder)
    known = frozenset(read_record(newest).ids) if newest else frozenset()
    if newest is not None and ids <= known:
        return newest, read_record(newest).digest
    record = TestRecord(
        downstream=downstream,
        survey=snapshot.survey,
        rule=flat_params(split),
        snapshot_id=snapshot.snapshot_id,
        frozen_at=datetime.now(UTC).isoformat(timespec="microseconds"),
        ids=tuple(sorted(known | ids)),
    )
    number = 1 + (int(newest.name.partition("-")[0]) if newest else 0)
    path = folder / f"{number:04d}-{record.digest[:DIGITS]}.json"
    with whole_file(path) as partial:
        partial.write_text(record.model_dump_json())
        partial.chmod(READ_ONLY)
    return path, record.digest


def read_record(path: Path) -> TestRecord:
    """Return a record.

    Raises
    ------
    ChangedRecord
        If it is not there, or its ids are not those that its name has the digest of.
    """
    try:
        record = TestRecord.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        raise ChangedRecord(f"{path}: no record of a frozen test split: {error}") from error
    if record.digest[:DIGITS] != path.stem.partition("-")[2]:
        raise ChangedRecord(
            f"{path}: its objects are not those that were frozen. Put the file back from a backup: "
            "models measured on it cannot be compared with new ones otherwise"
        )
    return record


def _newest(folder: Path) -> Path | None:
    return max(folder.glob("*.json"), default=None, key=lambda path: path.name)


def _folder(settings: Settings, downstream: str, survey: str, split: SplitConfig) -> Path:
    rule = json.dumps(flat_params(split), sort_keys=True)
    name = hashlib.sha256(rule.encode()).hexdigest()[:DIGITS]
    return settings.home.resolve() / FOLDER / downstream / survey.replace("/", "-") / name
