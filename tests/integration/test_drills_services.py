"""Drills of services: each is killed in the middle of a run; nothing is lost, nothing doubled."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from drilled_services import (
    CONFIG,
    HELD,
    SILENCE,
    SURVEY,
    WAITING,
    Gate,
    Services,
    hold_a_run,
    read_run,
    running_services,
    state_of,
    wait_for_state,
    wait_until,
    worker_in_this_process,
)
from mlflow.exceptions import MlflowException
from placed_survey import SPLIT, PlacedSurvey, place_galaxies
from prefect.automations import AutomationCore
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

import tasks.brick_worker
import tasks.finetuning
from flows.deployments import project_folder
from flows.ingest import ingest_bricks
from flows.parameters import IngestRun
from flows.processes import Service, running
from flows.stack import ServiceState
from lvm.finetuning import FineTuneConfig
from lvm.training import Event, TrainConfig
from storage.errors import RepositoryBusy
from tasks import tracking
from tasks.datasets import freeze_dataset
from tasks.doctor import examine
from tasks.finetuning import DownstreamConfig, fit_candidate
from tasks.lost_runs import lost_runs, process_of
from tasks.references import ModelRef
from tasks.settings import Settings

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def up(tmp_path_factory) -> Iterator[Services]:
    folder = tmp_path_factory.mktemp("drills")
    with worker_in_this_process() as cluster, running_services(cluster, folder) as services:
        yield services


@pytest.fixture
def services(up, tmp_path) -> Services:
    """Give the drill a store of its own."""
    up.store = tmp_path / "store"
    return up


@pytest.fixture
def gate(monkeypatch) -> Iterator[Gate]:
    """Count the calls of bricks and hold the third one."""
    made = Gate()
    monkeypatch.setattr(tasks.brick_worker, "write_cutouts", made)
    yield made
    made.opened.set()


def test_a_killed_server_comes_back_and_the_run_under_way_ends(services, gate):
    run_id = hold_a_run(services, gate)
    lease = read_run(run_id).state.state_details.deployment_concurrency_lease_id
    killed = services.kill("Prefect")
    wait_until("the server is back", lambda: services.is_back(killed))
    with get_client(sync_client=True) as client:
        client.renew_concurrency_lease(lease, 300)  # the run still holds the only slot
    gate.opened.set()
    wait_for_state(run_id, "Completed")
    assert set(gate.calls.values()) == {1}
    assert read_run(run_id).run_count == 1
    assert services.slots_taken() == 0
    services.assert_whole()


def test_a_killed_worker_comes_back_and_the_run_under_way_ends(services, gate):
    run_id = hold_a_run(services, gate)
    killed = services.kill("worker of pool cpu")
    wait_until("the worker is back", lambda: services.is_back(killed))
    gate.opened.set()
    wait_for_state(run_id, "Completed")
    assert set(gate.calls.values()) == {1}
    assert read_run(run_id).run_count == 1
    assert services.slots_taken() == 0
    services.assert_whole()


def test_a_run_that_was_killed_with_its_worker_is_found_and_the_next_one_ends_its_work(
    services, gate
):
    with silence_of(SILENCE):
        run_id = hold_a_run(services, gate)
        services.kill("worker of pool cpu")
        os.killpg(process_of(read_run(run_id)), signal.SIGKILL)
        wait_until("the doctor finds it", lambda: str(run_id) in [run.id for run in lost_runs()])
        assert state_of(run_id) == "Running"  # as it would for ever
        [finding] = [item for item in examine(Settings()) if item.what == "flow runs"]
        assert finding.level == "wrong"
        assert str(run_id) in finding.advice
        next_id = services.start_run()
        wait_for_state(next_id, WAITING)
        wait_for_state(run_id, "Crashed")
    gate.opened.set()
    wait_for_state(next_id, "Completed")
    assert lost_runs() == ()
    assert sorted(gate.calls.values()) == [1, 1, 1, 2]  # the one under way is done again
    assert services.slots_taken() == 0
    services.assert_whole()


@contextmanager
def silence_of(seconds: int) -> Iterator[None]:
    """Let the declared automation end silent runs sooner; it is put back after the block."""
    path = project_folder() / "flows" / "automations" / "crash-silent-runs.yaml"
    document = yaml.safe_load(path.read_text())
    declared = document["trigger"]["within"]
    with get_client(sync_client=True) as client:
        [standing] = client.read_automations_by_name(document["name"])
        document["trigger"]["within"] = seconds
        client.update_automation(standing.id, AutomationCore.model_validate(document))
        yield
        document["trigger"]["within"] = declared
        client.update_automation(standing.id, AutomationCore.model_validate(document))


def test_of_two_runs_at_once_the_second_waits_and_one_beside_the_deployment_is_refused(
    services, gate, monkeypatch
):
    first = hold_a_run(services, gate)
    second = services.start_run()
    wait_for_state(second, WAITING)
    monkeypatch.setenv("BRICKYARD_STORE", str(services.store))
    with pytest.raises(RepositoryBusy, match=f"ingest {SURVEY}"):
        ingest_bricks.fn(str(services.source), config=CONFIG, run=IngestRun())
    assert services.done() == HELD - 1
    gate.opened.set()
    for run_id in (first, second):
        wait_for_state(run_id, "Completed")
    assert read_run(second).start_time >= read_run(first).end_time
    assert set(gate.calls.values()) == {1}
    assert services.slots_taken() == 0
    services.assert_whole()


COUNTING = """
import os
from prefect import flow
from prefect.runtime import flow_run

@flow
def count(path: str) -> None:
    with open(path, "a") as lines:
        print(flow_run.id, file=lines)
"""
RUNS = 4


def test_two_workers_of_one_pool_take_every_run_once(services, tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    lines = tmp_path / "lines"
    command = (sys.executable, "-m", "prefect", "worker", "start", "--pool", "cpu")
    second = Service(
        name="second worker",
        command=(*command, "--name", "second"),
        log=services.home / "second.log",
        environment={"PREFECT_API_URL": f"{services.prefect}/api"},
        folder=tmp_path,
    )
    with running(second), get_client(sync_client=True) as client:
        wait_until("both workers poll", lambda: workers_online() == 2)
        deployment = client.create_deployment(
            flow_id=client.create_flow_from_name("count"),
            name="count",
            work_pool_name="cpu",
            path=str(tmp_path),
            entrypoint="counting.py:count",
        )
        at_once = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(seconds=3))
        made = [
            client.create_flow_run_from_deployment(
                deployment, parameters={"path": str(lines)}, state=at_once
            ).id
            for _ in range(RUNS)
        ]
        for run_id in made:
            wait_for_state(run_id, "Completed")
    assert sorted(lines.read_text().split()) == sorted(map(str, made))
    assert [read_run(run_id).run_count for run_id in made] == [1] * RUNS


def workers_online() -> int:
    with get_client(sync_client=True) as client:
        found = client.read_workers_for_work_pool("cpu")
    return sum(worker.status == "ONLINE" for worker in found)


HEAD = DownstreamConfig(
    fine_tune=FineTuneConfig(mode="head", head=TrainConfig(epochs=3, learning_rate=1e-2)),
    batch_size=32,
)


@pytest.fixture(scope="module")
def placed(up) -> tuple[Settings, PlacedSurvey]:
    """Return a small survey with labels and embeddings, tracked by the stack's MLflow."""
    settings = Settings(home=up.home, store=str(up.home / "placed"), tracking_uri=up.mlflow)
    return settings, place_galaxies(settings, bricks=1, count=70)


def fit(settings: Settings, placed: PlacedSurvey) -> ModelRef:
    dataset = freeze_dataset.fn(settings, placed.snapshot, "morphology", SPLIT, None)
    return fit_candidate.fn(settings, dataset, placed.encoder, placed.embeddings, HEAD)


def test_an_mlflow_that_is_killed_while_a_model_is_fitted_costs_time(services, placed, monkeypatch):
    settings, survey = placed
    epochs = []

    def kill_once(tracker: object, event: Event) -> None:
        if event.kind == "epoch" and not epochs:
            services.kill("MLflow")
        epochs.append(event.kind)
        follow(tracker, event)

    follow = tasks.finetuning._Tracker.__call__
    monkeypatch.setattr(tasks.finetuning._Tracker, "__call__", kill_once)
    model = fit(settings, survey)
    assert epochs.count("epoch") == 3
    [version] = tracking.model_versions(settings, "morphology")
    assert version.model == model
    [run] = tracking.find_runs(settings, "morphology")
    assert run.status == "FINISHED"
    assert run.metrics["head_loss"] > 0


def test_an_mlflow_that_stays_away_leaves_nothing_half_registered(services, placed, monkeypatch):
    settings, survey = placed
    before = tracking.model_versions(settings, "morphology")
    killed: list[ServiceState] = []

    def kill_and_register(*arguments, **named) -> ModelRef:
        killed.append(services.kill("MLflow"))
        return register(*arguments, **named)

    register = tracking.register_candidate
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setattr(tracking, "register_candidate", kill_and_register)
        with pytest.raises(MlflowException, match="API request"):
            fit(settings, survey)
    wait_until("MLflow is back", lambda: services.is_back(killed[0]))
    assert tracking.model_versions(settings, "morphology") == before
    model = fit(settings, survey)
    assert [v.model for v in tracking.model_versions(settings, "morphology")] == [
        model,
        *(version.model for version in before),
    ]
    assert int(model.version) == len(before) + 1
