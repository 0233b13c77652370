"""Figures for Prometheus: what the store holds, what waits for people, what runs and what failed.

They are read when they are asked for, at most every `KEPT_SECONDS`; nothing has to run beside the
flows. A part that cannot be read is told by `brickyard_part_readable` and leaves the others alone.
"""

import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL
from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from storage.errors import StorageError
from tasks.answers import waiting_promotions
from tasks.desk_pages import Kept, surveys_of
from tasks.errors import TaskError
from tasks.label_queue import open_queue
from tasks.machine import existing_parent
from tasks.receipt_tally import ReceiptTally
from tasks.settings import Settings

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
KEPT_SECONDS = 10.0
_UNFINISHED = [
    *(StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING),
    *(StateType.PAUSED, StateType.CANCELLING),
]
_FINISHED = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]
_PROBLEMS = (
    *(StorageError, TaskError, OSError, sqlite3.Error),
    *(httpx.HTTPError, PrefectException, RuntimeError),
)


class Sample(NamedTuple):
    """A value of a family and the labels that it stands under."""

    labels: tuple[str, ...]
    value: float


def registry_of(settings: Settings) -> CollectorRegistry:
    """Return a registry whose figures are those of an installation."""
    registry = CollectorRegistry()
    registry.register(_Installation(settings))
    return registry


def metrics_text(registry: CollectorRegistry) -> bytes:
    """Return the figures in Prometheus' text form, of `CONTENT_TYPE`."""
    return generate_latest(registry)


def serve_metrics(settings: Settings, host: str, port: int) -> tuple[ThreadingHTTPServer, Thread]:
    """Answer on a port from a thread of this process; `shutdown` of the server ends it."""
    server, thread = start_http_server(port, host, registry_of(settings))
    return server, thread


class _Installation(Collector):
    """Reads an installation when Prometheus asks."""

    def __init__(self, settings: Settings) -> None:
        tally = ReceiptTally(settings)
        self._kept = Kept(lambda: _read_all(settings, tally), KEPT_SECONDS)

    def describe(self) -> list[Metric]:
        """Return nothing, so that nothing is read when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the figures, as of a few seconds ago."""
        yield from self._kept.get()


def _read_all(settings: Settings, tally: ReceiptTally) -> list[Metric]:
    parts: dict[str, Iterator[Metric]] = {
        "store": _store(settings),
        "work": _work(tally),
        "labelling": _labelling(settings),
        "runs": _runs(),
        "disk": _disk(settings),
    }
    found: list[Metric] = []
    readable = []
    for name, part in parts.items():
        try:
            found += part
            readable.append(Sample((name,), 1))
        except _PROBLEMS:
            readable.append(Sample((name,), 0))
    text = "1 where this part of the figures could be read, 0 where it is missing"
    return [*found, _gauge("part_readable", text, ("part",), readable)]


def _store(settings: Settings) -> Iterator[Metric]:
    surveys = surveys_of(settings)
    states = [
        Sample((item.survey, state), count)
        for item in surveys
        for state, count in item.states.items()
    ]
    yield _gauge("bricks", "Bricks of the newest snapshot by state", ("survey", "state"), states)
    objects = [Sample((item.survey,), item.objects) for item in surveys]
    yield _gauge("objects", "Objects with a cutout", ("survey",), objects)


def _work(tally: ReceiptTally) -> Iterator[Metric]:
    """Count what ingests and embeddings did, from their receipts: throughput and failures."""
    tally.update()
    samples = [Sample(labels, value) for labels, value in sorted(tally.units.items())]
    text = "Bricks that ingests and embeddings accounted for, by outcome"
    yield _counter("units", text, ("survey", "outcome"), samples)
    samples = [Sample((survey,), value) for survey, value in sorted(tally.objects.items())]
    yield _counter("unit_objects", "Objects that they wrote", ("survey",), samples)


def _labelling(settings: Settings) -> Iterator[Metric]:
    waiting: Counter[tuple[str, ...]] = Counter()
    for item in open_queue(settings).rounds(waiting_only=True):
        waiting[item.plan.survey, item.plan.question] += item.missing
    labels = ("survey", "question")
    text = "Objects that wait for labels in open rounds"
    yield _gauge("objects_to_label", text, labels, [Sample(*item) for item in waiting.items()])
    text = "Rows of the label ledger; it only grows"
    yield _counter("labels", text, labels, list(_label_counts(settings.labels_path)))


def _label_counts(path: Path) -> Iterator[Sample]:
    if not path.is_file():
        return
    query = "SELECT survey, question, COUNT(*) FROM labels GROUP BY survey, question"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for survey, question, count in database.execute(query):
            yield Sample((survey, question), count)


def _runs() -> Iterator[Metric]:
    """Count flow runs; nothing where no server is configured: asking would start one."""
    if not PREFECT_API_URL.value():
        raise TaskError("no Prefect server is configured")
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=_in(_UNFINISHED), limit=200)
        names = {flow.id: flow.name for flow in client.read_flows()}
        ended = {state: client.count_flow_runs(flow_run_filter=_in([state])) for state in _FINISHED}
    counts = Counter((names.get(run.flow_id, "?"), str(run.state_name).lower()) for run in runs)
    samples = [Sample(labels, number) for labels, number in sorted(counts.items())]
    text = "Flow runs that are not over, the first 200"
    yield _gauge("flow_runs", text, ("flow", "state"), samples)
    samples = [Sample((state.value.lower(),), number) for state, number in ended.items()]
    yield _gauge("flow_runs_ended", "Flow runs that are over", ("state",), samples)
    waiting = [Sample((), len(waiting_promotions()))]
    yield _gauge("approvals_waiting", "Promotions that wait for a person", (), waiting)


def _in(states: list[StateType]) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))


def _disk(settings: Settings) -> Iterator[Metric]:
    places = {"home": settings.home, "staging": settings.staging_path}
    free = [
        Sample((name,), shutil.disk_usage(existing_parent(place)).free)
        for name, place in places.items()
    ]
    yield _gauge("disk_free_bytes", "Free bytes of the disk of a folder", ("place",), free)


def _gauge(name: str, text: str, labels: Sequence[str], samples: Sequence[Sample]) -> Metric:
    family = GaugeMetricFamily(f"brickyard_{name}", text, labels=labels)
    for sample in samples:
        family.add_metric(sample.labels, sample.value)
    return family


def _counter(name: str, text: str, labels: Sequence[str], samples: Sequence[Sample]) -> Metric:
    family = CounterMetricFamily(f"brickyard_{name}", text, labels=labels)
    for sample in samples:
        family.add_metric(sample.labels, sample.value)
    return family
