"""What is predicted is made once and published once, whole; old releases stay as they were."""

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from champions import make_champion
from measured_survey import sky_patch
from placed_survey import write_galaxies

from storage.brick_ledger import BrickRecord, record_bricks
from storage.catalogue import read_catalogue
from storage.repository import open_repository, transaction
from storage.schema import BrickState
from tasks import publication
from tasks.prediction import PredictionIncomplete, plan_prediction, written_bricks
from tasks.prediction_files import file_name, prediction_folder
from tasks.prediction_worker import predict_bricks
from tasks.publication import examine, propose, publish
from tasks.references import ModelRef, SnapshotRef
from tasks.release_decisions import (
    AlreadyDecided,
    NoSuchProposal,
    decide_release,
    open_case,
    read_case,
    wait_for_decision,
    waiting_cases,
)
from tasks.release_diff import ReleaseLimits
from tasks.releases import (
    DamagedRelease,
    NoRelease,
    find_release,
    folder_of,
    list_releases,
    read_release_bricks,
    releases_folder,
    verify_release,
)
from tasks.reprocessing import begin_cycle, keep, plan_cycle, rates, timed
from tasks.roles import LOCAL, NotAllowed, User
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

SURVEY = "dr10/south"
BRICKS = sky_patch(3, 1)
NAMES = tuple(brick.brickname for brick in BRICKS)


@pytest.fixture
def snapshot(tracking: Settings) -> SnapshotRef:
    """Write two bricks of nine galaxies."""
    return write_galaxies(tracking, BRICKS[:2], 9)


@pytest.fixture
def model(tracking: Settings) -> ModelRef:
    return make_champion(tracking)


def predict_all(settings: Settings, snapshot: SnapshotRef, model: ModelRef) -> int:
    names = plan_prediction.fn(settings, snapshot, model)
    return predict_bricks(settings, snapshot, model, names) if names else 0


def release(settings: Settings, snapshot: SnapshotRef, model: ModelRef, **limits):
    """Predict and publish; return the reference and the differences."""
    predict_all(settings, snapshot, model)
    proposal = propose.fn(settings, snapshot, model)
    found = examine.fn(settings, proposal, ReleaseLimits(**limits))
    return publish.fn(settings, proposal, found), found


def change_brick(settings: Settings, name: str, state: BrickState, content: str) -> SnapshotRef:
    """Let a brick look ingested again with other content, or withdrawn."""
    repository = open_repository(Path(settings.store_path) / "survey")
    known = written_bricks(find_snapshot(settings, SURVEY, None)).loc[name]
    count = int(known["n_objects"]) if state is BrickState.WRITTEN else 0
    with transaction(repository, "change") as session:
        record = BrickRecord(
            name, 1, state, n_objects=count, content_digest=content, config_digest="a"
        )
        record_bricks(session, SURVEY, [record])
    return find_snapshot(settings, SURVEY, None)


def test_only_what_is_stale_is_predicted(tracking, snapshot, model):
    assert plan_prediction.fn(tracking, snapshot, model) == NAMES[:2]
    assert predict_all(tracking, snapshot, model) == 18
    assert plan_prediction.fn(tracking, snapshot, model) == ()
    bigger = write_galaxies(tracking, BRICKS, 9)
    assert plan_prediction.fn(tracking, bigger, model) == NAMES[2:]
    changed = change_brick(tracking, NAMES[0], BrickState.WRITTEN, "2")
    assert set(plan_prediction.fn(tracking, changed, model)) == {NAMES[0], NAMES[2]}
    other = make_champion(tracking, seed=1)
    assert set(plan_prediction.fn(tracking, snapshot, other)) == set(NAMES[:2])


def test_a_file_of_a_brick_says_what_made_its_rows(tracking, snapshot, model):
    predict_all(tracking, snapshot, model)
    version = written_bricks(snapshot).at[NAMES[0], "version"]
    path = prediction_folder(tracking, SURVEY, model) / NAMES[0][:3] / file_name(NAMES[0], version)
    rows = pq.ParquetFile(path).read().to_pandas()
    assert len(rows) == 9
    assert set(rows["brickname"]) == {NAMES[0]}
    assert set(rows["model_version"]) == {model.version}
    assert set(rows["content_digest"]) == {"1"}
    assert set(rows["snapshot_id"]) == {snapshot.snapshot_id}
    assert set(rows["encoder_digest"].str.len()) == {64}
    probabilities = rows[[name for name in rows if name.startswith("p_")]]
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-4)


def test_a_release_is_whole_and_found_again(tracking, snapshot, model):
    reference, found = release(tracking, snapshot, model)
    assert found is None  # there was none before
    folder = Path(reference.path).parent
    assert folder.name == "dr10-south-morphology-0001"
    rows, metadata = read_catalogue(folder)
    assert len(rows) == reference.rows == 18
    assert metadata["model"]["digest"] == model.digest
    assert metadata["snapshot"]["snapshot_id"] == snapshot.snapshot_id
    assert "CC BY 4.0" in metadata["acknowledgement"]
    assert {"hats.properties", "catalogue.fits", "bricks.arrow"} <= {
        p.name for p in folder.iterdir()
    }
    bricks = read_release_bricks(folder)
    assert bricks["n_objects"].to_dict() == dict.fromkeys(NAMES[:2], 9)
    assert set(bricks["encoder_digest"].str.len()) == {64}
    assert not list((tracking.home / "predictions").glob(".*"))

    again, _ = release(tracking, snapshot, model)
    assert again == reference
    assert len(list_releases(tracking, SURVEY, "morphology")) == 1
    assert propose.fn(tracking, snapshot, model).published == folder.name


def test_a_new_release_leaves_the_old_one_as_it_was(tracking, snapshot, model):
    first, _ = release(tracking, snapshot, model)
    before = verify_release(Path(first.path).parent)
    second, found = release(tracking, write_galaxies(tracking, BRICKS, 9), model)
    assert found.objects == {"added": 9, "removed": 0, "changed": 0, "unchanged": 18, "flipped": 0}
    assert verify_release(Path(first.path).parent) == before
    newest, folder = find_release(tracking, "dr10-south-morphology-0002")
    assert (newest.previous, newest.rows) == (before.tag, 27)
    assert json.loads((folder / "changes.json").read_text())["objects"]["added"] == 9
    assert "<h1>" in (folder / "changes.html").read_text()
    rows, _ = read_catalogue(folder)
    assert rows["snapshot_id"].nunique() == 2  # old bricks were not predicted again

    third, _ = release(tracking, change_brick(tracking, NAMES[1], BrickState.WITHDRAWN, ""), model)
    assert third.rows == 18
    assert find_release(tracking, str(Path(third.path).parent))[0].number == 3


def test_another_champion_predicts_all_again(tracking, snapshot, model):
    release(tracking, snapshot, model)
    other = make_champion(tracking, seed=1)
    reference, found = release(tracking, snapshot, other)
    assert (found.objects["changed"], found.same_model) == (18, False)
    rows, _ = read_catalogue(Path(reference.path).parent)
    assert set(rows["model_version"]) == {other.version}


def test_nothing_is_published_that_is_not_predicted(tracking, snapshot, model):
    proposal = propose.fn(tracking, snapshot, model)
    with pytest.raises(PredictionIncomplete, match="2 of 2 bricks are not predicted"):
        publish.fn(tracking, proposal, None)
    assert list_releases(tracking) == []


def test_a_failure_while_writing_leaves_no_release(tracking, snapshot, model, monkeypatch):
    predict_all(tracking, snapshot, model)

    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(publication, "write_release_files", fail)
    with pytest.raises(OSError, match="No space"):
        publish.fn(tracking, propose.fn(tracking, snapshot, model), None)
    assert list_releases(tracking) == []
    assert not list((tracking.home / "predictions").glob(".*"))


def test_a_damaged_release_is_told(tracking, snapshot, model):
    folder = Path(release(tracking, snapshot, model)[0].path).parent
    (folder / "catalogue.fits").chmod(0o644)
    with (folder / "catalogue.fits").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DamagedRelease, match=r"catalogue\.fits"):
        verify_release(folder)
    with pytest.raises(NoRelease, match="brickyard releases"):
        find_release(tracking, "dr10-south-morphology-0007")


@pytest.fixture
def case(tracking, snapshot, model) -> Path:
    """Return a case: another champion gives other answers than are published."""
    release(tracking, snapshot, model)
    other = make_champion(tracking, seed=1)
    predict_all(tracking, snapshot, other)
    proposal = propose.fn(tracking, snapshot, other)
    found = examine.fn(tracking, proposal, ReleaseLimits(flipped=0.0))
    found = found.model_copy(update={"broken": ("a limit of the test",)})
    names = (SURVEY, proposal.tag, proposal.digest)
    return open_case(releases_folder(tracking, SURVEY, "morphology"), found, names, 60)


def test_a_held_release_goes_on_when_somebody_decides(tracking, case):
    [(waiting, _)] = waiting_cases(tracking)
    assert waiting.broken == ("a limit of the test",)
    timer = threading.Timer(
        0.2, decide_release, (tracking, LOCAL, "test", waiting.tag, (True, "I looked"))
    )
    timer.start()
    decision = wait_for_decision(case, "poll", poll_seconds=0.05)
    timer.join()
    assert decision.approve
    assert decision.sentence == "approved by local: I looked"
    assert waiting_cases(tracking) == []
    with pytest.raises(NoSuchProposal, match="0 releases that wait"):
        decide_release(tracking, LOCAL, "test", waiting.tag, (False, "too late"))


def test_who_may_not_decide_and_blank_reasons_are_refused(tracking, case):
    tag = read_case(case).tag
    viewer = User("eve", frozenset({"annotator"}))
    with pytest.raises(NotAllowed, match="eve may not decide"):
        decide_release(tracking, viewer, "test", tag, (True, "please"))
    with pytest.raises(NoSuchProposal, match="blank"):
        decide_release(tracking, LOCAL, "test", tag, (True, "  "))
    assert len(waiting_cases(tracking)) == 1


def test_silence_rejects_and_another_run_may_ask_again(tracking, case):
    text = read_case(case).model_copy(update={"deadline": datetime.now(UTC) - timedelta(hours=1)})
    (case / "case.json").write_text(text.model_dump_json())
    decision = wait_for_decision(case, "poll")
    assert not decision.approve
    assert "nobody: no decision by" in decision.sentence
    found = json.loads((case / "changes.json").read_text())
    from tasks.release_diff import ReleaseDiff

    names = (SURVEY, text.tag, text.digest)
    folder = releases_folder(tracking, SURVEY, "morphology")
    (case / "case.json").write_text(
        text.model_copy(update={"flow_run_id": "0" * 8}).model_dump_json()
    )
    assert open_case(folder, ReleaseDiff.model_validate(found), names, 60) == case
    assert len(waiting_cases(tracking)) == 1


def test_two_decisions_at_once_are_one(tracking, case):
    from tasks import release_decisions

    decide_release(tracking, LOCAL, "test", read_case(case).tag, (False, "no"))
    with pytest.raises(AlreadyDecided, match="rejected by local: no"):
        release_decisions._record(case, release_decisions._expired("late"))


def test_a_dry_run_says_what_a_cycle_would_do(tracking, snapshot, model):
    plan = plan_cycle(tracking, SURVEY, None)
    by_step = {step.step: step for step in plan.steps}
    assert by_step["predict morphology v1"].objects == 18
    assert by_step["predict morphology v1"].seconds is None
    assert by_step["publish morphology v1"].note == "would be dr10-south-morphology-0001"
    assert any("nothing is embedded by" in note for note in plan.notes)
    release(tracking, snapshot, model)
    assert plan_cycle(tracking, SURVEY, None).nothing
    assert plan_cycle(tracking, "dr9/north", None).snapshot is None
    named = plan_cycle(tracking, SURVEY, None, ["morphology", "merger"])
    assert "merger has no champion, so it is not predicted" in named.notes


def test_what_steps_took_tells_the_next_dry_run(tracking, snapshot, model):
    record = begin_cycle(tracking, snapshot, "")
    assert record.champions == (model,)
    with timed(tracking, record.cycle, "predict") as done:
        done.append((2, 18))
    assert rates(tracking, "dr9/north") == {}
    assert rates(tracking, SURVEY)["predict"] > 18
    kept = json.loads((tracking.home / "cycles" / f"{record.cycle}.json").read_text())
    slow = {"predict": {"bricks": 2, "objects": 18, "seconds": 9.0}}
    keep(tracking, record.model_validate(kept | {"steps": slow}))
    steps = {step.step: step for step in plan_cycle(tracking, SURVEY, None).steps}
    assert steps["predict morphology v1"].seconds == pytest.approx(9.0)


def test_folder_of_is_where_a_release_lies(tracking, snapshot, model):
    reference, _ = release(tracking, snapshot, model)
    [one] = list_releases(tracking)
    assert folder_of(tracking, one) == Path(reference.path).parent
    assert isinstance(read_release_bricks(folder_of(tracking, one)), pd.DataFrame)
    assert np.all(read_release_bricks(folder_of(tracking, one))["model_version"] == model.version)
