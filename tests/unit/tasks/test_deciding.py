"""Who may decide what, as recorded; no server and no registry. The holds: tests/integration."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tasks import deciding
from tasks.answers import InvalidDecision, NotWaiting, PromotionDecision
from tasks.deciding import DecisionRequest, LimitBroken, decide_by_form, take
from tasks.decisions import Case, Event, append, evidence_digest, find_decision, read_events
from tasks.references import Evaluation, EvidencePacket, Interval, ModelRef, SnapshotRef
from tasks.settings import Settings
from tasks.users import LOCAL, CodeRefused, NotAllowed, User, open_users

VERA = User("vera", frozenset({"approver"}))
EDWIN = User("edwin", frozenset({"approver"}))
CHIEF = User("chief", frozenset({"admin"}))
ANN = User("ann", frozenset({"annotator"}))


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def tags(monkeypatch):
    """Return the tags that the challenger's version has."""
    found = {}
    monkeypatch.setattr("tasks.tracking.version_tags", lambda settings, model: found)
    return found


@pytest.fixture
def given_at(monkeypatch):
    """Say that forms were filled in at the time of the list's only entry, or now."""
    moments = [None]
    monkeypatch.setattr(deciding, "answered_at", lambda run, form: moments[0])
    return moments


@pytest.fixture
def case(settings, tags, given_at):
    return open_a_case(settings)


def open_a_case(settings, *, objects=100, name="c", deadline=timedelta(days=1)):
    model = ModelRef(downstream="morphology", version="2", run_id="r", digest="2" * 64)
    evaluation = Evaluation(
        model=model,
        snapshot=SnapshotRef(store="s", survey="v", snapshot_id="i"),
        split_digest="a",
        labels_digest="b",
        test_objects=objects,
        headline="score",
        metrics={"score": Interval(value=0.8, low=0.7, high=0.9)},
    )
    packet = EvidencePacket(challenger=evaluation)
    case = Case(
        case_id=name * 64,
        flow_run_id="f",
        attempt=1,
        downstream="morphology",
        challenger=model,
        champion=None,
        evidence=evidence_digest(packet),
        deadline=datetime.now(UTC) + deadline,
    )
    body = {"case": case.model_dump(mode="json"), "evidence": packet.model_dump(mode="json")}
    append(settings, case, Event.OPENED, body)
    return case


def request(case, approve=True, **changes):
    values = {"flow_run_id": "f", "reason": "better", "seen_evidence": case.evidence}
    return DecisionRequest(approve=approve, **(values | changes))


def rules(settings, text):
    (settings.home / "policies.toml").write_text(f"[promotion]\n{text}\n")


def refusals(settings):
    return [e.body["refusal"] for e in read_events(settings) if e.event is Event.REFUSED]


def test_a_decision_is_the_authenticated_users(settings, case):
    decision = take(settings, case.case_id, VERA, request(case, reviewer="The Director"))
    assert (decision.user, decision.reviewer, decision.proof) == ("vera", "vera", "session")
    assert decision.approved_by == ("vera",)
    assert find_decision(settings, case) == decision
    other = open_a_case(settings, name="d")
    by_local = take(settings, other.case_id, LOCAL, request(other, reviewer="Vera Rubin"))
    assert (by_local.user, by_local.reviewer) == ("local", "Vera Rubin")


def test_the_person_at_the_machine_decides_only_while_there_are_no_users(settings, case):
    open_users(settings).add("chief", "", ["admin"])
    with pytest.raises(NotAllowed, match="this home has users"):
        take(settings, case.case_id, LOCAL, request(case, proof="single-user"))
    assert find_decision(settings, case) is None


def test_a_reason_is_no_reason_to_override(settings, tags, given_at):
    small = open_a_case(settings, objects=3)
    with pytest.raises(LimitBroken, match="only 3 test objects"):
        take(settings, small.case_id, LOCAL, request(small, reason="because I say so"))
    decision = take(settings, small.case_id, LOCAL, request(small, override="a rare class"))
    assert (decision.reason, decision.override) == ("better", "a rare class")


@pytest.mark.parametrize("approve", [True, False])
def test_whoever_may_not_decide_is_refused_and_recorded(settings, case, approve):
    with pytest.raises(NotAllowed, match="ann may not decide"):
        take(settings, case.case_id, ANN, request(case, approve))
    assert find_decision(settings, case) is None
    assert "ann may not decide" in refusals(settings)[0]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"reason": " "}, "reason is blank"),
        ({"seen_evidence": "0" * 64}, "not that of the evidence shown"),
    ],
)
def test_a_request_that_does_not_do_is_refused_and_recorded(settings, case, changes, match):
    for _ in range(2):
        with pytest.raises(InvalidDecision, match=match):
            take(settings, case.case_id, VERA, request(case, **changes))
    assert len(refusals(settings)) == 2
    assert find_decision(settings, case) is None


def test_a_case_is_decided_once(settings, case):
    take(settings, case.case_id, VERA, request(case, approve=False))
    with pytest.raises(NotWaiting, match="decided already by vera"):
        take(settings, case.case_id, CHIEF, request(case))
    assert not find_decision(settings, case).approve


def test_a_case_that_was_never_opened_here_is_not_decided(settings, case):
    with pytest.raises(NotWaiting, match="never|no case"):
        take(settings, "f" * 64, VERA, request(case))


def test_an_answer_after_the_deadline_is_refused(settings, case):
    late = open_a_case(settings, name="d", deadline=timedelta(seconds=-1))
    with pytest.raises(NotWaiting, match="has passed"):
        take(settings, late.case_id, VERA, request(late))


def test_a_broken_limit_needs_somebody_who_may_override_and_says_why(settings, tags, given_at):
    case = open_a_case(settings, objects=10)
    with pytest.raises(LimitBroken, match="only 10 test objects.*vera may not override") as error:
        take(settings, case.case_id, VERA, request(case, override="I want it"))
    assert len(error.value.broken) == 1
    with pytest.raises(LimitBroken, match="say why in `override`"):
        take(settings, case.case_id, CHIEF, request(case))
    decision = take(settings, case.case_id, CHIEF, request(case, override="a rare class"))
    assert decision.override == "a rare class"
    assert decision.broken == error.value.broken
    assert len(refusals(settings)) == 2


def test_a_broken_limit_is_no_obstacle_to_a_rejection(settings, tags, given_at):
    case = open_a_case(settings, objects=10)
    decision = take(settings, case.case_id, VERA, request(case, False, wants_labels=True))
    assert (decision.approve, decision.wants_labels, decision.broken) == (False, True, ())


def test_two_persons_have_to_approve_and_one_may_reject(settings, case):
    rules(settings, "two_persons = true")
    first = take(settings, case.case_id, VERA, request(case))
    assert first.waits_for == "the approval of a second person"
    assert find_decision(settings, case) is None
    with pytest.raises(NotAllowed, match="VERA has approved already"):
        take(settings, case.case_id, User("VERA", VERA.roles), request(case))
    second = take(settings, case.case_id, EDWIN, request(case))
    assert second.waits_for == ""
    assert find_decision(settings, case).approved_by == ("vera", "edwin")
    other = open_a_case(settings, name="d")
    take(settings, other.case_id, VERA, request(other))
    assert not take(settings, other.case_id, EDWIN, request(other, approve=False)).approve


def test_whoever_trained_it_does_not_approve_it(settings, case, tags):
    rules(settings, "not_the_trainer = true")
    tags["trained_by"] = "Vera"
    with pytest.raises(NotAllowed, match="vera had it trained"):
        take(settings, case.case_id, VERA, request(case, override="but I am sure"))
    assert take(settings, case.case_id, EDWIN, request(case)).user == "edwin"


def test_an_unknown_trainer_could_be_anybody(settings, case):
    rules(settings, "not_the_trainer = true")
    with pytest.raises(LimitBroken, match="not recorded who trained it"):
        take(settings, case.case_id, VERA, request(case))
    assert take(settings, case.case_id, CHIEF, request(case, override="I saw Ann do it"))


def test_many_who_decide_at_once_make_one_decision(settings, case):
    def work(number):
        user = User(f"user{number}", frozenset({"approver"}))
        try:
            return take(settings, case.case_id, user, request(case, approve=number % 2 == 0))
        except NotWaiting:
            return None

    with ThreadPoolExecutor(8) as pool:
        made = [item for item in pool.map(work, range(16)) if item]
    assert made == [find_decision(settings, case)]
    assert len(refusals(settings)) == 15


@pytest.fixture
def users(settings):
    store = open_users(settings)
    store.add("chief", "", ["admin"])
    store.add("vera", "", ["approver"])
    store.add("ann", "", ["annotator"])
    return store


def form(case, **changes):
    values = {"approve": True, "reason": "better", "seen_evidence": case.evidence}
    return PromotionDecision(**(values | changes))


def by_form(settings, case, ask=1, **changes):
    return decide_by_form(settings, case, ask, f"decision-1-{ask}", form(case, **changes))


def test_a_form_is_signed_by_its_code(settings, case, users):
    code = users.issue_code(users.find("vera"), case.evidence)
    decision = by_form(settings, case, code=code)
    assert (decision.user, decision.proof, decision.ask) == ("vera", "code", 1)
    assert find_decision(settings, case) == decision
    assert code not in str([item.body for item in read_events(settings)])


def test_forms_without_a_good_code_are_refused_and_recorded(settings, case, users):
    other = open_a_case(settings, name="d", objects=50)
    vera = users.find("vera")
    foreign = users.issue_code(vera, other.evidence)
    used = users.issue_code(vera, case.evidence)
    users.redeem_code(used, case.evidence)
    bad = {
        "no code": "",
        "never issued": "AAAA-BBBB-CCCC-DDDD",
        "another evidence packet": foreign,
        "used before": used,
    }
    for ask, (why, code) in enumerate(bad.items(), start=1):
        with pytest.raises(CodeRefused, match=why):
            by_form(settings, case, ask, code=code)
    assert find_decision(settings, case) is None
    assert all(why in said for why, said in zip(bad, refusals(settings), strict=True))


def test_a_form_signed_by_somebody_who_may_not_decide_is_refused(settings, case, users):
    code = users.issue_code(users.find("ann"), case.evidence)
    with pytest.raises(NotAllowed, match="ann may not decide"):
        by_form(settings, case, code=code)
    assert find_decision(settings, case) is None


def test_a_form_with_a_slip_does_not_use_the_code_up(settings, case, users):
    code = users.issue_code(users.find("vera"), case.evidence)
    with pytest.raises(InvalidDecision, match="reason is blank"):
        by_form(settings, case, 1, code=code, reason="")
    assert by_form(settings, case, 2, code=code).user == "vera"


def test_a_form_that_the_worker_reads_days_later_counts(settings, case, users, given_at, tags):
    code = users.issue_code(users.find("vera"), case.evidence, minutes=0.001)
    given_at[0] = datetime.now(UTC) - timedelta(minutes=1)
    assert by_form(settings, case, code=code).user == "vera"
    late = open_a_case(settings, name="d")
    expired = users.issue_code(users.find("vera"), late.evidence, minutes=-1)
    given_at[0] = datetime.now(UTC)
    with pytest.raises(CodeRefused, match="expired"):
        by_form(settings, late, code=expired)


def test_a_home_without_users_needs_no_code(settings, case):
    decision = by_form(settings, case)
    assert (decision.user, decision.proof) == ("local", "single-user")
