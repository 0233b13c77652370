"""Does pre-training help? Linear probes and nearest neighbours, against random weights.

Synthetic: three seeds of weights, pre-trained on one pretend survey, probed on the true classes of
another one that no encoder saw. Real: Galaxy Zoo 2 pictures, cross-validated, by an encoder that
was pre-trained on pictures without labels. Takes most of an hour on two cores; environment variable
BRICKYARD_PROBE_EPOCHS shortens it, and the goal is then not checked.
"""

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from figures import Figure, record
from PIL import Image

from lvm.encoder import EncoderConfig, create_encoder
from lvm.inference import embed
from lvm.objectives import ObjectiveConfig, pretrain
from lvm.probe import ProbeScores, mean_scores, probe
from lvm.training import TrainConfig
from storage.brick import IngestConfig, read_brick
from storage.cutouts import CutoutConfig
from storage.synthetic import SyntheticConfig, write_synthetic_release
from storage.synthetic.config import MORPHOLOGY_CLASSES
from storage.synthetic.truth import read_truth

pytestmark = pytest.mark.usefixtures("one_thread")
REAL = Path(__file__).resolve().parents[3] / "shared" / "real"
SEEDS = (0, 1, 2)
EPOCHS = int(os.environ.get("BRICKYARD_PROBE_EPOCHS", "20"))
FULL = EPOCHS >= 20
BATCH = 32
SIZE = 104  # pixels: the network's 80 and room for shifts
SKY = SyntheticConfig(count=6, brick_size=1800, density=6.0, bright_tilt=0.2, seed=1)
FOLDS = 5
TRAIN = TrainConfig(epochs=EPOCHS, learning_rate=2e-3, warmup=0.05)
PICTURE_CLASSES = {"elliptical": 0, "edge-on": 1, "spiral": 2}


@dataclass(frozen=True)
class Cutouts:
    """Cutouts as one batch, and the class of each (-1: unknown)."""

    batch: dict[str, np.ndarray]
    classes: np.ndarray

    def batches(self, seed):
        """Return a factory of shuffled batches, as `fit` wants it."""
        count = len(self.classes)

        def factory(epoch):
            order = np.random.default_rng((seed, epoch)).permutation(count)
            parts = [np.sort(order[at : at + BATCH]) for at in range(0, count, BATCH)]
            return [{name: v[part] for name, v in self.batch.items()} for part in parts]

        return factory

    def embedded(self, encoder):
        """Return the embeddings (object, width)."""
        count = len(self.classes)
        parts = ({k: v[at : at + 16] for k, v in self.batch.items()} for at in range(0, count, 16))
        return np.concatenate([vectors for _, vectors in embed(encoder, parts)])


def read_sky(root, config):
    """Return the cutouts of a pretend survey with their true classes."""
    write_synthetic_release(root, config)
    ingest = IngestConfig(verify_checksums=False, cutout=CutoutConfig(size=SIZE))
    batches, classes = [], []
    for path in sorted((root / "truth").rglob("truth-*.fits")):
        name = path.stem.removeprefix("truth-")
        found = read_brick(root, name, config=ingest).dataset
        truth = read_truth(root, name)
        known = dict(zip(np.asarray(truth["objid"]).tolist(), truth["class"], strict=True))
        names = [str(known[int(objid)]) for objid in found["objid"].values]
        order = {value: index for index, value in enumerate(MORPHOLOGY_CLASSES)}
        classes.append(np.array([order.get(value, -1) for value in names]))
        batches.append({key: found[key].values for key in ("image", "invvar", "maskbits")})
    whole = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    return Cutouts(whole, np.concatenate(classes))


@pytest.fixture(scope="module")
def skies(tmp_path_factory):
    """Return the survey to train on and the frozen one to test on."""
    root = tmp_path_factory.mktemp("probe")
    test = replace(SKY, seed=2, count=3)
    return read_sky(root / "train", SKY), read_sky(root / "test", test)


def scores(encoder, fitted, asked):
    """Return what probes reach that are fitted on one set and asked about another."""
    known, wanted = fitted.classes >= 0, asked.classes >= 0
    return probe(
        fitted.embedded(encoder)[known],
        fitted.classes[known],
        asked.embedded(encoder)[wanted],
        asked.classes[wanted],
    )


def trained(data, seed, names, bands=("g", "r", "z")):
    """Return encoders with random and with pre-trained weights of one seed."""
    sample = {key: values[:512] for key, values in data.batch.items()}
    config = EncoderConfig("nano", bands=bands, cutout_size=SIZE, pooling="centre")
    start, encoder = (create_encoder(config, sample=sample, seed=seed) for _ in range(2))
    pretrain(encoder, data.batches(seed), replace(TRAIN, seed=seed), ObjectiveConfig(names))
    return start, encoder


def keep(name, values, goal="", bound="random weights of the same seed"):
    """Record a figure: one value a seed, the spread is its interval."""
    return record(Figure(f"probe.{name}", "", goal, bound, values))


def record_gain(prefix, before: list[ProbeScores], after: list[ProbeScores], goal=""):
    """Record scores before and after, and what was gained."""
    for method in ("linear", "knn"):
        for measure in ("balanced_accuracy", "auc"):
            name = f"{method}_{measure}"
            first, second = ([getattr(s, name) for s in part] for part in (before, after))
            keep(f"{prefix}random_{name}", first)
            keep(f"{prefix}pretrained_{name}", second)
    gains = [
        b.linear_balanced_accuracy - a.linear_balanced_accuracy
        for a, b in zip(before, after, strict=True)
    ]
    return keep(f"{prefix}pretrained_minus_random_accuracy", gains, goal), gains


def test_pretraining_on_the_synthetic_survey_beats_random_weights(skies):
    fitted, asked = skies
    before, after = [], []
    for seed in SEEDS:
        start, encoder = trained(fitted, seed, ("measures",))
        before.append(scores(start, fitted, asked))
        after.append(scores(encoder, fitted, asked))
    _, gains = record_gain("", before, after, ">= 0.05 in every seed")
    if FULL:
        assert min(gains) >= 0.05


@pytest.mark.parametrize("objective", ["masked", "reconstruction", "contrast"])
def test_other_objectives_for_comparison(skies, objective):
    fitted, asked = skies
    start, encoder = trained(fitted, 0, (objective,))
    before, after = scores(start, fitted, asked), scores(encoder, fitted, asked)
    gain = after.linear_balanced_accuracy - before.linear_balanced_accuracy
    keep(f"{objective}_minus_random_accuracy", [gain], bound="random weights, one seed")
    assert np.isfinite(gain)


def read_pictures(paths):
    """Return JPEGs as cutouts: the central part at the size of the network's field."""
    planes = []
    for path in paths:
        with Image.open(path) as opened:
            side = opened.width // 2
            low = (opened.width - side) // 2
            part = opened.convert("RGB").crop((low, low, low + side, low + side))
            planes.append(np.asarray(part.resize((SIZE, SIZE), Image.Resampling.BOX)))
    image = np.stack(planes).transpose(0, 3, 1, 2).astype(np.float32)
    return {"image": image}


def picture_class(row):
    """Return the class of a picture by the first letters of its Galaxy Zoo 2 class."""
    name = row["gz2_class"]
    if name.startswith("E"):
        return PICTURE_CLASSES["elliptical"]
    if name.startswith("Se"):
        return PICTURE_CLASSES["edge-on"]
    return PICTURE_CLASSES["spiral"] if name.startswith("S") else -1


def test_real_pictures_cross_validated():
    folder = REAL / "gz2_sdss"
    if not folder.is_dir():
        pytest.skip("the real pictures are not on this machine")
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    known = {path.stem: path for path in (folder / "images").glob("*.jpg")}
    pictures = read_pictures([known[row["asset_id"]] for row in rows])
    labelled = Cutouts(pictures, np.array([picture_class(row) for row in rows]))
    others = read_pictures(sorted((REAL / "sdss_unlabelled").glob("*.jpg")))
    both = np.concatenate([pictures["image"], others["image"]])
    unlabelled = Cutouts({"image": both}, np.full(len(both), -1))
    before, after = [], []
    for seed in SEEDS:
        start, encoder = trained(unlabelled, seed, ("measures",), bands=("b", "g", "r"))
        before.append(cross_validated(start, labelled, seed))
        after.append(cross_validated(encoder, labelled, seed))
    _, gains = record_gain("gz2_", before, after)
    assert np.isfinite(gains).all()


def cross_validated(encoder, labelled, seed):
    """Return the mean scores over folds."""
    kept = np.flatnonzero(labelled.classes >= 0)
    vectors, classes = labelled.embedded(encoder)[kept], labelled.classes[kept]
    fold = np.random.default_rng(seed).permutation(len(kept)) % FOLDS
    found = [
        probe(vectors[fold != at], classes[fold != at], vectors[fold == at], classes[fold == at])
        for at in range(FOLDS)
    ]
    return ProbeScores(**mean_scores(found))
