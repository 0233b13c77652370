"""Search among a million embeddings; what an encoder calls rare; the same object in two cameras."""

import resource
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from figures import Figure, record
from scipy.ndimage import gaussian_filter

import lvm
from lvm import create_encoder, embed, load_encoder
from lvm.encoder import EncoderConfig
from storage.brick import read_brick
from storage.drift.counterparts import find_counterparts
from storage.drift.two_sample import compare
from storage.search.vector_index import IndexConfig, build_index, centred, open_index
from storage.synthetic import SyntheticConfig, write_synthetic_release
from tasks.anomaly import AnomalyConfig, rarity_of

TOTAL, WIDTH, KINDS = 1_000_000, 192, 2000
BLOCK = 50_000
QUERIES, NEAREST = 500, 10
SHIPPED = Path(lvm.__file__).parent / "weights" / "nano-synthetic"
RELEASE = SyntheticConfig(
    count=2, brick_size=1400, density=8.0, bright_tilt=0.2, seed=11, processes=1, artefact_rate=0.0
)
FWHM_TO_SIGMA, PIXEL_ARCSEC = 2.3548, 0.262


def _vectors(total: int, seed: int = 0) -> np.ndarray:
    """Return embeddings of kinds of very different numbers that overlap; few features say most."""
    rng = np.random.default_rng(seed)
    weight = (1.0 + np.arange(WIDTH)) ** -0.75
    kinds = rng.standard_normal((KINDS, WIDTH)) * weight
    share = (1.0 + np.arange(KINDS)) ** -0.8
    scatter = rng.uniform(0.3, 0.8, KINDS)
    turn = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    found = np.empty((total, WIDTH), np.float16)
    for start in range(0, total, BLOCK):
        count = min(BLOCK, total - start)
        kind = rng.choice(KINDS, count, p=share / share.sum())
        noise = rng.standard_normal((count, WIDTH)) * weight * scatter[kind, None]
        found[start : start + count] = 0.5 + (kinds[kind] + noise) @ turn
    return found


def _true_neighbours(vectors: np.ndarray, queries: np.ndarray, mean: np.ndarray) -> np.ndarray:
    unit = centred(queries, mean)
    best = np.full((len(queries), NEAREST), -2, np.float32)
    rows = np.zeros((len(queries), NEAREST), np.int64)
    for start in range(0, len(vectors), BLOCK):
        similar = unit @ centred(vectors[start : start + BLOCK], mean).T
        best = np.concatenate([best, similar], axis=1)
        rows = np.concatenate(
            [rows, np.tile(np.arange(similar.shape[1]) + start, (len(unit), 1))], 1
        )
        order = np.argpartition(-best, NEAREST - 1, axis=1)[:, :NEAREST]
        best, rows = (np.take_along_axis(values, order, axis=1) for values in (best, rows))
    return rows


def test_search(tmp_path):
    faiss.omp_set_num_threads(2)
    everything = _vectors(TOTAL + QUERIES)
    vectors, queries = everything[:TOTAL], everything[TOTAL:]
    config = IndexConfig()
    rng = np.random.default_rng(1)
    sample = vectors[np.sort(rng.choice(TOTAL, config.sample_size(TOTAL), replace=False))]
    blocks = ((np.arange(k, k + BLOCK), vectors[k : k + BLOCK]) for k in range(0, TOTAL, BLOCK))
    before, cpu_before = time.perf_counter(), time.process_time()
    build_index(tmp_path, blocks, sample, TOTAL, config)
    wall, cpu = time.perf_counter() - before, time.process_time() - cpu_before
    index = open_index(tmp_path, config.probes)
    mean = np.load(tmp_path / "mean.npy")
    _, rows = index.search(queries, NEAREST)
    true = _true_neighbours(vectors, queries, mean)
    recall = np.mean([len(set(a) & set(b)) / NEAREST for a, b in zip(rows, true, strict=True)])
    latencies = []
    for query in queries:
        start = time.perf_counter()
        index.search(query[None], NEAREST)
        latencies.append(1e3 * (time.perf_counter() - start))
    size = sum(file.stat().st_size for file in tmp_path.iterdir()) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 if sys.platform == "darwin" else 1024
    )
    shape = (
        f"{TOTAL} x {WIDTH} clustered vectors, {config.cells(TOTAL)} cells, {config.probes} probed"
    )
    record(Figure("search.recall_at_10", "ratio", ">= 0.98", f"exact search; {shape}", [recall]))
    record(Figure("search.latency_ms_1m", "ms", "<= 50", f"one query; {shape}", latencies))
    record(Figure("search.build_seconds_1m", "s", "reported", f"wall time; {shape}", [wall]))
    record(Figure("search.build_cpu_seconds_1m", "s", "reported", f"of both cores; {shape}", [cpu]))
    record(Figure("search.index_gib", "GiB", "reported", f"on disk; {shape}", [size]))
    record(
        Figure(
            "search.index_gib_76m",
            "GiB",
            "reported",
            "arithmetic: 76 million times the bytes a vector of the above",
            [size * 76e6 / TOTAL],
        )
    )
    record(
        Figure(
            "search.peak_gib", "GiB", "reported", "of this process, with all vectors", [peak / 1024]
        )
    )
    assert recall >= 0.98
    assert np.median(latencies) <= 50


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """Return image, invvar and maskbits of synthetic objects, without artefacts."""
    release = write_synthetic_release(tmp_path_factory.mktemp("release"), RELEASE)
    found = [read_brick(release.root, name).dataset for name in release.bricknames]
    names = ("image", "invvar", "maskbits")
    return {name: np.concatenate([part[name].values for part in found]) for name in names}


@pytest.fixture(scope="module")
def encoder():
    torch.set_num_threads(2)
    if (SHIPPED / "digest").is_file():
        return load_encoder(SHIPPED), "shipped nano"
    return create_encoder(EncoderConfig(pooling="centre")), "random nano"


def _embed(encoder, batch):
    parts = [
        {name: values[k : k + 64] for name, values in batch.items()}
        for k in range(0, len(batch["image"]), 64)
    ]
    return np.concatenate([vectors for _, vectors in embed(encoder, parts)])


def _second_camera(batch, worse_fwhm=1.7, fwhm=1.3, noise=0.6):
    """Return the same objects with worse seeing, more noise and another response of each band."""
    sigma = np.sqrt(worse_fwhm**2 - fwhm**2) / FWHM_TO_SIGMA / PIXEL_ARCSEC
    rng = np.random.default_rng(7)
    gain = np.array([1.05, 0.97, 1.02], np.float32)[:, None, None]
    known = batch["invvar"] > 0
    pixel = np.where(known, 1 / np.sqrt(np.where(known, batch["invvar"], 1)), 0)
    image = gain * gaussian_filter(batch["image"], (0, 0, sigma, sigma))
    image += noise * pixel * rng.standard_normal(image.shape, np.float32)
    invvar = batch["invvar"] / np.float32(gain**2 / 2 + noise**2)  # blurring smooths the old noise
    return batch | {"image": image.astype(np.float32), "invvar": invvar.astype(np.float32)}


def test_search_two_cameras(sky, encoder):
    model, name = encoder
    first, second = _embed(model, sky), _embed(model, _second_camera(sky))
    found = find_counterparts(first, second)
    bound = f"{name}; {found.objects} objects, FWHM 1.3 and 1.7 arcsec, 0.3 mag less deep"
    record(
        Figure("search.two_cameras_recall_at_1", "ratio", "reported", bound, [found.recall_at_1])
    )
    record(Figure("search.two_cameras_rank", "rank", "1", f"median; {bound}", [found.median_rank]))
    assert found.median_rank < found.chance / 10
    half = len(first) // 2
    assert compare(first[:half], second[half:]).alarm
    assert not compare(first[::2], first[1::2]).alarm


def _spoil(batch, chosen, rng):
    """Plant a trail, a lost band or a second nucleus with a tidal bridge in the chosen objects."""
    image, invvar = batch["image"].copy(), batch["invvar"].copy()
    y, x = np.mgrid[: image.shape[-2], : image.shape[-1]] - image.shape[-1] // 2
    for number, row in enumerate(chosen):
        bright = 20 * np.median(1 / np.sqrt(np.maximum(invvar[row], 1e-9)))
        if number % 3 == 0:
            angle = rng.uniform(0, np.pi)
            image[row, number % 2] += bright * np.exp(
                -((y * np.cos(angle) - x * np.sin(angle)) ** 2) / 4
            )
        elif number % 3 == 1:
            image[row, 1], invvar[row, 1] = 0, 0
        else:
            bridge = np.exp(-((np.hypot(y, x) - 14) ** 2) / 18) * (y > 0)
            nucleus = np.exp(-(np.square(y - 6) + np.square(x - 12)) / 12)
            image[row] += bright * (bridge + 3 * nucleus)
    return batch | {"image": image, "invvar": invvar}


def test_search_oddities(sky, encoder):
    model, name = encoder
    rng = np.random.default_rng(3)
    total = len(sky["image"])
    chosen = rng.permutation(total)[: total // 33]
    vectors = _embed(model, _spoil(sky, chosen, rng))
    rows = np.arange(total)
    planted = np.isin(rows, chosen)
    for method in ("neighbours", "forest", "both"):
        rarity = rarity_of(rows, vectors, AnomalyConfig(method=method))(rows, vectors)
        above = (rarity[planted][:, None] > rarity[~planted]).mean()
        bound = f"{name}; {len(chosen)} of {total} spoiled: trails, lost bands, double nuclei"
        record(
            Figure(
                f"search.oddities_auc_{method}", "area", "reported", f"chance 0.5; {bound}", [above]
            )
        )
    assert above > 0.6
