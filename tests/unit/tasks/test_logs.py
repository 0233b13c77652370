"""Logs as JSON: a line a record, with the run and the brick; Prefect takes the configuration."""

import json
import logging
import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from tasks.cluster import run_units
from tasks.logs import JsonFormatter, about, current_run, in_run, logging_environment
from tasks.receipts import append_units
from tasks.references import Outcome, UnitReceipt

SCRIPT = """
import logging
from prefect import flow, task, get_run_logger
from tasks.logs import about, current_run, in_run
logging.getLogger("tasks.x").info("before")
logging.getLogger("distributed.worker").warning("of a library")
with about(brick="1126p222"):
    in_run({"flow_run_id": "r"}, logging.getLogger("storage.fetch").warning, "again in %d s", 3)
get = logging.getLogger("prefect.flow_runs")
get.info("said", extra={"flow_run_id": "f", "flow_run_name": "calm-owl"})
"""


def line_of(record: logging.LogRecord) -> dict:
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def record_of(message: str, *args, **extra) -> logging.LogRecord:
    logger = logging.getLogger("tasks.test")
    return logger.makeRecord("tasks.test", logging.INFO, "f", 1, message, args, None, extra=extra)


def test_a_line_has_message_run_and_brick():
    with about(survey="dr10/south", brick="b1"), about(brick="b2"):
        line = line_of(record_of("read %d\nrows", 3, flow_run_id="F"))
    assert line["message"] == "read 3\nrows"
    assert (line["survey"], line["brick"], line["flow_run_id"]) == ("dr10/south", "b2", "F")
    assert line["time"].endswith("+00:00")
    assert "brick" not in line_of(record_of("later"))


def test_an_exception_is_a_field():
    try:
        raise ValueError("no such brick")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x", logging.ERROR, "f", 1, "failed", (), sys.exc_info()
        )
    assert line_of(record)["exception"].endswith("ValueError: no such brick")


def test_a_unit_is_told_to_the_log_with_its_outcome(tmp_path, caplog):
    units = [
        UnitReceipt(name="b1", outcome=Outcome.FAILED, message="truncated"),
        UnitReceipt(name="b2", outcome=Outcome.ALREADY_PRESENT),
    ]
    with caplog.at_level(logging.INFO, "tasks.receipts"):
        append_units(str(tmp_path / "log.jsonl"), units)
    assert len(caplog.records) == 1
    line = line_of(caplog.records[0])
    assert (line["brick"], line["outcome"]) == ("b1", "failed")
    assert "truncated" in line["message"]


def test_no_run_outside_a_run():
    assert current_run() == {}


def test_text_changes_nothing_and_another_form_is_refused(monkeypatch):
    monkeypatch.delenv("BRICKYARD_LOG_FORMAT", raising=False)
    assert logging_environment() == {}
    monkeypatch.setenv("BRICKYARD_LOG_FORMAT", "xml")
    with pytest.raises(ValidationError, match="log_format"):
        logging_environment()


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_every_library_writes_json(monkeypatch, tmp_path):
    monkeypatch.setenv("BRICKYARD_LOG_FORMAT", "json")
    environment = os.environ | logging_environment()
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_LOGGING_LEVEL": "INFO"}
    environment["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["message"] for line in lines] == [
        "before", "of a library", "again in 3 s", "said"
    ]  # fmt: skip
    assert (lines[2]["brick"], lines[2]["flow_run_id"]) == ("1126p222", "r")
    assert lines[3]["flow_run_name"] == "calm-owl"


class _Client:
    """Takes calls as a Dask client does, and notes them."""

    loop = None

    def __init__(self) -> None:
        self.calls = []

    def submit(self, *call, **_options):
        self.calls.append(call)


def test_workers_are_told_the_run(monkeypatch):
    client = _Client()
    monkeypatch.setattr("tasks.cluster.current_run", lambda: {"flow_run_id": "F"})
    monkeypatch.setattr("tasks.cluster.as_completed", lambda futures, loop: iter(()))
    assert list(run_units(client, max, [(1, 2)])) == []
    function, run, *rest = client.calls[0]
    assert (function, run) == (in_run, {"flow_run_id": "F"})
    assert in_run(run, *rest) == 2
