"""The objects of the benchmark: pretend skies or real pictures, rendered and embedded once."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lvm.checkpoint import load_encoder
from lvm.encoder import Encoder
from lvm.measuring import Measuring
from lvm.tensors import to_tensors
from lvm.weights import SHIPPED, shipped_weights
from storage.brick import IngestConfig, read_brick
from storage.cutouts import CutoutConfig
from storage.synthetic import MORPHOLOGY_CLASSES, SyntheticConfig, write_synthetic_release
from storage.synthetic.truth import read_truth
from tasks.whole_files import whole_file

Array = npt.NDArray[Any]

PIXELS = ("image", "invvar", "maskbits")
CUTOUT = 88  # pixel: the 80 that the shipped encoder sees, and room for a shift
BATCH = 32


@dataclass(frozen=True)
class Sample:
    """Objects with what is known of them.

    Parameters
    ----------
    pixels : dict of ndarray
        image, invvar (object, band, y, x) and maskbits (object, y, x).
    classes : ndarray, shape (object,), int64
        True classes.
    votes : ndarray, shape (object, class), float64
        Fractions of the volunteers.
    embedding, measures : ndarray, shape (object, width)
        By the encoder, and what it was pre-trained to measure (`lvm.measures`); (object, 0) before
        `embedded`.
    """

    pixels: dict[str, Array]
    classes: npt.NDArray[np.int64]
    votes: Array
    embedding: Array
    measures: Array

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, index: Array) -> "Sample":
        """Return the objects at `index`."""
        rest = {n: getattr(self, n)[index] for n in ("classes", "votes", "embedding", "measures")}
        return Sample({name: value[index] for name, value in self.pixels.items()}, **rest)

    def batches(self) -> Iterator[dict[str, Array]]:
        """Yield the pixels in batches, in order."""
        for at in range(0, len(self), BATCH):
            yield {name: np.array(value[at : at + BATCH]) for name, value in self.pixels.items()}

    @property
    def digest(self) -> str:
        """Return what tells this sample from another: classes, votes and a part of the pixels."""
        found = hashlib.sha256(np.ascontiguousarray(self.classes).tobytes())
        found.update(np.ascontiguousarray(self.votes).tobytes())
        found.update(np.ascontiguousarray(self.pixels["image"][::7, 0]).tobytes())
        return found.hexdigest()


def sky_sample(folder: Path, config: SyntheticConfig, clean: float) -> Sample:
    """Return the galaxies of a pretend sky whose volunteers agree, rendering it when needed.

    Parameters
    ----------
    folder : Path
        Where rendered skies are kept.
    clean : float
        Smallest share of the volunteers for the most frequent answer.
    """
    root = folder / f"sky-{sky_key(config)}"
    names = (*PIXELS, "classes", "votes")
    if not (root / "votes.npy").is_file():
        _write_arrays(root, dict(zip(names, _read_sky(root / "release", config), strict=True)))
    arrays = {name: np.load(root / f"{name}.npy", mmap_mode="r") for name in names}
    votes = arrays["votes"] / np.maximum(arrays["votes"].sum(axis=1, keepdims=True), 1)
    kept = np.flatnonzero((arrays["classes"] >= 0) & (votes.max(axis=1) >= max(clean, 1e-9)))
    pixels = {name: np.asarray(arrays[name][kept]) for name in PIXELS}
    return unembedded(pixels, arrays["classes"][kept].astype(np.int64), votes[kept])


def sky_key(config: SyntheticConfig) -> str:
    """Return what stands for a sky in names of files; how many processes render it does not."""
    values = asdict(config)
    del values["processes"]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def unembedded(pixels: dict[str, Array], classes: npt.NDArray[np.int64], votes: Array) -> Sample:
    """Return a sample that no encoder has seen yet."""
    empty = np.zeros((len(classes), 0), np.float32)
    return Sample(pixels, classes, votes, empty, empty)


def benchmark_encoder(name: str) -> Encoder:
    """Return the encoder called `name`, with its embedding."""
    return load_encoder(shipped_weights(name) if name in SHIPPED else Path(name))


def embedded(sample: Sample, encoder: Encoder, cache: Path | None = None) -> Sample:
    """Return the sample with embeddings and measures, from `cache` where they are there.

    Embeddings are means over the four turns of the cutout: a galaxy has no up. Flips beside them
    changed nothing that could be measured.
    """
    if cache is not None and cache.is_file():
        with np.load(cache) as known:
            return replace(sample, embedding=known["embedding"], measures=known["measures"])
    measuring = Measuring(encoder).eval()
    vectors, numbers = [], []
    with torch.inference_mode():
        for batch in sample.batches():
            prepared = encoder.prepare(to_tensors(batch))
            vectors.append(_turned(encoder, prepared.inputs).numpy())
            numbers.append(measuring.measured(prepared).numpy())
    found = {"embedding": np.concatenate(vectors), "measures": np.concatenate(numbers)}
    if cache is not None:
        with whole_file(cache) as partial, partial.open("wb") as file:
            np.savez(file, **found)
    return replace(sample, **found)


def _turned(encoder: Encoder, inputs: torch.Tensor) -> torch.Tensor:
    views = [torch.rot90(inputs, turn, (2, 3)) for turn in range(4)]
    return torch.stack([encoder.features(view) for view in views]).mean(dim=0)


def _read_sky(root: Path, config: SyntheticConfig) -> tuple[Array, ...]:
    write_synthetic_release(root, config)
    ingest = IngestConfig(verify_checksums=False, cutout=CutoutConfig(size=CUTOUT))
    parts: list[tuple[Array, ...]] = []
    for path in sorted((root / "truth").rglob("truth-*.fits")):
        name = path.stem.removeprefix("truth-")
        found = read_brick(root, name, config=ingest).dataset
        truth = read_truth(root, name)
        place = {int(objid): row for row, objid in enumerate(truth["objid"])}
        rows = np.array([place[int(objid)] for objid in found["objid"].values], np.int64)
        order = {value: index for index, value in enumerate(MORPHOLOGY_CLASSES)}
        classes = np.array([order.get(str(value), -1) for value in truth["class"]])[rows]
        columns = [f"votes_{value.replace('-', '_')}" for value in MORPHOLOGY_CLASSES]
        votes = np.stack([np.asarray(truth[column], np.int64) for column in columns], axis=1)[rows]
        parts.append((*(found[key].values for key in PIXELS), classes, votes))
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def _write_arrays(root: Path, arrays: dict[str, Array]) -> None:
    for name, values in arrays.items():  # votes last: its file says that all are there
        with whole_file(root / f"{name}.npy") as partial, partial.open("wb") as file:
            np.save(file, values)
