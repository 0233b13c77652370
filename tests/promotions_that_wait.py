"""A home with users whose promotions wait: Prefect, MLflow and the desk are real processes.

Flow runs are suspended and go on in this process, as a worker would run them, so that no worker
has to import everything for each.
"""

import contextvars
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from desk_home import SURVEY, make_desk
from home_services import START_SECONDS
from own_prefect import talking_to
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from promotion_gate import evaluation, registers

from flows.processes import free_port, start, stop, wait_until_ready
from flows.promote import promote_model
from flows.stack import Ports, services_of
from tasks import tracking
from tasks.references import EvidencePacket, Interval, ModelRef
from tasks.settings import Settings

PROCESSES = ("Prefect", "MLflow", "review desk")
CLASSES = ("elliptical", "edge-on", "spiral", "other")


@dataclass
class Waiting:
    """What runs, and where."""

    settings: Settings
    desk_url: str
    prefect_url: str
    ids: list[str]
    _made: list[str] = field(default_factory=list)

    def challenger(self) -> tuple[ModelRef, str]:
        """Register a model, better than any before, and let its promotion wait; return its run."""
        return _aside(self._challenger)

    def go_on(self, run_id: str) -> str:
        """Run a flow run as a worker does, until it is suspended or ends; return its state."""
        return _aside(_run, run_id)

    def state(self, run_id: str) -> str:
        """Return the state of a flow run."""
        return _aside(_state, run_id)

    def _challenger(self) -> tuple[ModelRef, str]:
        digit = "123456789abcdef"[len(self._made)]
        model = registers(self.settings)(digit)
        self._made.append(digit)
        champion = tracking.champion(self.settings, "morphology")
        packet = EvidencePacket(
            challenger=_measured(model, 0.6 + 0.02 * len(self._made), self.ids),
            champion=_measured(champion, 0.6, self.ids) if champion else None,
            facts={"survey": SURVEY, "training_objects": "1200", "cost": "12 CPU seconds in 9 s"},
        )
        given: dict[str, Any] = {"downstream": "morphology", "hold": "suspend"}
        given |= {"challenger": model.model_dump(), "evidence": packet.model_dump(mode="json")}
        deployment = promote_model.to_deployment("waiting").apply()
        with get_client(sync_client=True) as client:
            made = client.create_flow_run_from_deployment(deployment, parameters=given)
        assert _run(str(made.id)) == "Suspended"
        return model, str(made.id)


@contextmanager
def promotions_that_wait(home: Path) -> Iterator[Waiting]:
    """Run Prefect, MLflow and the desk of a new home while the block runs."""
    ports = Ports(*(free_port() for _ in range(3)))
    ids = make_desk(home).ids
    api, mlflow = (f"http://127.0.0.1:{port}" for port in (ports.prefect, ports.mlflow))
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        for name in [name for name in os.environ if name.startswith(("PREFECT_", "BRICKYARD_"))]:
            patch.delenv(name)
        patch.setattr("flows.processes.START_SECONDS", START_SECONDS)
        patch.setenv("PREFECT_HOME", str(home / "prefect"))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        patch.setenv("BRICKYARD_HOME", str(home))
        patch.setenv("BRICKYARD_TRACKING_URI", mlflow)
        services = [item for item in services_of(home, ports) if item.name in PROCESSES]
        processes = []
        for service in services:  # all at once: each imports for seconds
            processes.append(start(service))
            running.callback(stop, processes[-1])
        for service, process in zip(services, processes, strict=True):
            wait_until_ready(process, service)
        running.enter_context(talking_to(f"{api}/api"))
        settings = Settings(home=home, tracking_uri=mlflow)
        yield Waiting(settings, services[-1].url, api, ids)


def _measured(model: ModelRef, value: float, ids: list[str]):
    """Return an evaluation with everything that the page of a case shows."""
    per_class = {name: {"objects": 25.0, "recall": value, "precision": 0.7} for name in CLASSES}
    right = round(25 * value)
    confusion = tuple(
        tuple(right if row == column else (25 - right) // 3 for column in range(4))
        for row in range(4)
    )
    error = Interval(value=0.04, low=0.02, high=0.07)
    found = evaluation(model, value)
    more = {"classes": CLASSES, "confusion": confusion, "per_class": per_class}
    more |= {"metrics": found.metrics | {"expected_calibration_error": error}}
    more |= {"baselines": {"majority class": 0.25}, "worst": tuple(ids[:3])}
    more["slices"] = {"z 16-17 mag": {"objects": 60.0, "balanced_accuracy": value}}
    return found.model_copy(update=more)


def _run(run_id: str) -> str:
    with get_client(sync_client=True) as client:
        found = client.read_flow_run(UUID(run_id))
        with suppress(Pause):
            run_flow(promote_model, flow_run=found, return_type="state")
        return str(client.read_flow_run(UUID(run_id)).state.name)


def _state(run_id: str) -> str:
    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(UUID(run_id)).state.name)


def _aside(work: Callable[..., Any], *given: Any) -> Any:
    """Call in a thread: Playwright keeps an event loop in ours, in which no flow can run."""
    context, found, failures = contextvars.copy_context(), [], []

    def call() -> None:
        try:
            found.append(context.run(work, *given))
        except BaseException as error:
            failures.append(error)

    thread = Thread(target=call)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return found[0]
