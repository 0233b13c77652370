"""Detection with 1,000 training fields: the encoder's head, Mask R-CNN with ResNet50, sep.

"Accuracy" is F1 at 1 arcsec (see `lvm.downstream.detection`). BRICKYARD_DETECTION_SIZE (quick,
hours, full) says how much is run; goals are checked with 1,000 fields only. Cells that are done in
BRICKYARD_DETECTION_OUT are not run again. `hours` takes about two hours a seed on two cores.
"""

import os
from pathlib import Path

from figures import Figure, record

from tasks.detection_benchmark.runner import SIZES, run_detection, summary

REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "fields"
SIZE = os.environ.get("BRICKYARD_DETECTION_SIZE", "quick")
SEEDS = int(os.environ.get("BRICKYARD_DETECTION_SEEDS", "1"))
OUT = os.environ.get("BRICKYARD_DETECTION_OUT")


def keep(name, values, goal="reported", unit="ratio"):
    size = SIZES[SIZE]
    bound = (
        f"{size.fields} training fields, {size.epochs} passes, Mask R-CNN {size.baseline_epochs} "
        f"(see cpu_seconds); {size.test} fields of a test sky that neither saw; F1 at 1 arcsec"
    )
    # Only the figures of 1,000 samples carry the names that have a goal.
    prefix = "detection" if size.fields >= 1000 else "detection.quick"
    return record(Figure(f"{prefix}.{name}", unit, goal, bound, values))


def test_detection_against_mask_rcnn_and_sep(tmp_path):
    out = Path(OUT) if OUT else tmp_path
    cells = run_detection(SIZES[SIZE], SEEDS, out, REAL)
    found = summary(cells)
    ours, theirs = found["encoder"], found["mask_rcnn"]
    gains = [a - b for a, b in zip(ours["f1"], theirs["f1"], strict=True)]
    keep("accuracy_1000", ours["f1"], ">= 0.967")
    keep("minus_mask_rcnn_r50", gains, "> 0")
    keep("minus_sep", [value - found["sep"]["f1"][0] for value in ours["f1"]])
    for method in ("encoder", "mask_rcnn", "sep"):
        for name, values in found[method].items():
            keep(f"{method}.{name}", values)
        seconds = [cell.cpu_seconds for cell in cells if cell.method == method]
        keep(f"{method}.cpu_seconds", seconds, unit="s")
    for cell in cells:
        for field, measured in cell.real.items():
            keep(f"real.{field.replace(' ', '_')}.f1", [measured["f1"]])
    assert min(gains) > 0
