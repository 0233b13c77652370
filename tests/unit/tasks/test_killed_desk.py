"""An answer that a killed desk had begun is taken when it is sent again, and once."""

import pytest

from storage.label_store import Label, append_labels, read_labels
from tasks import desk_pages_label
from tasks.desk_pages_label import Given, Shown, submit
from tasks.label_queue import open_queue
from tasks.label_rounds import QueueItem, RoundPlan
from tasks.settings import Settings

SURVEY = "dr10/south"
SHOWN = Shown("one", "S")


@pytest.fixture
def begun(tmp_path):
    """Return a home in which an answer was begun and never finished, its round and its object."""
    settings = Settings(home=tmp_path)
    queue = open_queue(settings)
    plan = RoundPlan(SURVEY, "morphology", ("spiral", "other"), opened_by="x")
    number = queue.open_round(plan, [QueueItem(1, 1, 1)])
    [claim] = queue.claim(number, "ann", 1)
    assert queue.begin("ann", {claim.item: "spiral"})
    return settings, number, claim.item


def again(begun, monkeypatch):
    """Send the answer again to a desk that was started after the kill."""
    settings, number, item = begun
    monkeypatch.setattr(desk_pages_label, "_STARTED", float("inf"))
    submit(settings, open_queue(settings), "ann", number, [Given(item, "spiral")], SHOWN)
    labels = read_labels(settings.labels_path, SURVEY, "morphology")
    return labels, open_queue(settings).round(number).missing


def test_what_did_not_reach_the_ledger_is_written(begun, monkeypatch):
    labels, missing = again(begun, monkeypatch)
    assert (labels["answer"].tolist(), missing) == (["spiral"], 0)


def test_what_did_reach_the_ledger_is_not_written_again(begun, monkeypatch):
    settings, number, _ = begun
    row = Label(SURVEY, 1, 1, 1, "morphology", "spiral", "ann", round=number)
    append_labels(settings.labels_path, [row])
    labels, missing = again(begun, monkeypatch)
    assert (labels["answer"].tolist(), missing) == (["spiral"], 0)


def test_another_request_of_this_desk_that_is_at_it_is_left_alone(begun):
    settings, number, item = begun
    queue = open_queue(settings)
    assert submit(settings, queue, "ann", number, [Given(item, "other")], SHOWN) == []
    assert queue.round(number).missing == 1
