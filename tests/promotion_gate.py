"""Candidates, evidence and decisions for tests of the promotion gate."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tasks import tracking as registry
from tasks.decisions import Case, Decision, read_events
from tasks.references import Evaluation, EvidencePacket, Interval, ModelRef, SnapshotRef
from tasks.settings import Settings


def registers(settings: Settings) -> Callable[[str], ModelRef]:
    """Return a function that registers a candidate whose digest is made of one digit."""

    def register(digit: str) -> ModelRef:
        with registry.start_run(settings, experiment="finetune", run_name=digit) as run:
            run.log_json("model/config.json", {"made": digit})
        return registry.register_candidate(
            settings, "morphology", run_id=run.run_id, artifact="model", digest=digit * 64
        )

    return register


def evaluation(model: ModelRef, value: float, objects: int = 100) -> Evaluation:
    return Evaluation(
        model=model,
        snapshot=SnapshotRef(store="store", survey="dr10/south", snapshot_id="SNAP"),
        split_digest="5" * 64,
        labels_digest="1" * 64,
        test_objects=objects,
        headline="balanced_accuracy",
        metrics={"balanced_accuracy": Interval(value=value, low=value - 0.1, high=value + 0.1)},
    )


def evidence(challenger: ModelRef, champion: ModelRef | None = None) -> EvidencePacket:
    return EvidencePacket(
        challenger=evaluation(challenger, 0.7),
        champion=evaluation(champion, 0.6) if champion else None,
    )


def decision(challenger, champion, *, approve=True, case_id="c", **options) -> Decision:
    case = Case(
        case_id=case_id * 64,
        flow_run_id="f",
        attempt=1,
        downstream="morphology",
        challenger=challenger,
        champion=champion,
        evidence="e" * 64,
        deadline=datetime.now(UTC) + timedelta(days=1),
    )
    return Decision(case=case, approve=approve, reviewer="Vera", reason="better", **options)


def state_of(settings: Settings):
    """Return all that a promotion may change, without times."""
    records = registry.model_versions(settings, "morphology")
    return [item.model_dump() for item in read_events(settings)], [r.model_dump() for r in records]


def champions(settings: Settings) -> list[str | None]:
    """Return the versions that champion, previous champion and challenger point at."""
    names = (registry.CHAMPION, registry.PREVIOUS_CHAMPION, registry.CHALLENGER)
    found = [registry.aliased(settings, "morphology", name) for name in names]
    return [model.version if model else None for model in found]
