"""Cells of the benchmark: which there are, measured once, and what is made of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from few_shot_samples import made_up
from PIL import Image

from tasks.few_shot import cells, few_shot_config, report
from tasks.few_shot import config as methods
from tasks.few_shot.config import BadBenchmark, NetworkConfig
from tasks.few_shot.curves import LabelCurve, label_ratio
from tasks.few_shot.plots import draw_curves

SHORT = NetworkConfig(name="test_resnet", side=32, steps=1, least_steps=1, epochs=1)
# Networks are tested by themselves; here they would only take time.
MEASURED = (methods.BASELINE, methods.DESCRIBED, methods.HITL)


@pytest.fixture
def config(tmp_path):
    made = few_shot_config("quick", tmp_path, seeds=2, labels=(8, 16), workers=1)
    return replace(made, network=SHORT)


@pytest.fixture
def few_cells(monkeypatch):
    """Put made-up objects in place of skies, and leave only some methods."""
    samples = made_up(60, 0, side=36), made_up(40, 1, side=36)
    every = cells.cells_of
    monkeypatch.setattr(cells, "sky_data", lambda config: samples)
    monkeypatch.setattr(report, "sky_data", lambda config: samples)
    monkeypatch.setattr(
        cells, "cells_of", lambda *args: [cell for cell in every(*args) if cell.method in MEASURED]
    )


def test_every_method_has_every_number_of_labels(config):
    found = cells.cells_of(config, {"sky": 12})
    assert len(found) == len(set(found))
    assert {cell.labels for cell in found} == {8, 12}
    assert {cell.method for cell in found} == {
        *(set(methods.DESCRIPTIONS) - {methods.PRETRAINED_BASELINE}),
        *map(methods.strategy_method, methods.STRATEGIES),
    }
    assert found[0].method in methods.NETWORKS  # the long ones first
    with_weights = replace(config, imagenet=config.out / "resnet18.safetensors")
    more = {cell.method for cell in cells.cells_of(with_weights, {"sky": 12})}
    assert methods.PRETRAINED_BASELINE in more


def test_a_run_writes_record_and_plot_and_is_not_repeated(config, few_cells, monkeypatch):
    found = report.run_few_shot(config)
    (part,) = found.parts
    assert set(part.curves["auc"]) == set(MEASURED)
    assert part.curves["auc"][methods.HITL].values.shape == (2, 2)
    record = json.loads(found.path.read_text())
    assert record["config"]["seeds"] == 2
    assert record["parts"][0]["test"]["objects"] == 40
    assert part.plot.stat().st_size > 10_000
    with Image.open(part.plot) as picture:
        assert picture.width > 1000

    def never(*args):
        raise AssertionError("a cell that is there was measured again")

    monkeypatch.setattr(cells, "run_cell", never)
    again = report.run_few_shot(config)
    assert again.parts[0].curves["auc"][methods.HITL].values.tolist() == (
        part.curves["auc"][methods.HITL].values.tolist()
    )


def test_what_changes_a_cell_changes_its_folder(config):
    folder = cells.cell_folder(config)
    assert cells.cell_folder(replace(config, seeds=9, labels=(4,), workers=2)) == folder
    assert cells.cell_folder(replace(config, error=0.2)) != folder
    assert cells.cell_folder(replace(config, pool=replace(config.pool, seed=5))) != folder
    slower = replace(config, pool=replace(config.pool, processes=1))
    assert cells.cell_folder(slower) == folder


@pytest.mark.parametrize(
    "wrong", [{"size": "huge"}, {"real": "moon"}, {"seeds": -1}, {"labels": (0,)}]
)
def test_options_that_do_not_fit_are_refused(tmp_path, wrong):
    options = {"size": "quick", **wrong}
    with pytest.raises(BadBenchmark):
        few_shot_config(options.pop("size"), tmp_path, **options)


def test_pool_and_test_may_not_be_one_sky(config):
    with pytest.raises(BadBenchmark, match="different skies"):
        replace(config, test=config.pool)


def test_a_plot_of_curves_that_never_meet(tmp_path):
    labels = np.array([8, 64])
    low = LabelCurve(labels, np.array([[0.5, 0.6]]))
    high = LabelCurve(labels, np.array([[0.95, 0.97]]))
    ratio = label_ratio(low, high, 0.9)
    draw_curves(tmp_path / "a.png", {methods.BASELINE: low, methods.HITL: high}, 0.9, ratio, "t")
    assert (tmp_path / "a.png").is_file()


def test_real_pictures_may_be_measured_alone(config, few_cells, monkeypatch):
    samples = made_up(60, 0, side=36), made_up(40, 1, side=36)
    monkeypatch.setattr(cells, "picture_data", lambda config, seed: samples)
    alone = replace(config, real="gz2", sky=False, picture_labels=(16,))
    assert {cell["data"] for cell in cells.run_cells(alone)} == {cells.GZ2}
    with pytest.raises(BadBenchmark, match="nothing to measure"):
        replace(alone, real="none")
