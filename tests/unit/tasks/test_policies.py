import pytest

from tasks.errors import BadConfiguration
from tasks.policies import Policies, PromotionPolicy, broken_limits, read_policies
from tasks.references import Evaluation, EvidencePacket, Interval, ModelRef, SnapshotRef
from tasks.settings import Settings


def interval(value):
    return Interval(value=value, low=value - 0.1, high=value + 0.1)


def evaluation(value=0.8, *, objects=100, higher=True, **metrics):
    return Evaluation(
        model=ModelRef(downstream="morphology", version="1", run_id="r", digest="d" * 64),
        snapshot=SnapshotRef(store="s", survey="v", snapshot_id="i"),
        split_digest="a",
        labels_digest="b",
        test_objects=objects,
        headline="score",
        higher_is_better=higher,
        metrics={"score": interval(value)} | {key: interval(v) for key, v in metrics.items()},
    )


def broken(challenger, champion=None, facts=None, **policy):
    packet = EvidencePacket(challenger=challenger, champion=champion, facts=facts or {})
    return broken_limits(packet, PromotionPolicy(**policy))


def write(tmp_path, text):
    (tmp_path / "policies.toml").write_text(text)
    return read_policies(Settings(home=tmp_path))


def test_good_evidence_breaks_nothing():
    good = evaluation(expected_calibration_error=0.05)
    assert broken(good) == ()
    assert broken(good, evaluation(0.81), {"drift_alarm": "false"}) == ()


@pytest.mark.parametrize(
    ("old", "new", "higher", "falls"),
    [
        (0.8, 0.78, True, True),
        (0.8, 0.79, True, False),
        (0.8, 0.9, True, False),
        (1.0, 1.1, False, True),
        (1.0, 0.5, False, False),
        (-2.0, -2.1, True, True),
    ],
)
def test_a_fall_of_the_headline_is_a_limit(old, new, higher, falls):
    found = broken(evaluation(new, higher=higher), evaluation(old, higher=higher))
    assert bool(found) is falls
    assert all("score falls from" in sentence for sentence in found)


def test_few_objects_calibration_and_drift_are_limits():
    bad = evaluation(objects=29, expected_calibration_error=0.21)
    facts = {"drift_alarm": "true", "drift": "two surveys differ"}
    assert [sentence.split()[0] for sentence in broken(bad, facts=facts)] == [
        "only",
        "calibration",
        "drift:",
    ]
    loose = {"smallest_test": 29, "largest_calibration_error": 0.3, "refuse_drift": False}
    assert broken(bad, facts=facts, **loose) == ()


def test_without_a_file_the_defaults_hold(tmp_path):
    assert read_policies(Settings(home=tmp_path)) == Policies()


def test_rules_of_one_downstream_task_go_before_the_common_ones(tmp_path):
    found = write(
        tmp_path,
        '[access]\nproxy_header = "X-User"\nproxy_addresses = ["10.0.0.5"]\n'
        "[promotion]\ntwo_persons = true\nlargest_fall = 0.5\n"
        "[promotion.detection]\nlargest_fall = 0.0\n",
    )
    assert found.access.proxy_addresses == ("10.0.0.5",)
    assert found.of("morphology").largest_fall == 0.5
    assert found.of("detection") == PromotionPolicy(two_persons=True, largest_fall=0.0)


@pytest.mark.parametrize(
    "text",
    [
        "[promotion]\ntwo_person = true\n",
        "[promotion.detection]\ntwo_person = true\n",
        "[promotions]\n",
        '[promotion]\nlargest_fall = "much"\n',
        '[access]\nproxy_addresses = ["everywhere"]\n',
        "no toml",
    ],
)
def test_a_misspelt_rule_is_an_error_and_not_no_rule(tmp_path, text):
    with pytest.raises(BadConfiguration, match=r"policies\.toml"):
        write(tmp_path, text)
