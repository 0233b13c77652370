"""Declared automations on a real Prefect server: events start flows, and people are told.

What an event starts is run in this process, as a worker would run it: one of its own would import
everything for each.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from own_prefect import talking_to
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import Paused

from flows.services import prefect_server
from flows.triggers import finetune_when_due, wake_label_rounds
from tasks.automations import Notify, apply_automations, list_automations
from tasks.errors import BadConfiguration
from tasks.events import tell_labels, tell_wanted

REPOSITORY = Path(__file__).resolve().parents[2]
AUTOMATIONS = REPOSITORY / "flows" / "automations"
PATIENCE = 60  # an event is acted on within a second, later on a busy machine


@pytest.fixture(scope="module")
def received() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Run a local receiver of webhooks; yield its URL and what came."""
    came: list[dict[str, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            came.append(json.loads(self.rfile.read(length)))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """Run a real Prefect server that knows the two deployments."""
    folder = tmp_path_factory.mktemp("automations")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.setenv("BRICKYARD_HOME", str(folder / "home"))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        url = running.enter_context(prefect_server(folder / "home"))
        running.enter_context(talking_to(url))
        for item in (finetune_when_due, wake_label_rounds):
            item.to_deployment(item.name).apply()
        yield url


def wait_for(ready: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {PATIENCE} s")
        time.sleep(0.3)


def runs(started: Flow) -> list[FlowRun]:
    """Return the runs of a flow's deployment."""
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name(f"{started.name}/{started.name}")
        found = client.read_flow_runs()
    return [run for run in found if run.deployment_id == deployment.id]


def run_started(started: Flow) -> FlowRun:
    """Run what an event has started, as a worker does; return the run that has ended."""
    wait_for(lambda: bool(runs(started)), f"a run of {started.name}")
    [run] = runs(started)
    run_flow(started, flow_run=run)
    [run] = runs(started)
    return run


def said(text: str) -> bool:
    """Tell whether an artifact of a run says this."""
    with get_client(sync_client=True) as client:
        return any(text in (item.description or "") for item in client.read_artifacts())


def test_applying_twice_changes_nothing_and_events_start_flows_and_tell_people(server, received):
    url, came = received
    first = apply_automations(AUTOMATIONS, Notify())
    outcomes = {item.name: item.outcome for item in first}
    assert outcomes["brickyard notify labels"] == "left out"
    assert outcomes["brickyard finetune on labels"] == "created"
    second = apply_automations(AUTOMATIONS, Notify(webhook=url))
    outcomes = {item.name: item.outcome for item in second}
    assert outcomes["brickyard notify labels"] == "created"
    assert outcomes["brickyard finetune on labels"] == "unchanged"
    again = apply_automations(AUTOMATIONS, Notify(webhook=url))
    assert {item.outcome for item in again} == {"unchanged"}
    assert len(list_automations(AUTOMATIONS)) == len(again) == 7
    time.sleep(2)  # the server's triggers read new automations

    assert tell_labels("dr10/south", "morphology", 30)
    assert tell_wanted("dr10/south", "morphology", 7, 12)
    wait_for(lambda: len(came) == 1, "the notification about labels")
    assert came[0]["text"].startswith("12 objects of dr10/south wait for labels")
    pause_a_promotion()
    wait_for(lambda: len(came) == 2, "the notification about a decision")
    assert 'the "best" one waits for a decision' in came[1]["text"]
    assert came[1]["subject"] == "Brickyard: a decision is wanted"

    run = run_started(finetune_when_due)
    assert run.state.is_completed(), run.state
    assert run.parameters["downstream"] == "morphology"
    assert said("morphology on dr10/south is not due")
    assert run_started(wake_label_rounds).state.is_completed()


def pause_a_promotion() -> None:
    """Make a promote run that is held, under a name that is hard to quote."""

    @flow(name="promote")
    def promote() -> None:
        """Wait."""

    with get_client(sync_client=True) as client:
        run = client.create_flow_run(promote, name='the "best" one')
        client.set_flow_run_state(run.id, Paused(timeout_seconds=600), force=True)


def test_an_unknown_deployment_or_block_is_named(server, tmp_path):
    text = (AUTOMATIONS / "finetune-on-labels.yaml").read_text()
    (tmp_path / "x.yaml").write_text(text.replace("finetune-when-due/", "nothing/"))
    with pytest.raises(BadConfiguration, match="nothing/finetune-when-due"):
        apply_automations(tmp_path, Notify())
    with pytest.raises(BadConfiguration, match="slack-webhook/none"):
        apply_automations(AUTOMATIONS, Notify(block="slack-webhook/none"))
