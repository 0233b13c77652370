"""What a decision rests on besides the two models: test splits, labels and the survey's bricks.

Noted when a case is put before people and looked at again before an alias is moved; a difference
makes the evidence out of date.
"""

import hashlib

import pandas as pd

from storage.brick_ledger import ledger
from storage.errors import StorageError
from tasks import tracking
from tasks.decisions import Case, Event, append, find_event
from tasks.policies import read_policies
from tasks.references import EvidencePacket, ModelRef
from tasks.settings import Settings
from tasks.snapshots import find_snapshot, open_snapshot

#: Tags of a version that say what it was trained and tested on.
TAGS = (
    "survey",
    "snapshot_id",
    "dataset_digest",
    "split_digest",
    "test_digest",
    "labels_digest",
)
COLUMNS = ["state", "n_objects", "content_digest", "config_digest"]


def note_grounds(settings: Settings, case: Case, packet: EvidencePacket) -> None:
    """Record what the decision of a case will rest on; the first time counts."""
    if find_event(settings, case, Event.GROUNDS) is None:
        found = _grounds(settings, case, packet.challenger.snapshot.survey)
        append(settings, case, Event.GROUNDS, found)


def what_changed(settings: Settings, case: Case) -> tuple[str, ...]:
    """Return what is no longer as it was when the case was put before people."""
    noted = find_event(settings, case, Event.GROUNDS)
    if noted is None:
        return ()
    now = _grounds(settings, case, noted.body["survey"])
    if not read_policies(settings).of(case.downstream).stale_with_survey:
        now["bricks"] = noted.body["bricks"]
    return tuple(name for name, value in noted.body.items() if now[name] != value)


def _grounds(settings: Settings, case: Case, survey: str) -> dict[str, object]:
    return {
        "survey": survey,
        "bricks": _bricks_digest(settings, survey),
        "challenger": _tags(settings, case.challenger),
        "champion": _tags(settings, case.champion),
    }


def _tags(settings: Settings, model: ModelRef | None) -> dict[str, str]:
    if model is None:
        return {}
    try:
        found = tracking.version_tags(settings, model)
    except tracking.UnknownModel:
        return {"version": "deleted"}
    return {name: found[name] for name in TAGS if name in found}


def _bricks_digest(settings: Settings, survey: str) -> str:
    """Return a digest of the bricks in the survey now; empty where there is no such survey."""
    try:
        snapshot = find_snapshot(settings, survey, None)
    except StorageError:
        return ""
    table = ledger(open_snapshot(snapshot), survey).sort_index()[COLUMNS]
    return hashlib.sha256(pd.util.hash_pandas_object(table).to_numpy().tobytes()).hexdigest()
