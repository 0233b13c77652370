import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from lvm.detecting import Grid, find_peaks, perfect_map
from lvm.downstream.detection import Detection, DetectionConfig
from tasks.detection_benchmark import methods, runner
from tasks.detection_benchmark.real import judge_real, real_fields
from tasks.detection_benchmark.runner import Size, Trained, run_detection, summary
from tasks.detection_benchmark.sky import Fields, extract, inside, padded, sep_found

SIDE = 80


def fields_of(count, seed=0):
    """Make fields of noise with a star or two each, and the truth of them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    image = rng.normal(0, 0.01, (count, 3, SIDE, SIDE)).astype(np.float32)
    places, found = [], []
    for index in range(count):
        at = rng.uniform(12, SIDE - 12, (1 + index % 2, 2))
        for column, row in at:
            image[index] += 0.5 * np.exp(-0.5 * ((x - column) ** 2 + (y - row) ** 2) / 1.9**2)
        places.append(np.array([[c, r, 0.0, 18.0, 1.0, 0.0] for c, r in at]))
        total = image[index].sum(axis=0) / np.float32(0.01 * np.sqrt(3))
        found.append(extract(total, np.ones_like(total), np.zeros(total.shape, bool)))
    invvar = np.full(image.shape, 1e4, np.float32)
    masks = np.zeros((count, SIDE, SIDE), np.int32)
    return Fields(image, invvar, masks, padded(places, 6), padded(found, 5))


def perfect_answers(fields):
    task = Detection(DetectionConfig(flips=False))
    batch = {
        name: torch.from_numpy(values)
        for name, values in fields.batch(np.arange(len(fields))).items()
    }
    posed = task.pose(batch, torch.Generator())
    grid = Grid(SIDE, SIDE)
    return find_peaks(perfect_map(task._truth(posed["target"], grid), grid), grid, -5.0)


def test_rows_of_a_square_are_relative_to_its_first_pixel():
    rows = np.array([[81.0, 165.0, 1.0], [79.4, 165.0, 2.0], [200.0, 165.0, 3.0]])
    assert inside(rows, (160, 80), SIDE).tolist() == [[1.0, 5.0, 1.0]]
    whole = padded([rows, rows[:0]], 3)
    assert whole.shape == (2, 3, 3)
    assert np.isnan(whole[1]).all()


def test_sep_finds_isolated_stars_and_is_judged_by_the_same_truth():
    fields = fields_of(6)
    matches, boxes = runner._matches(sep_found(fields), fields)
    assert len(matches.found_at) == 9
    assert runner._measures((matches, boxes), -1e9)["completeness"] == 1.0
    exact, _ = runner._matches(perfect_answers(fields), fields)
    assert np.nanmax(exact.separation) < 0.01


def test_mask_rcnn_is_given_boxes_that_come_back_as_places(monkeypatch):
    fields = fields_of(2)
    task = Detection(DetectionConfig(flips=False))
    batch = task.pose(
        {k: torch.from_numpy(v) for k, v in fields.batch(np.arange(2)).items()}, torch.Generator()
    )
    targets = methods._targets(task, batch)
    assert [len(target["boxes"]) for target in targets] == [1, 2]
    assert all(target["masks"].flatten(1).any(dim=1).all() for target in targets)

    class Told(torch.nn.Module):
        roi_heads = torch.nn.Module()

        def forward(self, images):
            return [{"boxes": t["boxes"], "scores": torch.ones(len(t["boxes"]))} for t in targets]

    told = Told()
    told.roi_heads.mask_roi_pool = "kept"
    answers = methods.ask_mask_rcnn(told, fields)
    assert told.roi_heads.mask_roi_pool == "kept"
    matches, boxes = runner._matches(answers, fields)
    assert np.nanmax(matches.separation) < 0.01
    assert runner._measures((matches, boxes), 0.5)["ap50"] == 1.0


def test_both_models_see_the_same_batches_every_field_once():
    fields = fields_of(5)
    batches = methods.fields_of_epoch(fields, 2, seed=1, epoch=3)
    rows = np.concatenate([batch["rows"] for batch in batches])
    assert sorted(rows) == list(range(5))
    again = methods.fields_of_epoch(fields, 2, seed=1, epoch=3)
    assert np.concatenate([batch["rows"] for batch in again]).tolist() == rows.tolist()
    other = np.concatenate([b["rows"] for b in methods.fields_of_epoch(fields_of(50), 50, 1, 4)])
    assert other.tolist() != sorted(other)


@pytest.fixture
def without_training(monkeypatch):
    """Answer as the truth does (sep as sep does), and count how often a model is made."""
    made = []

    def train(method, fields, seed, size):
        made.append((method, seed))
        ask = sep_found if method == "sep" else perfect_answers
        model = torch.nn.Module()
        model.head = torch.nn.Module()
        model.head.threshold = torch.zeros(())
        model.save = lambda path: None
        return Trained(model, 1.5, 7), ask

    monkeypatch.setattr(runner, "_trained", train)
    monkeypatch.setattr(
        runner, "read_sky", lambda folder, seed, count, side: fields_of(count, seed)
    )
    return made


def test_a_run_goes_on_where_it_was_killed_and_tells_its_table(tmp_path, without_training):
    size = Size(fields=20, test=8)
    told = []
    cells = run_detection(size, 2, tmp_path, None, told.append)
    assert without_training == [
        ("sep", 0),
        ("encoder", 0),
        ("encoder", 1),
        ("mask_rcnn", 0),
        ("mask_rcnn", 1),
    ]
    assert told[0] == "sep, seed 0"
    assert summary(cells)["encoder"]["f1"] == [1.0, 1.0]
    assert cells[1].intervals["f1"] == (1.0, 1.0)
    (tmp_path / "cell-mask_rcnn-1.json").unlink()
    again = run_detection(size, 2, tmp_path)
    assert len(without_training) == 6
    assert [cell.measures for cell in again] == [cell.measures for cell in cells]
    table = json.loads((tmp_path / "detection.json").read_text())
    assert [cell["method"] for cell in table["cells"]] == [cell.method for cell in cells]
    run_detection(Size(fields=20, test=8, epochs=2), 1, tmp_path)  # its own passes: run again
    assert without_training[6:] == [("encoder", 0)]
    other_fields = Size(fields=30, test=8, epochs=2, baseline_epochs=3)
    run_detection(other_fields, 1, tmp_path)
    assert without_training[7:] == [("sep", 0), ("encoder", 0), ("mask_rcnn", 0)]


def test_a_run_for_a_gpu_is_refused_without_one(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="GPU"):
        run_detection(runner.SIZES["full"], 1, tmp_path)
    assert not list(tmp_path.iterdir())
    assert asdict(runner.SIZES["full"])["fields"] == 1000


def test_sep_agrees_with_the_catalogue_of_the_real_field(real_data):
    fields = real_fields(real_data / "fields")
    assert [field.name for field in fields] == ["eso", "hsc"]
    nothing = np.zeros((0, 4)), np.zeros(0)
    judged = judge_real(fields, lambda field: nothing)
    assert judged["eso sep"]["f1"] > 0.9
    assert judged["eso"]["completeness"] == 0
    assert judged["hsc"]["required"] == 7


def test_without_real_fields_nothing_is_judged(tmp_path):
    assert real_fields(tmp_path) == []
