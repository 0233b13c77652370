"""A lock that another process holds for too long is told, with what to do."""

import pytest
from filelock import FileLock

from tasks import decisions
from tasks.decisions import one_at_a_time
from tasks.locks import HomeBusy, held
from tasks.settings import Settings


def test_a_holder_that_does_not_end_is_named(tmp_path):
    path = tmp_path / "absent" / "some.lock"
    path.parent.mkdir()
    with (
        FileLock(path),
        pytest.raises(HomeBusy, match=r"some\.lock .* that counts: wait for it"),
        held(path, 0.1, "counts", "wait for it"),
    ):
        pytest.fail("two hold the lock")


def test_an_error_lets_the_lock_go(tmp_path):
    path = tmp_path / "new" / "some.lock"
    with pytest.raises(ZeroDivisionError), held(path, 0.1, "counts", "wait"):
        _ = 1 / 0
    with held(path, 0.1, "counts", "wait"):
        pass


def test_a_decision_waits_and_then_says_that_nothing_was_decided(tmp_path, monkeypatch):
    monkeypatch.setattr(decisions, "LOCK_SECONDS", 0.1)
    settings = Settings(home=tmp_path)
    with (
        one_at_a_time(settings),
        pytest.raises(HomeBusy, match="nothing was decided here"),
        one_at_a_time(settings),
    ):
        pytest.fail("two decide")
