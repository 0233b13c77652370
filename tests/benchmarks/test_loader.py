"""How fast cutouts come out of the store, also against a folder of JPEG files of the same."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import icechunk
import numpy as np
import pytest
import xarray as xr
import zarr
from figures import Figure, record
from PIL import Image
from zarr.buffer import default_buffer_prototype

from storage.batches import READ_THREADS, SHUFFLE_BLOCK_ROWS, iterate_batches
from storage.brick_store import (
    BrickRecord,
    allocate,
    create_survey,
    record_bricks,
    write_cutouts,
)
from storage.repository import fork, merge, open_repository, read_session, transaction
from storage.schema import CHUNK_ROWS, SHARD_ROWS, BrickState, SurveyLayout, catalogue_columns
from storage.shard_layout import chunk_key, codec_of, spans

SURVEY, BANDS, SIZE = "dr10/south", ("g", "r", "z"), 152
N_BRICKS, BRICK_OBJECTS = 8, 192
ROWS = np.arange(N_BRICKS * BRICK_OBJECTS)
BATCH_SIZE = 256
RUNS = 5
NOISE = np.array([0.004, 0.006, 0.02], np.float32)[:, None, None]  # DR9 depth [nanomaggy/pixel]


def _block(brickid: int) -> xr.Dataset:
    """Return cutouts with the noise of the survey, a galaxy each and a star in every third."""
    rng = np.random.default_rng(brickid)
    shape = (BRICK_OBJECTS, len(BANDS), SIZE, SIZE)
    image = rng.standard_normal(shape, np.float32) * NOISE
    y, x = np.mgrid[:SIZE, :SIZE].astype(np.float32) - SIZE // 2
    image += np.exp(-np.hypot(y, x) / 6) * NOISE * 30
    image[::3] += 5e3 * NOISE * np.exp(-((y - 40) ** 2 + (x + 30) ** 2) / 8)
    depth = 16 * np.round(rng.uniform(50, 70, (*shape[:2], 1, SIZE)))  # whole chips in a column
    columns = catalogue_columns(BANDS)
    return xr.Dataset(
        {
            "image": (("object", "band", "y", "x"), image),
            "invvar": (
                ("object", "band", "y", "x"),
                np.broadcast_to(depth, shape).astype(np.float32) / (1000 * NOISE**2),
            ),
            "maskbits": (
                ("object", "y", "x"),
                np.where(np.hypot(y - 40, x + 30) < 5, 2, 0).astype(np.int32)[None]
                * np.ones((BRICK_OBJECTS, 1, 1), np.int32),
            ),
            "release": ("object", np.full(BRICK_OBJECTS, 10000, np.int32)),
            "brickid": ("object", np.full(BRICK_OBJECTS, brickid, np.int32)),
            "objid": ("object", np.arange(BRICK_OBJECTS, dtype=np.int64)),
            "ra": ("object", np.zeros(BRICK_OBJECTS)),
            "dec": ("object", np.zeros(BRICK_OBJECTS)),
            "type": ("object", np.zeros(BRICK_OBJECTS, np.uint8)),
            "catalogue": (
                ("object", "column"),
                np.zeros((BRICK_OBJECTS, len(columns)), np.float32),
            ),
        },
        coords={"band": list(BANDS), "column": list(columns)},
    )


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> icechunk.Session:
    repository = open_repository(tmp_path_factory.mktemp("store") / "survey", create=True)
    names = [f"b{number}" for number in range(N_BRICKS)]
    with transaction(repository, "rows") as session:
        create_survey(session, SURVEY, SurveyLayout(BANDS, SIZE))
        ranges = allocate(session, SURVEY, dict.fromkeys(names, BRICK_OBJECTS))
    with transaction(repository, "cutouts") as session:
        child = fork(session)
        for number, name in enumerate(names):
            write_cutouts(child, SURVEY, ranges[name], _block(number))
        merge(session, [child])
        records = [
            BrickRecord(name, number, BrickState.WRITTEN, ranges[name], BRICK_OBJECTS)
            for number, name in enumerate(names)
        ]
        record_bricks(session, SURVEY, records)
    return read_session(repository)


@pytest.fixture(scope="module")
def jpeg_folder(tmp_path_factory: pytest.TempPathFactory, survey: icechunk.Session) -> Path:
    folder = tmp_path_factory.mktemp("jpeg")
    for batch in iterate_batches(survey, SURVEY, ROWS, BATCH_SIZE, fields=["image"]):
        scaled = np.arcsinh(batch.image / NOISE) * 20 + 60
        pictures = np.clip(scaled, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        for row, picture in zip(batch.rows, pictures, strict=True):
            Image.fromarray(np.ascontiguousarray(picture)).save(folder / f"{row}.jpg", quality=92)
    return folder


def _store_rate(survey: icechunk.Session, fields: list[str]) -> tuple[float, float]:
    """Return cutouts a second, and processor microseconds a cutout."""
    start, processor = time.perf_counter(), time.process_time()
    shuffle = np.random.default_rng(0)
    batches = iterate_batches(survey, SURVEY, ROWS, BATCH_SIZE, shuffle=shuffle, fields=fields)
    count = sum(len(batch.image) for batch in batches)
    assert count == len(ROWS)
    microseconds = (time.process_time() - processor) / count * 1e6
    return count / (time.perf_counter() - start), microseconds


@pytest.fixture(scope="module")
def plain_files(tmp_path_factory: pytest.TempPathFactory, survey: icechunk.Session) -> list[Path]:
    """Write the packed chunks of every shard of images into a file of its own."""
    folder = tmp_path_factory.mktemp("plain")
    image = zarr.open_group(survey.store, mode="r")[f"{SURVEY}/image"]
    paths = []
    for shard in range(len(ROWS) // SHARD_ROWS):
        path = folder / f"{shard}.bin"
        data = asyncio.run(survey.store.get(chunk_key(image, shard), default_buffer_prototype()))
        path.write_bytes(data.to_bytes())
        paths.append(path)
    return paths


def _plain_rate(survey: icechunk.Session, paths: list[Path]) -> float:
    """Return cutouts a second of reading files, decoding chunks and placing rows, no more."""
    image = zarr.open_group(survey.store, mode="r")[f"{SURVEY}/image"]
    codec, chunks = codec_of(image), list(range(SHARD_ROWS // CHUNK_ROWS))
    shape = (len(BANDS), SIZE, SIZE)
    order = np.random.default_rng(0).permutation(ROWS)
    places = np.argsort(order) % SHUFFLE_BLOCK_ROWS  # as in a block of the loader
    target = [np.zeros((SHUFFLE_BLOCK_ROWS, *shape), np.float32) for _ in range(READ_THREADS)]
    values = [np.zeros((CHUNK_ROWS, *shape), np.float32) for _ in range(READ_THREADS)]
    packed = [np.zeros(max(path.stat().st_size for path in paths), np.uint8) for _ in target]

    def read(thread: int) -> None:
        for shard in range(thread, len(paths), READ_THREADS):
            with paths[shard].open("rb", buffering=0) as file:
                data = packed[thread][: file.readinto(packed[thread].data)]
            for chunk, span in enumerate(spans(data, chunks, paths[shard].name)):
                codec.decode(data[slice(*span)], values[thread])
                first = shard * SHARD_ROWS + chunk * CHUNK_ROWS
                for row in range(CHUNK_ROWS):
                    target[thread][places[first + row]] = values[thread][row]

    with ThreadPoolExecutor(READ_THREADS) as executor:
        start = time.perf_counter()
        list(executor.map(read, range(READ_THREADS)))
    return len(paths) * SHARD_ROWS / (time.perf_counter() - start)


def _read_jpeg(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture, np.float32).transpose(2, 0, 1)


def _jpeg_rate(folder: Path) -> float:
    order = np.random.default_rng(0).permutation(ROWS)
    start = time.perf_counter()
    count = 0
    with ThreadPoolExecutor(READ_THREADS) as executor:
        for first in range(0, len(order), BATCH_SIZE):
            paths = [folder / f"{row}.jpg" for row in order[first : first + BATCH_SIZE]]
            count += len(np.stack(list(executor.map(_read_jpeg, paths))))
    return count / (time.perf_counter() - start)


def test_loader(survey, jpeg_folder, plain_files):
    for fields in (["image"], ["image", "invvar", "maskbits"]):
        _store_rate(survey, fields)  # warm up: memory and page cache
    _plain_rate(survey, plain_files)
    store, processor, everything, jpeg, plain = [], [], [], [], []
    for _ in range(RUNS):
        rate, microseconds = _store_rate(survey, ["image"])
        store.append(rate)
        processor.append(microseconds)
        everything.append(_store_rate(survey, ["image", "invvar", "maskbits"])[0])
        jpeg.append(_jpeg_rate(jpeg_folder))
        plain.append(rate / _plain_rate(survey, plain_files))
    bound = "none: images 3x152x152 float32, shuffled, two reading threads"
    record(Figure("loader.cutouts_per_second", "cutouts/s", ">= 10000", bound, store))
    record(
        Figure(
            "loader.cpu_us_per_cutout",
            "us",
            "<= 200",
            "two cores that are free give 2e6 / this a second",
            processor,
        )
    )
    record(
        Figure(
            "loader.with_invvar_and_mask_per_second",
            "cutouts/s",
            "reported",
            "as above, with invvar float32 and maskbits int32",
            everything,
        )
    )
    ratios = [one / other for one, other in zip(store, jpeg, strict=True)]
    record(
        Figure(
            "loader.over_jpeg_folder",
            "ratio",
            ">= 3",
            "PIL on a folder of JPEG files of the same cutouts, as many threads",
            ratios,
        )
    )
    bound = (
        "files of the same bytes, decoded and placed by plain calls into memory in use, two threads"
    )
    record(Figure("loader.over_plain_reads", "ratio", "reported", bound, plain))
