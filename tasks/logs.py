"""Logs as one JSON document a line, each with the flow run and the brick that it is about.

`BRICKYARD_LOG_FORMAT=json` turns them on: `logging_environment` then names `logging_json.yml` to
Prefect, which sets logging up in every process that imports it. Nothing here imports Prefect, so
that the command line can ask before anything else is loaded.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic_settings import BaseSettings, SettingsConfigDict

T = TypeVar("T")

#: Fields that a line has where they are known.
RUN_FIELDS = ("flow_run_id", "flow_run_name", "flow_name", "task_run_id", "task_run_name")
UNIT_FIELDS = ("survey", "brick", "outcome", "objects")

_about: ContextVar[Mapping[str, str] | None] = ContextVar("brickyard_log_about", default=None)


class LogSettings(BaseSettings):
    """How this process logs: `BRICKYARD_LOG_FORMAT` is `text` or `json`."""

    model_config = SettingsConfigDict(env_prefix="BRICKYARD_", frozen=True)

    log_format: Literal["text", "json"] = "text"


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON; an exception is a field, never further lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON document without line breaks."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        line |= current_run() | (_about.get() or {})
        given = vars(record)
        line |= {name: given[name] for name in (*RUN_FIELDS, *UNIT_FIELDS) if given.get(name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def logging_environment() -> dict[str, str]:
    """Return the environment variables that make Prefect log as `BRICKYARD_LOG_FORMAT` says."""
    if LogSettings().log_format == "text":
        return {}
    path = Path(__file__).with_name("logging_json.yml")
    return {"PREFECT_LOGGING_SETTINGS_PATH": str(path)}


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Give every line that is logged inside the block some fields, such as `brick`."""
    token = _about.set({**(_about.get() or {}), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def current_run() -> dict[str, str]:
    """Return the ids and names of the flow run and task run that go on here; empty outside."""
    if "prefect.context" not in sys.modules:
        return {}
    from prefect.context import FlowRunContext, TaskRunContext

    found: dict[str, Any] = {}
    flow = FlowRunContext.get()
    if flow is not None and flow.flow_run is not None:
        name = flow.flow.name if flow.flow else None
        found |= {"flow_run_id": flow.flow_run.id, "flow_run_name": flow.flow_run.name}
        found |= {"flow_name": name}
    task = TaskRunContext.get()
    if task is not None:
        found |= {"flow_run_id": task.task_run.flow_run_id, "task_run_id": task.task_run.id}
        found |= {"task_run_name": task.task_run.name}
    return {name: str(value) for name, value in found.items() if value}


def in_run(fields: Mapping[str, str], function: Callable[..., T], *arguments: Any) -> T:
    """Call a function in another process, whose lines then say which run they belong to.

    Parameters
    ----------
    fields : mapping
        `current_run()` of the process that wants the call.
    """
    with about(**fields):
        return function(*arguments)
