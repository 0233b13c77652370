"""The whole few-shot benchmark: cells to curves, ratios, a table, a plot and a record."""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.few_shot import config as methods
from tasks.few_shot.cells import GZ2, SKY, cell_folder, picture_data, run_cells, sky_data
from tasks.few_shot.config import FewShotConfig
from tasks.few_shot.curves import LabelCurve, LabelRatio, error_ratio, label_ratio
from tasks.few_shot.plots import draw_curves
from tasks.whole_files import whole_file

MEASURES = ("auc", "balanced_accuracy")
NAMES = {SKY: "pretend sky", GZ2: "Galaxy Zoo 2 pictures, cross-validated"}


@dataclass(frozen=True)
class DataReport:
    """What was measured on one kind of data.

    Parameters
    ----------
    curves : mapping
        ``{measure: {method: LabelCurve}}``.
    ratios : mapping of str to LabelRatio
        Labels that ResNet18 needs over those that a method needs, by method.
    hitl : LabelRatio
        Labels that random choice needs over those that the HITL needs, the same head.
    hitl_error : tuple of float
        1 - AUC with random labels over that with chosen ones, mean over budgets, one a seed.
    pool, test : dict
        Number of objects in each class, and the digest of the objects.
    """

    data: str
    curves: Mapping[str, Mapping[str, LabelCurve]]
    ratios: Mapping[str, LabelRatio]
    hitl: LabelRatio
    hitl_error: tuple[float, ...]
    pool: Mapping[str, Any]
    test: Mapping[str, Any]
    plot: Path


@dataclass(frozen=True)
class FewShotReport:
    """What the benchmark found, and where its files are."""

    config: FewShotConfig
    parts: tuple[DataReport, ...]
    cpu_seconds: float
    path: Path
    notes: tuple[str, ...] = field(default=())


def run_few_shot(config: FewShotConfig) -> FewShotReport:
    """Run the benchmark, or what is left of it, and write its record and plots.

    Returns
    -------
    FewShotReport
        `path` is the record, `few_shot.json` in `config.out`.
    """
    cells = run_cells(config)
    by_data: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_data[cell["data"]].append(cell)
    parts = tuple(_data_report(config, data, found) for data, found in by_data.items())
    report = FewShotReport(
        config, parts, sum(cell["cpu_seconds"] for cell in cells), config.out / "few_shot.json"
    )
    with whole_file(report.path) as partial:
        partial.write_text(json.dumps(_record(report), indent=1) + "\n", encoding="utf-8")
    return report


def _data_report(config: FewShotConfig, data: str, cells: list[dict[str, Any]]) -> DataReport:
    by_method: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        by_method[cell["method"]].append(cell)
    curves = {
        measure: {name: LabelCurve.of_cells(part, measure) for name, part in by_method.items()}
        for measure in MEASURES
    }
    auc, target = curves["auc"], config.target
    ratios = {
        name: label_ratio(auc[methods.BASELINE], curve, target)
        for name, curve in auc.items()
        if name != methods.BASELINE
    }
    random, chosen = auc[methods.DESCRIBED], auc[methods.HITL]
    samples = sky_data(config) if data == SKY else picture_data(config, 0)
    plot = config.out / f"few_shot_{data}.png"
    networks, heads = (len(auc[name].values) for name in (methods.BASELINE, methods.HITL))
    title = (
        f"{NAMES[data]}: {len(samples[1])} test objects; seeds: {heads}, of networks {networks}; "
        "95 % intervals"
    )
    draw_curves(plot, auc, target, ratios[methods.HITL], title)
    return DataReport(
        data,
        curves,
        ratios,
        label_ratio(random, chosen, target),
        tuple(float(value) for value in error_ratio(random, chosen)),
        _account(samples[0]),
        _account(samples[1]),
        plot,
    )


def _account(sample: Any) -> dict[str, Any]:
    counts = np.bincount(sample.classes, minlength=sample.votes.shape[1])
    return {"objects": len(sample), "per_class": counts.tolist(), "digest": sample.digest}


def _record(report: FewShotReport) -> dict[str, Any]:
    """Return the report as JSON holds it."""
    parts = []
    for part in report.parts:
        curves = {
            measure: {name: _points(curve) for name, curve in found.items()}
            for measure, found in part.curves.items()
        }
        parts.append(
            {
                "data": part.data,
                "pool": part.pool,
                "test": part.test,
                "label_ratio_to_resnet18": {k: asdict(v) for k, v in part.ratios.items()},
                "hitl_over_random": asdict(part.hitl),
                "hitl_error_over_random": part.hitl_error,
                "curves": curves,
            }
        )
    config = json.loads(json.dumps(asdict(report.config), default=str))
    return {
        "config": config,
        "cells": cell_folder(report.config).name,
        "cpu_seconds": report.cpu_seconds,
        "parts": parts,
    }


def _points(curve: LabelCurve) -> dict[str, Any]:
    low, high = curve.interval()
    return {
        "labels": curve.labels.tolist(),
        "mean": curve.mean().tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "seeds": curve.values.tolist(),
    }
