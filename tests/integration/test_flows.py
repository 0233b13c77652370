"""The whole DAG on two tiny bricks: real Prefect, Dask, MLflow and Icechunk."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from distributed import LocalCluster

from flows.demo import watch_for_decision
from flows.embed import embed_survey
from flows.finetune import finetune_downstream
from flows.ingest import ingest_bricks
from flows.model_parameters import DownstreamConfig, PretrainConfig
from flows.parameters import SplitConfig, read_config
from flows.predict import publish_catalogue
from flows.pretrain import pretrain_encoder
from flows.promote import promote_model
from lvm import EncoderConfig
from lvm.testing import TINY_SHAPE
from lvm.training import TrainConfig
from storage.catalogue import read_catalogue
from storage.embedding_store import embedding_group, read_embeddings
from storage.repository import open_repository, read_session
from storage.survey_digest import content_digest_of
from storage.synthetic import SyntheticConfig, SyntheticRelease, write_synthetic_release
from tasks import tracking
from tasks.deciding import DecisionRequest, decide
from tasks.embedding import open_embeddings
from tasks.evaluation import UnfairComparison, build_evidence
from tasks.labels import import_labels
from tasks.lineage import UnknownObject, trace_object
from tasks.prediction import NoChampion
from tasks.promotion import PromotionStatus
from tasks.references import EmbeddingsRef, EncoderRef, Evaluation, Receipt
from tasks.roles import LOCAL
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

SURVEY = "dr10/south"
TINY = SyntheticConfig(count=2, brick_size=460, density=14.0, bright_tilt=0.2, seed=3, processes=1)
PRETRAIN = PretrainConfig(
    encoder=EncoderConfig("tiny-test", crop_size=64, shape=TINY_SHAPE),
    train=TrainConfig(epochs=2),
    batch_size=16,
)
HEAD = read_config(DownstreamConfig, None, {"fine_tune.mode": "head", "fine_tune.head.epochs": 20})
SPLIT = SplitConfig(healpix_order=14, train=0.5, val=0.2, test=0.3)


@dataclass
class Cycle:
    """What the flows of one cycle made, in order."""

    settings: Settings
    release: SyntheticRelease
    receipt: Receipt
    encoder: EncoderRef
    embeddings: EmbeddingsRef
    embedded: Receipt
    evaluation: Evaluation


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRelease:
    return write_synthetic_release(tmp_path_factory.mktemp("release"), TINY)


@pytest.fixture(scope="module")
def home(
    empty_tracking: Path, tmp_path_factory: pytest.TempPathFactory, cluster: LocalCluster
) -> Iterator[Path]:
    """Return the home of the module, with a Dask cluster that its flows find by address."""
    path = shutil.copytree(empty_tracking, tmp_path_factory.mktemp("flows") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRICKYARD_HOME", str(path))
        patch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
        yield path


@pytest.fixture(scope="module")
def cycle(home: Path, release: SyntheticRelease) -> Cycle:
    """Run ingest, labels, pretrain, embed and finetune once."""
    settings = Settings()
    receipt = ingest_bricks(str(release.root))
    snapshot = find_snapshot(settings, SURVEY, receipt.snapshot_id)
    tables = [str(path) for path in release.truth_paths]
    import_labels.fn(settings, snapshot, tables, "morphology", "volunteers")
    encoder = pretrain_encoder(SURVEY, PRETRAIN)
    embeddings, embedded = embed_survey(SURVEY, encoder)
    evaluation = finetune_downstream("morphology", encoder, embeddings, HEAD, SPLIT)
    return Cycle(settings, release, receipt, encoder, embeddings, embedded, evaluation)


def test_every_brick_is_written_and_verified(cycle: Cycle):
    assert cycle.receipt.counts["written"] == cycle.receipt.total == 2
    assert {unit.name for unit in cycle.receipt.units} == set(cycle.release.bricknames)
    assert {unit.verification for unit in cycle.receipt.units} == {"verified"}
    assert cycle.receipt.objects > 30


def test_ingesting_again_writes_nothing(cycle: Cycle):
    again = ingest_bricks(str(cycle.release.root))
    assert again.counts["already_present"] == 2
    assert again.snapshot_id == cycle.receipt.snapshot_id
    assert again.objects == cycle.receipt.objects


def test_another_store_gets_the_same_content(cycle: Cycle, tmp_path, monkeypatch):
    monkeypatch.setenv("BRICKYARD_STORE", str(tmp_path / "store"))
    ingest_bricks(str(cycle.release.root), bricks=list(reversed(cycle.release.bricknames)))
    stores = (Path(cycle.settings.store_path), tmp_path / "store")
    sessions = [read_session(open_repository(store / "survey")) for store in stores]
    assert len({content_digest_of(session, SURVEY) for session in sessions}) == 1


def test_importing_labels_again_changes_nothing(cycle: Cycle):
    snapshot = find_snapshot(cycle.settings, SURVEY, None)
    tables = [str(path) for path in cycle.release.truth_paths]
    again = import_labels.fn(cycle.settings, snapshot, tables, "morphology", "volunteers")
    assert (again.written, again.corrected) == (0, 0)
    assert again.already_present > cycle.receipt.objects


def test_as_many_embeddings_come_out_as_objects_go_in(cycle: Cycle):
    assert cycle.embedded.counts["written"] == 2
    assert cycle.embedded.objects == cycle.receipt.objects
    from storage.brick_store import read_objects
    from tasks.snapshots import open_snapshot

    snapshot = find_snapshot(cycle.settings, SURVEY, None)
    objects = read_objects(open_snapshot(snapshot), SURVEY, catalogue=False)
    session = open_embeddings(cycle.embeddings)
    group = embedding_group(cycle.encoder.digest, SURVEY)
    vectors, ids = read_embeddings(session, group, objects["row"].to_numpy())
    assert len(vectors) == len(objects)
    assert ids["objid"].tolist() == objects["objid"].tolist()
    assert vectors.std(axis=0).max() > 0


def test_embedding_again_does_nothing(cycle: Cycle):
    reference, receipt = embed_survey(SURVEY, cycle.encoder)
    assert receipt.counts["already_present"] == 2
    assert reference.snapshot_id == cycle.embeddings.snapshot_id


def test_pretraining_made_its_loss_fall_and_was_tracked(cycle: Cycle):
    runs = tracking.find_runs(cycle.settings, "pretrain", {"encoder_digest": cycle.encoder.digest})
    history = tracking.read_artifact(cycle.settings, runs[0].run_id, "history.json")
    import json

    losses = [epoch["loss"] for epoch in json.loads(history)]
    assert len(losses) == 2
    assert losses[1] < losses[0]


def test_the_candidate_is_tracked_with_its_lineage(cycle: Cycle):
    tags = tracking.version_tags(cycle.settings, cycle.evaluation.model)
    assert tags["snapshot_id"] == cycle.receipt.snapshot_id
    assert tags["encoder_digest"] == cycle.encoder.digest
    assert tags["labels_digest"] == cycle.evaluation.labels_digest
    assert tags["flow_run_id"]
    assert set(cycle.evaluation.baselines) == {"majority class", "colours, logistic regression"}
    assert sum(map(sum, cycle.evaluation.confusion)) == cycle.evaluation.test_objects


def test_only_a_decision_makes_a_champion_and_then_a_catalogue(cycle: Cycle):
    settings = cycle.settings
    with pytest.raises(NoChampion, match="brickyard promote"):
        publish_catalogue("morphology", SURVEY)

    def approve(item):
        request = DecisionRequest(
            flow_run_id=item.flow_run_id,
            approve=True,
            reason="to see it move",
            seen_evidence=item.evidence_digest,
            override="two tiny bricks cannot hold enough test objects",
            proof="single-user",
            reviewer="a test",
        )
        decide(settings, LOCAL, request)

    with watch_for_decision(approve):
        outcome = promote_model("morphology", cycle.evaluation.model, timeout_seconds=300)
    assert outcome.status is PromotionStatus.APPROVED
    assert tracking.champion(settings, "morphology") == cycle.evaluation.model

    catalogue = publish_catalogue("morphology", SURVEY)
    rows, metadata = read_catalogue(Path(catalogue.path).parent)
    assert len(rows) == catalogue.rows == cycle.receipt.objects
    assert rows["object_id"].is_unique
    probabilities = rows[[name for name in rows if name.startswith("p_")]]
    assert probabilities.sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-4)
    assert metadata["model"]["digest"] == cycle.evaluation.model.digest

    again = finetune_downstream("morphology", cycle.encoder, cycle.embeddings, HEAD)
    assert again.split_digest == cycle.evaluation.split_digest  # the champion's rule is kept
    other = SplitConfig(healpix_order=14, train=0.4, val=0.2, test=0.4)
    moved = finetune_downstream("morphology", cycle.encoder, cycle.embeddings, HEAD, other)
    with pytest.raises(UnfairComparison, match="champion"):
        build_evidence.fn("morphology", moved.model)

    object_id = rows["object_id"].iloc[0]
    tree = trace_object(settings, object_id)
    assert tree["brick"]["brickname"] in cycle.release.bricknames
    assert all(len(digest) == 64 for digest in tree["brick"]["files"].values())
    assert tree["predictions"][0]["model"]["made_from"]["decision.reviewer"] == "a test"
    assert tree["embeddings"][0]["encoder_digest"] == cycle.encoder.digest


def test_an_object_that_does_not_exist_is_said_to_be_unknown(cycle: Cycle):
    with pytest.raises(UnknownObject, match="10000-1-1"):
        trace_object(cycle.settings, "10000-1-1")


def test_no_watcher_is_left_behind(cycle: Cycle):
    assert "watch-for-decision" not in {thread.name for thread in threading.enumerate()}
