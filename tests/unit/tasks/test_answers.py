import pytest
from pydantic import ValidationError

from tasks.answers import PromotionDecision, evidence_key, why_refused
from tasks.holds import decision_form

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize("seen", [DIGEST, DIGEST[:12], f"  {DIGEST.upper()}\n"])
def test_a_whole_answer_does(seen):
    assert why_refused("better", seen, DIGEST) == ""


@pytest.mark.parametrize(
    ("given", "seen", "why"),
    [
        ("\n", DIGEST, "reason is blank"),
        ("better", "", "(blank)"),
        ("better", DIGEST[:11], "not that of the evidence shown"),
        ("better", DIGEST + "0", "not that of the evidence shown"),
        ("better", "f" * 64, "not that of the evidence shown"),
    ],
)
def test_an_answer_that_does_not_do_says_why(given, seen, why):
    assert why in why_refused(given, seen, DIGEST)


def test_all_faults_are_told_at_once():
    assert why_refused("", "", DIGEST).count(";") == 1


def test_form_fills_the_digest_in_but_does_not_assume_it():
    form = decision_form(DIGEST, "# read this")
    schema = form.model_json_schema()
    assert schema["properties"]["seen_evidence"]["default"] == DIGEST
    assert schema["required"] == ["reason", "seen_evidence"]
    assert all(field["description"] for field in schema["properties"].values())
    assert form._description == "# read this"
    with pytest.raises(ValidationError, match="seen_evidence"):
        form(approve=True, reason="better")
    with pytest.raises(ValidationError, match="reviewer"):  # a typed name proves nobody
        form(approve=True, reviewer="Vera", reason="better", seen_evidence=DIGEST)


def test_silence_of_the_form_is_not_an_approval():
    assert PromotionDecision(reason="r", seen_evidence="s").approve is False


def test_artifact_keys_are_what_prefect_accepts():
    assert evidence_key("physical_parameters", "3") == "evidence-physical-parameters-v3"
