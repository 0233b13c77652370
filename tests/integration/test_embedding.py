"""Embedding with real workers: what is counted, what is done again, what a lost worker costs."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster, WorkerPlugin
from small_survey import SURVEY, cutouts_of, withdraw_bricks, write_small_survey

import tasks.embedding_worker
from lvm.checkpoint import save_encoder
from lvm.forward import Forward, ForwardConfig
from lvm.testing import TinyEncoder
from storage.brick_store import read_objects
from storage.embedding_store import embedding_group, read_embeddings
from storage.repository import open_repository
from tasks.cluster import DASK_CONFIG
from tasks.embedding import (
    EmbedRun,
    close_embedding,
    embed_partition,
    open_embeddings,
    plan_embedding,
)
from tasks.receipts import read_units
from tasks.references import EncoderRef, Outcome, Receipt, SnapshotRef
from tasks.snapshots import open_snapshot

COUNTS = {"b1": 5, "b2": 70, "b3": 3, "b4": 8}
FORWARD = ForwardConfig(batch_size=4, device="cpu", precision="float32")


class Poison(WorkerPlugin):
    """Make every worker, and every one that takes its place, die of one brick."""

    name = "poison"

    def __init__(self, brickname: str) -> None:
        self.brickname = brickname

    def setup(self, worker) -> None:
        self.embed = tasks.embedding_worker.embed_bricks

        def embed(session, request, bricks):
            if self.brickname in bricks:
                os.kill(os.getpid(), signal.SIGKILL)
            return self.embed(session, request, bricks)

        tasks.embedding_worker.embed_bricks = embed

    def teardown(self, worker) -> None:
        tasks.embedding_worker.embed_bricks = self.embed


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Return the address of two workers; a call that kills one is given up at once."""
    with (
        dask.config.set({**DASK_CONFIG, "distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> EncoderRef:
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    return EncoderRef(path=str(folder), digest=save_encoder(TinyEncoder(), folder))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


class Embedding:
    """The tasks of the flow, called without Prefect."""

    def __init__(self, scheduler: str, encoder: EncoderRef, folder: Path) -> None:
        self.scheduler, self.encoder, self.folder = scheduler, encoder, folder
        self.runs = 0

    def plan(self, snapshot: SnapshotRef) -> tuple[str, ...]:
        return plan_embedding.fn(snapshot, self.encoder)

    def run(self, snapshot: SnapshotRef) -> EmbedRun:
        self.runs += 1
        return EmbedRun(snapshot, self.encoder, str(self.folder / f"{self.runs}.jsonl"), FORWARD)

    def embed(self, snapshot: SnapshotRef) -> tuple[dict[str, int], Receipt]:
        """Return the receipt of a whole run, and how often each outcome came."""
        run, names = self.run(snapshot), self.plan(snapshot)
        if names:
            embed_partition.fn(self.scheduler, run, names)
        self.reference, receipt = close_embedding.fn(run, names)
        return {key: count for key, count in receipt.counts.items() if count}, receipt

    def vectors(self, snapshot: SnapshotRef) -> dict[str, np.ndarray]:
        objects = read_objects(open_snapshot(snapshot), SURVEY, catalogue=False)
        found, _ = read_embeddings(
            open_embeddings(self.reference),
            embedding_group(self.encoder.digest, SURVEY),
            objects["row"].to_numpy(),
            expected=objects,
        )
        return {
            str(name): found[objects["brickname"].to_numpy() == name]
            for name in objects["brickname"].unique()
        }


@pytest.fixture
def embedding(scheduler: str, encoder: EncoderRef, tmp_path: Path) -> Embedding:
    return Embedding(scheduler, encoder, tmp_path)


def by_hand(number: int, count: int, version: int = 0) -> np.ndarray:
    """Return the embeddings of a brick's galaxies, which never were in a store."""
    made = cutouts_of(number, count, version=version)
    batch = {name: made[name].to_numpy() for name in ("image", "invvar", "maskbits")}
    [(_, values)] = Forward(TinyEncoder(), ForwardConfig(precision="float32")).embed([batch])
    return values


def test_every_object_has_its_embedding_and_one_object_one(embedding, store):
    snapshot = write_small_survey(store, COUNTS)
    counts, receipt = embedding.embed(snapshot)
    assert counts == {"written": len(COUNTS)}
    assert receipt.objects == sum(COUNTS.values())
    vectors = embedding.vectors(snapshot)
    for name, count in COUNTS.items():
        expected = by_hand(int(name[1:]), count)
        assert np.abs(vectors[name] - expected).max() < 0.01 * expected.std()


def test_the_commit_says_on_what_the_embeddings_were_made(embedding, store):
    embedding.embed(write_small_survey(store, COUNTS))
    newest = next(open_repository(store / "embeddings").ancestry(branch="main"))
    assert newest.metadata["made_on"] == {"cpu float32": sum(COUNTS.values())}
    assert newest.metadata["encoder_digest"] == embedding.encoder.digest


def test_only_new_and_changed_bricks_are_embedded_and_withdrawn_ones_are_not_missed(
    embedding, store
):
    embedding.embed(write_small_survey(store, COUNTS))
    assert embedding.plan(write_small_survey(store, {"b3": 3}, version=0)) == ()
    snapshot = write_small_survey(store, {"b3": 3, "b5": 2}, version=1)
    assert embedding.plan(snapshot) == ("b3", "b5")
    counts, receipt = embedding.embed(snapshot)
    assert counts == {"written": 2, "already_present": 3}
    assert receipt.objects == sum(COUNTS.values()) + 2
    expected = by_hand(3, 3, version=1)
    assert np.abs(embedding.vectors(snapshot)["b3"] - expected).max() < 0.01 * expected.std()
    counts, receipt = embedding.embed(withdraw_bricks(store, ["b2"]))
    assert counts == {"already_present": 4, "empty": 1}
    assert receipt.objects == sum(COUNTS.values()) + 2 - COUNTS["b2"]


def test_a_run_that_ended_early_is_taken_up_where_it_was(embedding, store):
    snapshot = write_small_survey(store, COUNTS)
    names = embedding.plan(snapshot)
    run = embedding.run(snapshot)
    assert embed_partition.fn(embedding.scheduler, run, names[:2]) == 2
    assert embedding.plan(snapshot) == names[2:]
    with pytest.raises(RuntimeError, match="86 objects went in and 75 embeddings came out"):
        close_embedding.fn(run, names)
    counts, _ = embedding.embed(snapshot)
    assert counts == {"written": 2, "already_present": 2}


def test_a_worker_loads_the_encoder_once(embedding, store):
    snapshot = write_small_survey(store, COUNTS)
    with Client(embedding.scheduler, set_as_default=False) as client:
        client.run(_forget_encoders)
        for version in (1, 2):
            snapshot = write_small_survey(store, COUNTS, version=version)
            embedding.embed(snapshot)
        loads, uses = zip(*client.run(_count_encoders).values(), strict=True)
    assert max(loads) == 1
    assert sum(uses) > 2 * sum(loads)


def _forget_encoders() -> None:
    tasks.embedding_worker._forward.cache_clear()


def _count_encoders() -> tuple[int, int]:
    found = tasks.embedding_worker._forward.cache_info()
    return found.misses, found.misses + found.hits


def test_an_encoder_that_is_replaced_meanwhile_fails_every_brick_and_is_told(
    scheduler, store, tmp_path
):
    folder = tmp_path / "encoder"
    meant = EncoderRef(path=str(folder), digest=save_encoder(TinyEncoder(), folder))
    embedding = Embedding(scheduler, meant, tmp_path)
    snapshot = write_small_survey(store, COUNTS)
    names, run = embedding.plan(snapshot), embedding.run(snapshot)
    shutil.rmtree(folder)
    save_encoder(TinyEncoder(seed=1), folder)
    assert embed_partition.fn(scheduler, run, names) == len(COUNTS)
    units = list(read_units(run.log))
    assert {unit.outcome for unit in units} == {Outcome.FAILED}
    assert all("was replaced" in unit.message for unit in units)
    _, receipt = close_embedding.fn(run, names)
    assert (receipt.counts["failed"], receipt.objects) == (len(COUNTS), 0)


@pytest.mark.drill
@pytest.mark.slow
def test_a_brick_that_kills_its_workers_costs_only_itself(embedding, store):
    snapshot = write_small_survey(store, COUNTS)
    with Client(embedding.scheduler, set_as_default=False) as client:
        client.register_plugin(Poison("b1"))
        try:
            counts, receipt = embedding.embed(snapshot)
        finally:
            client.unregister_worker_plugin("poison")
    assert counts == {"written": 3, "failed": 1}
    assert (receipt.units[0].name, receipt.units[0].outcome) == ("b1", Outcome.FAILED)
    assert "KilledWorker" in receipt.units[0].message
    assert receipt.objects == sum(COUNTS.values()) - COUNTS["b1"]
    counts, receipt = embedding.embed(snapshot)
    assert counts == {"written": 1, "already_present": 3}
    assert receipt.objects == sum(COUNTS.values())
