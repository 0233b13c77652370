"""Flow runs that count as running on the Prefect server though their process here is gone."""

import socket

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from tasks.alive import is_alive
from tasks.references import Reference

LOOKED_AT = 200  # the newest that run; a server of its own has a handful


class LostRun(Reference):
    """A run without a process: its id, its name, and the process that a worker started for it."""

    id: str
    name: str
    process: int


def lost_runs() -> tuple[LostRun, ...]:
    """Return the runs that a worker of this host started, whose processes were killed.

    Runs of other hosts, and those that were started without a worker, are not judged.
    """
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING]))
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=state),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=LOOKED_AT,
        )
    return tuple(
        LostRun(id=str(run.id), name=run.name, process=process)
        for run in found
        if (process := process_of(run)) and not is_alive(process)
    )


def process_of(run: FlowRun) -> int:
    """Return the process that a worker of this host started for a run; 0 if none is known."""
    host, _, process = (run.infrastructure_pid or "").rpartition(":")
    here = host in ("", socket.gethostname())  # process workers of Prefect name no host
    return int(process) if here and process.isdigit() else 0
