"""The gate with a real Prefect server and a real MLflow; people answer from another thread."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flow_runs import resume_flow_run
from prefect.settings import get_current_settings
from promotion_gate import evaluation, registers

from flows.promote import PromotionRequest, run_gate
from tasks import tracking as registry
from tasks.answers import InvalidDecision, NotWaiting, WaitingPromotion
from tasks.deciding import DecisionRequest, LimitBroken, decide
from tasks.decisions import Decision, Event, read_events
from tasks.promotion import PromotionStatus, waiting_promotions
from tasks.references import EvidencePacket, ModelRef
from tasks.settings import load_settings
from tasks.users import LOCAL, NotAllowed, User, UserStore, open_users

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds to wait for a form on a busy machine

pytestmark = pytest.mark.usefixtures("prefect_server")


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
    return registers(tracking)


@pytest.fixture
def people(tracking) -> UserStore:
    """Return the users of a home that is no longer in single-user mode."""
    users = open_users(tracking)
    for name, role in (("chief", "admin"), ("vera", "approver"), ("edwin", "approver")):
        users.add(name, "", [role])
    users.add("ann", "", ["annotator"])
    return users


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


def decides(approve_it: bool, reason: str = "better in every class", user: User = LOCAL, **more):
    """Return an act: decide as a user who was authenticated."""

    def act(item: WaitingPromotion) -> Decision:
        request = DecisionRequest(
            flow_run_id=item.flow_run_id,
            approve=approve_it,
            reason=reason,
            seen_evidence=item.evidence_digest,
            **more,
        )
        return decide(load_settings(), user, request)

    return act


approve, reject = decides(True), decides(False, "too few spirals")


def fill_in(item: WaitingPromotion, **changes) -> None:
    """Fill in Prefect's own form, as its page does."""
    values = {"approve": True, "reason": "x", "seen_evidence": item.evidence_digest}
    resume_flow_run(item.flow_run_id, run_input=values | changes)


def refusals(tracking) -> list[str]:
    return [e.body["refusal"] for e in read_events(tracking) if e.event is Event.REFUSED]


def events(tracking) -> list[Event]:
    return [item.event for item in read_events(tracking) if item.event is not Event.GROUNDS]


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
    assert (tags["decision.user"], tags["decision.proof"]) == ("local", "session")
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
        with pytest.raises(InvalidDecision, match="reason is blank"):
            decides(True, " ")(item)
        fill_in(item, reason="  ")

    def wrong_evidence(item: WaitingPromotion) -> None:
        fill_in(item, seen_evidence="0" * 64)

    with reviewer(blank, wrong_evidence, approve) as shown:
        outcome = promote_with_written_evidence(request(model))
    assert outcome.status is PromotionStatus.APPROVED
    assert [item.form for item in shown] == ["decision-1-1", "decision-1-2", "decision-1-3"]
    desk, first, second = refusals(tracking)
    assert "reason is blank" in desk
    assert "reason is blank" in first
    assert "not that of the evidence shown" in second
    key = "paused-decision-1-2-description"
    with get_client(sync_client=True) as client:
        text = client.read_flow_run_input(flow_run_id=shown[0].flow_run_id, key=key)
    assert "reason is blank" in text


def test_only_a_code_signs_the_form_and_it_signs_once(tracking, candidate, people):
    model, old = candidate("a"), people.issue_code(people.find("vera"), "0" * 64)

    def unsigned(item: WaitingPromotion) -> None:
        fill_in(item)

    def forged(item: WaitingPromotion) -> None:
        fill_in(item, code="AAAA-BBBB-CCCC-DDDD")

    def other_packet(item: WaitingPromotion) -> None:
        fill_in(item, code=old)

    def unauthorised(item: WaitingPromotion) -> None:
        fill_in(item, code=people.issue_code(people.find("ann"), item.evidence_digest))

    def replayed(item: WaitingPromotion) -> None:
        code = people.issue_code(people.find("vera"), item.evidence_digest)
        people.redeem_code(code, item.evidence_digest)
        fill_in(item, code=code)

    def signed(item: WaitingPromotion) -> None:
        fill_in(item, code=people.issue_code(people.find("vera"), item.evidence_digest))

    with reviewer(unsigned, forged, other_packet, unauthorised, replayed, signed):
        outcome = promote_with_written_evidence(request(model))
    assert (outcome.status, outcome.reviewer) == (PromotionStatus.APPROVED, "vera")
    reasons = ("no code", "never issued", "another evidence", "ann may not", "used before")
    assert len(refusals(tracking)) == len(reasons)
    assert all(why in said for why, said in zip(reasons, refusals(tracking), strict=True))
    tags = registry.version_tags(tracking, model)
    assert (tags["decision.user"], tags["decision.proof"]) == ("vera", "code")
    assert events(tracking).count(Event.MOVED) == 1


def test_two_persons_one_at_the_desk_and_one_in_the_form(tracking, candidate, people):
    (tracking.home / "policies.toml").write_text("[promotion]\ntwo_persons = true\n")

    def both(item: WaitingPromotion) -> None:
        with pytest.raises(NotAllowed, match="ann may not decide"):
            decides(True, user=people.find("ann"))(item)
        assert decides(True, user=people.find("vera"))(item).waits_for
        assert registry.champion(tracking, "morphology") is None
        fill_in(item, code=people.issue_code(people.find("edwin"), item.evidence_digest))

    with reviewer(both):
        outcome = promote_with_written_evidence(request(candidate("a")))
    assert outcome.status is PromotionStatus.APPROVED
    (decided,) = [e.body for e in read_events(tracking) if e.event is Event.DECIDED]
    assert decided["approved_by"] == ["vera", "edwin"]


def test_a_broken_limit_is_overridden_with_a_reason_by_a_role_that_may(tracking, candidate, people):
    (tracking.home / "policies.toml").write_text("[promotion]\nsmallest_test = 1000\n")

    def overridden(item: WaitingPromotion) -> None:
        with pytest.raises(LimitBroken, match="only 100 test objects"):
            decides(True, user=people.find("vera"), override="please")(item)
        decides(True, user=people.find("chief"), override="rare class")(item)

    with reviewer(overridden) as shown:
        outcome = promote_with_written_evidence(request(candidate("a")))
    assert outcome.status is PromotionStatus.APPROVED
    assert registry.version_tags(tracking, outcome.challenger)["decision.override"] == "rare class"
    key = f"paused-{shown[0].form}-description"
    with get_client(sync_client=True) as client:
        text = client.read_flow_run_input(flow_run_id=shown[0].flow_run_id, key=key)
    assert "Limits broken" in text


def test_a_test_split_that_changed_meanwhile_asks_for_new_evidence(tracking, candidate):
    model = candidate("a")
    registry.tag_version(tracking, model, {"split_digest": "5" * 64})

    def split_again(item: WaitingPromotion) -> None:
        registry.tag_version(tracking, model, {"split_digest": "6" * 64})
        approve(item)

    with reviewer(split_again, approve):
        outcome = promote_with_written_evidence(request(model))
    assert outcome.status is PromotionStatus.APPROVED
    (stale,) = [e.body for e in read_events(tracking) if e.event is Event.STALE]
    assert stale["changed"] == ["challenger"]


def test_an_answer_without_the_evidence_digest_is_not_taken(tracking, candidate):
    def no_digest(item: WaitingPromotion) -> None:
        with pytest.raises(RuntimeError, match="'seen_evidence' is a required property"):
            resume_flow_run(item.flow_run_id, run_input={"approve": True, "reason": "x"})
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
    environment["PYTHONPATH"] = str(REPOSITORY / "tests")
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


def run_here(flow_run_id: str) -> None:
    """Run a flow run in this process, until it ends or suspends."""
    with get_client(sync_client=True) as client, suppress(Pause):
        found = client.read_flow_run(UUID(flow_run_id))
        run_flow(promote_with_written_evidence, flow_run=found, return_type="state")


@pytest.fixture
def suspended(tracking, candidate) -> tuple[ModelRef, str]:
    """Return a challenger and the run of a deployment that is suspended for its decision."""
    model = candidate("a")
    asked = request(model, hold="suspend", timeout_seconds=600)
    deployment = promote_with_written_evidence.to_deployment("suspended")
    deployment.entrypoint = "tests/integration/test_promote.py:promote_with_written_evidence"
    with get_client(sync_client=True) as client:
        run_id = client.create_flow_run_from_deployment(
            deployment.apply(), parameters={"request": asked.model_dump(mode="json")}
        ).id
    run_here(str(run_id))
    assert state_name(str(run_id)) == "Suspended"
    return model, str(run_id)


def state_name(run_id: str) -> str:
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(UUID(run_id)).state.name)


def waiting_form(run_id: str) -> WaitingPromotion:
    (item,) = [item for item in waiting_promotions() if item.flow_run_id == run_id]
    return item


@pytest.mark.slow
def test_suspended_run_goes_on_in_another_process_without_redoing_work(tracking, suspended):
    model, run_id = suspended
    resume_flow_run(run_id, run_input={"reason": "", "seen_evidence": ""})
    run_as_a_worker_does(run_id)
    assert state_name(run_id) == "Suspended"
    item = waiting_form(run_id)
    assert item.form == "decision-1-2"
    approve(item)
    assert waiting_promotions() == []  # any process carries it out, while no worker is there
    assert registry.champion(tracking, "morphology") == model
    before = read_events(tracking)
    run_here(run_id)
    assert state_name(run_id) == "Completed"
    assert read_events(tracking) == before
    assert events(tracking) == ["opened", "refused", "decided", "moving", "moved", "closed"]
    assert len(registry.find_runs(tracking, "measured")) == 1


@pytest.mark.slow
def test_form_signed_while_no_worker_is_there_counts_although_its_code_has_expired(
    tracking, people, suspended
):
    model, run_id = suspended
    item = waiting_form(run_id)
    seconds = 3
    code = people.issue_code(people.find("vera"), item.evidence_digest, minutes=seconds / 60)
    fill_in(item, code=code)
    time.sleep(seconds)
    run_here(run_id)
    assert state_name(run_id) == "Completed"
    assert registry.champion(tracking, "morphology") == model
    assert registry.version_tags(tracking, model)["decision.user"] == "vera"
    assert events(tracking) == ["opened", "decided", "moving", "moved", "closed"]


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
        approve(answered[0].model_copy(update={"flow_run_id": "nonsense"}))


def test_the_person_at_a_home_without_users_decides_under_a_name_of_their_choice(
    tracking, candidate, people
):
    def as_nobody(item: WaitingPromotion) -> None:
        with pytest.raises(NotAllowed, match="this home has users"):
            decides(True, reviewer="V", proof="single-user")(item)
        decides(False, user=people.find("vera"), reviewer="The Director")(item)

    with reviewer(as_nobody):
        outcome = promote_with_written_evidence(request(candidate("a")))
    assert outcome.reviewer == "vera"
