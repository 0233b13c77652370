from datetime import UTC, datetime

import pytest

from tasks.decisions import Case, Decision, evidence_digest
from tasks.evidence import check_comparable
from tasks.references import Evaluation, EvidencePacket, Interval, ModelRef, SnapshotRef
from tasks.reports import case_markdown, evidence_markdown, summary_markdown


def evaluation(version, value, **options):
    defaults = {
        "model": ModelRef(downstream="morphology", version=version, run_id="run", digest="d" * 64),
        "snapshot": SnapshotRef(store="s", survey="dr10/south", snapshot_id="SNAP"),
        "split_digest": "5" * 64,
        "labels_digest": "1" * 64,
        "test_objects": 200,
        "headline": "balanced_accuracy",
        "metrics": {
            "balanced_accuracy": Interval(value=value, low=value - 0.02, high=value + 0.02),
            "auc": Interval(value=0.9, low=0.88, high=0.91),
        },
        "classes": ("spiral", "other"),
        "confusion": ((90, 10), (20, 80)),
        "per_class": {"spiral": {"recall": 0.9, "n": 100}, "other": {"recall": 0.8, "n": 100}},
        "slices": {"z 17-18": {"n": 40, "balanced_accuracy": value}},
        "baselines": {"majority class": 0.5, "colours": 0.6},
        "worst": ("10000-1-2",),
    }
    return Evaluation(**(defaults | options))


def packet(new=0.8, old=0.7, **options):
    champion = None if old is None else evaluation("2", old)
    return EvidencePacket(
        challenger=evaluation("3", new, **options),
        champion=champion,
        facts={"encoder": "abc", "odd | fact": "line\nbreak"},
    )


def test_evidence_shows_everything_a_reviewer_needs():
    text = evidence_markdown(packet())
    for expected in (
        "# Evidence: morphology version 3",
        evidence_digest(packet()),
        "**better** than champion version 2 by 0.100 in balanced_accuracy",
        "intervals do not overlap",
        "200 test objects",
        "| **balanced_accuracy** | 0.800 (0.780 to 0.820) | 0.700 (0.680 to 0.720) | +0.100 |",
        "| colours | 0.600 |",
        "| spiral | 0.900 (0.900) | 100 (100) |",
        "| z 17-18 | 40 (40) | 0.800 (0.700) |",
        "| other | 20 | 80 |",
        "`10000-1-2`",
        "| encoder | abc |",
        r"| odd \| fact | line break |",
        "| snapshot | SNAP |",
    ):
        assert expected in text


def test_first_model_has_no_champion_to_compare_with():
    text = evidence_markdown(packet(old=None))
    assert "no champion yet" in text
    assert "champion (none)" in text
    assert "| spiral | 0.900 | 100 |" in text


@pytest.mark.parametrize(
    ("new", "old", "higher", "word", "overlap"),
    [
        (0.8, 0.79, True, "better", "intervals overlap"),
        (0.7, 0.8, True, "worse", "do not overlap"),
        (0.7, 0.8, False, "better", "do not overlap"),
        (0.8, 0.8, True, "neither better nor worse", "intervals overlap"),
    ],
)
def test_verdict_says_which_is_better_and_how_surely(new, old, higher, word, overlap):
    text = summary_markdown(packet(new, old, higher_is_better=higher), "")
    assert f"**{word}**" in text
    assert overlap in text


def test_verdict_names_simpler_methods_that_are_as_good():
    assert "does not beat" not in evidence_markdown(packet())
    text = evidence_markdown(packet(baselines={"majority class": 0.5, "colours": 0.8}))
    assert "**It does not beat: colours.**" in text
    low = packet(0.2, None, higher_is_better=False, baselines={"colours": 0.1, "mean": 0.9})
    assert "**It does not beat: colours.**" in evidence_markdown(low)


def test_empty_parts_are_left_out():
    bare = packet(per_class={}, slices={}, confusion=(), classes=(), baselines={}, worst=())
    text = evidence_markdown(bare)
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == ["## Metrics on the frozen test split", "## Facts"]


def test_summary_links_to_the_run_and_names_the_digest():
    text = summary_markdown(packet(), "http://server/runs/flow-run/1")
    assert "(http://server/runs/flow-run/1?tab=Artifacts)" in text
    assert evidence_digest(packet())[:12] in text


def test_case_report_says_who_when_why():
    evidence = packet()
    case = Case(
        case_id="c" * 64,
        flow_run_id="f",
        attempt=1,
        downstream="morphology",
        challenger=evidence.challenger.model,
        champion=None,
        evidence=evidence_digest(evidence),
        deadline=datetime(2026, 11, 24, tzinfo=UTC),
    )
    decision = Decision(case=case, approve=True, reviewer="Vera", reason="better")
    text = case_markdown(case, decision, "approved", "2026-11-24T12:00:00+00:00")
    for expected in ("Vera", "better", "approved", "2026-11-24T12", case.evidence):
        assert expected in text


@pytest.mark.parametrize("name", ["split_digest", "labels_digest", "headline"])
def test_evaluations_of_different_tests_cannot_be_evidence(name):
    check_comparable(packet())
    with pytest.raises(ValueError, match=name):
        check_comparable(packet(**{name: "auc"}))


def test_evidence_without_its_headline_metric_is_refused():
    with pytest.raises(ValueError, match="headline"):
        check_comparable(packet(old=None, headline="f1"))
