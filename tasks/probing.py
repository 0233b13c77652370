"""A look at how good an encoder is while it trains: probes on the labelled objects of a snapshot.

Training and validation splits only: the test split stays unseen until a model is compared on it.
"""

import numpy as np
import numpy.typing as npt
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from lvm.encoder import Encoder
from lvm.inference import embed
from lvm.probe import ProbeScores, probe
from tasks.datasets import NotEnoughLabels, freeze_dataset, labelled_objects, votes_of
from tasks.loaders import CutoutLoader
from tasks.references import SnapshotRef
from tasks.settings import Settings

PROBED = 2000  # objects at most: enough for an error of one or two hundredths
MIN_PER_CLASS = 2  # fitted objects, or the probe cannot know the class


class EncoderProbe:
    """The labelled objects of a snapshot, ready to measure encoders on."""

    def __init__(
        self,
        snapshot: SnapshotRef,
        rows: npt.NDArray[np.int64],
        classes: npt.NDArray[np.int64],
        fitted: npt.NDArray[np.bool_],
    ) -> None:
        self._loader = CutoutLoader(snapshot, rows)
        self._classes, self._fitted = classes, fitted

    def scores(self, encoder: Encoder, device: str, batch_size: int) -> ProbeScores:
        """Embed the objects and return what the probes reach on the validation split."""
        batches = self._loader.batches(batch_size)
        parts = [vectors for _, vectors in embed(encoder, batches, device=device)]
        vectors = np.concatenate(parts)
        return probe(
            vectors[self._fitted],
            self._classes[self._fitted],
            vectors[~self._fitted],
            self._classes[~self._fitted],
        )


def find_probe(settings: Settings, snapshot: SnapshotRef, seed: int) -> EncoderProbe | None:
    """Return a probe on the morphology labels of a snapshot; None, and a note, where there are few.

    An object belongs to the class with most votes. Of more than `PROBED` objects, `seed` draws.
    """
    if not settings.labels_path.is_file():
        _say("no probe of the encoder: there are no labels")
        return None
    try:
        dataset = freeze_dataset.fn(settings, snapshot, "morphology")
    except NotEnoughLabels as error:
        _say(f"no probe of the encoder: {error}")
        return None
    table = labelled_objects(dataset)
    table = table[table["split"].isin(("train", "val")).to_numpy()].reset_index(drop=True)
    if len(table) > PROBED:
        chosen = np.random.default_rng(seed).permutation(len(table))[:PROBED]
        table = table.iloc[np.sort(chosen)]
    classes = votes_of(table, dataset).argmax(axis=1).astype(np.int64)
    fitted = (table["split"] == "train").to_numpy()
    known = np.bincount(classes[fitted], minlength=len(dataset.classes)) >= MIN_PER_CLASS
    kept = known[classes]
    if len(set(classes[kept & fitted])) < 2 or not (kept & ~fitted).any():
        _say("no probe of the encoder: fewer than two classes have labels to fit and to validate")
        return None
    rows = table["row"].to_numpy(dtype=np.int64)[kept]
    return EncoderProbe(snapshot, rows, classes[kept], fitted[kept])


def _say(message: str) -> None:
    try:
        get_run_logger().info(message)
    except MissingContextError:  # called as a plain function
        return
