"""Parameters of galaxies from their cutouts: how far off, and do the intervals hold?

One pretend survey of small bricks, each with its own seeing and depth; whole bricks are for the
training, for the calibration, or for the test. The head learns what the flow would give it, the
catalogue's columns (and a redshift), on the frozen encoder that comes with the package, which never
saw this sky. It is measured against the catalogue, which it was calibrated on, and against the
truth; what the catalogue itself is off by is recorded beside it. Takes some minutes of one core;
BRICKYARD_PARAMETERS_SIZE=full in the environment takes more objects and epochs.
"""

import os
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from figures import Figure, record

from lvm.checkpoint import load_encoder
from lvm.downstream import create_task
from lvm.ellipticity import components
from lvm.finetuning import FineTuneConfig, fine_tune
from lvm.inference import evaluate
from lvm.metrics import bootstrap_intervals
from lvm.training import TrainConfig
from lvm.weights import shipped_weights
from storage.brick import IngestConfig, read_brick
from storage.cutouts import CutoutConfig
from storage.synthetic import SyntheticConfig, write_synthetic_release
from storage.synthetic.truth import STAR, read_truth

pytestmark = pytest.mark.usefixtures("one_thread")
FULL = os.environ.get("BRICKYARD_PARAMETERS_SIZE", "quick") == "full"
# Many small bricks rather than a few large ones: intervals that were calibrated on three seeings
# hold for those three.
SKY = SyntheticConfig(
    count=96 if FULL else 24,
    brick_size=1000 if FULL else 700,
    density=6.0 if FULL else 12.0,  # crowded, so that writing the sky does not take longest
    bright_tilt=0.2,
    seed=41,
    processes=1,
)
EPOCHS = 30 if FULL else 12
BATCH = 32
DRAWS = 200
PARTS = ("train", "calibrate", "train", "test")  # of the bricks, in turn
FLUXES = ("flux_g", "flux_r", "flux_z")
OPTIONS = {"redshift": "redshift"}
MEASURES = ("nmad", "bias", "outliers", "coverage_68", "coverage_95")
REPORTED = ("mag_r", "log_radius", "axis_ratio", "angle", "log_sersic", "redshift")


@dataclass(frozen=True)
class Galaxies:
    """Cutouts as one batch; parameters by the catalogue and by the truth (object, parameter)."""

    pixels: dict[str, np.ndarray]
    catalogue: np.ndarray
    truth: np.ndarray

    def batches(self, target, seed=None):
        """Return a factory of batches with a target; shuffled anew every epoch with a seed."""
        count = len(target)

        def factory(epoch):
            order = np.arange(count)
            if seed is not None:
                order = np.random.default_rng((seed, epoch)).permutation(count)
            chosen = [np.sort(order[at : at + BATCH]) for at in range(0, count, BATCH)]
            return [
                {**{name: v[part] for name, v in self.pixels.items()}, "target": target[part]}
                for part in chosen
            ]

        return factory


@pytest.fixture(scope="module")
def task():
    return create_task("parameters", OPTIONS)


@pytest.fixture(scope="module")
def sky(tmp_path_factory, task):
    """Return the galaxies of each part of the sky."""
    root = tmp_path_factory.mktemp("parameters")
    write_synthetic_release(root, SKY)
    found = {part: [] for part in PARTS}
    for number, path in enumerate(sorted((root / "truth").rglob("truth-*.fits"))):
        galaxies = read_galaxies(root, path.stem.removeprefix("truth-"), task)
        found[PARTS[number % len(PARTS)]].append(galaxies)
    return {part: joined(bricks) for part, bricks in found.items()}


def read_galaxies(root, name, task):
    """Return the galaxies of one brick."""
    found = read_brick(
        root, name, config=IngestConfig(verify_checksums=False, cutout=CutoutConfig(size=104))
    ).dataset
    table = read_truth(root, name)
    place = {int(objid): at for at, objid in enumerate(table["objid"])}
    table = table[[place[int(objid)] for objid in found["objid"].values]]
    galaxy = np.asarray(table["class"]) != STAR
    table, found = table[galaxy], found.isel(object=galaxy)
    redshift = np.asarray(table["redshift"])
    columns = {str(c): found["catalogue"].sel(column=c).values for c in found["column"].values}
    pixels = {key: found[key].values for key in ("image", "invvar", "maskbits")}
    catalogue = task.target({**columns, "redshift": redshift})
    return Galaxies(pixels, catalogue, task.target(true_columns(table)))


def true_columns(table):
    """Return the truth under the names of the catalogue's columns."""
    e1, e2 = components(np.asarray(table["axis_ratio"], np.float64), np.asarray(table["pa"]))
    # One Sérsic index stands for bulge and disc, by the rule of the pretend catalogue.
    disc = 0.9 + 2.5 * np.asarray(table["bulge_fraction"])
    early = np.asarray(table["class"]) == "elliptical"
    index = np.where(early, table["bulge_index"], disc)
    shapes = {"shape_r": table["radius"], "shape_e1": e1, "shape_e2": e2, "sersic": index}
    return {**{name: table[name] for name in (*FLUXES, "redshift")}, **shapes}


def joined(bricks):
    """Return the galaxies of several bricks as one."""
    names = bricks[0].pixels
    return Galaxies(
        {name: np.concatenate([brick.pixels[name] for brick in bricks]) for name in names},
        np.concatenate([brick.catalogue for brick in bricks]),
        np.concatenate([brick.truth for brick in bricks]),
    )


def asked(model, galaxies, target):
    """Return an evaluation of galaxies against a target, its intervals by resampling galaxies."""
    batches = galaxies.batches(target)(0)
    found = evaluate(model, batches, np.random.default_rng(0), draws=1)

    def measure(chosen):
        rows = torch.from_numpy(chosen)
        return model.task.metrics(found.output[rows], {"target": found.labels["target"][rows]})

    intervals = bootstrap_intervals(measure, len(target), np.random.default_rng(0), DRAWS)
    return replace(found, intervals=intervals)


def test_intervals_hold_and_how_far_off_the_values_are(sky, task):
    encoder = load_encoder(shipped_weights("nano-synthetic"))
    train, kept = sky["train"], sky["calibrate"]
    config = FineTuneConfig(
        cutouts=TrainConfig(epochs=EPOCHS, learning_rate=3e-3, weight_decay=0.1)
    )
    model = fine_tune(task, encoder, train.batches(train.catalogue, seed=0), config).model
    held = asked(model, kept, kept.catalogue)
    task.calibrate(model.head, held.output, held.labels)
    test = sky["test"]
    against = {
        "": asked(model, test, test.catalogue),
        "true_": asked(model, test, test.truth),
    }
    size = f"{len(train.truth)} to learn, {len(kept.truth)} to calibrate, {len(test.truth)} asked"
    for prefix, found in against.items():
        keep(f"{prefix}coverage_68", found, "0.65 to 0.71" if not prefix else "", size)
        keep(f"{prefix}coverage_95", found, "", size)
        keep(f"{prefix}crps", found, "", size)
        for name in REPORTED:
            for measure in MEASURES:
                if f"{measure}_{name}" in found.metrics:
                    keep(f"{prefix}{measure}_{name}", found, "", size)
    keep("true_given_angle", against["true_"], "", size)
    off = task.metrics(perfect(task, test.catalogue), {"target": torch.from_numpy(test.truth)})
    for name in REPORTED[:-1]:  # the redshift is no column of the catalogue
        record(Figure(f"parameters.catalogue_nmad_{name}", "", "", size, [off[f"nmad_{name}"]]))
    assert 0.6 < against[""].metrics["coverage_68"] < 0.76


def perfect(task, target):
    """Return the output that says exactly what a target says; not known stays not known."""
    known = torch.from_numpy(target)
    said = task.perfect({"target": known})
    return said.masked_fill(~torch.isfinite(known)[..., None], torch.nan)


def keep(name, found, goal, size):
    """Record a measure, and its bootstrap interval over the objects in words: it is one run."""
    plain = name.removeprefix("true_")
    low, high = found.intervals[plain]
    bound = f"{size}; 95 % of resamples: {low:.3g} to {high:.3g}"
    record(Figure(f"parameters.{name}", "", goal, bound, [found.metrics[plain]]))
