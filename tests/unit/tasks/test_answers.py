import pytest
from pydantic import ValidationError

from tasks.answers import PromotionDecision, evidence_key, why_refused
from tasks.holds import decision_form

DIGEST = "0123456789abcdef" * 4


def answer(**changes):
    values = {"approve": True, "reviewer": "Vera", "reason": "better", "seen_evidence": DIGEST}
    return PromotionDecision(**(values | changes))


@pytest.mark.parametrize("seen", [DIGEST, DIGEST[:12], f"  {DIGEST.upper()}\n"])
def test_a_whole_answer_does(seen):
    assert why_refused(answer(seen_evidence=seen), DIGEST) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reviewer": " "}, "reviewer is blank"),
        ({"reason": "\n"}, "reason is blank"),
        ({"seen_evidence": ""}, "(blank)"),
        ({"seen_evidence": DIGEST[:11]}, "not that of the evidence shown"),
        ({"seen_evidence": DIGEST + "0"}, "not that of the evidence shown"),
        ({"seen_evidence": "f" * 64}, "not that of the evidence shown"),
    ],
)
def test_an_answer_that_does_not_do_says_why(changes, reason):
    assert reason in why_refused(answer(**changes), DIGEST)
    assert reason in why_refused(answer(approve=False, **changes), DIGEST)


def test_all_faults_are_told_at_once():
    assert why_refused(answer(reviewer="", reason="", seen_evidence=""), DIGEST).count(";") == 2


def test_form_fills_the_digest_in_but_does_not_assume_it():
    form = decision_form(DIGEST, "# read this")
    schema = form.model_json_schema()
    assert schema["properties"]["seen_evidence"]["default"] == DIGEST
    assert schema["required"] == ["reviewer", "reason", "seen_evidence"]
    assert all(field["description"] for field in schema["properties"].values())
    assert form._description == "# read this"
    with pytest.raises(ValidationError, match="seen_evidence"):
        form(approve=True, reviewer="Vera", reason="better")


def test_silence_of_the_form_is_not_an_approval():
    assert PromotionDecision(reviewer="V", reason="r", seen_evidence="s").approve is False


def test_artifact_keys_are_what_prefect_accepts():
    assert evidence_key("physical_parameters", "3") == "evidence-physical-parameters-v3"
