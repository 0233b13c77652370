"""When a campaign of rounds ends, what is recorded once, and when a round is over."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from tasks.desk_pages_label import Given, Shown, submit
from tasks.label_queue import open_queue
from tasks.label_rounds import QueueItem, RoundPlan
from tasks.references import Evaluation, Interval, ModelRef, SnapshotRef
from tasks.round_choice import RoundConfig
from tasks.round_history import (
    Closed,
    Measured,
    RoundRecord,
    campaign_of,
    campaigns,
    read_history,
    read_round,
    record,
)
from tasks.round_holds import RoundHold, why_over
from tasks.rounds import fractions, why_stop
from tasks.settings import Settings

CAMPAIGN = campaign_of("morphology", "dr10/south")
CLASSES = ("elliptical", "edge-on", "spiral", "other")


def measured(value, *, higher=True):
    model = ModelRef(downstream="morphology", version="1", run_id="r", digest="d")
    interval = Interval(value=value, low=value, high=value)
    return Measured(
        evaluation=Evaluation(
            model=model,
            snapshot=SnapshotRef(store="s", survey="dr10/south", snapshot_id="S"),
            split_digest="x",
            labels_digest="y",
            test_objects=10,
            headline="m",
            higher_is_better=higher,
            metrics={"m": interval},
        )
    )


def history(*values, labels=10, higher=True):
    return tuple(
        RoundRecord(
            campaign=CAMPAIGN,
            number=number,
            closed=Closed(why="enough", labels=labels, by_annotator={}, flow_run_id="me"),
            measured=measured(value, higher=higher),
        )
        for number, value in enumerate(values, 1)
    )


def test_a_campaign_goes_on_until_there_is_a_reason():
    config = RoundConfig(target=0.9, budget=1000, max_rounds=10, patience=2, min_gain=0.01)
    assert why_stop((), config) == ""
    assert why_stop(history(0.5, 0.6), config) == ""
    assert "target is reached: 0.950" in why_stop(history(0.5, 0.95), config)
    assert "budget is spent: 1200" in why_stop(history(0.5, 0.6, labels=600), config)
    assert "10 rounds" in why_stop(history(*(0.05 * n for n in range(10))), config)
    assert "no round of the last 2" in why_stop(history(0.6, 0.605, 0.605), config)
    assert why_stop(history(0.6, 0.5, 0.65), config) == ""


def test_a_measure_of_which_less_is_better_turns_round():
    config = RoundConfig(target=0.2, patience=1, min_gain=0.0)
    assert why_stop(history(0.5, 0.4, higher=False), config) == ""
    assert "no round" in why_stop(history(0.4, 0.5, higher=False), config)
    assert "target" in why_stop(history(0.4, 0.1, higher=False), config)


def test_silence_ends_only_the_run_in_which_it_was():
    silent = history(0.5, labels=0)
    assert "nobody answered in round 1" in why_stop(silent, RoundConfig(), "me")
    assert why_stop(silent, RoundConfig(), "another run") == ""


def test_an_unfinished_round_is_no_reason_to_stop():
    rounds = (*history(0.99), RoundRecord(campaign=CAMPAIGN, number=2))
    assert why_stop(rounds, RoundConfig(target=0.5)) == ""


def test_a_step_is_recorded_once_and_never_changed(tmp_path):
    settings = Settings(home=tmp_path)
    first = Closed(why="enough", labels=3, by_annotator={"ann": 3})
    assert record(settings, CAMPAIGN, 1, "closed", first)
    assert not record(settings, CAMPAIGN, 1, "closed", first.model_copy(update={"labels": 9}))
    assert record(settings, CAMPAIGN, 1, "measured", measured(0.5))
    assert record(settings, CAMPAIGN, 1, "disputed", ("10000-1-2",))
    [found] = read_history(settings, CAMPAIGN)
    assert (found.closed, found.value, found.disputed) == (first, 0.5, ("10000-1-2",))
    assert campaigns(settings) == (CAMPAIGN,)
    assert read_round(settings, CAMPAIGN, 2).closed is None
    with (
        sqlite3.connect(tmp_path / "rounds.sqlite") as database,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        database.execute("DELETE FROM steps")
    database.close()


def test_fractions_of_a_few_answers_have_wide_limits():
    found = fractions(pd.Series(["a"] * 8 + ["b"] * 2), ("a", "b", "c"))
    # Wilson's interval of 8 of 10, as in tables
    assert found["a"]["low"] == pytest.approx(0.490, abs=1e-3)
    assert found["a"]["high"] == pytest.approx(0.943, abs=1e-3)
    assert found["c"]["value"] == 0.0
    assert found["c"]["high"] > 0.2
    assert fractions(pd.Series([], dtype=str), ("a",)) == {}


@pytest.fixture
def waiting(tmp_path):
    """Return a home, a round that wants two answers on two objects, and what waits for it."""
    settings = Settings(home=tmp_path)
    plan = RoundPlan("dr10/south", "morphology", CLASSES, wanted=2, opened_by="x")
    number = open_queue(settings).open_round(plan, [QueueItem(1, 1, 1), QueueItem(1, 1, 2)])
    hold = RoundHold(
        campaign=CAMPAIGN,
        number=1,
        queue_round=number,
        deadline=datetime.now(UTC) + timedelta(hours=1),
        enough=1.0,
        more_on_dispute=1,
        downstream="morphology",
    )
    return settings, hold


def say(settings, hold, who, *answers):
    queue = open_queue(settings)
    for claim, answer in zip(queue.claim(hold.queue_round, who, 9), answers, strict=False):
        given = [Given(claim.item, answer)]
        submit(settings, queue, who, hold.queue_round, given, Shown("one", "S"))


def test_a_round_is_over_with_its_answers_and_disputes_are_asked_again(waiting):
    settings, hold = waiting
    assert why_over(settings, hold) == ""
    say(settings, hold, "ann", "spiral", "spiral")
    say(settings, hold, "bob", "spiral", "other")
    assert why_over(settings, hold) == ""  # the second object is in dispute
    assert read_round(settings, CAMPAIGN, 1).disputed == ("1-1-2",)
    assert why_over(settings, hold) == ""
    [claim] = open_queue(settings).claim(hold.queue_round, "cid", 9)
    assert claim.object_id == "1-1-2"
    assert open_queue(settings).claim(hold.queue_round, "ann", 9) == []
    say(settings, hold, "cid", "other")
    assert why_over(settings, hold) == "enough"


def test_a_round_is_over_at_its_deadline_or_when_somebody_closes_it(waiting):
    settings, hold = waiting
    assert why_over(settings, hold, hold.deadline) == "deadline"
    open_queue(settings).close_round(hold.queue_round)
    assert why_over(settings, hold) == "closed by hand"
