"""The model side of a lineage: labels and data set, encoder, run, decision → model.

Where the registry no longer has a version, what a catalogue says of it is told instead.
"""

from collections.abc import Mapping
from typing import Any

from lvm.weights import SHIPPED, shipped_weights
from tasks import tracking
from tasks.decisions import Decision, Event, ledger_path, read_events
from tasks.lineage.bricks import add_snapshot, add_training_bricks
from tasks.lineage.context import Context
from tasks.lineage.graph import Kind
from tasks.lineage.store import DIGITS
from tasks.lineage.training import is_tracked, read_dataset, training_objects
from tasks.outcomes import PromotionStatus
from tasks.provenance import RunRecord, VersionRecord
from tasks.references import DatasetRef, ModelRef
from tasks.settings import Settings
from tasks.tracking.kept import find_run

PRETRAINING = "pretrain"  # the experiment of encoders
_COST = ("wall_seconds", "cpu_seconds")
_ALLOWING = (PromotionStatus.APPROVED, PromotionStatus.ROLLED_BACK)


def trace_model(settings: Settings, model: ModelRef) -> dict[str, Any]:
    """Return what made a registered model: data, labels, encoder, code, run, and who decided."""
    tree: dict[str, Any] = model.model_dump(mode="json")
    found, missing = find_version(settings, model)
    tree["made_from"] = dict(sorted(found.tags.items())) if found else {"missing": missing}
    return tree


def find_version(settings: Settings, model: ModelRef) -> tuple[VersionRecord | None, str]:
    """Return the version of the registry that a reference means, or None and why there is none."""
    if not is_tracked(settings):
        return None, f"there is no model registry in {settings.home}"
    try:
        found = tracking.read_version(settings, model.downstream, model.version)
    except tracking.UnknownModel as error:
        return None, str(error)
    if model.digest and found.model.digest != model.digest:
        return None, (
            f"version {model.version} of {model.downstream} in this registry is another model "
            f"(digest {found.model.digest[:DIGITS]}, not {model.digest[:DIGITS]})"
        )
    return found, ""


def add_model(
    context: Context,
    model: ModelRef,
    told_tags: Mapping[str, str] | None = None,
    *,
    origins: bool = True,
) -> str:
    """Add a model with what was decided about it, and return its id.

    Parameters
    ----------
    told_tags : mapping, optional
        What a catalogue says of the model, for where the registry has forgotten it.
    origins : bool
        Add all that it was made from, too.
    """
    found, missing = find_version(context.settings, model)
    tags = dict(found.tags) if found else dict(told_tags or {})
    facts = {
        "downstream": model.downstream,
        "version": model.version,
        "digest": model.digest,
        "aliases": list(found.aliases) if found else [],
        "code_version": tags.get("code_version"),
        "mode": tags.get("mode"),
        "told_by": "" if found else ("the catalogue" if tags else ""),
    }
    key = f"{model.downstream}/{model.version}@{model.digest[:DIGITS]}"
    title = f"{model.downstream} version {model.version}"
    known = f"{Kind.MODEL} {key}" in context.graph
    thing = context.graph.add(Kind.MODEL, key, facts, title=title, missing=missing)
    if not known:
        _add_decisions(context, thing, model, tags)
    if origins:
        _add_run(context, thing, model, tags)
        _add_dataset(context, thing, model, tags)
        if tags.get("encoder_digest"):
            encoder = add_encoder(context, tags["encoder_digest"])
            context.graph.link(thing, encoder, "fine-tuned from")
    return thing


def link_approvals(context: Context, made: str, model: str) -> None:
    """Link what a model made to the decisions that let the model be used."""
    for decision in context.graph.made_from(model, Kind.DECISION):
        if decision.facts.get("outcome") in _ALLOWING:
            context.graph.link(made, decision.id, "allowed by")


def add_encoder(context: Context, digest: str) -> str:
    """Add an encoder with its pre-training, and return its id."""
    graph, settings = context.graph, context.settings
    shipped = [n for n in SHIPPED if (shipped_weights(n) / "digest").read_text().strip() == digest]
    folder = settings.encoder_path / digest[:DIGITS]
    facts = {
        "digest": digest,
        "folder": str(folder) if folder.is_dir() else "",
        "shipped_as": shipped[0] if shipped else "",
    }
    if f"{Kind.ENCODER} {digest}" in graph:
        return f"{Kind.ENCODER} {digest}"
    runs: list[RunRecord] = []
    if is_tracked(settings):
        runs = tracking.find_runs(settings, PRETRAINING, {"encoder_digest": digest})
    missing = "" if runs or shipped else "no run of this home made it"
    thing = graph.add(Kind.ENCODER, digest, facts, title=f"encoder {digest[:8]}", missing=missing)
    for run in runs[:1]:
        made_by = _add_run_record(context, run, "pre-training")
        graph.link(thing, made_by, "made by")
        if run.params.get("snapshot_id"):
            snapshot = add_snapshot(context, run.params["snapshot_id"], run.tags.get("survey", ""))
            graph.link(made_by, snapshot, "pre-trained on")
    return thing


def _add_run(context: Context, thing: str, model: ModelRef, tags: Mapping[str, str]) -> None:
    if not model.run_id:
        return
    found = find_run(context.settings, model.run_id) if is_tracked(context.settings) else None
    if found is not None:
        run = _add_run_record(context, found, "fine-tuning")
    else:
        told = {"run_id": model.run_id, "flow_run_id": tags.get("flow_run_id")}
        missing = "the run is not in the tracking of this home"
        title = f"run {model.run_id[:8]}"
        run = context.graph.add(Kind.RUN, model.run_id, told, title=title, missing=missing)
    context.graph.link(thing, run, "made by")


def _add_run_record(context: Context, run: RunRecord, what: str) -> str:
    facts = {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "code_version": run.tags.get("code_version"),
        "flow_run_id": run.tags.get("flow_run_id") or run.tags.get(tracking.FLOW_RUN_TAG),
    } | {name: round(run.metrics[name], 1) for name in _COST if name in run.metrics}
    return context.graph.add(Kind.RUN, run.run_id, facts, title=f"{what} run {run.run_id[:8]}")


def _add_dataset(context: Context, thing: str, model: ModelRef, tags: Mapping[str, str]) -> None:
    frozen = read_dataset(context.settings, model.run_id)
    digest = tags.get("dataset_digest") or (frozen.content_digest() if frozen else "")
    snapshot = frozen.snapshot.snapshot_id if frozen else tags.get("snapshot_id", "")
    if not digest and not snapshot:
        return
    graph, survey = context.graph, tags.get("survey", "")
    facts = {
        "digest": digest,
        "survey": survey,
        "split_digest": tags.get("split_digest"),
        "test_digest": tags.get("test_digest"),
        "training_objects": tags.get("training_objects"),
        "counts": frozen.counts if frozen else None,
        "left_out": frozen.left_out if frozen else None,
    }
    missing = "" if frozen else "only digests are known: its record went with the run"
    data = graph.add(
        Kind.DATASET, digest or snapshot, facts, title=f"data set {digest[:8]}", missing=missing
    )
    graph.link(thing, data, "trained on")
    if snapshot:
        graph.link(data, add_snapshot(context, snapshot, survey), "read from")
        objects = training_objects(context.settings, model.run_id)
        bricks = add_training_bricks(context, survey, snapshot, objects)
        if bricks is not None:
            graph.link(data, bricks, "objects of")
    _add_labels(context, data, frozen, tags)


def _add_labels(
    context: Context, data: str, frozen: DatasetRef | None, tags: Mapping[str, str]
) -> None:
    digest = tags.get("labels_digest") or (frozen.labels_digest if frozen else "")
    if not digest:
        return
    facts = {
        "digest": digest,
        "as_of": tags.get("labels_as_of"),
        "question": frozen.question if frozen else "",
        "classes": list(frozen.classes) if frozen else [],
    }
    missing = "" if context.settings.labels_path.is_file() else "the label ledger is not here"
    labels = context.graph.add(
        Kind.LABELS, digest, facts, title=f"labels {digest[:8]}", missing=missing
    )
    context.graph.link(data, labels, "answers from")


def _add_decisions(context: Context, thing: str, model: ModelRef, tags: Mapping[str, str]) -> None:
    """Add what people decided about a model; as its tags say it where the record is not here."""
    graph, settings = context.graph, context.settings
    if ledger_path(settings).is_file():
        for case_id, facts in _decided(settings, model).items():
            title = f"decision: {facts['outcome']} by {facts['reviewer'] or 'nobody'}"
            decision = graph.add(Kind.DECISION, case_id, facts, title=title)
            graph.link(decision, thing, "about")
        return
    told = {
        name.removeprefix("decision."): value
        for name, value in tags.items()
        if name.startswith("decision.")
    }
    if told:
        key = told.get("case") or f"{model.downstream}/{model.version}"
        title = f"decision: {tags.get('decision', 'decided')} by {told.get('reviewer', 'nobody')}"
        missing = "the record of decisions is not here; this is what was noted with the model"
        decision = graph.add(Kind.DECISION, key, told, title=title, missing=missing)
        graph.link(decision, thing, "about")


def _decided(settings: Settings, model: ModelRef) -> dict[str, dict[str, Any]]:
    """Return the decisions about a model by case, oldest first."""
    found: dict[str, dict[str, Any]] = {}
    for item in read_events(settings, downstream=model.downstream):
        if item.event is Event.DECIDED:
            decision = Decision.model_validate(item.body)
            if decision.case.challenger == model:
                found[item.case_id] = _decision_facts(decision) | {"at": item.at.isoformat()}
        elif item.case_id in found and item.event in (Event.MOVED, Event.STALE):
            found[item.case_id][item.event.value] = item.at.isoformat()
    return found


def _decision_facts(decision: Decision) -> dict[str, Any]:
    word = PromotionStatus.EXPIRED if decision.expired else PromotionStatus.REJECTED
    if decision.approve:
        back = decision.case.kind == "rollback"
        word = PromotionStatus.ROLLED_BACK if back else PromotionStatus.APPROVED
    return {
        "outcome": word.value,
        "reviewer": decision.reviewer,
        "user": decision.user,
        "proof": decision.proof,
        "reason": decision.reason,
        "override": decision.override,
        "approved_by": list(decision.approved_by),
        "evidence": decision.case.evidence,
        "case": decision.case.case_id,
        "flow_run_id": decision.case.flow_run_id,
    }
