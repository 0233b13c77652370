"""Rounds of active learning as deployments: suspended, labelled at the desk, woken, measured.

Prefect, the desk and the program that runs the deployments are real processes. Two campaigns run:
people answer the first, nobody the second, which ends by its deadline.
"""

import dataclasses
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest
from desk_home import PASSWORD
from home_services import START_SECONDS, DeskVisitor, wait_for
from measured_survey import sky_patch
from own_prefect import talking_to
from placed_survey import SPLIT, SURVEY, made, place_galaxies, votes
from prefect.client.orchestration import get_client
from pydantic import TypeAdapter

from flows.processes import Service, free_port, running
from flows.services import prefect_server
from flows.stack import Ports, services_of
from lvm.finetuning import FineTuneConfig
from lvm.training import TrainConfig
from storage.label_store import append_labels, read_labels
from tasks import tracking as registry
from tasks.automations import Notify, apply_automations
from tasks.finetuning import DownstreamConfig
from tasks.label_queue import open_queue
from tasks.round_choice import RoundConfig
from tasks.round_history import RoundRecord, read_history
from tasks.round_holds import wake_rounds
from tasks.settings import Settings
from tasks.users import open_users

REPOSITORY = Path(__file__).resolve().parents[2]
COUNT, SEEDED = 240, 90  # objects, and those labelled before
ASKED = 12  # objects of a round
SECONDS = 25  # until the deadline of the round that nobody answers
FIT = DownstreamConfig(
    fine_tune=FineTuneConfig(mode="head", head=TrainConfig(epochs=2, learning_rate=1e-2))
)
SERVE = """
from prefect import serve
from flows.label_round import run_label_round
from flows.triggers import wake_label_rounds
serve(
    run_label_round.to_deployment("label-round", parameters={"hold": "suspend"}),
    wake_label_rounds.to_deployment("wake-label-rounds"),
    query_seconds=1,
)
"""

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]


@dataclass
class Place:
    """What runs, and on which home."""

    settings: Settings
    desk_url: str

    def start(self, name: str, **changes: object) -> str:
        """Start the deployment for a campaign of one round; return the id of its run."""
        config = RoundConfig(
            name=name, count=ASKED, random_share=0.25, gold_share=0.0, max_rounds=1, enough=1.0
        )
        given = {
            "downstream": "morphology",
            "survey": SURVEY,
            "config": dataclasses.asdict(config) | changes,
            "fit": TypeAdapter(DownstreamConfig).dump_python(FIT, mode="json"),
            "split": dataclasses.asdict(SPLIT),
        }
        return start("label-round/label-round", given)

    def rounds(self, name: str) -> tuple[RoundRecord, ...]:
        """Return the rounds of a campaign."""
        return read_history(self.settings, f"morphology/{SURVEY}/{name}")


def start(deployment: str, given: dict[str, object]) -> str:
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(deployment)
        return str(client.create_flow_run_from_deployment(found.id, parameters=given).id)


def state(run_id: str) -> str:
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(UUID(run_id)).state.name)


def served() -> bool:
    """Tell whether both deployments are on the server."""
    with get_client(sync_client=True) as client:
        return len(client.read_deployments()) == 2


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("label-rounds")
    settings = Settings(home=folder / "home")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr("flows.processes.START_SECONDS", START_SECONDS)
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("BRICKYARD_HOME", str(settings.home))
        prepare(settings)
        api_url = stack.enter_context(prefect_server(settings.home))
        runner = Service(
            name="serve",
            command=(sys.executable, "-c", SERVE),
            log=folder / "serve.log",
            environment={"PREFECT_API_URL": api_url},
            folder=REPOSITORY,
        )
        stack.enter_context(running(runner))
        # The desk of `brickyard up`, on this server.
        port = int(api_url.split(":")[2].partition("/")[0])
        *_, desk = services_of(settings.home, Ports(port, free_port(), free_port()))
        stack.enter_context(running(desk))
        stack.enter_context(talking_to(api_url))
        wait_for(served, "the deployments")
        (folder / "automations").mkdir()
        waking = REPOSITORY / "flows" / "automations" / "wake-label-rounds.yaml"
        shutil.copy(waking, folder / "automations")
        apply_automations(folder / "automations", Notify())
        yield Place(settings, desk.url)


def prepare(settings: Settings) -> None:
    """Write a survey of which a part is labelled, people, and an empty registry.

    Two runs that are the first to open a new SQLite file of MLflow are in each other's way; in
    `brickyard up` the MLflow server has made it before.
    """
    assert registry.model_versions(settings, "morphology") == []
    place_galaxies(settings, bricks=1, count=COUNT)
    settings.labels_path.unlink()
    table = pd.concat([votes(brick, COUNT) for brick in sky_patch(1, 1)])
    append_labels(settings.labels_path, table[table["objid"] < SEEDED])
    users = open_users(settings)
    users.add("root", PASSWORD, ["admin"])
    users.add("ann", PASSWORD, ["annotator"])


EDGE_ON = made(sky_patch(1, 1)[0], COUNT)["target"][:, 1] > 0
CELL = re.compile(r'aria-label="object \d+-\d+-(\d+)">\s*<input type="hidden" name="item"')
ITEM = re.compile(r'name="item" value="(\d+)"')


def answer_some(visitor: DeskVisitor, number: int, count: int) -> int:
    """Answer so many objects of a round on the page of the grid; return how many were there."""
    page = visitor.get(f"/label/{number}/grid")
    found = list(zip(ITEM.findall(page), CELL.findall(page), strict=True))[:count]
    said = {
        f"answer-{item}": "edge-on" if EDGE_ON[int(objid)] else "elliptical"
        for item, objid in found
    }
    form = {"item": [item for item, _ in found]}
    answer = visitor.send(f"/label/{number}/answers", page, **form, **said)
    assert answer.status_code == 200, answer.text
    return len(found)


def test_one_round_goes_on_with_its_labels_and_another_ends_by_its_deadline(place):
    silent = place.start("silent", deadline_hours=SECONDS / 3600)
    asked = place.start("asked")
    for run_id in (silent, asked):
        wait_for(lambda run_id=run_id: state(run_id) == "Suspended", "the hold of the round")
    (opened,) = place.rounds("asked")
    number = opened.opened.queue_round
    assert open_queue(place.settings).round(number).objects == ASKED
    visitor = DeskVisitor(place.desk_url, "ann")
    assert answer_some(visitor, number, ASKED - 1) == ASKED - 1

    woken: list[str] = []  # as by the schedule of wake-label-rounds
    wait_for(lambda: woken.extend(wake_rounds(place.settings)) or woken, "the deadline")
    assert woken == [silent]
    wait_for(lambda: state(silent) == "Completed", "the end of the round without answers")
    assert state(asked) == "Suspended"  # one answer is missing
    assert place.rounds("asked")[0].closed is None

    assert answer_some(visitor, number, 1) == 1  # the desk tells it, and the run is woken
    visitor.close()
    wait_for(lambda: state(asked) == "Completed", "the end of the round")
    check_rounds(place, number)
    assert wake_rounds(place.settings) == ()  # nothing is left to be woken


def check_rounds(place: Place, number: int) -> None:
    """Check that both are closed as they should be, fitted once each, on one test split."""
    (silent,), (asked,) = place.rounds("silent"), place.rounds("asked")
    assert (silent.closed.why, silent.closed.labels) == ("deadline", 0)
    assert (asked.closed.why, asked.closed.labels) == ("enough", ASKED)
    labels = read_labels(place.settings.labels_path, SURVEY, "morphology")
    mine = labels[labels["round"] > 0]
    assert set(zip(mine["annotator"], mine["round"], strict=True)) == {("ann", number)}
    assert len(mine) == ASKED
    versions = registry.model_versions(place.settings, "morphology")
    assert [item.model for item in versions] == [asked.fitted, silent.fitted]
    before, after = silent.frozen.totals(), asked.frozen.totals()
    assert after["test"] == before["test"] > 0
    # The run without answers learnt from all others too, of which one was given after it.
    assert sum(after.values()) == sum(before.values()) + 1
    for item in (silent, asked):
        assert item.measured.evaluation.model == item.fitted
        assert item.measured.evaluation.test_objects == item.frozen.totals()["test"]
        assert item.value is not None
