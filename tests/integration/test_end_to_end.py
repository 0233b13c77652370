"""Everything of `brickyard up` is killed while a promotion waits; the decision afterwards counts.

Prefect, MLflow, two workers and the desk are real processes, and so is the model: it is fitted,
measured by the worker, and registered with the MLflow server.
"""

from collections import Counter
from uuid import UUID

import pytest
from desk_home import PASSWORD
from home_services import DeskVisitor, Stack, wait_for
from placed_survey import SPLIT, place_galaxies
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.settings import PREFECT_API_URL, temporary_settings
from promotion_gate import champions, state_of

from lvm.finetuning import FineTuneConfig
from lvm.training import TrainConfig
from tasks.alive import is_alive
from tasks.audit import audit_registry
from tasks.datasets import freeze_dataset
from tasks.decisions import Event, read_events
from tasks.finetuning import DownstreamConfig, fit_candidate
from tasks.references import ModelRef
from tasks.settings import Settings
from tasks.users import open_users

pytestmark = [pytest.mark.drill, pytest.mark.timeout(900)]
QUICK = DownstreamConfig(
    fine_tune=FineTuneConfig(mode="head", head=TrainConfig(epochs=2, learning_rate=1e-2))
)
WEEK = 7 * 24 * 3600


@pytest.fixture
def stack(tmp_path):
    found = Stack(tmp_path / "home")
    yield found
    found.stop()


@pytest.fixture
def settings(tmp_path, stack) -> Settings:
    return Settings(home=tmp_path / "home", tracking_uri=stack.mlflow_url)


@pytest.fixture
def challenger(stack, settings) -> ModelRef:
    """Start everything and register a model that was fitted on a small survey."""
    settings.home.mkdir()
    users = open_users(settings)
    users.add("vera", PASSWORD, ["admin"])
    stack.start()
    placed = place_galaxies(settings, bricks=1, count=160)  # meanwhile
    stack.wait()
    dataset = freeze_dataset.fn(settings, placed.snapshot, "morphology", SPLIT, None)
    return fit_candidate.fn(settings, dataset, placed.encoder, placed.embeddings, QUICK)


@pytest.fixture
def prefect(stack):
    """Return a client of the server of the stack."""
    with temporary_settings({PREFECT_API_URL: stack.api_url}), get_client(sync_client=True) as made:
        yield made


def state_name(prefect, run_id: str) -> str:
    return str(prefect.read_flow_run(UUID(run_id)).state.name)


def measurings(prefect, run_id: str) -> Counter:
    """Count how the tasks that measure the models of a run ended."""
    mine = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run_id)]))
    found = prefect.read_task_runs(flow_run_filter=mine)
    return Counter(run.state.name for run in found if run.name.startswith("build-evidence"))


def test_all_services_die_while_a_promotion_waits_and_the_alias_moves_once(
    stack, settings, challenger, prefect
):
    deployment = prefect.read_deployment_by_name("promote/promote")
    parameters = {"downstream": "morphology", "timeout_seconds": WEEK}
    run_id = str(prefect.create_flow_run_from_deployment(deployment.id, parameters=parameters).id)
    wait_for(lambda: state_name(prefect, run_id) == "Suspended", "the hold of the promotion")
    visitor = DeskVisitor(stack.desk_url, "vera")
    assert f"/approve/{run_id}" in visitor.get("/approve")
    before = state_of(settings)

    ended = stack.kill(gently="review desk")
    assert len(ended) == 5
    assert stack.services
    assert not any(state.alive or state.answers for state in stack.services)
    stack.start()
    stack.wait()
    assert not ended.keys() & {state.pid for state in stack.services if is_alive(state.pid)}
    assert state_name(prefect, run_id) == "Suspended"
    assert state_of(settings) == before
    assert champions(settings) == [None, None, "1"]

    page = visitor.get(f"/approve/{run_id}")  # the session outlives the desk as well
    answer = visitor.decide(run_id, "approve", "better than nothing")
    assert answer.status_code == 200, answer.text
    wait_for(lambda: state_name(prefect, run_id) == "Completed", "the end of the promotion")
    check_decided_once(settings, challenger)
    assert measurings(prefect, run_id) == {"Completed": 1, "Cached": 1}

    after = state_of(settings)
    again = visitor.decide(run_id, "reject", "on second thoughts", page)
    assert again.status_code == 404
    assert prefect.resume_flow_run(UUID(run_id)).status.value in ("ABORT", "REJECT")
    assert f"/approve/{run_id}" not in visitor.get("/approve")
    assert state_name(prefect, run_id) == "Completed"
    assert state_of(settings) == after
    visitor.close()

    stack.stop()
    assert stack.services == []


def check_decided_once(settings: Settings, challenger: ModelRef) -> None:
    """Check that the registry is as decided, by one decision of one person, and by one move."""
    events = [item for item in read_events(settings) if item.event is not Event.GROUNDS]
    assert [item.event for item in events] == ["opened", "decided", "moving", "moved", "closed"]
    (decided,) = [item.body for item in events if item.event is Event.DECIDED]
    assert (decided["user"], decided["proof"]) == ("vera", "session")
    assert champions(settings) == ["1", None, None]
    report = audit_registry(settings)
    assert (report.clean, report.found) == (True, ())
    assert "morphology" in report.downstreams
    assert challenger.version == "1"
