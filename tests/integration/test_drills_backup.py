"""Drills of a whole home: the disk fills while predicting, and a backup while people work."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from distributed import LocalCluster
from placed_survey import SPLIT, SURVEY, PlacedSurvey, place_galaxies
from promotion_gate import decision
from small_disk import empty, fill, small_disk

from lvm.finetuning import FineTuneConfig
from lvm.training import TrainConfig
from storage.label_store import append_labels, read_labels
from storage.repository import open_repository, read_session, repository_place
from storage.survey_digest import content_digest_of
from tasks import tracking as registry
from tasks.audit import audit_registry
from tasks.backup import back_up, restore
from tasks.datasets import freeze_dataset
from tasks.decisions import read_events
from tasks.finetuning import DownstreamConfig, fit_candidate
from tasks.models import load_model
from tasks.prediction import plan_prediction, predict_partition
from tasks.promotion import carry_out
from tasks.references import ModelRef
from tasks.settings import Settings
from tasks.users import open_users

pytestmark = pytest.mark.slow
QUICK = TrainConfig(epochs=2, learning_rate=1e-2)
HEAD = DownstreamConfig(fine_tune=FineTuneConfig(mode="head", head=QUICK), batch_size=32)


@dataclass
class Lived:
    """A home with a survey, embeddings, labels, a champion and users."""

    settings: Settings
    placed: PlacedSurvey
    champion: ModelRef


@pytest.fixture(scope="module")
def lived(empty_tracking, tmp_path_factory) -> Lived:
    home = tmp_path_factory.mktemp("lived") / "home"
    shutil.copytree(empty_tracking, home)
    settings = Settings(home=home)
    placed = place_galaxies(settings, bricks=2, count=40)
    dataset = freeze_dataset.fn(settings, placed.snapshot, "morphology", SPLIT, None)
    model = fit_candidate.fn(settings, dataset, placed.encoder, placed.embeddings, HEAD)
    carry_out(settings, decision(model, None))
    open_users(settings).add("vera", "", ["admin"])
    return Lived(settings, placed, model)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def test_a_full_disk_while_predicting_is_told_and_the_next_run_ends_the_work(lived, scheduler):
    settings, snapshot, model = lived.settings, lived.placed.snapshot, lived.champion
    names = plan_prediction.fn(settings, snapshot, model)
    assert len(names) == 2
    place = settings.home / "predictions"
    with small_disk(place, "2m"):
        predict_partition.fn(settings, scheduler, snapshot, model, names[:1])
        fill(place, leave=0)
        with pytest.raises(Exception, match="No space left on device"):
            predict_partition.fn(settings, scheduler, snapshot, model, names[1:])
        empty(place)
        assert plan_prediction.fn(settings, snapshot, model) == names[1:]
        predict_partition.fn(settings, scheduler, snapshot, model, names[1:])
        assert plan_prediction.fn(settings, snapshot, model) == ()


def people_label(settings: Settings, ended: threading.Event) -> None:
    """Append labels, one after the other, until it ends."""
    number = 0
    while not ended.is_set():
        number += 1
        row = {
            "survey": SURVEY,
            "release": 10000,
            "brickid": 1,
            "objid": number,
            "question": "drill",
            "answer": "spiral",
            "annotator": "ann",
            "count": 1.0,
        }
        append_labels(settings.labels_path, pd.DataFrame([row]))


def survey_digest(settings: Settings) -> str:
    place = repository_place(settings.store_path, "survey")
    return content_digest_of(read_session(open_repository(place)), SURVEY)


def test_a_backup_while_people_work_gives_the_same_audit_models_and_survey_elsewhere(
    lived, tmp_path
):
    settings = lived.settings
    with registry.start_run(settings, experiment="finetune", run_name="by hand") as run:
        run.log_json("model/config.json", {})
    by_hand = registry.register_candidate(
        settings, "morphology", run_id=run.run_id, artifact="model", digest="b" * 64
    )
    registry.set_alias(settings, by_hand, registry.CHAMPION)  # past the decisions
    before = audit_registry(settings)
    assert len(before.found) == 1
    ended = threading.Event()
    labelling = threading.Thread(target=people_label, args=(settings, ended))
    labelling.start()
    try:
        few = len(read_labels(settings.labels_path, SURVEY, "drill"))
        done = back_up(settings, tmp_path / "backup")
    finally:
        ended.set()
        labelling.join()
    many = len(read_labels(settings.labels_path, SURVEY, "drill"))
    expected = survey_digest(settings), read_events(settings)
    assert {"mlflow.db", "labels.sqlite", "decisions.sqlite", "users.sqlite"} <= {*done.databases}

    away = settings.home.rename(settings.home.with_name("away"))  # nothing is read from there
    try:
        other = Settings(home=tmp_path / "other")
        assert restore(other, tmp_path / "backup").relocated > 0
        assert audit_registry(other) == before
        assert (survey_digest(other), read_events(other)) == expected
        assert few <= len(read_labels(other.labels_path, SURVEY, "drill")) <= many
        assert open_users(other).find("vera").roles == {"admin"}
        assert load_model(other, registry.read_version(other, "morphology", "1").model)
        files = {path.relative_to(tmp_path / "backup") for path in files_of(tmp_path / "backup")}
        assert len(files) == done.files + 2  # manifest and list
    finally:
        away.rename(settings.home)


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())
