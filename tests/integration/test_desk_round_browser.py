"""A round of active learning in a real browser, from its opening to its measured figure.

The flow runs against a real Prefect server and registry and waits for the desk; a person labels by
keyboard alone.
"""

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pandas as pd
import pytest
from chromium import (
    WIDTHS,
    faults,
    keep,
    launched,
    log_in,
    needs_chromium,
    new_page,
    press_and_wait,
    serving,
    tab_to,
)
from desk_home import PASSWORD
from home_services import PATIENCE, wait_for
from measured_survey import sky_patch
from part_labelled import label_part
from placed_survey import SPLIT, SURVEY, made, place_galaxies

from flows.label_round import run_label_round
from flows.review_desk.desk import open_desk
from lvm.finetuning import FineTuneConfig
from lvm.training import TrainConfig
from storage.label_store import read_labels
from tasks import tracking as registry
from tasks.finetuning import DownstreamConfig
from tasks.label_queue import open_queue
from tasks.round_choice import RoundConfig
from tasks.round_history import read_history
from tasks.rounds import CampaignOutcome
from tasks.settings import Settings
from tasks.users import open_users

COUNT, SEEDED, ASKED = 240, 90, 12  # objects, those labelled before, those of the round
FIT = DownstreamConfig(
    fine_tune=FineTuneConfig(mode="head", head=TrainConfig(epochs=2, learning_rate=1e-2))
)
CONFIG = RoundConfig(
    count=ASKED, random_share=0.25, gold_share=0.0, max_rounds=1, enough=1.0, poll_seconds=0.1
)
EDGE_ON = made(sky_patch(1, 1)[0], COUNT)["target"][:, 1] > 0
KEYS = {"elliptical": "1", "edge-on": "2"}  # as the buttons of the page say

pytestmark = needs_chromium


@pytest.fixture
def home(prefect_server, tracking) -> Settings:
    """Return a home with users and a survey of which a part is labelled."""
    place_galaxies(tracking, bricks=1, count=COUNT)
    label_part(tracking, COUNT, SEEDED)
    users = open_users(tracking)
    users.add("root", PASSWORD, ["admin"])
    users.add("ann", PASSWORD, ["annotator"])
    return tracking


@pytest.fixture
def browser(home):  # last: no other event loop can run in this thread beside the browser's
    with launched() as made:
        yield made


def truth(object_id: str) -> str:
    return "edge-on" if EDGE_ON[int(object_id.rpartition("-")[2])] else "elliptical"


def in_thread(pool: ThreadPoolExecutor, work: Callable[..., object], *given: object) -> Future:
    """Start work beside the browser, whose event loop no flow can share, on our Prefect server."""
    return pool.submit(contextvars.copy_context().run, work, *given)


def label_all(page) -> dict[str, str]:
    """Answer what the page shows, by its key, until nothing is left; return what was said."""
    said = {}
    while not page.get_by_role("heading", name="All done").is_visible():
        object_id = page.locator("figcaption a").first.inner_text()
        said[object_id] = truth(object_id)
        press_and_wait(page, KEYS[said[object_id]])
    return said


def test_a_round_is_filled_by_keyboard_and_ends_with_its_figure(browser, home):
    desk = open_desk(home)
    desk.promotions = lambda: ([], "")  # the thread of the desk does not know our Prefect server
    with serving(desk) as url, ThreadPoolExecutor(1) as pool:
        campaign = in_thread(pool, run_label_round, "morphology", SURVEY, CONFIG, FIT, SPLIT)
        queue = open_queue(home)
        wait_for(lambda: queue.rounds() or campaign.done(), "the round")
        assert not campaign.done(), campaign.result()
        [asked] = queue.rounds()
        page = new_page(browser)
        log_in(page, url, "ann", "/label")
        tab_to(page, asked.name)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/label/{asked.number}")
        keep(page, "round-one")
        said = label_all(page)
        keep(page, "round-full")
        outcome = campaign.result(PATIENCE)
        check_round(home, outcome, asked.number, said)
        check_history(page, outcome)
    assert page.complaints == []


def check_round(
    home: Settings, outcome: CampaignOutcome, number: int, said: dict[str, str]
) -> None:
    """Check that what was said is in the ledger, learnt from, and measured on the frozen test."""
    assert outcome.stopped == "1 rounds were made"
    assert outcome.rounds == read_history(home, outcome.campaign)
    [found] = outcome.rounds
    assert set(said) == set(found.opened.objects)
    assert len(said) == ASKED
    assert (found.closed.why, found.closed.labels) == ("enough", ASKED)
    labels = read_labels(home.labels_path, SURVEY, "morphology")
    mine = labels[labels["round"] == number]
    assert set(mine["annotator"]) == {"ann"}
    assert mine["answer"].value_counts().to_dict() == pd.Series(said).value_counts().to_dict()
    [version] = registry.model_versions(home, "morphology")
    assert version.model == found.fitted
    evaluation = found.measured.evaluation
    assert evaluation.model == found.fitted
    assert evaluation.test_objects == found.frozen.totals()["test"] > 0


def check_history(page, outcome: CampaignOutcome) -> None:
    """Go to the history by keyboard and check what it says of the round, at both widths."""
    [found] = outcome.rounds
    tab_to(page, "What came of the rounds")
    page.keyboard.press("Enter")
    page.wait_for_url("**/history?what=rounds")
    row = page.get_by_role("row").filter(has_text=f"{outcome.campaign}, round 1")
    text = row.inner_text()
    assert "ended: the answers are in" in text
    assert f"{ASKED} of {ASKED} objects have their answers" in text
    assert f"ann {ASKED}" in text
    headline = found.measured.evaluation.headline.replace("_", " ")
    assert f"{headline} {found.value:.3f}" in text
    assert f"version {found.fitted.version}, {found.frozen.totals()['test']} test objects" in text
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        keep(page, f"round-history-{width}")
        assert faults(page) == {}, width
