"""The sky side of a lineage: files and configuration → brick → object → snapshot."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tasks.lineage.context import Context
from tasks.lineage.graph import Kind
from tasks.lineage.store import DIGITS, BrickVersion, FoundObject
from tasks.lineage.training import counts_by_split

DETAILED = 100  # bricks of a group that are listed with digest and files
OBJECTS_LISTED = 200
#: Of a receipt; files and what came of the objects are told elsewhere.
RECEIPT_FACTS = ("verification", "notes", "not_selected", "without_cutout", "neighbours")


def add_brick(context: Context, version: BrickVersion) -> str:
    """Add a version of a brick with its files and its configuration, and return its id."""
    graph, receipt = context.graph, version.receipt
    facts = {
        "survey": version.survey,
        "brickname": version.brickname,
        "brickid": version.brickid,
        "standing": version.standing,
        "objects": version.objects,
        "content_digest": version.content_digest,
        "config_digest": version.config_digest,
        "read_in_snapshot": version.snapshot_id,
    } | {name: receipt.get(name) for name in RECEIPT_FACTS}
    missing = "" if version.snapshot_id else "its cutouts: the snapshot is not in this store"
    standing = "" if version.standing == "current" else f", {version.standing}"
    title = f"brick {version.brickname} of {version.survey}{standing}"
    brick = graph.add(Kind.BRICK, version.key, facts, title=title, missing=missing)
    files = receipt.get("files") or {}
    found = graph.add(
        Kind.FILES,
        version.content_digest[:DIGITS] or version.key,
        {"content_digest": version.content_digest, "sha256": dict(files)},
        title=f"{len(files)} files" if files else "files",
        missing="" if files else "the checksums of single files were not kept",
    )
    graph.link(brick, found, "ingested from")
    if version.config_digest:
        known = context.store.configuration(version)
        told = {"config_digest": version.config_digest, "configuration": known}
        title = f"ingest configuration {version.config_digest[:8]}"
        missing = "" if known else "only its digest is known"
        config = graph.add(
            Kind.CONFIGURATION, version.config_digest, told, title=title, missing=missing
        )
        graph.link(brick, config, "ingested with")
    return brick


def add_object(context: Context, object_id: str, found: FoundObject, snapshot: str = "") -> str:
    """Add an object with the version of its brick in a snapshot (the newest), return its id."""
    facts = {"survey": found.survey, "brickname": found.brickname, "ra": found.ra, "dec": found.dec}
    thing = context.graph.add(Kind.OBJECT, object_id, facts, title=f"object {object_id}")
    version = context.store.brick(found.survey, found.brickname, snapshot)
    if version is not None:
        brick = add_brick(context, version)
        context.graph.link(thing, brick, "cut out of")
        if snapshot:
            context.graph.link(add_snapshot(context, snapshot, found.survey), brick, "holds")
    return thing


def add_snapshot(context: Context, snapshot: str, survey: str = "") -> str:
    """Add a snapshot of the cutouts and what it holds of a survey, and return its id."""
    store = context.store
    commit = store.commit(snapshot)
    surveys = [survey] if survey else store.surveys(snapshot)
    facts: dict[str, Any] = {
        "snapshot_id": snapshot,
        "tags": store.tags.get(snapshot),
        "surveys": {name: store.states(name, snapshot) for name in surveys},
        "newest": snapshot == store.newest,
    }
    if commit is not None:
        facts |= {
            "written_at": commit.written_at.isoformat(),
            "message": commit.message,
            "commit": dict(commit.metadata),
        }
    missing = "" if store.session(snapshot) is not None else f"it is not in the store {store.store}"
    tags = store.tags.get(snapshot)
    return context.graph.add(
        Kind.SNAPSHOT,
        snapshot,
        facts,
        title=f"snapshot {tags[-1] if tags else snapshot[:8]}",
        missing=missing,
    )


def add_training_bricks(
    context: Context, survey: str, snapshot: str, objects: pd.DataFrame
) -> str | None:
    """Add the bricks of the objects of a data set as one group; None where none is known."""
    if objects.empty:
        return None
    store, numbers = context.store, objects["brickid"].value_counts()
    names = store.names(survey, [int(number) for number in numbers.index], snapshot)
    listed = {
        names.get(int(number), f"brickid {number}"): _training_brick(
            store.brick(survey, names[int(number)], snapshot) if int(number) in names else None,
            objects[objects["brickid"] == number],
        )
        for number in numbers.index[:DETAILED]
    }
    facts = {
        "survey": survey,
        "bricks": len(numbers),
        "objects": len(objects),
        "by_split": counts_by_split(objects),
        "each": listed,
        "not_listed": max(0, len(numbers) - DETAILED),
    }
    key = f"{survey}@{snapshot}/{len(objects)}"
    title = f"{len(numbers)} bricks, {len(objects)} objects"
    return context.graph.add(Kind.BRICKS, key, facts, title=title)


def _training_brick(version: BrickVersion | None, objects: pd.DataFrame) -> Mapping[str, Any]:
    told: dict[str, Any] = {"objects": counts_by_split(objects)}
    if version is not None:
        told |= {
            "standing": version.standing,
            "content_digest": version.content_digest,
            "config_digest": version.config_digest,
            "files": dict(version.receipt.get("files") or {}),
        }
    return told
