"""The gate with a real Prefect server and a real MLflow; people answer from another thread."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.flow_runs import resume_flow_run
from prefect.settings import get_current_settings

from flows.promote import PromotionRequest, run_gate
from tasks import tracking as registry
from tasks.answers import InvalidDecision, NotWaiting, WaitingPromotion
from tasks.decisions import Event, read_events
from tasks.promotion import PromotionStatus, decide, waiting_promotions
from tasks.references import Evaluation, EvidencePacket, Interval, ModelRef, SnapshotRef
from tasks.settings import load_settings

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds to wait for a form on a busy machine

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(180)]


def evaluation(model: ModelRef, value: float) -> Evaluation:
    return Evaluation(
        model=model,
        snapshot=SnapshotRef(store="store", survey="dr10/south", snapshot_id="SNAP"),
        split_digest="5" * 64,
        labels_digest="1" * 64,
        test_objects=100,
        headline="balanced_accuracy",
        metrics={"balanced_accuracy": Interval(value=value, low=value - 0.1, high=value + 0.1)},
    )


@task
def written_evidence(downstream: str, challenger: ModelRef) -> EvidencePacket:
    """Stand in for the measuring of models: better for every later version."""
    settings = load_settings()
    with registry.start_run(settings, experiment="measured", run_name=challenger.version):
        pass
    champion = registry.champion(settings, downstream)
    return EvidencePacket(
        challenger=evaluation(challenger, 0.6 + 0.01 * int(challenger.version)),
        champion=evaluation(champion, 0.6) if champion else None,
    )


@flow(name="promote")
def promote_with_written_evidence(request: PromotionRequest):
    return run_gate(written_evidence, request)


@pytest.fixture
def candidate(tracking) -> Callable[[str], ModelRef]:
    def register(digit: str) -> ModelRef:
        with registry.start_run(tracking, experiment="finetune", run_name=digit) as run:
            run.log_json("model/config.json", {"made": digit})
        return registry.register_candidate(
            tracking, "morphology", run_id=run.run_id, artifact="model", digest=digit * 64
        )

    return register


def next_form(seen: set[tuple[str, str]]) -> WaitingPromotion:
    """Wait for a form that has not been seen."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for item in waiting_promotions():
            if (item.flow_run_id, item.form) not in seen:
                seen.add((item.flow_run_id, item.form))
                return item
        time.sleep(0.2)
    raise TimeoutError("no promote run asked for a decision")


@contextmanager
def reviewer(*acts: Callable[[WaitingPromotion], None]) -> Iterator[list[WaitingPromotion]]:
    """Answer the forms of the run inside the block from another thread, one act a form."""
    shown: list[WaitingPromotion] = []
    failures: list[BaseException] = []

    def answer() -> None:
        seen: set[tuple[str, str]] = set()
        try:
            for act in acts:
                shown.append(next_form(seen))
                act(shown[-1])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield shown
    finally:
        thread.join(PATIENCE)
    assert not failures, failures
    assert len(shown) == len(acts)


def approve(item: WaitingPromotion) -> None:
    decide(
        item.flow_run_id,
        approve=True,
        reviewer="Vera",
        reason="better in every class",
        seen_evidence=item.evidence_digest,
    )


def reject(item: WaitingPromotion) -> None:
    decide(
        item.flow_run_id,
        approve=False,
        reviewer="Vera",
        reason="too few spirals",
        seen_evidence=item.evidence_digest,
    )


def events(tracking) -> list[Event]:
    return [item.event for item in read_events(tracking)]


def request(challenger: ModelRef | None, **options) -> PromotionRequest:
    return PromotionRequest(downstream="morphology", challenger=challenger, **options)


def test_approval_moves_the_alias_once_and_is_recorded_everywhere(tracking, candidate):
    model = candidate("a")
    with reviewer(approve) as shown:
        outcome = promote_with_written_evidence(request(None))
    assert outcome.status is PromotionStatus.APPROVED
    assert registry.champion(tracking, "morphology") == model
    assert registry.aliased(tracking, "morphology", registry.CHALLENGER) is None
    assert events(tracking) == ["opened", "decided", "moving", "moved", "closed"]
    tags = registry.version_tags(tracking, model)
    assert tags["decision"] == "approved"
    assert tags["decision.reviewer"] == "Vera"
    assert tags["decision.evidence"] == shown[0].evidence_digest
    assert "version 1" in shown[0].evidence
    assert shown[0].evidence_digest in shown[0].evidence
    assert shown[0].url.endswith(f"/runs/flow-run/{shown[0].flow_run_id}")
    folder = f"promotion/{outcome.case_id[:12]}"
    for name in ("evidence.json", "evidence.md", "decision.json", "decision.md"):
        assert registry.read_artifact(tracking, model.run_id, f"{folder}/{name}")


def test_rejection_leaves_the_champion_and_the_candidate_is_not_offered_again(tracking, candidate):
    model = candidate("a")
    with reviewer(reject):
        outcome = promote_with_written_evidence(request(model))
    assert outcome.status is PromotionStatus.REJECTED
    assert registry.champion(tracking, "morphology") is None
    assert registry.version_tags(tracking, model)["decision"] == "rejected"
    assert events(tracking) == ["opened", "decided", "closed"]
    with pytest.raises(LookupError, match="no undecided version"):
        promote_with_written_evidence(request(None))


def test_invalid_answers_are_asked_again_and_then_approved(tracking, candidate):
    model = candidate("a")

    def blank(item: WaitingPromotion) -> None:
        with pytest.raises(InvalidDecision, match="reviewer is blank"):
            decide(item.flow_run_id, approve=True, reviewer=" ", reason="r", seen_evidence="")
        form = {"approve": True, "reviewer": "  ", "reason": "x"}
        resume_flow_run(item.flow_run_id, run_input=form | {"seen_evidence": item.evidence_digest})

    def wrong_evidence(item: WaitingPromotion) -> None:
        form = {"approve": True, "reviewer": "Vera", "reason": "x"}
        resume_flow_run(item.flow_run_id, run_input=form | {"seen_evidence": "0" * 64})

    with reviewer(blank, wrong_evidence, approve) as shown:
        outcome = promote_with_written_evidence(request(model))
    assert outcome.status is PromotionStatus.APPROVED
    assert [item.form for item in shown] == ["decision-1-1", "decision-1-2", "decision-1-3"]
    refused = [item.body for item in read_events(tracking) if item.event is Event.REFUSED]
    assert "reviewer is blank" in refused[0]["refusal"]
    assert "not that of the evidence shown" in refused[1]["refusal"]
    key = "paused-decision-1-2-description"
    with get_client(sync_client=True) as client:
        text = client.read_flow_run_input(flow_run_id=shown[0].flow_run_id, key=key)
    assert "reviewer is blank" in text


def test_an_answer_without_the_evidence_digest_is_not_taken(tracking, candidate):
    def no_digest(item: WaitingPromotion) -> None:
        with pytest.raises(RuntimeError, match="'seen_evidence' is a required property"):
            resume_flow_run(item.flow_run_id, run_input={"reviewer": "Vera", "reason": "x"})
        reject(item)

    with reviewer(no_digest):
        outcome = promote_with_written_evidence(request(candidate("a")))
    assert outcome.status is PromotionStatus.REJECTED


def test_champion_that_changed_meanwhile_asks_for_new_evidence(tracking, candidate):
    first, rival, model = map(candidate, "abc")
    registry.set_alias(tracking, first, registry.CHAMPION)

    def overtake(item: WaitingPromotion) -> None:
        registry.set_alias(tracking, rival, registry.CHAMPION)
        approve(item)

    with reviewer(overtake, approve) as shown:
        outcome = promote_with_written_evidence(request(model))
    assert outcome.status is PromotionStatus.APPROVED
    assert shown[0].evidence_digest != shown[1].evidence_digest
    assert registry.champion(tracking, "morphology") == model
    assert registry.aliased(tracking, "morphology", registry.PREVIOUS_CHAMPION) == rival
    assert events(tracking)[:4] == ["opened", "decided", "stale", "opened"]
    assert registry.version_tags(tracking, rival)["succeeded_by"] == model.version


def test_second_promotion_of_the_champion_asks_nobody_and_changes_nothing(tracking, candidate):
    model = candidate("a")
    with reviewer(approve):
        promote_with_written_evidence(request(model))
    before = read_events(tracking), registry.model_versions(tracking, "morphology")
    outcome = promote_with_written_evidence(request(model))
    assert outcome.status is PromotionStatus.ALREADY_CHAMPION
    assert before == (read_events(tracking), registry.model_versions(tracking, "morphology"))


def test_silence_until_the_deadline_is_a_recorded_rejection(tracking, candidate):
    model = candidate("a")
    state = promote_with_written_evidence(request(model, timeout_seconds=3), return_state=True)
    assert state.is_completed()
    outcome = state.result()
    assert outcome.status is PromotionStatus.EXPIRED
    assert "no decision by" in outcome.reason
    assert registry.champion(tracking, "morphology") is None
    assert registry.version_tags(tracking, model)["decision"] == "expired"
    assert events(tracking) == ["opened", "decided", "closed"]


def run_as_a_worker_does(flow_run_id: str) -> None:
    """Run a flow run in a fresh process, until it ends or suspends."""
    environment = os.environ | get_current_settings().to_environment_variables(exclude_unset=True)
    done = subprocess.run(
        [sys.executable, "-m", "prefect.engine", flow_run_id],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_suspended_run_goes_on_in_another_process_without_redoing_work(tracking, candidate):
    model = candidate("a")
    asked = request(model, hold="suspend", timeout_seconds=600)
    deployment = promote_with_written_evidence.to_deployment("suspended")
    deployment.entrypoint = "tests/integration/test_promote.py:promote_with_written_evidence"
    with get_client(sync_client=True) as client:
        run_id = client.create_flow_run_from_deployment(
            deployment.apply(), parameters={"request": asked.model_dump(mode="json")}
        ).id
        run_as_a_worker_does(str(run_id))
        assert client.read_flow_run(run_id).state.name == "Suspended"
        resume_flow_run(run_id, run_input={"reviewer": "", "reason": "x", "seen_evidence": ""})
        run_as_a_worker_does(str(run_id))
        assert client.read_flow_run(run_id).state.name == "Suspended"
        (item,) = [item for item in waiting_promotions() if item.flow_run_id == str(run_id)]
        assert item.form == "decision-1-2"
        approve(item)
        run_as_a_worker_does(str(run_id))
        assert client.read_flow_run(run_id).state.is_completed()
    assert registry.champion(tracking, "morphology") == model
    assert events(tracking) == ["opened", "refused", "decided", "moving", "moved", "closed"]
    assert len(registry.find_runs(tracking, "measured")) == 1


def test_deciding_on_what_does_not_wait_says_so(tracking, candidate):
    answered: list[WaitingPromotion] = []

    def twice(item: WaitingPromotion) -> None:
        reject(item)
        answered.append(item)

    with reviewer(twice):
        promote_with_written_evidence(request(candidate("a")))
    with pytest.raises(NotWaiting, match="does not wait"):
        reject(answered[0])
    with pytest.raises(NotWaiting, match="there is no flow run"):
        decide("nonsense", approve=True, reviewer="V", reason="r", seen_evidence="0" * 12)
