"""Figures for Prometheus: counted right, cheap to ask again, and honest about what is missing."""

import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from small_survey import SURVEY, write_small_survey

from storage.label_store import Label, append_labels
from tasks import metrics_endpoint
from tasks.label_queue import open_queue
from tasks.label_rounds import QueueItem, RoundPlan
from tasks.metrics_endpoint import metrics_text, registry_of, serve_metrics
from tasks.receipt_tally import ReceiptTally
from tasks.receipts import append_units, new_log
from tasks.references import Outcome, UnitReceipt
from tasks.settings import Settings


def figures(text: str) -> dict[tuple[str, ...], float]:
    """Return samples by name and values of their labels, in the order of the labels' names."""
    return {
        (sample.name.removeprefix("brickyard_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(metrics_endpoint, "PREFECT_API_URL", _NoServer())
    return Settings(home=tmp_path / "home")


class _NoServer:
    def value(self) -> None:
        return None


def unit(name: str, outcome: Outcome, objects: int = 2) -> UnitReceipt:
    return UnitReceipt(name=name, outcome=outcome, objects=objects)


def test_an_empty_home_has_figures_too(settings):
    found = figures(metrics_text(registry_of(settings)).decode())
    assert found["part_readable", "store"] == 1
    assert found["part_readable", "runs"] == 0
    assert found["disk_free_bytes", "home"] > 0
    assert not settings.labels_path.exists()


def test_figures_are_those_of_store_receipts_queue_and_ledger(settings):
    write_small_survey(Path(settings.store_path), {"b1": 3, "b2": 2})
    units = [unit("b1", Outcome.WRITTEN, 3), unit("b2", Outcome.FAILED, 0)]
    append_units(new_log(settings, SURVEY), units)
    plan = RoundPlan(SURVEY, "morphology", ("spiral", "other"))
    open_queue(settings).open_round(plan, [QueueItem(10000, 1, 0), QueueItem(10000, 1, 1)])
    labels = [Label(SURVEY, 10000, 1, objid, "morphology", "spiral", "ann") for objid in (0, 1)]
    append_labels(settings.labels_path, labels)

    found = figures(metrics_text(registry_of(settings)).decode())
    assert found["bricks", "written", SURVEY] == 2
    assert found["objects", SURVEY] == 5
    assert found["units_total", "written", SURVEY] == 1
    assert found["units_total", "failed", SURVEY] == 1
    assert found["unit_objects_total", SURVEY] == 3
    assert found["objects_to_label", "morphology", SURVEY] == 2
    assert found["labels_total", "morphology", SURVEY] == 2


def test_a_log_is_read_once_and_a_line_that_is_not_whole_waits(settings):
    log, tally = new_log(settings, "images/my-set"), ReceiptTally(settings)
    append_units(log, [unit("a", Outcome.WRITTEN)])
    with Path(log).open("a") as handle:
        handle.write('{"name": "half')
    tally.update()
    tally.update()
    assert tally.units == {("images/my-set", "written"): 1}
    with Path(log).open("a") as handle:
        handle.write('", "outcome": "empty", "objects": 0}\n')
    tally.update()
    assert tally.units["images/my-set", "empty"] == 1


def test_a_part_that_cannot_be_read_leaves_the_others(settings):
    settings.home.mkdir()
    settings.labels_path.write_text("no database")
    found = figures(metrics_text(registry_of(settings)).decode())
    assert found["part_readable", "labelling"] == 0
    assert found["part_readable", "disk"] == 1


def test_it_is_served_over_http(settings):
    server, thread = serve_metrics(settings, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    server.shutdown()
    server.server_close()
    thread.join(5)
    assert figures(text)["part_readable", "store"] == 1
