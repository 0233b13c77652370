"""When a fit is due: debounce, budget, one at a time, and the reason in words."""

from datetime import UTC, datetime, timedelta

import pytest

from tasks.errors import BadConfiguration
from tasks.settings import Settings
from tasks.triggers import Facts, TriggerPolicy, examine, only_one, read_trigger_policy, why_not

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
POLICY = TriggerPolicy(min_new_labels=50, min_hours=6.0, daily_cpu_seconds=100.0)


def facts(**changes):
    values = {
        "new_labels": 60,
        "new_embeddings": False,
        "last_fit": NOW - timedelta(hours=7),
        "spent_cpu_seconds": 0.0,
    }
    return Facts(**values | changes)


def test_a_fit_is_due_with_enough_labels_or_new_embeddings():
    assert why_not(facts(), POLICY, NOW) == ""
    assert why_not(facts(new_labels=0, new_embeddings=True), POLICY, NOW) == ""
    assert why_not(facts(last_fit=None), POLICY, NOW) == ""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"new_labels": 49}, "49 labels since the newest candidate, 50 are wanted"),
        ({"last_fit": NOW - timedelta(hours=5, minutes=59)}, "6.0 hours must pass"),
        ({"spent_cpu_seconds": 100.0}, "100 CPU seconds, of 100"),
        ({"spent_wall_seconds": 1e6}, "1000000 wall seconds"),
    ],
)
def test_every_reason_against_it_is_said(change, reason):
    assert reason in why_not(facts(**change), POLICY, NOW)


def test_embeddings_alone_may_be_switched_off():
    policy = TriggerPolicy(on_embeddings=False)
    said = why_not(facts(new_labels=0, new_embeddings=True), policy, NOW)
    assert "do not count" in said


def test_policies_of_one_task_replace_the_common_ones(tmp_path):
    settings = Settings(home=tmp_path)
    assert read_trigger_policy(settings, "merger") == TriggerPolicy()
    (tmp_path / "triggers.toml").write_text(
        "[finetune]\nmin_hours = 1\n[finetune.morphology]\nmin_new_labels = 7\n"
    )
    assert read_trigger_policy(settings, "morphology") == TriggerPolicy(
        min_hours=1, min_new_labels=7
    )
    assert read_trigger_policy(settings, "merger") == TriggerPolicy(min_hours=1)


@pytest.mark.parametrize("text", ["[finetune]\nmin_hour = 1\n", "[other]\n", "not toml"])
def test_a_wrong_policy_is_refused(tmp_path, text):
    (tmp_path / "triggers.toml").write_text(text)
    with pytest.raises(BadConfiguration, match=r"triggers\.toml"):
        read_trigger_policy(Settings(home=tmp_path), "morphology")


def test_one_fit_of_a_task_at_a_time(tmp_path):
    settings = Settings(home=tmp_path)
    with (
        only_one(settings, "morphology") as first,
        only_one(settings, "morphology") as second,
        only_one(settings, "merger") as other,
    ):
        assert (first, second, other) == (True, False, True)
    with only_one(settings, "morphology") as again:
        assert again


def test_a_home_without_a_store_is_not_due(tmp_path):
    found = examine(Settings(home=tmp_path), "morphology", "dr10/south")
    assert not found.due
    assert found.why
