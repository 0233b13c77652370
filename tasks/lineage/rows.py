"""Where a row of a catalogue comes from, be the file ours or a copy that somebody was given.

All that is needed besides the file is the store: the row names the snapshot that it was predicted
from, and the file says which model did it.
"""

from collections.abc import Mapping
from typing import Any

from storage.catalogue import format_object_id
from tasks.lineage.bricks import add_brick, add_object, add_snapshot
from tasks.lineage.catalogues import CatalogueFile, Key, key_of
from tasks.lineage.context import Context
from tasks.lineage.graph import Kind
from tasks.lineage.models import add_encoder, add_model, link_approvals
from tasks.lineage.products import add_catalogue, add_row
from tasks.lineage.store import BrickVersion


def trace_row(context: Context, file: CatalogueFile, row: Mapping[str, Any]) -> str:
    """Add a row with all that it was made from, and return its id."""
    key = key_of(row)
    object_id, graph = format_object_id(*key), context.graph
    thing = add_row(context, file, object_id, row)
    graph.link(add_catalogue(context, file, origins=True), thing, "lists")
    _add_row_model(context, file, row, thing)
    snapshot = str(row.get("snapshot_id") or file.snapshot_id)
    if snapshot:
        graph.link(thing, add_snapshot(context, snapshot, file.survey), "read from")
    _add_row_object(context, thing, key, snapshot, row)
    return thing


def _add_row_model(
    context: Context, file: CatalogueFile, row: Mapping[str, Any], thing: str
) -> None:
    graph, model = context.graph, file.model
    if model is not None:
        version = str(row.get("model_version") or model.version)
        if version != model.version:
            model = model.model_copy(update={"version": version, "run_id": "", "digest": ""})
        made_by = add_model(context, model, file.model_tags if version == model.version else None)
        graph.link(thing, made_by, "predicted by")
        link_approvals(context, thing, made_by)
    digest = str(row.get("encoder_digest") or "")
    if digest and not graph.made_from(f"{Kind.ENCODER} {digest}", Kind.MODEL):
        graph.link(thing, add_encoder(context, digest), "embedded by")


def _add_row_object(
    context: Context, thing: str, key: Key, snapshot: str, row: Mapping[str, Any]
) -> None:
    graph, store = context.graph, context.store
    object_id = format_object_id(*key)
    found = store.find_object(key, snapshot) if store.session(snapshot) is not None else None
    if found is not None:
        graph.link(thing, add_object(context, object_id, found, snapshot), "predicted from")
        return
    why = f"it is in no brick of snapshot {snapshot}"
    if store.session(snapshot) is None:
        why = f"its snapshot {snapshot or '(not said)'} is not in the store {store.store}"
    origin = graph.add(Kind.OBJECT, object_id, title=f"object {object_id}", missing=why)
    graph.link(thing, origin, "predicted from")
    digest = str(row.get("content_digest") or "").partition(":")[0]
    candidates = _versions(context, key[1])
    exact = [version for version in candidates if digest and version.content_digest == digest]
    for version in exact or candidates:
        how = "cut out of" if exact else "cut out of one of these versions"
        graph.link(origin, add_brick(context, version), how)


def _versions(context: Context, brickid: int) -> list[BrickVersion]:
    """Return all versions of a brick that the store still knows of."""
    store, found = context.store, list[BrickVersion]()
    for survey in store.surveys():
        for name in store.names(survey, [brickid]).values():
            now = store.brick(survey, name)
            found += store.former_bricks(survey, name) + ([now] if now is not None else [])
    return found
