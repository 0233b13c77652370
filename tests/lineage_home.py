"""A home with everything that a lineage goes through: survey, labels, model, decision, catalogue.

Afterwards brick b1 is ingested again with other pixels and b2 is withdrawn, so that what the
catalogue was made from is no longer in the newest snapshot.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from small_survey import SURVEY, withdraw_bricks, write_small_survey

from storage.brick_store import RowRange, ledger
from storage.catalogue import ColumnNote, write_catalogue
from storage.embedding_store import (
    EmbeddedBrick,
    EmbeddingLayout,
    brick_version,
    create_embeddings,
    embedding_group,
    record_embedded,
    reserve_rows,
)
from storage.label_store import Label, append_labels
from storage.repository import open_repository, read_session, tag_snapshot, transaction
from tasks import tracking
from tasks.datasets import DATASET_ARTIFACT
from tasks.decisions import Case, Decision, Event, append
from tasks.references import DatasetRef, ModelRef, SnapshotRef
from tasks.run_records import OBJECTS_ARTIFACT
from tasks.settings import Settings

ENCODER, DIGEST, LABELS = "e" * 64, "d" * 64, "f" * 64
COUNT = 4
TAG = "dr10-south-0001"


@dataclass(frozen=True)
class LineageHome:
    """What was made, in order; `snapshot` is the one that model and catalogue were made from."""

    settings: Settings
    snapshot: SnapshotRef
    model: ModelRef
    catalogue: Path
    newest: SnapshotRef


def make_lineage_home(settings: Settings) -> LineageHome:
    """Make the home, in an empty tracking."""
    store = Path(settings.store_path)
    snapshot = write_small_survey(store, {"b1": COUNT, "b2": COUNT})
    tag_snapshot(open_repository(store / "survey"), TAG, snapshot.snapshot_id)
    _embed(store, snapshot)
    label = Label(SURVEY, 10000, 1, 0, "morphology", "spiral", "ann", guideline="1")
    append_labels(settings.labels_path, [label])
    model = _train(settings, snapshot)
    _approve(settings, model)
    catalogue = publish(settings, snapshot, model)
    write_small_survey(store, {"b1": COUNT}, version=1)
    newest = withdraw_bricks(store, ["b2"])
    return LineageHome(settings, snapshot, model, catalogue, newest)


def publish(settings: Settings, snapshot: SnapshotRef, model: ModelRef) -> Path:
    """Publish a catalogue of all objects as the predict flow does, and return its folder."""
    ids = [(10000, brick, objid) for brick in (1, 2) for objid in range(COUNT)]
    table = pd.DataFrame(ids, columns=["release", "brickid", "objid"])
    table.insert(0, "object_id", ["-".join(map(str, key)) for key in ids])
    table["answer"], table["p_spiral"] = "spiral", np.float32(0.75)
    table["model_version"], table["snapshot_id"] = model.version, snapshot.snapshot_id
    metadata = {
        "survey": SURVEY,
        "snapshot": snapshot.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "lineage": tracking.version_tags(settings, model),
        "created_at": "2026-01-01T00:00:00+00:00",
    }
    notes = {name: ColumnNote("", "of a test") for name in table}
    folder = settings.catalogue_path / SURVEY / f"morphology-v1-{snapshot.snapshot_id}"
    write_catalogue(folder, [table], metadata, notes)
    return folder


def _embed(store: Path, snapshot: SnapshotRef) -> None:
    table = ledger(read_session(open_repository(store / "survey")), SURVEY)
    repository = open_repository(store / "embeddings", create=True)
    with transaction(repository, "rows") as session:
        create_embeddings(session, SURVEY, EmbeddingLayout(ENCODER, 8, {}))
        reserve_rows(session, ENCODER, SURVEY, 256)
    with transaction(repository, "embeddings of two bricks") as session:
        done = [
            EmbeddedBrick(
                str(name),
                RowRange(int(table.at[name, "row_start"]), int(table.at[name, "rows"])),
                COUNT,
                str(brick_version(table)[name]),
                snapshot.snapshot_id,
            )
            for name in table.index
        ]
        record_embedded(session, embedding_group(ENCODER, SURVEY), done)


def _train(settings: Settings, snapshot: SnapshotRef) -> ModelRef:
    dataset = DatasetRef(
        downstream="morphology",
        snapshot=snapshot,
        question="morphology",
        classes=("spiral", "other"),
        labels_digest=LABELS,
        healpix_order=8,
        fractions=(0.5, 0.2, 0.3),
        salt="s",
        border_arcsec=0.0,
        counts={"train": {"spiral": 3}},
    )
    facts = {
        "survey": SURVEY,
        "snapshot_id": snapshot.snapshot_id,
        "dataset_digest": dataset.content_digest(),
        "labels_digest": LABELS,
        "encoder_digest": ENCODER,
        "code_version": "abc",
    }
    objects = pd.DataFrame(
        {
            "release": 10000,
            "brickid": [1, 1, 1, 2],
            "objid": [0, 1, 2, 0],
            "split": ["train", "train", "train", "test"],
        }
    )
    artifacts = settings.home / "made"
    (artifacts / Path(OBJECTS_ARTIFACT).parent).mkdir(parents=True)
    objects.to_csv(artifacts / OBJECTS_ARTIFACT, index=False)
    with tracking.start_run(
        settings, experiment="morphology", run_name="morphology head", tags=facts
    ) as run:
        run.log_json(DATASET_ARTIFACT, dataset)
        run.log_artifacts(artifacts)
    return tracking.register_candidate(
        settings, "morphology", run_id=run.run_id, artifact="model", digest=DIGEST, tags=facts
    )


def _approve(settings: Settings, model: ModelRef) -> None:
    case = Case(
        case_id="c" * 64,
        flow_run_id="11111111-2222-3333-4444-555555555555",
        attempt=1,
        downstream="morphology",
        challenger=model,
        champion=None,
        evidence="a" * 64,
        deadline=datetime.now(UTC),
    )
    decision = Decision(case=case, approve=True, reviewer="eve", reason="it is better", user="eve")
    append(settings, case, Event.DECIDED, decision)
    append(settings, case, Event.MOVED, {"to": json.loads(model.model_dump_json())})
    tags = {"decision": "approved", "decision.reviewer": "eve", "decision.outcome": "approved"}
    tracking.tag_version(settings, model, tags)
