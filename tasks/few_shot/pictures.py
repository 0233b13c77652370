"""Galaxy Zoo 2 pictures as objects of the benchmark, four classes by the volunteers' votes.

JPEG colours stand in for bands: blue for g, green for r, red for z. They are no flux, so that the
encoder keeps its weights and gets a preprocessing that is fitted on the pictures.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lvm.encoder import Encoder
from lvm.preprocess import fit_preprocess
from storage.pictures import read_picture
from storage.synthetic import MORPHOLOGY_CLASSES
from tasks.few_shot.config import BadBenchmark
from tasks.few_shot.samples import CUTOUT, Sample, unembedded

# Half of the "merger" rows of this table are doubtful: those that the volunteers call odd are kept.
ODD, ODD_SHARE = "t06_odd_a14_yes_weighted_fraction", 0.5
NAMES = {"merger": "other"}
SHARES = {
    "elliptical": "score_smooth",
    "edge-on": "score_edge",
    "spiral": "score_spiral",
    "other": "score_merger",
}
CENTRAL = 0.5  # of the picture's side: what the cutouts of the survey show around a galaxy
FOLDS = 5


def picture_sample(folder: Path) -> Sample:
    """Return the labelled pictures of a folder with `labels.csv` and `images/`."""
    table = folder / "labels.csv"
    if not table.is_file():
        raise BadBenchmark(f"{table}: no Galaxy Zoo 2 table there; give its folder, or real none")
    rows = pd.read_csv(table)
    rows = rows[(rows["derived_label"] != "merger") | (rows[ODD] > ODD_SHARE)]
    names = rows["derived_label"].replace(NAMES)
    classes = np.array([MORPHOLOGY_CLASSES.index(str(name)) for name in names], np.int64)
    columns = [SHARES[name] for name in MORPHOLOGY_CLASSES]
    votes = rows[columns].to_numpy(np.float64)
    known = {path.stem: path for path in (folder / "images").glob("*.jpg")}
    paths = [known[str(name)] for name in rows["asset_id"]]
    image = np.stack([read_picture(path, CUTOUT, CENTRAL)[::-1] for path in paths])
    shape = (len(image), *image.shape[2:])
    pixels = {
        "image": image.astype(np.float32),
        "invvar": np.ones(image.shape, np.float32),
        "maskbits": np.zeros(shape, np.int32),
    }
    return unembedded(pixels, classes, votes)


def fold_of(classes: np.ndarray, seed: int) -> np.ndarray:
    """Return the fold of each object, every class spread over all; seeds 0 to 4 share one deal."""
    fold = np.zeros(len(classes), np.int64)
    draw = np.random.default_rng((seed // FOLDS, 4))
    for value in np.unique(classes):
        members = draw.permutation(np.flatnonzero(classes == value))
        fold[members] = np.arange(len(members)) % FOLDS
    return fold


def picture_encoder(encoder: Encoder, sample: Sample) -> Encoder:
    """Return an encoder with the same weights and the preprocessing that suits the pictures."""
    config = encoder.config
    size, crop = config.input_size or 0, config.crop_size or 0
    fitted = Encoder(config, fit_preprocess(sample.pixels, config.bands, size, crop))
    fitted.trunk.load_state_dict(encoder.trunk.state_dict(), strict=True)
    return fitted.eval()
