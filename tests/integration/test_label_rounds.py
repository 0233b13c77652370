"""Rounds of active learning on a small survey: real Prefect, MLflow, queue and ledger."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import pytest
from measured_survey import sky_patch
from placed_survey import SPLIT, SURVEY, made, place_galaxies, votes

from flows.label_round import run_label_round
from flows.triggers import finetune_when_due
from lvm.finetuning import FineTuneConfig
from lvm.training import TrainConfig
from storage.label_store import Label, append_labels, read_labels
from tasks import tracking as registry
from tasks.desk_pages_label import Given, Shown, submit
from tasks.finetuning import DownstreamConfig
from tasks.label_queue import open_queue
from tasks.round_choice import RoundConfig
from tasks.round_history import read_history
from tasks.settings import Settings
from tasks.triggers import only_one

pytestmark = pytest.mark.usefixtures("prefect_server")
COUNT, SEEDED = 240, 90
QUICK = TrainConfig(epochs=2, learning_rate=1e-2)
FIT = DownstreamConfig(fine_tune=FineTuneConfig(mode="head", head=QUICK))
CONFIG = RoundConfig(
    count=12,
    random_share=0.25,
    gold_share=0.25,
    wanted=2,
    max_rounds=2,
    patience=5,
    poll_seconds=0.05,
    enough=1.0,
)


class Killed(Exception):
    """Stands in for the end of the process."""


@pytest.fixture
def survey(tracking) -> Settings:
    """Return a home in which some objects are labelled, ten of them gold."""
    place_galaxies(tracking, bricks=1, count=COUNT)
    tracking.labels_path.unlink()
    table = pd.concat([votes(brick, COUNT) for brick in sky_patch(1, 1)])
    append_labels(tracking.labels_path, table[table["objid"] < SEEDED])
    append_labels(
        tracking.labels_path,
        [
            Label(SURVEY, 10000, brickid(), objid, "morphology", truth(objid), "gold")
            for objid in range(10)
        ],
    )
    return tracking


def brickid() -> int:
    return sky_patch(1, 1)[0].brickid


EDGE_ON = made(sky_patch(1, 1)[0], COUNT)["target"][:, 1] > 0


def truth(objid: int) -> str:
    return "edge-on" if EDGE_ON[objid] else "elliptical"


@contextmanager
def people(settings: Settings) -> Iterator[None]:
    """Let ann, bob and cid answer whatever waits; bob is wrong on every fourth object."""
    ended = threading.Event()

    def work(name: str) -> None:
        queue = open_queue(settings)
        while not ended.wait(0.05):
            for item in queue.rounds(waiting_only=True):
                for claim in queue.claim(item.number, name, 4):
                    said = truth(claim.key[2])
                    if name == "bob" and claim.key[2] % 4 == 0:
                        said = "spiral"
                    given = [Given(claim.item, said)]
                    submit(settings, queue, name, item.number, given, Shown("one", "S"))

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob", "cid")]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def run(**changes):
    config = RoundConfig(**{**CONFIG.__dict__, **changes})
    return run_label_round("morphology", SURVEY, config, FIT, SPLIT)


def test_a_campaign_runs_to_its_end_survives_a_crash_and_never_doubles(survey, monkeypatch):
    def killed(*_, **__):
        raise Killed("between the fit and its record")

    with people(survey):
        with monkeypatch.context() as patch:
            patch.setattr("flows.label_round.evaluate_model", killed)
            with pytest.raises(Killed):
                run()
        assert len(registry.model_versions(survey, "morphology")) == 1
        outcome = run()
        again = run()
    assert outcome.stopped == again.stopped == "2 rounds were made"
    assert [item.number for item in outcome.rounds] == [1, 2]
    assert again.rounds == outcome.rounds
    versions = registry.model_versions(survey, "morphology")
    assert len(versions) == 2
    assert len(open_queue(survey).rounds()) == 2
    check_rounds(survey, outcome)


def check_rounds(settings, outcome):
    first, second = outcome.rounds
    assert (first.opened.strategy, second.opened.strategy) == ("random", "badge")
    assert second.opened.model == first.fitted
    assert list(second.opened.objects.values()).count("random") == 3
    assert not set(first.opened.objects) & set(second.opened.objects)
    assert len(first.opened.gold) == 3
    # the test split is frozen: nothing in it was asked about, and both were measured on it
    frozen = {item.measured.evaluation.split_digest for item in outcome.rounds}
    objects = {item.measured.evaluation.test_objects for item in outcome.rounds}
    assert len(objects) == 1
    assert all(frozen)
    for item in outcome.rounds:
        assert item.closed.why == "enough"
        assert item.closed.labels >= 2 * (12 + 3)
        assert item.closed.estimates["elliptical"]["objects"] >= 3
        assert item.value is not None
    labels = read_labels(settings.labels_path, SURVEY, "morphology")
    mine = labels[labels["round"] > 0]
    assert not mine.duplicated(["objid", "annotator", "round"]).any()
    asked_again = sum(len(item.disputed or ()) for item in outcome.rounds)
    assert asked_again > 0  # bob is contradicted
    assert len(mine) == 2 * 2 * (12 + 3) + asked_again


def test_a_deadline_without_answers_ends_the_run_and_the_next_one_asks_again(survey):
    silent = run(deadline_hours=0.0001)
    assert silent.stopped == "nobody answered in round 1"
    assert silent.rounds[0].closed.why == "deadline"
    with people(survey):
        outcome = run()
    assert [item.closed.labels > 0 for item in read_history(survey, "morphology/dr10/south")] == [
        False,
        True,
    ]
    assert outcome.stopped == "2 rounds were made"


def test_a_fit_is_made_when_it_is_due_and_not_again_without_anything_new(survey):
    config = {"downstream": "morphology", "survey": SURVEY, "config": FIT, "split": SPLIT}
    [first] = finetune_when_due(**config)
    assert first.due
    assert first.new_labels > 100
    assert first.evaluation.model.version == "1"
    [second] = finetune_when_due(**config)
    assert not second.due
    assert second.evaluation is None
    assert second.why.startswith("0 labels since the newest candidate")
    with only_one(survey, "morphology"):
        [third] = finetune_when_due(**config)
    assert "another run is fitting it" in third.why
    survey.home.joinpath("triggers.toml").write_text(
        "[finetune]\nmin_new_labels = 1\nmin_hours = 0\ndaily_cpu_seconds = 0.001\n"
    )
    append_labels(
        survey.labels_path, [Label(SURVEY, 10000, brickid(), 200, "morphology", "spiral", "ann")]
    )
    [fourth] = finetune_when_due(**config)
    assert "CPU seconds" in fourth.why
    assert fourth.new_labels == 1
    assert len(registry.model_versions(survey, "morphology")) == 1
