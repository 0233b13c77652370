"""How fast full-size bricks become cutouts in the store, against decoding, compressing and writing.

The bound is what no ingest can do without, done in one process by plain calls: decode the files,
take the same cutouts, compress and write them, commit. Half of its time is what two workers need
at best. What the ingest does besides (checksums, checks, statistics, ledger, receipts, Prefect,
Dask) is the rest, which the profile takes apart.
"""

import cProfile
import pstats
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from big_bricks import BANDS, SELECTED, write_big_bricks
from distributed import Client, LocalCluster
from figures import Figure, record
from prefect.testing.utilities import prefect_test_harness

from flows.ingest import ingest_bricks
from storage.brick import IngestConfig, read_brick, survey_brick
from storage.brick_store import allocate, create_survey, write_cutouts
from storage.checksums import hash_files
from storage.cutouts import cutout
from storage.legacysurvey import coadd_path, locate_brick_files
from storage.repository import fork, merge, open_repository, transaction
from storage.schema import PIXEL_ARRAYS, SurveyLayout

BRICKS, WORKERS, RUNS = 16, 2, 3
SURVEY = "dr10/south"
LAYOUT = SurveyLayout(BANDS)

# Stages of one brick in one process, by the functions that do them.
_STAGES = {
    "decode": ("coadds.py", "read_coadds"),
    "catalogue": ("tractor.py", "read_tractor"),
    "check": ("consistency.py", "check_catalogue"),
    "select": ("selection.py", "select"),
    "cut": ("brick.py", "_cut"),
    "statistics": ("statistics.py", "brick_statistics"),
}
_WRITING = {
    "validate": ("validation.py", "validate"),
    "round": ("rounding.py", "round_image"),
    "encode": ("shard_writer.py", "_encode"),
}


@dataclass(frozen=True)
class Release:
    """The bricks that are ingested, and where their selected objects are."""

    root: Path
    names: tuple[str, ...]
    expected: tuple[xr.Dataset, ...]  # objects without their pixels


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    root = tmp_path_factory.mktemp("release")
    names = write_big_bricks(root, BRICKS)
    blocks = [read_brick(root, name).dataset for name in names]
    assert [block.sizes["object"] for block in blocks] == [SELECTED] * BRICKS
    return Release(root, names, tuple(block.drop_vars(PIXEL_ARRAYS) for block in blocks))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with (
        prefect_test_harness(server_startup_timeout=120),
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0") as cluster,
    ):
        yield cluster


def _bound(release: Release, home: Path) -> tuple[float, float]:
    """Return wall and processor seconds of decoding, compressing and writing, in one process."""
    start = time.perf_counter(), time.process_time()
    repository = open_repository(home / "survey", create=True)
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, LAYOUT)
        rows = allocate(session, SURVEY, dict.fromkeys(release.names, SELECTED))
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        for name, objects in zip(release.names, release.expected, strict=True):
            write_cutouts(child, SURVEY, rows[name], _decoded(release.root, name, objects))
        merge(session, [child])
    return time.perf_counter() - start[0], time.process_time() - start[1]


def _decoded(root: Path, name: str, objects: xr.Dataset) -> xr.Dataset:
    columns = list(objects["column"].values)
    x, y = (objects["catalogue"].values[:, columns.index(place)] for place in ("bx", "by"))

    def cut(kind: str, band: str | None = None) -> np.ndarray:
        image = fits.getdata(coadd_path(root, name, kind, band), 1)
        return np.stack([cutout(image, *place, LAYOUT.size) for place in zip(y, x, strict=True)])

    cube = ("object", "band", "y", "x")
    return objects.assign(
        image=(cube, np.stack([cut("image", band) for band in BANDS], axis=1)),
        invvar=(cube, np.stack([cut("invvar", band) for band in BANDS], axis=1)),
        maskbits=(("object", "y", "x"), cut("maskbits").astype(np.int32)),
    )


def _ingest(
    release: Release, home: Path, cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> tuple[float, float]:
    """Return wall seconds of the flow, and processor seconds of this process and the workers."""
    monkeypatch.setenv("BRICKYARD_HOME", str(home))
    monkeypatch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
    with Client(cluster) as client:
        before = sum(client.run(time.process_time).values()) + time.process_time()
        start = time.perf_counter()
        receipt = ingest_bricks(str(release.root), bricks=list(release.names))
        wall = time.perf_counter() - start
        after = sum(client.run(time.process_time).values()) + time.process_time()
    assert receipt.objects == SELECTED * len(release.names)
    return wall, after - before


def test_ingest(release, cluster, tmp_path, monkeypatch):
    few = Release(release.root, release.names[:WORKERS], release.expected[:WORKERS])
    _ingest(few, tmp_path / "warm", cluster, monkeypatch)  # imports, page cache
    _bound(few, tmp_path / "warm-bound")
    wall, cpu, speed = [], [], []
    for run in range(RUNS):
        bound = _bound(release, tmp_path / f"bound-{run}")
        found = _ingest(release, tmp_path / f"ingest-{run}", cluster, monkeypatch)
        wall.append(found[0] / (bound[0] / WORKERS))
        cpu.append(found[1] / bound[1])
        speed.append(found[0] / BRICKS)
    bound = (
        f"{BRICKS} bricks of 3600 x 3600, {SELECTED} cutouts each: decode, compress, write and "
        f"commit in one process, divided by {WORKERS}"
    )
    record(Figure("ingest.wall_over_bound", "ratio", "<= 1.3", bound, wall))
    record(
        Figure(
            "ingest.cpu_over_bound",
            "ratio",
            "reported",
            "the same in processor seconds of flow and workers, which other load disturbs less",
            cpu,
        )
    )
    record(Figure("ingest.seconds_per_brick", "s", "reported", "none: two workers", speed))


def test_ingest_profile(release, tmp_path):
    config = IngestConfig()
    repository = open_repository(tmp_path / "survey", create=True)
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, LAYOUT)
        rows = allocate(session, SURVEY, dict.fromkeys(release.names, SELECTED))
    seconds: dict[str, list[float]] = {}
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        for name in release.names[: RUNS + 1]:
            for stage, value in _stages(release.root, name, config, (child, rows[name])).items():
                seconds.setdefault(stage, []).append(value)
        merge(session, [child])
    for stage, values in seconds.items():
        bound = "one brick in one process, wall time; the first brick, which warms up, left out"
        record(Figure(f"ingest.profile.{stage}", "s/brick", "reported", bound, values[1:]))


def _stages(root: Path, name: str, config: IngestConfig, target: tuple) -> dict[str, float]:
    """Return the seconds of each stage of one brick."""
    found = {}
    start = time.perf_counter()
    survey_brick(root, name, config)
    found["plan"] = time.perf_counter() - start
    start = time.perf_counter()
    hash_files(locate_brick_files(root, name, config.bands, None), True)
    found["hash_beside_decode"] = time.perf_counter() - start
    reading, writing = cProfile.Profile(), cProfile.Profile()
    brick = reading.runcall(read_brick, root, name, config=config)
    writing.runcall(write_cutouts, child := target[0], SURVEY, target[1], brick.dataset)
    assert child.has_uncommitted_changes
    found |= _split(reading, _STAGES, ("brick.py", "read_brick"), "read_rest")
    return found | _split(writing, _WRITING, ("brick_store.py", "write_cutouts"), "write_rest")


def _split(
    profile: cProfile.Profile, stages: dict[str, tuple[str, str]], whole: tuple[str, str], rest: str
) -> dict[str, float]:
    totals: dict[tuple[str, str], float] = {}
    for (file, _, function), numbers in pstats.Stats(profile).stats.items():
        key = (Path(file).name, function)
        totals[key] = totals.get(key, 0.0) + numbers[3]
    found = {stage: totals.get(key, 0.0) for stage, key in stages.items()}
    return found | {rest: totals[whole] - sum(found.values())}
