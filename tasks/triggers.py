"""When a downstream task is due for a new fit, and why it is not.

An event or a schedule only asks; the answer is made from what is there: labels newer than those of
the newest candidate, embeddings that it did not see, the time since it, and what fits have cost
today. `<home>/triggers.toml` replaces the defaults of `TriggerPolicy`, read anew every time:

    [finetune]
    min_new_labels = 50

    [finetune.morphology]        # of one downstream task; the rest as in [finetune]
    daily_cpu_seconds = 3600
"""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from pydantic import Field, ValidationError

from lvm.downstream import DOWNSTREAM_TASKS, create_task
from storage.errors import StorageError
from storage.label_store import read_labels
from tasks import tracking
from tasks.dataset_columns import question_of
from tasks.encoders import NoEncoder, NotEmbedded, find_embeddings, find_encoder
from tasks.errors import BadConfiguration
from tasks.references import EmbeddingsRef, EncoderRef, Evaluation, Reference
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

DAY = timedelta(days=1)


class TriggerPolicy(Reference):
    """What makes a fit due.

    Parameters
    ----------
    min_new_labels : int
        Rows of the ledger since the newest candidate; fewer wait for more.
    min_hours : float
        Between two fits of one task; what comes meanwhile waits.
    daily_cpu_seconds, daily_wall_seconds : float
        Of all fits of this task that began in the last 24 hours, as tracked with their runs. Wall
        time is what a fit keeps a GPU for.
    on_embeddings : bool
        New embeddings make a fit due without new labels.
    """

    min_new_labels: int = Field(default=50, ge=1)
    min_hours: float = Field(default=6.0, ge=0)
    daily_cpu_seconds: float = Field(default=4 * 3600.0, gt=0)
    daily_wall_seconds: float = Field(default=4 * 3600.0, gt=0)
    on_embeddings: bool = True


class Due(Reference):
    """Whether a task is due, and why; `evaluation` is that of the candidate when one was fitted."""

    downstream: str
    survey: str
    due: bool
    why: str
    new_labels: int = 0
    new_embeddings: bool = False
    spent_cpu_seconds: float = 0.0
    spent_wall_seconds: float = 0.0
    evaluation: Evaluation | None = None


class Facts(Reference):
    """What the decision is made from; `last_fit` is None before the first candidate."""

    new_labels: int
    new_embeddings: bool
    last_fit: datetime | None
    spent_cpu_seconds: float
    spent_wall_seconds: float = 0.0


def read_trigger_policy(settings: Settings, downstream: str) -> TriggerPolicy:
    """Return the policy of a task.

    Raises
    ------
    BadConfiguration
        If the file cannot be read, or a key or value in it is wrong.
    """
    path = settings.home.resolve() / "triggers.toml"
    if not path.is_file():
        return TriggerPolicy()
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
        rules = document.pop("finetune", {})
        if document:
            raise ValueError(f"unknown tables {sorted(document)}: only [finetune] is known")
        own = {name: value for name, value in rules.items() if not isinstance(value, dict)}
        return TriggerPolicy.model_validate(own | rules.get(downstream, {}))
    except (OSError, tomllib.TOMLDecodeError, ValidationError, ValueError) as error:
        raise BadConfiguration(f"{path}: {error}") from error


def why_not(facts: Facts, policy: TriggerPolicy, now: datetime) -> str:
    """Return why a fit is not due; empty when it is."""
    enough = facts.new_labels >= policy.min_new_labels
    embeddings = facts.new_embeddings and policy.on_embeddings
    if not enough and not embeddings:
        other = "new embeddings alone do not count" if facts.new_embeddings else "nothing embedded"
        return (
            f"{facts.new_labels} labels since the newest candidate, {policy.min_new_labels} are "
            f"wanted; {other}"
        )
    wait = timedelta(hours=policy.min_hours)
    if facts.last_fit is not None and now - facts.last_fit < wait:
        when = f"{facts.last_fit:%Y-%m-%d %H:%M} UTC"
        return f"the newest candidate is of {when}: {policy.min_hours} hours must pass"
    for kind, spent, limit in (
        ("CPU", facts.spent_cpu_seconds, policy.daily_cpu_seconds),
        ("wall", facts.spent_wall_seconds, policy.daily_wall_seconds),
    ):
        if spent >= limit:
            return (
                f"fits of the last 24 hours took {spent:.0f} {kind} seconds, of {limit:.0f} that a "
                "day may cost"
            )
    return ""


def gather(settings: Settings, downstream: str, embeddings: EmbeddingsRef, now: datetime) -> Facts:
    """Return what speaks for and against a fit of a task on these embeddings."""
    versions = [
        record
        for record in tracking.model_versions(settings, downstream)
        if record.tags.get("survey") == embeddings.survey
    ]
    newest = max(versions, key=lambda record: record.created_ms, default=None)
    seen = newest.tags if newest else {}
    last_fit = datetime.fromtimestamp(newest.created_ms / 1000, UTC) if newest else None
    last_labels = seen.get("labels_as_of", "")
    spent = _spent(settings, downstream, now)
    return Facts(
        new_labels=_labels_since(settings, downstream, embeddings.survey, last_labels),
        new_embeddings=(seen.get("snapshot_id"), seen.get("encoder_digest"))
        != (embeddings.survey_snapshot_id, embeddings.encoder_digest),
        last_fit=last_fit,
        spent_cpu_seconds=spent["cpu_seconds"],
        spent_wall_seconds=spent["wall_seconds"],
    )


def trained_downstreams(settings: Settings, survey: str) -> tuple[str, ...]:
    """Return the tasks that have a model of a survey, or labels on their question."""
    found = {
        name
        for name in tracking.registered_models(settings)
        if name in DOWNSTREAM_TASKS
        and any(r.tags.get("survey") == survey for r in tracking.model_versions(settings, name))
    }
    found |= {name for name in DOWNSTREAM_TASKS if _labels_since(settings, name, survey, "")}
    return tuple(sorted(found))


def inputs_of(settings: Settings, survey: str) -> tuple[EncoderRef, EmbeddingsRef]:
    """Return the newest encoder of the home with embeddings of the newest snapshot.

    Raises
    ------
    NoEncoder, NotEmbedded
        If there are none.
    """
    encoder = find_encoder(settings)
    return encoder, find_embeddings(find_snapshot(settings, survey, None), encoder)


def examine(
    settings: Settings, downstream: str, survey: str, *, now: datetime | None = None
) -> Due:
    """Decide whether a task is due for a fit on a survey."""
    now = now or datetime.now(UTC)
    try:
        _, embeddings = inputs_of(settings, survey)
    except (NoEncoder, NotEmbedded, StorageError) as error:
        return Due(downstream=downstream, survey=survey, due=False, why=str(error))
    facts = gather(settings, downstream, embeddings, now)
    refusal = why_not(facts, read_trigger_policy(settings, downstream), now)
    because = f"{facts.new_labels} new labels"
    because += " and new embeddings" if facts.new_embeddings else ""
    return Due(
        downstream=downstream,
        survey=survey,
        due=not refusal,
        why=refusal or because,
        new_labels=facts.new_labels,
        new_embeddings=facts.new_embeddings,
        spent_cpu_seconds=facts.spent_cpu_seconds,
        spent_wall_seconds=facts.spent_wall_seconds,
    )


@contextmanager
def only_one(settings: Settings, downstream: str) -> Iterator[bool]:
    """Give true to one holder for each task; a killed holder frees it.

    The lock lies in the home, as the ledger does: it holds for all who work on that.
    """
    path = settings.home.resolve() / "locks" / f"finetune-{downstream}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def tell_due(found: Due) -> None:
    """Say in the log and on the page of the flow run what was decided."""
    word = "due" if found.due else "not due"
    text = f"{found.downstream} on {found.survey} is {word}: {found.why}"
    if FlowRunContext.get() is None:
        return
    get_run_logger().info(text)
    create_markdown_artifact(
        f"# {text}\n\n"
        f"- new labels: {found.new_labels}\n"
        f"- new embeddings: {'yes' if found.new_embeddings else 'no'}\n"
        f"- fits of the last 24 hours: {found.spent_cpu_seconds:.0f} CPU seconds, "
        f"{found.spent_wall_seconds:.0f} s of wall time\n",
        key=f"due-{found.downstream.replace('_', '-')}",
        description=text,
    )


def _labels_since(settings: Settings, downstream: str, survey: str, as_of: str) -> int:
    question = question_of(create_task(downstream))
    path: Path = settings.labels_path
    if not question or not path.is_file():
        return 0
    rows = read_labels(path, survey, question)
    return int((rows["created_at"] > as_of).sum())  # both are UTC in one form


def _spent(settings: Settings, downstream: str, now: datetime) -> dict[str, float]:
    since = int((now - DAY).timestamp() * 1000)
    runs = [run for run in tracking.find_runs(settings, downstream) if run.started_ms >= since]
    kinds = ("cpu_seconds", "wall_seconds")
    return {kind: sum(run.metrics.get(kind, 0.0) for run in runs) for kind in kinds}
