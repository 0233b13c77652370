"""One cell of the benchmark: a method with a number of labels and a seed, measured once.

A cell is one JSON file. What is there is not made again, so that a killed run goes on where it
was, and runs with more seeds or labels add to it.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lvm.metrics import balanced_accuracy, macro_auc
from tasks.few_shot import config as methods
from tasks.few_shot.annotator import annotate
from tasks.few_shot.config import BadBenchmark, FewShotConfig
from tasks.few_shot.heads import (
    Discriminant,
    descriptions,
    embeddings,
    linear,
    measures,
    two_layers,
)
from tasks.few_shot.networks import network_probabilities, train_baseline, train_encoder
from tasks.few_shot.pictures import FOLDS, fold_of, picture_encoder, picture_sample
from tasks.few_shot.rounds import chosen_labels, random_labels
from tasks.few_shot.samples import Sample, benchmark_encoder, embedded, sky_key, sky_sample
from tasks.progress import report
from tasks.whole_files import whole_file

Floats = npt.NDArray[np.float64]

VERSION = 1  # of the methods: cells of another one are not taken for theirs
SKY, GZ2 = "sky", "gz2"


@dataclass(frozen=True)
class Cell:
    """What is measured: where, how, with how many labels, in which repetition."""

    data: str
    method: str
    labels: int
    seed: int

    @property
    def name(self) -> str:
        """Return the name of its file."""
        method = self.method.replace(":", "-")
        return f"{self.data}-{method}-{self.labels:05d}-{self.seed}.json"


def cells_of(config: FewShotConfig, sizes: dict[str, int]) -> list[Cell]:
    """Return every cell, the long ones first; `sizes` are the objects of the pool of each data."""
    quick = [methods.LINEAR, methods.TWO_LAYER, methods.DESCRIBED]
    quick += [methods.MEASURED, methods.MEASURED_HITL]
    quick += [methods.strategy_method(name) for name in methods.STRATEGIES]
    networks = [methods.BASELINE, methods.FULL]
    if config.imagenet is not None:
        networks.append(methods.PRETRAINED_BASELINE)
    found = []
    for data, largest in sizes.items():
        numbers, network_numbers = config.labels, config.network_labels
        seeds = dict.fromkeys(quick, config.seeds) | dict.fromkeys(networks, config.network_seeds)
        if data == GZ2:
            numbers, network_numbers = config.picture_labels, config.picture_network_labels
            seeds = {name: max(FOLDS, number) for name, number in seeds.items()}
        for method, repeats in seeds.items():
            wanted = network_numbers if method in networks else numbers
            if method == methods.FULL:
                wanted = [number for number in wanted if number <= config.full_labels]
            kept = {min(number, largest) for number in wanted}
            found += [Cell(data, method, n, seed) for n in kept for seed in range(repeats)]
    return sorted(found, key=lambda c: (c.method not in methods.NETWORKS, -c.labels, c.name))


def run_cells(config: FewShotConfig) -> list[dict[str, Any]]:
    """Measure every cell that is not there yet; return all of them."""
    folder = cell_folder(config)
    sizes = {SKY: len(sky_data(config)[0])} if config.sky else {}
    if config.real == GZ2:
        sizes[GZ2] = min(len(picture_data(config, seed)[0]) for seed in range(FOLDS))
    cells = cells_of(config, sizes)
    missing = [cell for cell in cells if not (folder / cell.name).is_file()]
    for done, _ in enumerate(_run_missing(config, missing), start=1):
        report("cells", len(cells) - len(missing) + done, len(cells))
    return [json.loads((folder / cell.name).read_text(encoding="utf-8")) for cell in cells]


def cell_folder(config: FewShotConfig) -> Path:
    """Return the folder for cells of this benchmark; whatever changes a cell changes its name."""
    names = ("clean", "error", "encoder", "imagenet", "network")
    values = {name: asdict(config)[name] for name in names}
    values |= {"pool": sky_key(config.pool), "test": sky_key(config.test), "version": VERSION}
    text = json.dumps(values, sort_keys=True, default=str)
    return config.out / "cells" / hashlib.sha256(text.encode()).hexdigest()[:12]


def run_cell(config: FewShotConfig, cell: Cell) -> dict[str, Any]:
    """Measure one cell and write it."""
    torch.set_num_threads(1)  # cells run side by side, and two threads would wait for each other
    start, used = time.perf_counter(), time.process_time()
    pool, test = sky_data(config) if cell.data == SKY else picture_data(config, cell.seed)
    generator = np.random.default_rng((cell.seed, 0))
    answers = annotate(pool.classes, pool.votes, config.error, generator)
    index, probability = _probabilities(config, cell, (pool, test), answers)
    found: dict[str, Any] = {
        **asdict(cell),
        "auc": macro_auc(probability, test.classes),
        "balanced_accuracy": balanced_accuracy(probability, test.classes),
        "labels_per_class": np.bincount(answers[index], minlength=pool.votes.shape[1]).tolist(),
        "test_objects": len(test),
        "seconds": round(time.perf_counter() - start, 2),
        "cpu_seconds": round(time.process_time() - used, 2),
    }
    with whole_file(cell_folder(config) / cell.name) as partial:
        partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


@lru_cache(maxsize=2)
def sky_data(config: FewShotConfig) -> tuple[Sample, Sample]:
    """Return pool and test objects of the pretend skies, embedded."""
    encoder = benchmark_encoder(config.encoder)
    folder = config.out / "skies"
    found = []
    for sky in (config.pool, config.test):
        sample = sky_sample(folder, sky, config.clean)
        if len(sample) == 0:
            raise BadBenchmark(f"no galaxy of {sky} is clean at {config.clean}: lower it")
        found.append(embedded(sample, encoder, _cache(config, sample)))
    return found[0], found[1]


@lru_cache(maxsize=FOLDS)
def picture_data(config: FewShotConfig, seed: int) -> tuple[Sample, Sample]:
    """Return the pictures of all folds but one, and of that one; embedded."""
    sample = _pictures(config)
    fold = fold_of(sample.classes, seed)
    asked = fold == seed % FOLDS
    return sample.take(np.flatnonzero(~asked)), sample.take(np.flatnonzero(asked))


@lru_cache(maxsize=1)
def _pictures(config: FewShotConfig) -> Sample:
    if config.real_folder is None:
        raise BadBenchmark("real gz2 needs the folder with labels.csv and images/")
    sample = picture_sample(config.real_folder)
    encoder = picture_encoder(benchmark_encoder(config.encoder), sample)
    return embedded(sample, encoder, _cache(config, sample))


def _cache(config: FewShotConfig, sample: Sample) -> Path:
    key = hashlib.sha256(f"{config.encoder} {sample.digest} {VERSION}".encode()).hexdigest()[:12]
    return config.out / "embeddings" / f"{key}.npz"


def _run_missing(config: FewShotConfig, cells: list[Cell]) -> Iterator[dict[str, Any]]:
    if config.workers == 1 or len(cells) < 2:
        for cell in cells:
            yield run_cell(config, cell)
        return
    # A forked process would inherit torch's threads in whatever state they are.
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as workers:
        running = [workers.submit(run_cell, config, cell) for cell in cells]
        for done in as_completed(running):
            yield done.result()


def _probabilities(
    config: FewShotConfig, cell: Cell, data: tuple[Sample, Sample], answers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Return which objects were labelled, and probabilities of the test objects."""
    pool, test = data
    classes, index = pool.votes.shape[1], random_labels(len(pool), cell.labels, cell.seed)
    if cell.method in methods.NETWORKS:
        return index, _network(config, cell, data, (index, answers[index]))
    if cell.method in (methods.LINEAR, methods.TWO_LAYER):
        seen = embeddings(pool, test)
        if cell.method == methods.LINEAR:
            return index, linear(seen, index, answers[index], classes)
        return index, two_layers(seen, index, answers[index], classes, cell.seed)
    controls = (methods.MEASURED, methods.MEASURED_HITL)
    seen = measures(pool, test) if cell.method in controls else descriptions(pool, test)
    if cell.method not in (methods.DESCRIBED, methods.MEASURED):
        strategy = cell.method.partition(":")[2] or methods.HITL_STRATEGY
        index = chosen_labels(strategy, seen.pool, answers, classes, cell.labels, cell.seed)
    model = Discriminant.of_pool(seen.pool, classes)
    return index, model.probabilities(seen.pool[index], answers[index], seen.test)


def _network(
    config: FewShotConfig,
    cell: Cell,
    data: tuple[Sample, Sample],
    labelled: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> Floats:
    pool, test = data
    index, answers = labelled
    known, device = pool.take(index), config.device
    if cell.method == methods.FULL:
        encoder = benchmark_encoder(config.encoder)
        if cell.data == GZ2:
            encoder = picture_encoder(encoder, pool)
        model = train_encoder(encoder, known, answers, config.network, cell.seed, device)
    else:
        weights = config.imagenet if cell.method == methods.PRETRAINED_BASELINE else None
        model = train_baseline(known, answers, config.network, cell.seed, device, weights)
    return network_probabilities(model, test, device)
