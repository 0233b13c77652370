"""How many labels ResNet18 needs for what the LVM does with few; and what asking well saves.

`brickyard benchmark few-shot` in its quick size, some ten minutes of two cores, into the folder
BRICKYARD_FEW_SHOT_OUT (kept, so that a killed run goes on). BRICKYARD_FEW_SHOT_SIZE=full and
BRICKYARD_FEW_SHOT_DEVICE=cuda are for a GPU.
"""

import os
from pathlib import Path

import pytest
from figures import Figure, record

from tasks.few_shot import config as methods
from tasks.few_shot import few_shot_config, run_few_shot

REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "gz2_sdss"
SIZE = os.environ.get("BRICKYARD_FEW_SHOT_SIZE", "quick")
DEVICE = os.environ.get("BRICKYARD_FEW_SHOT_DEVICE", "cpu")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = os.environ.get("BRICKYARD_FEW_SHOT_OUT")
    return Path(folder) if folder else tmp_path_factory.mktemp("few-shot")


@pytest.fixture(scope="module")
def found(out):
    return run_few_shot(few_shot_config(SIZE, out, device=DEVICE))


@pytest.fixture(scope="module")
def part(found):
    return found.parts[0]


def keep(name, values, goal, bound, unit="ratio"):
    device = "" if DEVICE == "cpu" else DEVICE
    return record(Figure(f"fewshot.{name}", unit, goal, bound, values, device))


def test_labels_that_resnet18_needs_over_ours(found, part):
    setting = f"{SIZE}, {found.config.seeds} seeds, test sky {part.test['digest'][:12]}"
    for method, ratio in part.ratios.items():
        short = method.replace(":", "_")
        name = "label_ratio_auc_0.9" if method == methods.HITL else f"label_ratio_{short}"
        bound = f"{ratio.bound or 'measured'}; 95 % over seeds; {setting}"
        # The median of three values is the one in the middle: low <= value <= high.
        keep(name, [min(ratio.low, ratio.value), ratio.value, max(ratio.high, ratio.value)],
             ">= 50" if method == methods.HITL else "reported", bound)  # fmt: skip
    assert part.ratios[methods.HITL].value > 1


def test_asking_well_saves_labels(part):
    ratio = part.hitl
    bound = f"random labels, same head; {ratio.bound or 'measured'}; 95 % over seeds"
    values = [min(ratio.low, ratio.value), ratio.value, max(ratio.high, ratio.value)]
    keep("hitl_over_random", values, "> 1", bound)
    keep("hitl_error_over_random", part.hitl_error, "> 1", "1 - AUC with random over chosen labels")


def test_what_the_methods_reach(part):
    for method in (methods.BASELINE, methods.LINEAR, methods.DESCRIBED, methods.HITL):
        curve = part.curves["auc"][method]
        values = curve.values[:, -1].tolist()
        keep(f"auc_{method}", values, "", f"with {curve.labels[-1]} labels", "")


def test_real_pictures_cross_validated(out):
    if not REAL.is_dir():
        pytest.skip("the real pictures are not on this machine")
    options = {"device": DEVICE, "real": "gz2", "real_folder": REAL, "sky": False}
    if DEVICE == "cpu":
        options["full_labels"] = 0  # two minutes a cell, of a method that is not recorded here
    (pictures,) = run_few_shot(few_shot_config(SIZE, out, **options)).parts
    for method in (methods.BASELINE, methods.LINEAR, methods.DESCRIBED, methods.HITL):
        curve = pictures.curves["auc"][method]
        values = curve.values[:, -1].tolist()
        keep(f"gz2_auc_{method}", values, "", f"with {curve.labels[-1]} labels; 5 folds", "")
    assert pictures.curves["auc"][methods.HITL].mean()[-1] > 0.5
