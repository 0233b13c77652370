import pytest

from tasks.cluster import SchedulerUnreachable, open_cluster
from tasks.progress import report, report_to
from tasks.settings import Settings


def test_an_unreachable_scheduler_is_a_clear_error(tmp_path):
    settings = Settings(home=tmp_path, scheduler="tcp://127.0.0.1:9", connect_timeout=0.3)
    with (
        pytest.raises(SchedulerUnreachable, match="BRICKYARD_SCHEDULER"),
        open_cluster(settings),
    ):
        pass


def test_an_address_that_is_none_is_the_same_error(tmp_path):
    settings = Settings(home=tmp_path, scheduler="nonsense://x", connect_timeout=0.3)
    with pytest.raises(SchedulerUnreachable, match="nonsense"), open_cluster(settings):
        pass


def test_progress_reaches_the_listener_and_only_inside_the_block():
    heard = []
    with report_to(lambda *told: heard.append(told)):
        report("bricks", 1, 2)
    report("bricks", 2, 2)
    assert heard == [("bricks", 1, 2)]
