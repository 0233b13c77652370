import json

import pytest

from storage.splits import SplitConfig
from tasks.frozen_tests import ChangedRecord, freeze_ids, frozen_ids, read_record
from tasks.references import SnapshotRef
from tasks.settings import Settings

SNAPSHOT = SnapshotRef(store="s", survey="dr10/south", snapshot_id="A")
RULE = SplitConfig()


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


def freeze(settings, *ids, rule=RULE, downstream="morphology"):
    return freeze_ids(settings, downstream, SNAPSHOT, rule, frozenset(ids))


def test_what_was_in_the_test_split_stays_in_it(settings):
    first, digest = freeze(settings, "1-1-1", "1-1-2")
    second, other = freeze(settings, "1-1-3")
    assert frozen_ids(settings, "morphology", "dr10/south", RULE) == {"1-1-1", "1-1-2", "1-1-3"}
    assert read_record(first).ids == ("1-1-1", "1-1-2")
    assert first != second
    assert read_record(first).digest == digest != other


def test_freezing_the_same_again_writes_nothing(settings):
    first = freeze(settings, "1-1-1", "1-1-2")
    assert freeze(settings, "1-1-2") == first
    assert len(list(first[0].parent.iterdir())) == 1


def test_other_rules_and_tasks_have_records_of_their_own(settings):
    freeze(settings, "1-1-1")
    freeze(settings, "1-1-2", rule=SplitConfig(salt="other"))
    freeze(settings, "1-1-3", downstream="parameters")
    assert frozen_ids(settings, "morphology", "dr10/south", RULE) == {"1-1-1"}
    assert frozen_ids(settings, "merger", "dr10/south", RULE) == frozenset()


def test_a_record_that_was_changed_or_lost_is_refused(settings):
    path, _ = freeze(settings, "1-1-1")
    assert not path.stat().st_mode & 0o222
    document = json.loads(path.read_text())
    path.chmod(0o644)
    path.write_text(json.dumps(document | {"ids": ["1-1-9"]}))
    with pytest.raises(ChangedRecord, match="not those that were frozen"):
        frozen_ids(settings, "morphology", "dr10/south", RULE)
    path.unlink()
    with pytest.raises(ChangedRecord, match="no record"):
        read_record(path)
