"""The other way: what a brick, an object, a snapshot or a model went into."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from storage.brick_store import read_objects
from storage.catalogue import format_object_id
from storage.label_store import read_object_labels
from tasks.lineage.bricks import OBJECTS_LISTED, add_brick, add_snapshot
from tasks.lineage.catalogues import CatalogueFile, Key
from tasks.lineage.context import Context
from tasks.lineage.graph import Kind
from tasks.lineage.models import add_model, link_approvals
from tasks.lineage.store import DIGITS, BrickVersion, version_key
from tasks.lineage.training import counts_by_split, training_objects
from tasks.provenance import VersionRecord
from tasks.references import ModelRef

MANIFEST_FACTS = ("decision", "flow_run_id", "files")
TAGS_READ = 50  # newest tags in which a brick is looked up
LABEL_FACTS = ["question", "answer", "count", "annotator", "created_at", "round", "guideline"]


def add_catalogue(context: Context, file: CatalogueFile, *, origins: bool = False) -> str:
    """Add a catalogue with its model and snapshot, and return its id.

    Parameters
    ----------
    origins : bool
        Add all that its model was made from, too.
    """
    metadata = file.metadata
    facts = {
        "place": str(file.place),
        "survey": file.survey,
        "rows": file.count(),
        "created_at": metadata.get("created_at"),
        "code_version": metadata.get("code_version"),
        "release": metadata.get("release"),
        "previous_release": metadata.get("previous_release"),
    } | {name: file.manifest.get(name) for name in MANIFEST_FACTS}
    missing = "" if metadata else "its provenance: a tool that wrote this file has dropped it"
    graph, title = context.graph, f"catalogue {file.place.name}"
    thing = graph.add(Kind.CATALOGUE, str(file.place), facts, title=title, missing=missing)
    if file.model is not None:
        model = add_model(context, file.model, file.model_tags, origins=origins)
        graph.link(thing, model, "predicted by")
        link_approvals(context, thing, model)
    if file.snapshot_id:
        graph.link(thing, add_snapshot(context, file.snapshot_id, file.survey), "read from")
    return thing


def add_products_of_brick(context: Context, version: BrickVersion) -> None:
    """Add what every version of a brick went into: objects, embeddings, models, catalogues."""
    brick = add_brick(context, version)
    _add_objects(context, brick, version)
    _note_tags(context, version)
    _add_embeddings(context, version.survey, version.brickname)
    for record in context.versions:
        if record.tags.get("survey") == version.survey:
            _add_training(context, version, record)
    for file in context.catalogues:
        rows = file.count_of_brick(version.brickid) if file.survey == version.survey else 0
        if rows:
            used = context.store.brick(version.survey, version.brickname, file.snapshot_id)
            source = add_brick(context, used) if used is not None else brick
            how = f"lists {rows} objects of"
            context.graph.link(add_catalogue(context, file), source, how)


def add_products_of_object(context: Context, thing: str, object_id: str, key: Key) -> None:
    """Add what was made of an object: labels, embeddings, training sets; not its rows."""
    found = context.graph.facts(thing)
    survey = str(found.get("survey", ""))
    if survey:
        _add_embeddings(context, survey, str(found["brickname"]), of_object=thing)
        _add_object_labels(context, thing, survey, key)
    for record in context.versions:
        objects = training_objects(context.settings, record.model.run_id)
        match = objects[_is_object(objects, key)] if len(objects) else objects
        if len(match):
            model = add_model(context, record.model, origins=False)
            context.graph.link(model, thing, f"has in its {match['split'].iloc[0]} split")


def add_products_of_snapshot(context: Context, snapshot: str) -> None:
    """Add the embeddings, models and catalogues that were made from a snapshot."""
    thing, store = add_snapshot(context, snapshot), context.store
    for survey in store.surveys(snapshot):
        for digest, table in store.embedded(survey).items():
            bricks = table[table["survey_snapshot"] == snapshot]
            if len(bricks):
                facts = {"bricks": len(bricks), "objects": int(bricks["n_objects"].sum())}
                made = _embeddings(context, digest, f"{survey}@{snapshot}", facts)
                context.graph.link(made, thing, "made from")
    for record in context.versions:
        if record.tags.get("snapshot_id") == snapshot:
            model = add_model(context, record.model, origins=False)
            context.graph.link(model, thing, "trained on")
    for file in context.catalogues:
        if file.snapshot_id == snapshot:
            add_catalogue(context, file)


def add_products_of_model(context: Context, model: ModelRef) -> None:
    """Add the catalogues that a model made."""
    for file in context.catalogues:
        made_by = file.model
        if made_by is not None and made_by.digest == model.digest and _same(made_by, model):
            add_catalogue(context, file)


def add_row(context: Context, file: CatalogueFile, object_id: str, row: Mapping[str, Any]) -> str:
    """Add a row of a catalogue, and return its id."""
    title = f"row of {object_id} in {file.place.name}"
    return context.graph.add(Kind.ROW, f"{object_id} in {file.place}", row, title=title)


def _same(one: ModelRef, other: ModelRef) -> bool:
    return (one.downstream, one.version) == (other.downstream, other.version)


def _is_object(objects: pd.DataFrame, key: Key) -> pd.Series:
    release, brickid, objid = key
    chosen: pd.Series = objects["brickid"] == brickid
    return chosen & (objects["objid"] == objid) & (objects["release"] == release)


def _add_objects(context: Context, brick: str, version: BrickVersion) -> None:
    """Add the objects of a brick as one thing: their number, and the ids of the first."""
    session = context.store.session(version.snapshot_id) if version.snapshot_id else None
    names: list[str] = []
    if session is not None:
        table = read_objects(
            session, version.survey, bricknames=[version.brickname], catalogue=False
        ).head(OBJECTS_LISTED)
        keys = zip(table["release"], table["brickid"], table["objid"], strict=True)
        names = [format_object_id(*map(int, key)) for key in keys]
    facts = {"count": version.objects, "ids": names, "not_listed": version.objects - len(names)}
    title = f"{version.objects} objects"
    objects = context.graph.add(Kind.OBJECT, f"of {version.key}", facts, title=title)
    context.graph.link(objects, brick, "cut out of")


def _note_tags(context: Context, version: BrickVersion) -> None:
    """Say of every version of a brick which tagged snapshots hold it."""
    store, held = context.store, dict[str, list[str]]()
    for snapshot, tags in list(store.tags.items())[-TAGS_READ:]:
        found = store.brick(version.survey, version.brickname, snapshot)
        if found is not None:
            held.setdefault(found.key, []).extend(tags)
    for key, tags in held.items():
        if f"{Kind.BRICK} {key}" in context.graph:
            context.graph.add(Kind.BRICK, key, {"tags": sorted(tags)})


def _add_training(context: Context, version: BrickVersion, record: VersionRecord) -> None:
    objects = training_objects(context.settings, record.model.run_id)
    here = objects[objects["brickid"] == version.brickid]
    if here.empty:
        return
    snapshot = record.tags.get("snapshot_id", "")
    used = context.store.brick(version.survey, version.brickname, snapshot) or version
    splits = ", ".join(f"{count} {split}" for split, count in counts_by_split(here).items())
    model = add_model(context, record.model, origins=False)
    context.graph.link(model, add_brick(context, used), f"has objects ({splits}) of")


def _add_embeddings(context: Context, survey: str, brickname: str, of_object: str = "") -> None:
    for digest, table in context.store.embedded(survey, brickname).items():
        row = table.iloc[0]
        content, _, config = str(row["content_digest"]).partition(":")
        facts = {
            "objects": int(row["n_objects"]),
            "content_digest": content,
            "config_digest": config,
            "survey_snapshot": str(row["survey_snapshot"]),
        }
        made = _embeddings(context, digest, f"{survey}/{brickname}", facts)
        source = f"{Kind.BRICK} {version_key(survey, brickname, content, config)}"
        if of_object:
            context.graph.link(made, of_object, "includes")
        elif source in context.graph:
            context.graph.link(made, source, "made from")


def _embeddings(context: Context, digest: str, of: str, facts: Mapping[str, Any]) -> str:
    told = {"encoder_digest": digest, **facts}
    key = f"{digest[:DIGITS]}/{of}"
    title = f"embeddings by {digest[:8]}"
    return context.graph.add(Kind.EMBEDDINGS, key, told, title=title)


def _add_object_labels(context: Context, thing: str, survey: str, key: Key) -> None:
    path = context.settings.labels_path
    rows = read_object_labels(path, survey, *key) if path.is_file() else pd.DataFrame()
    if len(rows):
        told = [dict(row) for row in rows[LABEL_FACTS].to_dict("records")]
        name = format_object_id(*key)
        title = f"{len(told)} labels of {name}"
        labels = context.graph.add(Kind.LABELS, f"of {name}", {"labels": told}, title=title)
        context.graph.link(labels, thing, "answers about")
