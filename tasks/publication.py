"""Publish what is predicted as a catalogue release: once for each state, whole, never changed.

The order is that of a cycle: `propose` says what would be published and what was before, `examine`
counts the differences and says which limits they pass, `publish` writes the files and puts the
folder in its place. Each can be done again: a state that is published already is found, not made.
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from filelock import FileLock
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from pyarrow import feather

from storage.catalogue_export import FORMATS, BrickFile, write_release_files
from tasks import tracking
from tasks.prediction import PredictionIncomplete, stale_bricks, written_bricks
from tasks.prediction_files import prediction_path
from tasks.references import CatalogueRef, ModelRef, Reference, SnapshotRef
from tasks.release_diff import (
    ReleaseDiff,
    ReleaseLimits,
    compare_sides,
    side_of_predictions,
    side_of_release,
)
from tasks.release_page import html_diff, markdown_diff, verdict
from tasks.releases import (
    BRICKS,
    CHANGES,
    MANIFEST,
    PAGE,
    Release,
    folder_of,
    list_files,
    newest_release,
    reference_of,
    release_tag,
    releases_folder,
    state_of,
)
from tasks.settings import Settings

ACKNOWLEDGEMENT = (
    "Made from the DESI Legacy Imaging Surveys (legacysurvey.org), whose data are offered under "
    "the Creative Commons Attribution 4.0 licence (CC BY 4.0): whoever uses or passes on this "
    "catalogue acknowledges the surveys with the text of legacysurvey.org/acknowledgment, and "
    "cites Dey et al. 2019, AJ 157, 168."
)


class Proposal(Reference):
    """What would be published; `published` is the tag of the newest release if it is the same."""

    snapshot: SnapshotRef
    model: ModelRef
    formats: tuple[str, ...]
    state: str
    rows: int
    bricks: int
    tag: str
    previous: str
    published: str

    @property
    def digest(self) -> str:
        """Return what a decision on it is bound to: the state and the release before it."""
        return hashlib.sha256(f"{self.state} {self.previous}".encode()).hexdigest()


@task(name="propose-release", cache_policy=NO_CACHE)
def propose(
    settings: Settings,
    snapshot: SnapshotRef,
    model: ModelRef,
    formats: Sequence[str] = FORMATS,
) -> Proposal:
    """Say what a release of a snapshot by a model would be; nothing is read but the ledger."""
    bricks, chosen = written_bricks(snapshot), tuple(formats)
    newest = newest_release(settings, snapshot.survey, model.downstream)
    state = state_of(bricks, model, chosen)
    number = newest.number + 1 if newest else 1
    return Proposal(
        snapshot=snapshot,
        model=model,
        formats=chosen,
        state=state,
        rows=int(bricks["n_objects"].sum()),
        bricks=len(bricks),
        tag=release_tag(snapshot.survey, model.downstream, number),
        previous=newest.tag if newest else "",
        published=newest.tag if newest and newest.state == state else "",
    )


@task(name="examine-release", cache_policy=NO_CACHE)
def examine(
    settings: Settings, proposal: Proposal, limits: ReleaseLimits | None = None
) -> ReleaseDiff | None:
    """Compare what is predicted with the newest release; None where there is none.

    The differences are shown as an artifact of the flow run.

    Raises
    ------
    PredictionIncomplete
        If a brick is not predicted.
    """
    survey, model = proposal.snapshot.survey, proposal.model
    bricks = _complete(settings, proposal)
    newest = newest_release(settings, survey, model.downstream)
    if newest is None:
        return None
    before = side_of_release(newest, folder_of(settings, newest))
    after = side_of_predictions(settings, survey, model, bricks)
    found = compare_sides(before, after, limits)
    if FlowRunContext.get() is not None:
        create_markdown_artifact(
            markdown_diff(found),
            key=f"release-{proposal.tag}".replace("_", "-"),
            description=verdict(found),
        )
    return found


@task(name="publish-release", cache_policy=NO_CACHE)
def publish(
    settings: Settings, proposal: Proposal, found: ReleaseDiff | None, decision: str = ""
) -> CatalogueRef:
    """Write a release and put it in its place; the release before it stays as it is.

    Parameters
    ----------
    found : ReleaseDiff, optional
        Kept with the release.
    decision : str
        Who let it pass, where a limit was passed.

    Raises
    ------
    PredictionIncomplete
        If a brick is not predicted, or there is no object at all.
    """
    survey, model = proposal.snapshot.survey, proposal.model
    folder = releases_folder(settings, survey, model.downstream)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".publish.lock"):
        newest = newest_release(settings, survey, model.downstream)
        if newest is None or newest.state != proposal.state:
            newest = _write(settings, proposal, found, (newest, decision))
    reference = reference_of(settings, newest)
    name = f"catalogue-{reference.digest[:12]}.json"
    tracking.open_run(settings, model.run_id).log_json(name, reference)
    return reference


def _complete(settings: Settings, proposal: Proposal) -> pd.DataFrame:
    """Return the bricks of a proposal after making sure that each is predicted."""
    snapshot, model = proposal.snapshot, proposal.model
    bricks = written_bricks(snapshot)
    if bricks.empty:
        raise PredictionIncomplete(f"{snapshot.survey} has no object to predict")
    stale = stale_bricks(settings, snapshot, model, bricks)
    if stale:
        raise PredictionIncomplete(
            f"{len(stale)} of {len(bricks)} bricks are not predicted by {model.downstream} version "
            f"{model.version}, such as {stale[0]}: predict them first"
        )
    return bricks


def _write(
    settings: Settings,
    proposal: Proposal,
    found: ReleaseDiff | None,
    context: tuple[Release | None, str],
) -> Release:
    """Write a release beside the catalogues and rename its folder at the end."""
    newest, decision = context
    survey, model = proposal.snapshot.survey, proposal.model
    bricks = _complete(settings, proposal)
    number = newest.number + 1 if newest else 1
    tag = release_tag(survey, model.downstream, number)
    # Not below the catalogues: whoever looks for those must not find half of one.
    part = settings.predictions_path / f".{tag}.{os.getpid()}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        created = datetime.now(UTC).isoformat(timespec="seconds")
        provenance = _provenance(settings, proposal, tag, created)
        files = _brick_files(settings, survey, model, bricks)
        formats = write_release_files(part, files, provenance, proposal.formats)
        _write_bricks(part / BRICKS, bricks, model, provenance)
        if found is not None:
            (part / CHANGES).write_text(found.model_dump_json(indent=1), encoding="utf-8")
            (part / PAGE).write_text(html_diff(found), encoding="utf-8")
        release = Release(
            tag=tag,
            number=number,
            survey=survey,
            downstream=model.downstream,
            created_at=created,
            code_version=tracking.code_version(),
            rows=proposal.rows,
            bricks=len(bricks),
            state=proposal.state,
            previous=newest.tag if newest else "",
            model=model,
            snapshot=proposal.snapshot,
            formats=formats,
            files=list_files(part),
            flow_run_id=str(flow_run.id or ""),
            decision=decision,
        )
        (part / MANIFEST).write_text(release.model_dump_json(indent=1), encoding="utf-8")
        _seal(part)
        part.rename(folder_of(settings, release))
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return release


def _brick_files(
    settings: Settings, survey: str, model: ModelRef, bricks: pd.DataFrame
) -> list[BrickFile]:
    rows = zip(bricks.index, bricks["version"], bricks["n_objects"], strict=True)
    return [
        BrickFile(
            str(name), prediction_path(settings, survey, model, str(name), version), int(count)
        )
        for name, version, count in rows
    ]


def _write_bricks(
    path: Path, bricks: pd.DataFrame, model: ModelRef, provenance: dict[str, Any]
) -> None:
    kept = ["n_objects", "content_digest", "config_digest", "version"]
    table = bricks[kept].rename_axis("brickname").reset_index()
    table = table.assign(
        model_version=model.version,
        model_digest=model.digest,
        encoder_digest=provenance["lineage"].get("encoder_digest", ""),
    )
    feather.write_feather(pa.Table.from_pandas(table, preserve_index=False), path, "zstd")


def _seal(folder: Path) -> None:
    """Take the right to write from the files, so that nobody changes them by accident."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o444)


def _provenance(settings: Settings, proposal: Proposal, tag: str, created: str) -> dict[str, Any]:
    """Return what every file of a release says of itself."""
    code = tracking.code_version()
    return {
        "release": tag,
        "previous_release": proposal.previous,
        "survey": proposal.snapshot.survey,
        "snapshot_id": proposal.snapshot.snapshot_id,
        "snapshot": proposal.snapshot.model_dump(mode="json"),
        "model": proposal.model.model_dump(mode="json"),
        "lineage": tracking.version_tags(settings, proposal.model),
        "created_at": created,
        "code_version": code,
        "creator": code,
        "acknowledgement": ACKNOWLEDGEMENT,
    }
