"""The steps of a round of active learning: open it, take its labels, judge, and when to stop.

Every step looks first whether it was done (`tasks.round_history`), so a run that is started again
goes on where the last one ended. `flows.label_round` puts them in order.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from lvm.downstream import create_task
from storage.catalogue import parse_object_id
from storage.label_store import read_labels
from storage.splits import SplitConfig
from tasks import tracking
from tasks.agreement import agreement, answer_groups, standing_answers
from tasks.annotators import reliabilities
from tasks.datasets import KEY
from tasks.desk_pages_label import repair_queue
from tasks.desk_pages_rounds import answers_of
from tasks.events import tell_wanted
from tasks.label_queue import Draw, LabelQueue, open_queue
from tasks.label_rounds import NothingToAsk, QueueItem, RoundPlan
from tasks.references import DatasetRef, ModelRef, Reference
from tasks.round_choice import Chosen, Ground, RoundConfig, choose_objects, strategy_of
from tasks.round_history import Closed, Opened, RoundRecord, read_history, read_round, record
from tasks.settings import Settings

OPENED_BY = "active learning"
NORMAL_95 = 1.96


class CampaignOutcome(Reference):
    """All rounds of a campaign, and why it does not go on."""

    campaign: str
    rounds: tuple[RoundRecord, ...]
    stopped: str


def why_stop(history: tuple[RoundRecord, ...], config: RoundConfig, run_id: str = "") -> str:
    """Return why a campaign asks for no more labels; empty while it does.

    Nothing is kept of the answer: a campaign goes on when its limits are raised. A round in which
    nobody answered ends the run in which it was closed, and the next run tries again.
    """
    done = [item for item in history if item.measured is not None]
    if not done or done[-1] is not history[-1]:
        return ""
    return next(_reasons(done, config, run_id), "")


def _reasons(done: list[RoundRecord], config: RoundConfig, run_id: str) -> Iterator[str]:
    labels = sum(item.closed.labels for item in done if item.closed)
    last = done[-1]
    if config.target and _reached(last, config.target):
        yield f"the target is reached: {last.value:.3f}"
    if labels >= config.budget:
        yield f"the budget is spent: {labels} of {config.budget} labels"
    if len(done) >= config.max_rounds:
        yield f"{len(done)} rounds were made"
    if last.closed and not last.closed.labels and last.closed.flow_run_id == run_id:
        yield f"nobody answered in round {last.number}"
    if not _improves(done, config):
        yield f"no round of the last {config.patience} was better by {config.min_gain}"


@task(name="open-label-round", cache_policy=NO_CACHE)
def open_round(
    ground: Ground,
    campaign: str,
    number: int,
    config: RoundConfig,
    split: SplitConfig | None = None,
) -> Opened | None:
    """Choose objects and put them into the queue of the desk; None where nothing is left.

    A round that was opened before is returned as it is, also when the run that opened it was
    killed before it could record that.
    """
    settings = ground.settings
    before = read_round(settings, campaign, number).opened
    if before is not None:
        return before
    queue, model = open_queue(settings), _newest_model(settings, campaign, ground.downstream)

    def draw(asked: frozenset[str]) -> tuple[QueueItem, ...]:
        return choose_objects(ground, model, config, number, split, asked).items

    try:
        queue_round = _open_once(queue, _plan(ground, campaign, number, config), draw)
    except NothingToAsk:
        return None
    chosen = Chosen(queue.items(queue_round), strategy_of(config, model))
    opened = Opened(
        queue_round=queue_round,
        strategy=chosen.strategy,
        seed=config.seed,
        snapshot_id=ground.snapshot.snapshot_id,
        model=model,
        objects=chosen.reasons,
        gold=chosen.gold,
        deadline=datetime.now(UTC) + timedelta(hours=config.deadline_hours),
    )
    if record(settings, campaign, number, "opened", opened):
        tell_wanted(ground.snapshot.survey, ground.downstream, queue_round, len(chosen.items))
    standing = read_round(settings, campaign, number).opened
    if standing and standing.queue_round != queue_round:
        queue.close_round(queue_round)  # another run of the campaign opened this round first
    return standing


@task(name="close-label-round", cache_policy=NO_CACHE)
def close_round(ground: Ground, campaign: str, number: int, why: str) -> Closed:
    """End a round: nobody is asked any more, and what the answers say is recorded."""
    settings = ground.settings
    found = read_round(settings, campaign, number)
    if found.closed is not None:
        return found.closed
    if found.opened is None:
        raise ValueError(f"round {number} of {campaign} was not opened")
    queue = open_queue(settings)
    queue.close_round(found.opened.queue_round)
    repair_queue(settings, queue)
    closed = _closed(ground, found.opened, why)
    record(settings, campaign, number, "closed", closed)
    return closed


def adopted(settings: Settings, downstream: str, dataset: DatasetRef) -> ModelRef | None:
    """Return the candidate that was fitted on a data set by a run that was killed after it."""
    digest = dataset.content_digest()
    for item in tracking.model_versions(settings, downstream):
        if item.tags.get("dataset_digest") == digest:
            return item.model
    return None


def show_campaign(outcome: CampaignOutcome) -> None:
    """Show all rounds on the page of the flow run."""
    if FlowRunContext.get() is None:
        return
    rows = [_row(item) for item in outcome.rounds]
    text = "\n".join(
        [
            f"# {outcome.campaign}: {outcome.stopped}",
            "",
            "| round | strategy | labels | ended by | measured | version |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )
    key = f"rounds-{outcome.campaign}".lower().replace("/", "-").replace("_", "-")
    create_markdown_artifact(text, key=key, description=outcome.stopped)


def _row(item: RoundRecord) -> str:
    opened, closed = item.opened, item.closed
    cells = (
        item.number,
        opened.strategy if opened else "-",
        closed.labels if closed else "-",
        closed.why if closed else "-",
        "-" if item.value is None else f"{item.value:.3f}",
        item.fitted.version if item.fitted else "-",
    )
    return f"| {' | '.join(map(str, cells))} |"


def fractions(answers: pd.Series, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Return fractions of answers with Wilson's 95 % limits; empty without answers."""
    number = len(answers)
    found = {}
    for name in classes if number else ():
        share = float((answers == name).mean())
        scale = 1 + NORMAL_95**2 / number
        centre = (share + NORMAL_95**2 / (2 * number)) / scale
        half = NORMAL_95 * np.sqrt(share * (1 - share) / number + (NORMAL_95 / (2 * number)) ** 2)
        limits = {"low": float(centre - half / scale), "high": float(centre + half / scale)}
        found[name] = {"value": share, "objects": float(number), **limits}
    return found


def _plan(ground: Ground, campaign: str, number: int, config: RoundConfig) -> RoundPlan:
    return RoundPlan(
        ground.snapshot.survey,
        ground.downstream,
        answers_of(ground.downstream),
        title=f"{campaign}, round {number}",
        blind=config.blind,
        wanted=config.wanted,
        opened_by=OPENED_BY,
    )


def _open_once(queue: LabelQueue, plan: RoundPlan, draw: Draw) -> int:
    """Open a round; one that a killed run opened and did not record is found by its title."""
    for item in queue.rounds():
        if (item.plan.opened_by, item.plan.title) == (OPENED_BY, plan.title):
            return item.number
    return queue.open_drawn_round(plan, draw)


def _newest_model(settings: Settings, campaign: str, downstream: str) -> ModelRef | None:
    """Return the model of the newest round that made one, else the champion."""
    fitted = [item.fitted for item in read_history(settings, campaign) if item.fitted]
    return fitted[-1] if fitted else tracking.champion(settings, downstream)


def _closed(ground: Ground, opened: Opened, why: str) -> Closed:
    path, survey = ground.settings.labels_path, ground.snapshot.survey
    groups = answer_groups(create_task(ground.downstream))
    labels = read_labels(path, survey, ground.downstream) if path.is_file() else pd.DataFrame()
    if labels.empty:
        return Closed(why=why, labels=0, by_annotator={}, flow_run_id=str(flow_run.id or ""))
    mine = standing_answers(labels[labels["round"] == opened.queue_round], groups)
    drawn = [parse_object_id(name) for name, why in opened.objects.items() if why == "random"]
    even = mine.merge(pd.DataFrame(drawn, columns=KEY), on=KEY)
    people = set(mine["annotator"])
    return Closed(
        why=why,
        labels=len(mine),
        by_annotator={str(name): int(n) for name, n in mine["annotator"].value_counts().items()},
        agreement=tuple(item.model_dump() for item in agreement(mine, groups)),
        reliability=tuple(
            item.model_dump() for item in reliabilities(labels, groups) if item.annotator in people
        ),
        estimates=fractions(even["answer"], ground.answers),
        flow_run_id=str(flow_run.id or ""),
    )


def _reached(item: RoundRecord, target: float) -> bool:
    found = item.measured.evaluation if item.measured else None
    if found is None or item.value is None:
        return False
    return item.value >= target if found.higher_is_better else item.value <= target


def _improves(done: list[RoundRecord], config: RoundConfig) -> bool:
    """Tell whether one of the last rounds was better than all before them."""
    values = [
        item.value if item.measured.evaluation.higher_is_better else -item.value
        for item in done
        if item.value is not None and item.measured and item.measured.evaluation
    ]
    if len(values) <= config.patience:
        return True
    last, before = values[-config.patience :], values[: -config.patience]
    return max(last) > max(before) + config.min_gain
