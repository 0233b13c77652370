"""The queue: who is given what, once, and what a crash leaves behind."""

import threading
from collections import Counter

import pytest

from storage.label_store import Label, append_labels, read_labels
from tasks import desk_pages_label
from tasks.desk_pages_label import BadAnswer, Given, Shown, repair_queue, submit, undo
from tasks.label_queue import CLAIM_SECONDS, STALE_SECONDS, LabelQueue
from tasks.label_rounds import QueueItem, QueueProblem, RoundPlan
from tasks.settings import Settings

SURVEY = "dr10/south"
PLAN = RoundPlan(SURVEY, "morphology", ("spiral", "elliptical"), opened_by="root")
SHOWN = Shown("one", "SNAPSHOT")


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def queue(tmp_path, clock):
    return LabelQueue(tmp_path / "queue.sqlite", clock)


def items(count, **values):
    return [QueueItem(10000, 1, objid, **values) for objid in range(count)]


def plan(**changes):
    return RoundPlan(**(PLAN.__dict__ | changes))


def objids(claims):
    return [claim.key[2] for claim in claims]


def labels(settings):
    return read_labels(settings.labels_path, SURVEY, "morphology")


def give(settings, queue, number, claim, answer="spiral", who="ann"):
    return submit(settings, queue, who, number, [Given(claim.item, answer)], SHOWN)


def test_objects_come_in_order_and_stay_whose_they_are(queue):
    number = queue.open_round(PLAN, items(6))
    assert objids(queue.claim(number, "ann", 2)) == [0, 1]
    assert objids(queue.claim(number, "bob", 2)) == [2, 3]
    assert objids(queue.claim(number, "ann", 3)) == [0, 1, 4]


def test_what_is_not_answered_in_time_goes_to_others(queue, clock):
    number = queue.open_round(PLAN, items(2))
    queue.claim(number, "ann", 2)
    assert queue.claim(number, "bob", 2) == []
    clock.now += CLAIM_SECONDS + 1
    assert objids(queue.claim(number, "bob", 2)) == [0, 1]


def test_as_many_different_people_answer_as_are_wanted(settings, queue):
    number = queue.open_round(plan(wanted=2), items(1))
    for who in ("ann", "bob"):
        [claim] = queue.claim(number, who, 5)
        give(settings, queue, number, claim, who=who)
        assert queue.claim(number, who, 5) == []
    assert queue.claim(number, "eve", 5) == []
    assert queue.round(number).missing == 0
    assert queue.rounds(waiting_only=True) == []


def test_no_more_people_are_given_an_object_than_answers_are_wanted(queue):
    number = queue.open_round(plan(wanted=2), items(1))
    given = [len(queue.claim(number, who, 5)) for who in ("ann", "bob", "eve")]
    assert given == [1, 1, 0]


def test_many_at_once_are_never_given_the_same(queue):
    number = queue.open_round(PLAN, items(60))
    taken: Counter[int] = Counter()
    lock = threading.Lock()

    def take(who):
        found = objids(queue.claim(number, who, 6))
        with lock:
            taken.update(found)

    threads = [threading.Thread(target=take, args=(f"a{n}",)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))
    assert set(taken.values()) == {1}


def test_an_answer_sent_twice_counts_once(settings, queue):
    number = queue.open_round(PLAN, items(2))
    [claim] = queue.claim(number, "ann", 1)
    assert len(give(settings, queue, number, claim)) == 1
    assert give(settings, queue, number, claim, "elliptical") == []
    assert labels(settings)["answer"].tolist() == ["spiral"]


def test_an_answer_taken_back_leaves_two_rows_and_is_asked_again(settings, queue):
    number = queue.open_round(PLAN, items(1))
    [claim] = queue.claim(number, "ann", 1)
    give(settings, queue, number, claim)
    assert queue.round(number).missing == 0
    assert undo(settings, queue, "ann", number).key == claim.key
    assert queue.round(number).missing == 1
    assert undo(settings, queue, "ann", number) is None
    give(settings, queue, number, claim, "elliptical")
    rows = labels(settings)
    assert rows["answer"].tolist() == ["spiral", "spiral", "elliptical"]
    assert rows["count"].tolist() == [1.0, -1.0, 1.0]


def test_nobody_takes_back_what_another_said(settings, queue):
    number = queue.open_round(PLAN, items(1))
    [claim] = queue.claim(number, "ann", 1)
    give(settings, queue, number, claim)
    assert undo(settings, queue, "bob", number) is None


def test_a_skipped_object_is_asked_of_others_only(queue):
    number = queue.open_round(PLAN, items(1))
    [claim] = queue.claim(number, "ann", 1)
    assert queue.skip(claim.item, "ann")
    assert queue.claim(number, "ann", 1) == []
    assert objids(queue.claim(number, "bob", 1)) == [0]


def test_a_skip_can_be_taken_back(settings, queue):
    number = queue.open_round(PLAN, items(1))
    [claim] = queue.claim(number, "ann", 1)
    queue.skip(claim.item, "ann")
    undo(settings, queue, "ann", number)
    assert objids(queue.claim(number, "ann", 1)) == [0]
    assert not settings.labels_path.exists()


@pytest.mark.parametrize("reached", [False, True])
def test_a_crash_on_the_way_to_the_ledger_is_put_right(settings, queue, clock, reached):
    number = queue.open_round(PLAN, items(1))
    [claim] = queue.claim(number, "ann", 1)
    queue.begin("ann", {claim.item: "spiral"})  # and then the process was killed
    if reached:
        row = Label(SURVEY, *claim.key, "morphology", "spiral", "ann", round=number)
        append_labels(settings.labels_path, [row])
    assert repair_queue(settings, queue) == 0  # somebody may still be at it
    clock.now += STALE_SECONDS + CLAIM_SECONDS
    assert repair_queue(settings, queue) == 1
    assert queue.round(number).missing == (0 if reached else 1)
    assert len(queue.claim(number, "ann", 1)) == (0 if reached else 1)


@pytest.mark.parametrize("reached", [False, True])
def test_a_crash_while_taking_back_is_put_right(settings, queue, clock, reached):
    number = queue.open_round(PLAN, items(1))
    [claim] = queue.claim(number, "ann", 1)
    give(settings, queue, number, claim)
    answer, _ = queue.last(number, "ann")
    queue.begin_undo(answer, "ann")
    if reached:
        row = Label(SURVEY, *claim.key, "morphology", "spiral", "ann", -1.0, number)
        append_labels(settings.labels_path, [row])
    clock.now += STALE_SECONDS + 1
    assert repair_queue(settings, queue) == 1
    assert queue.round(number).missing == (1 if reached else 0)


def test_a_ledger_that_refuses_leaves_the_object_to_be_answered(settings, queue, monkeypatch):
    number = queue.open_round(PLAN, items(1))
    [claim] = queue.claim(number, "ann", 1)

    def refuse(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(desk_pages_label, "append_labels", refuse)
        with pytest.raises(OSError, match="disk full"):
            give(settings, queue, number, claim)
    assert len(give(settings, queue, number, claim)) == 1


def test_a_closed_round_asks_and_takes_nothing(settings, queue):
    number = queue.open_round(PLAN, items(2))
    [claim] = queue.claim(number, "ann", 1)
    queue.close_round(number)
    assert queue.claim(number, "ann", 1) == []
    with pytest.raises(BadAnswer, match="closed"):
        give(settings, queue, number, claim)
    with pytest.raises(QueueProblem, match="closed"):
        queue.add_items(number, items(3))


def test_objects_are_in_a_round_once(queue):
    number = queue.open_round(PLAN, items(3))
    assert queue.add_items(number, items(5)) == 2
    assert queue.round(number).objects == 5


def test_known_answers_tell_how_well_somebody_answers(settings, queue):
    gold = items(2, gold="spiral") + [QueueItem(10000, 1, 2)]
    number = queue.open_round(PLAN, gold)
    for claim, answer in zip(
        queue.claim(number, "ann", 3), ("spiral", "elliptical", "spiral"), strict=True
    ):
        give(settings, queue, number, claim, answer)
    [row] = queue.annotators(number)
    assert (row["answers"], row["gold"], row["gold_right"]) == (3, 2, 1)


def test_a_round_that_cannot_be_asked_is_refused(queue):
    with pytest.raises(QueueProblem, match="no objects"):
        queue.open_round(PLAN, [])
    with pytest.raises(QueueProblem, match="two different"):
        plan(answers=("spiral",))
    with pytest.raises(QueueProblem, match="at least 1"):
        plan(wanted=0)
    with pytest.raises(QueueProblem, match="no round 7"):
        queue.round(7)
