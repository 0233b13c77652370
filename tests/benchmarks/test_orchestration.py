"""What orchestration costs: a cycle with nothing to do, and a cycle against plain calls.

The second compares the flow of a whole cycle (ingest, embed, predict, publish) over full-size
bricks with the same functions called without Prefect, on the same two workers, by turns.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from big_bricks import SELECTED, write_big_bricks
from champions import make_champion
from distributed import LocalCluster
from figures import Figure, record
from own_prefect import server_of_its_own
from prefect import Task
from tiny_bricks import TinyBrick

import flows.embed
import flows.ingest
import flows.predict
import flows.survey_cycle
from flows.survey_cycle import CycleConfig, run_survey_cycle
from lvm.checkpoint import encoder_document, load_encoder, save_encoder
from lvm.testing import TinyEncoder
from lvm.weights import shipped_weights
from storage.brick import IngestConfig
from storage.brick_rows import RowRange
from storage.brick_store import BrickRecord, create_survey, record_bricks
from storage.bricks import brick_from_id
from storage.cutouts import CutoutConfig
from storage.embedding_store import (
    EmbeddedBrick,
    EmbeddingLayout,
    create_embeddings,
    embedding_group,
    record_embedded,
)
from storage.repository import open_repository, transaction
from storage.schema import SHARD_ROWS, BrickState
from tasks.brick_sources import BrickSource
from tasks.prediction import written_bricks
from tasks.prediction_files import prediction_path
from tasks.publication import propose
from tasks.references import ModelRef
from tasks.releases import MANIFEST, Release, folder_of
from tasks.settings import Settings
from tasks.snapshots import find_snapshot

SURVEY = "dr10/south"
DONE_BRICKS, NOOP_RUNS = 10_000, 3
FIRST_BRICK = 350_000
TINY = IngestConfig(cutout=CutoutConfig(size=8, edge="drop"))
BRICKS, RUNS = 16, 3


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with server_of_its_own(tmp_path_factory.mktemp("prefect")):
        yield


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path / "home"))
    return Settings()


def _link_bricks(root: Path, names: list[str]) -> None:
    """Write one brick and give its files to all names: a run that reads none cannot tell."""
    brick = brick_from_id(FIRST_BRICK)
    TinyBrick(
        root, brick=brick, size=64, places=((30, 30),), fluxes=(50.0,), types=("EXP",)
    ).write()
    files = [path for path in root.rglob("*") if path.is_file()]
    for name in names[1:]:
        for path in files:
            old = str(path.relative_to(root)).replace(f"/{names[0][:3]}/", f"/{name[:3]}/")
            new = root / old.replace(names[0], name)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.hardlink_to(path)


def _fill_store(settings: Settings, root: Path, names: list[str]) -> None:
    """Write the ledgers of a survey whose bricks are ingested, one object each, and embedded."""
    source = BrickSource(str(root), "south", TINY)
    seen, digest = source.fingerprints(names), source.config_digest()
    rows = {name: RowRange(SHARD_ROWS * place, SHARD_ROWS) for place, name in enumerate(names)}
    records = [
        BrickRecord(
            name,
            FIRST_BRICK + place,
            BrickState.WRITTEN,
            rows[name],
            1,
            content_digest=f"{place:064d}",
            config_digest=digest,
            fingerprint=seen[name],
            receipt={"notes": ["a few words"] * 20},
        )
        for place, name in enumerate(names)
    ]
    store = Path(settings.store_path)
    store.mkdir(parents=True)
    with transaction(open_repository(store / "survey", create=True), "done") as session:
        create_survey(session, SURVEY, source.layout())
        record_bricks(session, SURVEY, records)
    encoder, place = TinyEncoder(), settings.encoder_path / "tiny"
    encoder_digest = save_encoder(encoder, place)
    place.rename(settings.encoder_path / encoder_digest[:16])
    snapshot = find_snapshot(settings, SURVEY, None)
    versions = written_bricks(snapshot)["version"]
    done = [
        EmbeddedBrick(name, rows[name], 1, versions[name], snapshot.snapshot_id) for name in names
    ]
    layout = EmbeddingLayout(
        encoder_digest, encoder.spec.width, encoder_document(encoder)["preprocess"]
    )
    with transaction(open_repository(store / "embeddings", create=True), "done") as session:
        create_embeddings(session, SURVEY, layout)
        record_embedded(session, embedding_group(encoder_digest, SURVEY), done)


def _fill_catalogue(settings: Settings, model: ModelRef) -> None:
    """Write what a finished cycle leaves: a file of every brick, and a release of this state."""
    snapshot = find_snapshot(settings, SURVEY, None)
    for name, version in written_bricks(snapshot)["version"].items():
        path = prediction_path(settings, SURVEY, model, str(name), version)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()  # planning looks at names
    proposal = propose.fn(settings, snapshot, model)
    release = Release(
        tag=proposal.tag,
        number=1,
        survey=SURVEY,
        downstream=model.downstream,
        created_at=datetime.now(UTC).isoformat(),
        code_version="benchmark",
        rows=proposal.rows,
        bricks=proposal.bricks,
        state=proposal.state,
        previous="",
        model=model,
        snapshot=snapshot,
        formats=proposal.formats,
        files={},
    )
    folder = folder_of(settings, release)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(release.model_dump_json())


def test_a_cycle_with_nothing_to_do(settings: Settings, tmp_path: Path):
    root = tmp_path / "release" / "south"
    names = [brick_from_id(FIRST_BRICK + number).brickname for number in range(DONE_BRICKS)]
    _link_bricks(root, names)
    _fill_store(settings, root, names)
    _fill_catalogue(settings, make_champion(settings))
    seconds = []
    for _ in range(NOOP_RUNS + 1):
        start = time.perf_counter()
        result = run_survey_cycle(str(root), SURVEY, config=CycleConfig(ingest=TINY))
        seconds.append(time.perf_counter() - start)
        assert result.receipt.counts["already_present"] == DONE_BRICKS
        assert result.embedded[0].counts["already_present"] == DONE_BRICKS
        assert result.record.steps["predict"].bricks == 0
        assert result.catalogues[0].rows == DONE_BRICKS
    bound = f"{DONE_BRICKS} done bricks: ingest, embed, predict, publish; one encoder, one champion"
    record(Figure("orchestration.noop_cycle", "s", "seconds", bound, seconds[1:]))


@contextmanager
def plain_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the plain functions in the places of flows and tasks."""
    modules = (flows.ingest, flows.embed, flows.predict, flows.survey_cycle)
    with monkeypatch.context() as patch:
        for module in modules:
            for name, value in list(vars(module).items()):
                if isinstance(value, Task):
                    patch.setattr(module, name, value.fn)
        for name in ("ingest_bricks", "embed_survey"):
            patch.setattr(flows.survey_cycle, name, getattr(flows.survey_cycle, name).fn)
        yield


def test_a_cycle_against_plain_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "release"
    write_big_bricks(root, BRICKS)
    encoder = load_encoder(shipped_weights("nano-synthetic"))
    config = CycleConfig(encoder="nano-synthetic")
    ratios = []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        monkeypatch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
        for run in range(RUNS + 1):  # in the first, workers import what they need
            seconds = {}
            for kind in ("plain", "flow") if run % 2 else ("flow", "plain"):
                monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path / f"{kind}-{run}"))
                make_champion(Settings(), encoder=encoder)
                start = time.perf_counter()
                if kind == "flow":
                    result = run_survey_cycle(str(root), SURVEY, config=config)
                else:
                    with plain_calls(monkeypatch):
                        result = run_survey_cycle.fn(str(root), SURVEY, config=config)
                seconds[kind] = time.perf_counter() - start
                assert result.catalogues[0].rows == BRICKS * SELECTED
            ratios.append(seconds["flow"] / seconds["plain"] - 1)
    bound = f"the same cycle of {BRICKS} full bricks by plain calls, by turns on the same 2 workers"
    record(Figure("orchestration.overhead", "ratio", "<= 0.02", bound, ratios[1:]))
