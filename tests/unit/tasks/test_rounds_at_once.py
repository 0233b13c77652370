"""Rounds that are opened at the same time: no object is asked about by two of them."""

import threading
from dataclasses import replace

import pandas as pd
import pytest
from desk_home import SURVEY as DESK_SURVEY
from desk_home import make_desk
from part_labelled import label_part
from placed_survey import SPLIT, SURVEY, place_galaxies

from storage.label_store import append_labels
from tasks.desk_pages_rounds import RoundChoice, open_chosen_round
from tasks.label_queue import LabelQueue, open_queue
from tasks.label_rounds import NothingToAsk, QueueItem, RoundPlan
from tasks.round_choice import Ground, RoundConfig, choose_objects
from tasks.rounds import OPENED_BY, open_round
from tasks.settings import Settings

COUNT, SEEDED = 160, 60
CONFIG = RoundConfig(count=20, strategy="k_centre", random_share=0.25, gold_share=0.2)
PLAN = RoundPlan(SURVEY, "morphology", ("spiral", "elliptical"))
PATIENCE = 60  # seconds

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def queue(tmp_path):
    return LabelQueue(tmp_path / "queue.sqlite")


@pytest.fixture(scope="module")
def surveyed(tmp_path_factory):
    """Return a survey of which some objects are labelled, and no question was asked yet."""
    settings = Settings(home=tmp_path_factory.mktemp("at-once"))
    return settings, place_galaxies(settings, bricks=1, count=COUNT).embeddings


@pytest.fixture
def ground(surveyed, tmp_path):
    """Return a fresh home on that survey, without a champion."""
    settings = Settings(home=tmp_path / "home", store=surveyed[0].store_path)
    label_part(settings, COUNT, SEEDED, gold=8)
    return Ground(settings, "morphology", surveyed[1])


@pytest.fixture
def untrained(monkeypatch):
    """Say that there is no model, without asking MLflow."""
    monkeypatch.setattr("tasks.rounds.tracking.champion", lambda *_: None)


def together(*works):
    """Run functions in threads, and return what they return."""
    found = [None] * len(works)

    def run(place):
        found[place] = works[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    return found


def lowest_free(count, asked, met=None):
    """Draw the first objects that nobody asks about; the first draws wait for one another."""
    if met is not None and not asked:
        met.wait(PATIENCE)
    free = (QueueItem(10000, 1, objid) for objid in range(100))
    return [item for item in free if item.object_id not in asked][:count]


def drawn(queue, number):
    return {item.object_id for item in queue.items(number)}


def test_two_rounds_that_draw_at_the_same_time_share_no_object(queue):
    met = threading.Barrier(2)  # both have drawn the same before either writes
    numbers = together(
        *[lambda: queue.open_drawn_round(PLAN, lambda asked: lowest_free(5, asked, met))] * 2
    )
    first, second = (drawn(queue, number) for number in numbers)
    assert len(first) == len(second) == 5
    assert first | second == {f"10000-1-{objid}" for objid in range(10)}


def test_only_what_is_asked_now_of_this_question_is_left_out(queue):
    def draw(asked):
        return lowest_free(2, asked)

    first = queue.open_drawn_round(PLAN, draw)
    other = queue.open_drawn_round(replace(PLAN, question="merger"), draw)
    assert drawn(queue, other) == drawn(queue, first)
    [one, _] = queue.claim(first, "ann", 2)
    queue.finish(list(queue.begin("ann", {one.item: "spiral"}).values()))
    assert queue.asked(SURVEY, "morphology") == {"10000-1-1"}  # the other has its answer
    queue.close_round(first)
    assert queue.asked(SURVEY, "morphology") == frozenset()
    assert drawn(queue, queue.open_drawn_round(PLAN, draw)) == drawn(queue, first)


def test_an_object_stays_its_rounds_until_all_its_people_have_answered(queue):
    number = queue.open_drawn_round(replace(PLAN, wanted=2), lambda asked: lowest_free(1, asked))
    for who, left in (("ann", {"10000-1-0"}), ("bob", set())):
        [claim] = queue.claim(number, who, 1)
        queue.finish(list(queue.begin(who, {claim.item: "spiral"}).values()))
        assert queue.asked(SURVEY, "morphology") == left


def test_a_round_for_which_nothing_is_left_is_not_opened(queue):
    queue.open_drawn_round(PLAN, lambda asked: lowest_free(100, asked))
    with pytest.raises(NothingToAsk, match="other open rounds ask"):
        queue.open_drawn_round(PLAN, lambda asked: lowest_free(100, asked))
    assert len(queue.rounds()) == 1


def test_two_campaigns_that_open_at_the_same_time_ask_about_different_objects(
    ground, untrained, monkeypatch
):
    met = threading.Barrier(2)

    def chosen_by_both(*given):
        found = choose_objects(*given)
        if not given[-1]:  # nothing is asked about yet: wait until the other has chosen too
            met.wait(PATIENCE)
        return found

    monkeypatch.setattr("tasks.rounds.choose_objects", chosen_by_both)
    first, second = together(
        *(
            lambda name=name: open_round.fn(ground, f"morphology/{name}", 1, CONFIG, SPLIT)
            for name in "ab"
        )
    )
    queue = open_queue(ground.settings)
    asked = [drawn(queue, opened.queue_round) for opened in (first, second)]
    assert [len(ids) for ids in asked] == [24, 24]
    assert not asked[0] & asked[1]
    for opened, ids in zip((first, second), asked, strict=True):
        assert set(opened.objects) | set(opened.gold) == ids
        assert len(opened.gold) == 4


def test_two_runs_of_one_campaign_open_one_round(ground, untrained, monkeypatch):
    met = threading.Barrier(2)

    def before_either_has_opened(_):
        met.wait(PATIENCE)
        return []

    monkeypatch.setattr("tasks.rounds.LabelQueue.rounds", before_either_has_opened)
    first, second = together(*[lambda: open_round.fn(ground, "morphology/a", 1, CONFIG, SPLIT)] * 2)
    assert first == second
    monkeypatch.undo()
    rounds = open_queue(ground.settings).rounds()
    assert [item.number for item in rounds if not item.closed_at] == [first.queue_round]


def test_a_round_whose_run_was_killed_before_the_record_is_taken_up_as_it_is(
    ground, untrained, monkeypatch
):
    class Killed(Exception):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("tasks.rounds.record", killed)
        with pytest.raises(Killed):
            open_round.fn(ground, "morphology/a", 1, CONFIG, SPLIT)
    queue = open_queue(ground.settings)
    [asked] = queue.rounds()
    assert asked.plan.opened_by == OPENED_BY
    # labels that came meanwhile would change a choice that is made again
    ids = sorted(drawn(queue, asked.number))[:5]
    rows = pd.DataFrame([name.split("-") for name in ids], columns=["release", "brickid", "objid"])
    rows = rows.astype(int).assign(survey=SURVEY, question="morphology", answer="spiral", count=1.0)
    append_labels(ground.settings.labels_path, rows.assign(annotator="ann"))
    opened = open_round.fn(ground, "morphology/a", 1, CONFIG, SPLIT)
    assert opened.queue_round == asked.number
    assert set(opened.objects) | set(opened.gold) == drawn(queue, asked.number)
    assert len(queue.rounds()) == 1


@pytest.mark.parametrize("published", [True, False])
def test_rounds_opened_at_the_desk_share_no_object(tmp_path, published):
    desk = make_desk(tmp_path, people=False)
    if not published:
        (folder,) = desk.settings.catalogue_path.glob(f"{DESK_SURVEY}/*")
        (folder / "catalogue.parquet").unlink()
    choice, queue = RoundChoice(count=6), desk.queue
    numbers = [
        open_chosen_round(desk.settings, queue, DESK_SURVEY, "morphology", choice, "ann")
        for _ in range(3)
    ]
    asked = [drawn(queue, number) for number in numbers]
    assert [len(ids) for ids in asked] == [6, 6, 4]  # of 16
    assert set().union(*asked) == set(desk.ids)
    with pytest.raises(NothingToAsk):
        open_chosen_round(desk.settings, queue, DESK_SURVEY, "morphology", choice, "ann")
