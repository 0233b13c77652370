"""The story of each registered model: what made it, what it reaches, what came of it."""

from tasks import tracking
from tasks.provenance import RunRecord, VersionRecord
from tasks.references import Interval, Reference
from tasks.settings import Settings

UNDECIDED = "undecided"


class ModelStory(Reference):
    """One registered version and the run that made it.

    `headline` and `value` are None where it was never measured; `cpu_seconds` is the cost of its
    training, 0 where it was not tracked. `run_status` is MLflow's.
    """

    downstream: str
    version: str
    aliases: tuple[str, ...]
    headline: str | None
    value: Interval | None
    survey: str
    snapshot_id: str
    training_objects: int
    labels_digest: str
    encoder_digest: str
    mode: str
    code_version: str
    cpu_seconds: float
    decision: str
    reviewer: str
    run_id: str
    run_status: str
    flow_run_id: str


def model_stories(settings: Settings, downstream: str | None = None) -> list[ModelStory]:
    """Return the stories of all registered versions, newest first within a downstream task."""
    names = [downstream] if downstream else tracking.registered_models(settings)
    return [
        _story(version, tracking.read_run(settings, version.model.run_id))
        for name in names
        for version in tracking.model_versions(settings, name)
    ]


def _story(version: VersionRecord, run: RunRecord) -> ModelStory:
    # A version is tagged when it is registered and when it is decided on, a run while it goes on.
    tags = run.tags | version.tags
    headline = tags.get("headline")
    return ModelStory(
        downstream=version.model.downstream,
        version=version.model.version,
        aliases=version.aliases,
        headline=headline,
        value=_measured(run, headline),
        survey=tags.get("survey", ""),
        snapshot_id=tags.get("snapshot_id", ""),
        training_objects=int(tags.get("training_objects", "0")),
        labels_digest=tags.get("labels_digest", ""),
        encoder_digest=tags.get("encoder_digest", ""),
        mode=tags.get("mode", ""),
        code_version=tags.get("code_version", ""),
        cpu_seconds=run.metrics.get("cpu_seconds", 0.0),
        decision=tags.get("decision", UNDECIDED),
        reviewer=tags.get("decision.reviewer", ""),
        run_id=run.run_id,
        run_status=run.status,
        flow_run_id=tags.get("flow_run_id", ""),
    )


def _measured(run: RunRecord, headline: str | None) -> Interval | None:
    names = [f"test_{headline}{end}" for end in ("", "_low", "_high")]
    if headline is None or not set(names) <= set(run.metrics):
        return None
    value, low, high = (run.metrics[name] for name in names)
    return Interval(value=value, low=low, high=high)
