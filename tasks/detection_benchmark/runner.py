"""Run the benchmark cell by cell (method and seed), resume it, and gather its table.

A cell is one JSON file in the output folder; one that is there with the same settings is not run
again. The trained models lie beside them.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lvm.detecting import Grid
from lvm.downstream.detection import (
    MAGNITUDE_EDGES,
    NEIGHBOUR_EDGES,
    Detection,
    DetectionConfig,
    match_sources,
)
from lvm.fields import search_field
from lvm.matching import (
    Matches,
    average_precision,
    best_threshold,
    completeness,
    completeness_in_bins,
    f1,
    purity,
)
from tasks.detection_benchmark.methods import (
    Answers,
    Budget,
    Trained,
    ask_encoder,
    ask_mask_rcnn,
    train_encoder,
    train_mask_rcnn,
)
from tasks.detection_benchmark.real import judge_real, real_fields
from tasks.detection_benchmark.sky import TEST_SEED, TRAIN_SEED, Array, Fields, read_sky, sep_found
from tasks.whole_files import whole_file

METHODS = ("sep", "encoder", "mask_rcnn")
MEASURES = ("f1", "completeness", "purity", "ap_1arcsec", "ap50")
DRAWS = 200  # bootstrap over fields


@dataclass(frozen=True)
class Size:
    """How much is run.

    Parameters
    ----------
    fields : of the training sky, a tenth of which only sets thresholds
    test : fields of the frozen test sky
    side : of a field [pixel]; what the encoder sees
    epochs, baseline_epochs : passes over the training fields of the encoder and of Mask R-CNN,
        a pass of which takes twenty times as long
    """

    fields: int
    test: int
    side: int = 80
    epochs: int = 1
    baseline_epochs: int = 1
    batch: int = 8
    device: str = "cpu"


SIZES = {
    # Minutes on two cores: shows that everything runs; Mask R-CNN cannot learn from random weights
    # in so few steps.
    "quick": Size(fields=160, test=80, epochs=2, baseline_epochs=2),
    # The 1,000 samples of the paper, some two hours on two cores, most of them Mask R-CNN's.
    "hours": Size(fields=1000, test=400, epochs=24, baseline_epochs=4),
    # The 1,000 samples until neither model gains: for a GPU.
    "full": Size(fields=1000, test=1600, epochs=60, baseline_epochs=60, device="cuda"),
}


@dataclass(frozen=True)
class Cell:
    """One method with one seed: its settings, its measures on the test sky, what it cost."""

    method: str
    seed: int
    settings: dict[str, Any]
    measures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    slices: dict[str, list[list[float]]]
    real: dict[str, dict[str, float]]
    cpu_seconds: float
    fields_seen: int


def run_detection(
    size: Size,
    seeds: int,
    out: Path,
    real: Path | None = None,
    tell: Callable[[str], None] = lambda message: None,
) -> list[Cell]:
    """Run what is missing and return all cells, method by method.

    Parameters
    ----------
    out : folder of skies, models, cells and of the table `detection.json`
    real : folder of real fields (`real.real_fields`), if there is one
    tell : called before each step with what it is
    """
    if size.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("size 'full' is for a GPU, and torch sees none: use 'quick' or 'hours'")
    out.mkdir(parents=True, exist_ok=True)
    cells = []
    for method in METHODS:
        for seed in range(1 if method == "sep" else seeds):
            path = out / f"cell-{method}-{seed}.json"
            stored = _stored(path, _settings(method, size))
            if stored is None:
                tell(f"{method}, seed {seed}")
                stored = _run(method, seed, size, out, real)
                _write(path, asdict(stored))
            cells.append(stored)
    table = {"what": summary(cells), "cells": [asdict(cell) for cell in cells]}
    _write(out / "detection.json", table)
    return cells


def summary(cells: list[Cell]) -> dict[str, dict[str, list[float]]]:
    """Return {method: {measure: one value a seed}}."""
    return {
        method: {
            name: [cell.measures[name] for cell in cells if cell.method == method]
            for name in MEASURES
        }
        for method in METHODS
    }


def _settings(method: str, size: Size) -> dict[str, Any]:
    """Return what a cell depends on: the passes of its own method."""
    values = asdict(size)
    baseline = values.pop("baseline_epochs")
    return values | {"epochs": {"mask_rcnn": baseline, "sep": 0}.get(method, size.epochs)}


def _write(path: Path, content: dict[str, Any]) -> None:
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1))


def _stored(path: Path, settings: dict[str, Any]) -> Cell | None:
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    return Cell(**content) if content["settings"] == settings else None


def _run(method: str, seed: int, size: Size, out: Path, real: Path | None) -> Cell:
    train = read_sky(out, TRAIN_SEED, size.fields, size.side)
    test = read_sky(out, TEST_SEED, size.test, size.side)
    kept = np.arange(len(train)) < 0.9 * len(train)
    learnt, aside = train.chosen(np.flatnonzero(kept)), train.chosen(np.flatnonzero(~kept))
    trained, ask = _trained(method, learnt, seed, size)
    threshold = best_threshold(_matches(ask(aside), aside)[0])
    answers = ask(test)
    if method == "sep":  # at its own threshold, which is what people use
        threshold = -1e9
    matches = _matches(answers, test)
    judged: dict[str, dict[str, float]] = {}
    if method == "encoder":
        trained.model.head.threshold += threshold
        trained.model.cpu().save(out / f"model-{seed}-{size.epochs}x{size.fields}")
        fields = real_fields(real) if real is not None else []
        judged = judge_real(fields, lambda field: search_field(trained.model, field))
    return Cell(
        method=method,
        seed=seed,
        settings=_settings(method, size),
        measures=_measures(matches, threshold),
        intervals=_intervals(matches, threshold, len(test), seed),
        slices=_slices(matches[0], test, threshold),
        real=judged,
        cpu_seconds=trained.seconds,
        fields_seen=trained.seen,
    )


def _trained(
    method: str, fields: Fields, seed: int, size: Size
) -> tuple[Trained, Callable[[Fields], Answers]]:
    budget = Budget(_settings(method, size)["epochs"], size.batch, size.device)
    if method == "sep":
        return Trained(None, 0.0, 0), sep_found
    if method == "encoder":
        trained = train_encoder(fields, budget, seed)
        return trained, lambda asked: ask_encoder(trained.model, asked, size.device)
    trained = train_mask_rcnn(fields, budget, seed)
    return trained, lambda asked: ask_mask_rcnn(trained.model, asked, size.device)


def _posed(fields: Fields) -> tuple[Detection, torch.Tensor, Grid]:
    task = Detection(DetectionConfig(flips=False))
    side = fields.image.shape[-1]
    batch = {"image": torch.empty(len(fields), 1, side, side)}
    batch["target"] = torch.from_numpy(fields.sources)
    posed = task.pose(batch, torch.Generator())
    return task, posed["target"], Grid(side, side)


def _matches(answers: Answers, fields: Fields) -> tuple[Matches, Matches]:
    """Return matches by distance and by box; the truth is the same for every method."""
    task, target, grid = _posed(fields)
    return match_sources(answers, task.known(target, grid), grid)


def _measures(matches: tuple[Matches, Matches], threshold: float) -> dict[str, float]:
    return {
        "f1": f1(matches[0], threshold),
        "completeness": completeness(matches[0], threshold),
        "purity": purity(matches[0], threshold),
        "ap_1arcsec": average_precision(matches[0]),
        "ap50": average_precision(matches[1]),
        "required": float(len(matches[0].found_at)),
    }


def _intervals(
    matches: tuple[Matches, Matches], threshold: float, number: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of F1 over draws of fields."""
    rng = np.random.default_rng((seed, 95))
    by_distance = matches[0]
    values = []
    for _ in range(DRAWS):
        weight = np.bincount(rng.integers(0, number, number), minlength=number)
        drawn = replace(
            by_distance,
            score=np.repeat(by_distance.score, weight[by_distance.found_field]),
            right=np.repeat(by_distance.right, weight[by_distance.found_field]),
            found_at=np.repeat(by_distance.found_at, weight[by_distance.field]),
        )
        values.append(f1(drawn, threshold))
    low, high = np.nanquantile(values, [0.025, 0.975])
    return {"f1": (float(low), float(high))}


def _slices(matches: Matches, fields: Fields, threshold: float) -> dict[str, list[list[float]]]:
    """Return [low, high, completeness, number] of bins in magnitude and in neighbour distance."""
    task, target, _ = _posed(fields)
    values = dict(
        zip(("magnitude", "neighbour"), task.properties(matches, target.numpy()), strict=True)
    )
    edges = {"magnitude": MAGNITUDE_EDGES, "neighbour": NEIGHBOUR_EDGES}
    return {name: _binned(matches, values[name], edges[name], threshold) for name in edges}


def _binned(
    matches: Matches, values: Array, edges: tuple[float, ...], threshold: float
) -> list[list[float]]:
    share, number = completeness_in_bins(matches, values, edges, threshold)
    bins = zip(edges[:-1], edges[1:], share.tolist(), number.tolist(), strict=True)
    return [list(row) for row in bins if row[3]]
