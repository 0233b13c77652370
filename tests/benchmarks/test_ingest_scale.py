"""What ingest costs as a survey grows: a brick, a commit, a snapshot, a run with nothing to do.

The bricks are tiny, so that what is measured is what is not pixels: ledger, commits, scheduling.
"""

import resource
import time
from pathlib import Path

import icechunk
import pytest
from distributed import LocalCluster
from figures import Figure, record
from own_prefect import server_of_its_own
from tiny_bricks import TinyBrick

from flows.ingest import ingest_bricks
from flows.parameters import IngestRun
from storage.brick import IngestConfig
from storage.brick_store import BrickRecord, create_survey, record_bricks
from storage.bricks import brick_from_id
from storage.cutouts import CutoutConfig
from storage.repository import open_repository, snapshot_id, transaction
from storage.schema import BrickState, SurveyLayout
from tasks.brick_sources import BrickSource
from tasks.bricks import ingest_partition, partitions
from tasks.ingest_request import IngestRequest

SURVEY = "dr10/south"
FIRST_BRICK = 350_000
CONFIG = IngestConfig(cutout=CutoutConfig(size=8, edge="drop"))
BRICKS, BRICKS_PER_COMMIT = 1000, 50
DONE_BRICKS = 5000
NOOP_RUNS = 3
SURVEY_BRICKS, LEDGER_STEP = 366_898, 8192


def _names(count: int) -> list[str]:
    return [brick_from_id(FIRST_BRICK + number).brickname for number in range(count)]


def _write_bricks(root: Path, count: int) -> None:
    for number in range(count):
        TinyBrick(
            root,
            brick=brick_from_id(FIRST_BRICK + number),
            size=64,
            places=((30, 30),),
            fluxes=(50.0,),
            types=("EXP",),
        ).write()


def _link_bricks(root: Path, names: list[str]) -> None:
    """Write one brick and give its files to all names: a run that reads none cannot tell."""
    _write_bricks(root, 1)
    first = names[0]
    files = [path for path in root.rglob("*") if path.is_file()]
    for name in names[1:]:
        for path in files:
            old = str(path.relative_to(root))
            new = root / old.replace(f"/{first[:3]}/", f"/{name[:3]}/").replace(first, name)
            new.parent.mkdir(parents=True, exist_ok=True)
            new.hardlink_to(path)


def _snapshot_bytes(store: Path) -> int:
    """Return the size of the newest snapshot file: what every reader and every commit loads."""
    repository = store / "survey"
    return (repository / "snapshots" / snapshot_id(open_repository(repository))).stat().st_size


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_cost_of_a_brick_as_the_survey_grows(tmp_path):
    root = tmp_path / "release" / "south"
    _write_bricks(root, BRICKS)
    source = BrickSource(str(root), "south", CONFIG)
    request = IngestRequest(str(tmp_path / "store"), SURVEY, source, str(tmp_path / "log.jsonl"))
    seconds, sizes, peaks = [], [], []
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        for part in partitions(tuple(_names(BRICKS)), BRICKS_PER_COMMIT):
            start = time.perf_counter()
            ingest_partition.fn(cluster.scheduler_address, request, part)
            seconds.append((time.perf_counter() - start) / len(part))
            sizes.append(_snapshot_bytes(tmp_path / "store"))
            peaks.append(_peak_mib())
    early, late = seconds[1:5], seconds[-4:]  # the first partition imports and creates
    ratios = [one / other for one, other in zip(sorted(late), sorted(early), strict=True)]
    bound = f"the bricks {BRICKS_PER_COMMIT} to {5 * BRICKS_PER_COMMIT} of the same run"
    record(Figure("ingest.late_over_early_brick", "ratio", "about 1", bound, ratios))
    milliseconds = [1000 * value for value in late]
    what = f"{BRICKS_PER_COMMIT} tiny bricks a commit, 2 workers"
    record(Figure("ingest.tiny_brick_ms", "ms/brick", "reported", what, milliseconds))
    growth = (sizes[-1] - sizes[0]) / (BRICKS - BRICKS_PER_COMMIT)
    record(Figure("ingest.snapshot_bytes_per_brick", "bytes", "reported", "growth", [growth]))
    record(Figure("ingest.snapshot_bytes_at_1000", "bytes", "reported", "size", [sizes[-1]]))
    grown = peaks[-1] - peaks[len(peaks) // 4]
    record(Figure("ingest.coordinator_growth_mib", "MiB", "about 0", "last 750 bricks", [grown]))


def _records(start: int, count: int) -> list[BrickRecord]:
    """Return ledger rows as long as those of real bricks, receipts among them."""
    files = {f"legacysurvey-{start:08d}-image-{band}.fits.fz": "f" * 64 for band in "grz"}
    receipt = {"files": files | {name + "x": value for name, value in files.items()}}
    receipt |= {"without_cutout": {"no_data": list(range(20))}, "notes": ["a few words"] * 5}
    digests = {"content_digest": "c" * 64, "config_digest": "d" * 64, "fingerprint": "f" * 64}
    return [
        BrickRecord(
            f"{start + number:08d}", start + number, BrickState.EMPTY, receipt=receipt, **digests
        )
        for number in range(count)
    ]


def test_a_commit_into_the_ledger_of_a_whole_survey(tmp_path):
    path = tmp_path / "store" / "survey"
    path.parent.mkdir(parents=True)
    repository = open_repository(path, create=True)
    with transaction(repository, "create") as session:
        create_survey(session, SURVEY, SurveyLayout(("g", "r", "z")))
    seconds = {}
    for start in range(0, SURVEY_BRICKS, LEDGER_STEP):
        with transaction(repository, "fill") as session:
            record_bricks(session, SURVEY, _records(start, LEDGER_STEP))
        if start in (0, SURVEY_BRICKS // LEDGER_STEP * LEDGER_STEP):
            seconds[start] = [_commit_some(repository, start, turn) for turn in range(5)]
    (small, early), (large, late) = seconds.items()
    bound = f"64 more bricks into a ledger of {small + LEDGER_STEP}, in the same run"
    ratios = [one / other for one, other in zip(sorted(late), sorted(early), strict=True)]
    record(Figure("ingest.commit_ratio_at_366898", "ratio", "reported", bound, ratios))
    what = f"64 bricks more in a ledger of {large + LEDGER_STEP}"
    record(Figure("ingest.commit_seconds_at_366898", "s", "reported", what, late))
    size = _snapshot_bytes(tmp_path / "store")
    record(Figure("ingest.snapshot_bytes_at_366898", "bytes", "reported", "ledger alone", [size]))


def _commit_some(repository: icechunk.Repository, start: int, turn: int) -> float:
    begin = time.perf_counter()
    with transaction(repository, "some") as session:
        record_bricks(session, SURVEY, _records(10_000_000 + start + 64 * turn, 64))
    return time.perf_counter() - begin


@pytest.fixture
def done_survey(tmp_path, monkeypatch) -> Path:
    """Return a release whose bricks are all in the ledger, as an ingest leaves them."""
    root, store = tmp_path / "release" / "south", tmp_path / "home" / "store" / "survey"
    names = _names(DONE_BRICKS)
    _link_bricks(root, names)
    source = BrickSource(str(root), "south", CONFIG)
    seen, digest = source.fingerprints(names), source.config_digest()
    records = [
        BrickRecord(
            name,
            FIRST_BRICK + number,
            BrickState.EMPTY,
            config_digest=digest,
            fingerprint=seen[name],
            receipt={"notes": ["a few words"] * 20},
        )
        for number, name in enumerate(names)
    ]
    store.parent.mkdir(parents=True)
    with transaction(open_repository(store, create=True), "done") as session:
        create_survey(session, SURVEY, source.layout())
        record_bricks(session, SURVEY, records)
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path / "home"))
    return root


def test_a_run_with_nothing_to_do(done_survey, tmp_path):
    with server_of_its_own(tmp_path / "prefect"):
        seconds = []
        for _ in range(NOOP_RUNS + 1):
            start = time.perf_counter()
            receipt = ingest_bricks(str(done_survey), config=CONFIG, run=IngestRun())
            seconds.append(time.perf_counter() - start)
            assert receipt.counts["already_present"] == DONE_BRICKS
    milliseconds = [1000 * value / DONE_BRICKS for value in seconds[1:]]
    bound = f"the whole flow over {DONE_BRICKS} done bricks on a local disk, a list of files each"
    record(Figure("ingest.noop_ms_per_brick", "ms/brick", "<= 1", bound, milliseconds))
