"""How fast full-size bricks become cutouts in the store, against decoding, compressing and writing.

The bound is what no ingest can do without, done in one process by plain calls: decode the files,
take the same cutouts, compress and write them, commit. Half of its time is what two workers need
at best. What the ingest does besides (checksums, checks, statistics, ledger, receipts, Prefect,
Dask) is the rest, which the profile takes apart.

The bound decodes with astropy, in a process as Python starts it. A second one has what the ingest
has, its decoder and a worker that keeps its memory: what is above that is the ingest's own doing.
"""

import cProfile
import pstats
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.io.fits.hdu.base import BITPIX2DTYPE
from big_bricks import BANDS, SELECTED, write_big_bricks
from distributed import Client
from figures import Figure, record
from own_prefect import server_of_its_own

from flows.ingest import ingest_bricks
from storage.brick import IngestConfig, read_brick, survey_brick
from storage.brick_store import allocate, create_survey, write_cutouts
from storage.checksums import hash_files
from storage.cutouts import cutout
from storage.fits_files import read_image, read_image_header
from storage.legacysurvey import coadd_path, locate_brick_files
from storage.repository import fork, merge, open_repository, transaction
from storage.schema import PIXEL_ARRAYS, SurveyLayout
from tasks.cluster import open_cluster
from tasks.settings import Settings

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
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Prefect server, and the cluster of flows on one machine; return its address."""
    home = tmp_path_factory.mktemp("prefect")
    with (
        server_of_its_own(home),
        open_cluster(Settings(home=home, workers=WORKERS)) as address,
    ):
        yield address


def astropy_pixels(path: Path) -> np.ndarray:
    return fits.getdata(path, 1)


def own_pixels(path: Path) -> np.ndarray:
    shape, header = read_image_header(path)
    return read_image(path, None, np.empty(shape, BITPIX2DTYPE[header["BITPIX"]]))[0]


def _bound(
    release: Release, home: Path, pixels: Callable[[Path], np.ndarray] = astropy_pixels
) -> tuple[float, float]:
    """Return wall and processor seconds of decoding, compressing and writing, in one process."""
    start = time.perf_counter(), time.process_time()
    repository = open_repository(home / "survey", create=True)
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, LAYOUT)
        rows = allocate(session, SURVEY, dict.fromkeys(release.names, SELECTED))
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        for name, objects in zip(release.names, release.expected, strict=True):
            found = _decoded(release.root, name, objects, pixels)
            write_cutouts(child, SURVEY, rows[name], found)
        merge(session, [child])
    return time.perf_counter() - start[0], time.process_time() - start[1]


def _decoded(
    root: Path, name: str, objects: xr.Dataset, pixels: Callable[[Path], np.ndarray]
) -> xr.Dataset:
    columns = list(objects["column"].values)
    x, y = (objects["catalogue"].values[:, columns.index(place)] for place in ("bx", "by"))

    def cut(kind: str, band: str | None = None) -> np.ndarray:
        image = pixels(coadd_path(root, name, kind, band))
        return np.stack([cutout(image, *place, LAYOUT.size) for place in zip(y, x, strict=True)])

    cube = ("object", "band", "y", "x")
    return objects.assign(
        image=(cube, np.stack([cut("image", band) for band in BANDS], axis=1)),
        invvar=(cube, np.stack([cut("invvar", band) for band in BANDS], axis=1)),
        maskbits=(("object", "y", "x"), cut("maskbits").astype(np.int32)),
    )


def _ingest(
    release: Release, home: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[float, float]:
    """Return wall seconds of the flow, and processor seconds of this process and the workers."""
    monkeypatch.setenv("BRICKYARD_HOME", str(home))
    monkeypatch.setenv("BRICKYARD_SCHEDULER", scheduler)
    with Client(scheduler, set_as_default=False) as client:
        before = sum(client.run(time.process_time).values()) + time.process_time()
        start = time.perf_counter()
        receipt = ingest_bricks(str(release.root), bricks=list(release.names))
        wall = time.perf_counter() - start
        after = sum(client.run(time.process_time).values()) + time.process_time()
    assert receipt.objects == SELECTED * len(release.names)
    return wall, after - before


def _bound_in_worker(release: Release, home: Path, scheduler: str) -> float:
    """Return the wall seconds of the bound in a worker, with the decoder of the ingest."""
    with Client(scheduler, set_as_default=False) as client:
        worker = next(iter(client.ncores()))
        call = client.submit(_bound, release, home, own_pixels, workers=[worker], pure=False)
        return call.result()[0]


def test_ingest(release, scheduler, tmp_path, monkeypatch):
    few = Release(release.root, release.names[:WORKERS], release.expected[:WORKERS])
    _ingest(few, tmp_path / "warm", scheduler, monkeypatch)  # imports, page cache
    _bound(few, tmp_path / "warm-bound")
    _bound_in_worker(few, tmp_path / "warm-worker", scheduler)
    wall, own, cpu, speed = [], [], [], []
    for run in range(RUNS):
        bound = _bound(release, tmp_path / f"bound-{run}")
        found = _ingest(release, tmp_path / f"ingest-{run}", scheduler, monkeypatch)
        with_ours = _bound_in_worker(release, tmp_path / f"own-{run}", scheduler)
        wall.append(found[0] / (bound[0] / WORKERS))
        own.append(found[0] / (with_ours / WORKERS))
        cpu.append(found[1] / bound[1])
        speed.append(found[0] / BRICKS)
    what = (
        f"{BRICKS} bricks of 3600 x 3600, {SELECTED} cutouts each: decode (astropy), compress, "
        f"write and commit in one process, divided by {WORKERS}"
    )
    record(Figure("ingest.wall_over_bound", "ratio", "<= 1.3", what, wall))
    own_bound = "the same with the ingest's decoder, in a worker that keeps its memory"
    record(Figure("ingest.wall_over_own_bound", "ratio", "reported", own_bound, own))
    busy = "as wall_over_bound, in processor seconds, which other load disturbs less"
    record(Figure("ingest.cpu_over_bound", "ratio", "reported", busy, cpu))
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
