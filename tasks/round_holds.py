"""Waiting for the labels of a round: in this process, or suspended until somebody wakes the run.

A suspended run frees its process. Its body runs again from the start when it is woken, and the
ledger of rounds says where it was. `wake_rounds` wakes those that have what they wait for; it is
started by the event of new labels and by a schedule, for deadlines.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

from prefect import suspend_flow_run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.input import create_flow_run_input, read_flow_run_input
from prefect.runtime import flow_run

from lvm.downstream import create_task
from storage.catalogue import format_object_id
from storage.label_store import read_labels
from tasks.agreement import answer_groups, disputed, standing_answers
from tasks.desk_pages_label import repair_queue
from tasks.label_queue import open_queue
from tasks.references import Reference
from tasks.round_history import Opened, read_round, record
from tasks.settings import Settings

Hold = Literal["poll", "suspend"]
FLOW_NAME = "label-round"
INPUT = "label-round-hold"
GRACE = timedelta(days=30)  # Prefect fails a run that is suspended longer; the deadline comes first
PAGE = 200


class RoundHold(Reference):
    """What a held run waits for."""

    campaign: str
    number: int
    queue_round: int
    deadline: datetime
    enough: float
    more_on_dispute: int
    downstream: str


def why_over(settings: Settings, hold: RoundHold, now: datetime | None = None) -> str:
    """Return why a round needs no more waiting, "enough" or "deadline"; empty while it does.

    Objects in dispute are asked about once more before there is enough.
    """
    queue = open_queue(settings)
    repair_queue(settings, queue)
    found = queue.round(hold.queue_round)
    if found.closed_at is not None:
        return "closed by hand"
    if (now or datetime.now(UTC)) >= hold.deadline:
        return "deadline"
    asked = read_round(settings, hold.campaign, hold.number).disputed is not None
    wanted = 1.0 if asked else hold.enough
    if found.objects - found.missing < wanted * found.objects:
        return ""
    if not asked and found.plan.wanted > 1 and hold.more_on_dispute:
        return "" if ask_again(settings, hold) else "enough"
    return "enough"


def ask_again(settings: Settings, hold: RoundHold) -> int:
    """Want further answers on the objects of a round whose answers disagree; return how many."""
    queue = open_queue(settings)
    plan = queue.round(hold.queue_round).plan
    groups = answer_groups(create_task(hold.downstream), plan.answers)
    labels = read_labels(settings.labels_path, plan.survey, plan.question)
    mine = labels[labels["round"] == hold.queue_round]
    found = disputed(standing_answers(mine, groups), groups)
    rows = found[["release", "brickid", "objid"]].drop_duplicates().to_numpy()
    keys = [(int(row[0]), int(row[1]), int(row[2])) for row in rows]
    names = tuple(format_object_id(*key) for key in keys)
    if record(settings, hold.campaign, hold.number, "disputed", names):
        queue.want_more(hold.queue_round, keys, hold.more_on_dispute)
    return len(keys)


def wait_for_labels(
    settings: Settings,
    hold: RoundHold,
    how: Hold,
    poll_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Hold the current flow run until a round is over; return why it is.

    Parameters
    ----------
    how : {"poll", "suspend"}
        "poll" looks at the queue now and then in this process; "suspend" ends it and needs a
        deployment.
    """
    while not (why := why_over(settings, hold)):
        if how == "suspend":
            _describe(hold)
            left = hold.deadline - datetime.now(UTC) + GRACE
            # Every suspension has a key of its own: Prefect honours each key only once.
            suspend_flow_run(timeout=round(left.total_seconds()), key=f"labels-{uuid4()}")
        else:
            sleep(poll_seconds)
    return why


def wake_rounds(settings: Settings) -> tuple[str, ...]:
    """Resume the suspended runs whose round is over; return their ids."""
    woken = []
    with get_client(sync_client=True) as client:
        for run in _suspended(client):
            hold = _hold_of(client, run.id)
            if hold is not None and why_over(settings, hold):
                client.resume_flow_run(run.id)
                woken.append(str(run.id))
    return tuple(woken)


def hold_of(opened: Opened, campaign: str, number: int, enough: float, more: int) -> RoundHold:
    """Return what a round waits for."""
    return RoundHold(
        campaign=campaign,
        number=number,
        queue_round=opened.queue_round,
        deadline=opened.deadline,
        enough=enough,
        more_on_dispute=more,
        downstream=campaign.partition("/")[0],
    )


def _describe(hold: RoundHold) -> None:
    """Attach to the flow run what it waits for; a campaign goes on to other rounds in one run."""
    name = f"{INPUT}-{hold.number}"
    if flow_run.id and read_flow_run_input(name) is None:
        create_flow_run_input(name, hold.model_dump(mode="json"))


def _suspended(client: SyncPrefectClient) -> list[FlowRun]:
    paused = FlowRunFilterStateType(any_=[StateType.PAUSED])
    chosen = FlowRunFilter(state=FlowRunFilterState(type=paused))
    flow = FlowFilter(name=FlowFilterName(any_=[FLOW_NAME]))
    runs: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(
            flow_filter=flow, flow_run_filter=chosen, limit=PAGE, offset=len(runs)
        )
        runs += page
        if len(page) < PAGE:
            return runs


def _hold_of(client: SyncPrefectClient, flow_run_id: UUID) -> RoundHold | None:
    """Return what a run waits for: of all that it waited for, the newest round."""
    found = client.filter_flow_run_input(
        flow_run_id, key_prefix=INPUT, limit=PAGE, exclude_keys=set()
    )
    holds = [RoundHold.model_validate_json(item.value) for item in found]
    return max(holds, key=lambda hold: hold.number, default=None)
