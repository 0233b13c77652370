import math

import numpy as np
import pytest
import torch

from lvm.detecting import Grid
from lvm.downstream.base import SOURCES, DownstreamModel
from lvm.downstream.detection import MATCH_RADIUS, Detection, DetectionConfig, judged_range
from lvm.testing import TinyEncoder, check_downstream_task, galaxies
from lvm.training import TrainConfig, constant_batches, fit

SIDE = 24


def batch_of(*fields):
    """Make a batch of blank cutouts with sources (x, y, radius, mag, ratio, angle)."""
    longest = max(len(rows) for rows in fields)
    target = torch.full((len(fields), longest, 6), torch.nan)
    for index, rows in enumerate(fields):
        if rows:
            target[index, : len(rows)] = torch.tensor(rows, dtype=torch.float32)
    return {"image": torch.zeros(len(fields), 3, SIDE, SIDE), "target": target}


def posed(batch, **options):
    task = Detection(DetectionConfig(flips=False, **options))
    return task, task.pose(batch, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_task_keeps_its_contract(stride):
    check_downstream_task(Detection(DetectionConfig(width=16, stride=stride)), TinyEncoder())


def test_sources_come_as_they_are_in_the_catalogue():
    rows = np.zeros((2, 3, 6), np.float64)
    target = Detection().target({SOURCES: rows})
    assert target.shape == (2, 3, 6)
    assert target.dtype == np.float32


def test_boxes_hold_the_ellipse_and_a_star_has_the_box_of_the_psf():
    star = (12.0, 10.0, 0.0, 18.0, 1.0, 0.0)
    across = (12.0, 10.0, 10.0, 18.0, 0.2, 0.0)
    upright = (12.0, 10.0, 10.0, 18.0, 0.2, math.pi / 2)
    _, batch = posed(batch_of([star, across, upright]), psf_fwhm=4.5)
    x, y, width, height = batch["target"][0, :, :4].unbind(dim=-1)
    assert x.tolist() == [0.0] * 3
    assert y.tolist() == [-2.0] * 3
    assert width[0].item() == pytest.approx(4.5)
    assert width[1] == pytest.approx(2 * math.hypot(10, 2.25), rel=1e-5)
    assert width[2].item() == pytest.approx(height[1].item(), rel=1e-5)


def test_faint_sources_those_at_the_edge_and_those_of_unknown_magnitude_are_ignored():
    bright, faint = (12, 12, 0, 21.9, 1, 0), (8, 12, 0, 22.1, 1, 0)
    edge, unknown = (1, 12, 0, 18, 1, 0), (16, 16, 0, math.nan, 1, 0)
    task, batch = posed(batch_of([bright, faint, edge, unknown], []))
    first, second = task.known(batch["target"], Grid(12, SIDE))
    assert first.required.tolist() == [True, False, False, False]
    assert len(second.required) == 0


def test_the_judged_area_leaves_a_matching_radius_on_every_side():
    low, high = judged_range(Grid(8, 16))
    assert low == pytest.approx(-8.5 + MATCH_RADIUS)
    assert high == pytest.approx(7.5 - MATCH_RADIUS)


def test_a_missed_and_an_invented_source_are_what_the_measures_say():
    first, second = (8, 8, 0, 18, 1, 0), (16, 16, 0, 18, 1, 0)
    task, batch = posed(batch_of([first, second]))
    _, other = posed(batch_of([first, (8, 18, 0, 18, 1, 0)]))
    measures = task.metrics(task.perfect(other), batch)
    assert measures["completeness"] == 0.5
    assert measures["purity"] == 0.5
    assert measures["f1"] == 0.5
    assert measures["required"] == 2
    assert task.metrics(task.perfect(batch), batch)["ap50"] == pytest.approx(1.0)


def test_turning_the_question_turns_the_answer():
    task = Detection()
    rng = np.random.default_rng(0)
    image = torch.zeros(16, 3, SIDE, SIDE)
    target = torch.full((16, 1, 6), torch.nan)
    for index in range(16):
        y, x = rng.integers(4, 20, 2)
        image[index, :, y, x] = 1.0
        target[index, 0] = torch.tensor([x, y, 0.0, 18.0, 1.0, 0.0])
    batch = task.pose({"image": image, "target": target}, torch.Generator().manual_seed(3))
    for index in range(16):
        y, x = torch.nonzero(batch["image"][index, 0], as_tuple=True)
        at = batch["target"][index, 0, :2] + SIDE // 2
        assert at.tolist() == [x.item(), y.item()]
    assert not torch.equal(batch["image"], image)


def test_calibration_sets_the_threshold_that_a_saved_head_keeps(tmp_path):
    task = Detection(DetectionConfig(width=16))
    model = DownstreamModel(task, TinyEncoder()).eval()
    batch = batch_of([(8, 8, 0, 18, 1, 0), (16, 16, 0, 18, 1, 0)])
    batch = task.pose(batch, torch.Generator().manual_seed(0))
    output = task.perfect(batch)
    output[:, 0] -= 12.0  # too shy: nothing reaches its threshold
    assert task.metrics(output, batch)["f1"] == 0.0
    told = task.calibrate(model.head, output, batch)
    assert told["f1"] == 1.0
    assert model.head.threshold < 0
    model.save(tmp_path / "model")
    loaded = DownstreamModel.load(tmp_path / "model")
    assert loaded.head.threshold == model.head.threshold


def test_calibration_without_any_source_changes_nothing():
    task, batch = posed(batch_of([]))
    model = DownstreamModel(task, TinyEncoder())
    assert task.calibrate(model.head, task.perfect(batch), batch) == {}
    assert model.head.threshold == 0


def test_what_is_presented_is_about_the_central_source():
    near = [(12, 12, 0, 18, 1, 0), (12, 19, 0, 18, 1, 0)]
    task, batch = posed(batch_of(near, near[1:], near[:1]))
    shown = task.present(task.perfect(batch))
    assert shown["sources"].tolist() == [2, 1, 1]
    assert shown["centre_score"] == pytest.approx([1, 0, 1], abs=1e-4)
    assert shown["neighbour_pixel"][0] == pytest.approx(7.0, abs=1e-3)
    assert np.isnan(shown["neighbour_pixel"][1:]).all()


def test_figures_have_curves_and_pictures_of_the_field():
    task, batch = posed(batch_of([(8, 8, 0, 18, 1, 0), (16, 16, 0, 20.2, 1, 0)]))
    figures = {figure.name: figure for figure in task.figures(task.perfect(batch), batch)}
    share = figures["completeness_by_magnitude"].lines["completeness"]
    assert np.nanmax(share) == np.nanmin(share) == 1.0
    assert figures["fields"].panels["field"].shape == (1, 3, SIDE, SIDE)
    assert figures["fields"].panels["sources"].max() > 0.5
    del batch["image"]
    names = [figure.name for figure in task.figures(task.perfect(batch_with(batch)), batch)]
    assert "fields" not in names


def batch_with(batch):
    return {**batch, "image": torch.zeros(1, 3, SIDE, SIDE)}


def test_a_few_steps_find_the_bright_galaxy_in_the_middle():
    made = galaxies(8, np.random.default_rng(0))
    target = torch.tensor([[[12.0, 12.0, 2.0, 18.0, 1.0, 0.0]]]).expand(8, 1, 6)
    batch = {name: torch.from_numpy(made[name]) for name in ("image", "invvar")}
    batch["target"] = target.clone()
    task = Detection(DetectionConfig(width=16, flips=False))
    model = DownstreamModel(task, TinyEncoder(), "full")
    fit(model, constant_batches([batch]), TrainConfig(epochs=40, learning_rate=1e-2, warmup=0.1))
    with torch.no_grad():
        output = model(batch)
    question = task.pose(batch, torch.Generator())
    task.calibrate(model.head, output, question)
    with torch.no_grad():
        assert task.metrics(model(batch), question)["f1"] > 0.8
