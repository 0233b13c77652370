"""What the few-shot benchmark compares, and how much of it."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storage.synthetic import SyntheticConfig
from tasks.errors import TaskError

SIZES = ("quick", "hours", "full")
REAL = ("none", "gz2")
BASELINE, PRETRAINED_BASELINE, FULL = "resnet18", "resnet18_imagenet", "lvm_full"
LINEAR, TWO_LAYER, DESCRIBED, HITL = "lvm_linear", "lvm_dst", "lvm_described", "lvm_hitl"
# Controls: what the classical measures do by themselves, without any network.
MEASURED, MEASURED_HITL = "measures", "measures_hitl"
# Networks take a processor minute a cell, the others a second.
NETWORKS = (BASELINE, PRETRAINED_BASELINE, FULL)
# Chosen on a sky with another seed than the one that is reported.
HITL_STRATEGY = "margin"
STRATEGIES = ("margin", "entropy", "disagreement", "badge", "k_means", "k_centre")
DESCRIPTIONS = {
    BASELINE: "ResNet18 from scratch",
    PRETRAINED_BASELINE: "ResNet18, ImageNet weights",
    LINEAR: "LVM + linear",
    TWO_LAYER: "LVM + DST, two layers on the embedding",
    FULL: "LVM + DST, encoder trained too",
    DESCRIBED: "LVM and its pixel measures + DST",
    HITL: "LVM and its pixel measures + DST + HITL",
    MEASURED: "pixel measures alone",
    MEASURED_HITL: "pixel measures alone + HITL",
}
# Bright and crowded, as the survey that the shipped encoder was pre-trained on (seed 1), so that
# two cores render enough resolved galaxies; none of its seeds, nor of the demonstration's (7).
SKY = SyntheticConfig(brick_size=1800, density=6.0, bright_tilt=0.2, processes=2)


class BadBenchmark(TaskError, ValueError):
    """The options of the benchmark do not fit together."""


def strategy_method(strategy: str) -> str:
    """Return the method that is `DESCRIBED` with labels chosen by a strategy."""
    return HITL if strategy == HITL_STRATEGY else f"{HITL}:{strategy}"


@dataclass(frozen=True)
class NetworkConfig:
    """How networks are trained; ResNet18 and the fine-tuned LVM alike.

    Parameters
    ----------
    name : str
        timm model of the baseline.
    side : int
        Of what it sees of a cutout [pixel].
    steps : int
        The most; fewer objects get fewer, but at least `least_steps`.
    validated : float
        Part of the labels that is kept aside to choose the best epoch. They count as labels.
    """

    name: str = "resnet18"
    side: int = 64
    steps: int = 240
    least_steps: int = 60
    epochs: int = 40
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    validated: float = 0.2
    full_learning_rate: float = 5e-4
    layer_decay: float = 0.75


@dataclass(frozen=True)
class FewShotConfig:
    """A whole benchmark.

    Parameters
    ----------
    out : Path
        Folder of skies, cells, table and plot; what is there already is not made again.
    labels, network_labels : tuple of int
        Numbers of labels, for methods on embeddings and for networks.
    full_labels : int
        Largest number for the LVM whose encoder is trained too.
    picture_labels, picture_network_labels : tuple of int
        The same for real pictures.
    seeds, network_seeds : int
        Repetitions: order of the pool, mistakes of the annotator, weights, augmentation. Real
        pictures have at least as many as there are folds.
    pool, test : SyntheticConfig
        The skies that labels are drawn from and that everything is measured on.
    clean : float
        Share of the volunteers that must agree on one answer. 0.8 is the flag of Galaxy Zoo 2
        (Willett et al. 2013), whose clean sample Fu et al. (2024) used; 0 takes all galaxies.
    error : float
        Chance that the annotator is wrong; wrong answers follow the volunteers' other votes.
    target : float
        The AUC at which labels are compared.
    encoder : str
        Name of shipped weights, or a folder.
    imagenet : Path, optional
        Weights of ResNet18, safetensors or a state dict; without it that method is left out.
    real : str
        "gz2" adds cross-validated Galaxy Zoo 2 pictures from `real_folder`.
    sky : bool
        Whether the pretend sky is measured; without it there must be real pictures.
    """

    out: Path
    labels: tuple[int, ...] = (8, 12, 16, 24, 32, 48, 64, 128, 256, 512)
    network_labels: tuple[int, ...] = (64, 256, 800)
    full_labels: int = 256
    picture_labels: tuple[int, ...] = (16, 32, 64, 128)
    picture_network_labels: tuple[int, ...] = (64, 128)
    seeds: int = 5
    network_seeds: int = 2
    pool: SyntheticConfig = replace(SKY, count=8, seed=21)
    test: SyntheticConfig = replace(SKY, count=4, seed=22)
    clean: float = 0.8
    error: float = 0.05
    target: float = 0.9
    encoder: str = "nano-synthetic"
    imagenet: Path | None = None
    real: str = "none"
    real_folder: Path | None = None
    sky: bool = True
    network: NetworkConfig = field(default_factory=NetworkConfig)
    workers: int = 2
    device: str = "cpu"

    def __post_init__(self) -> None:
        if (
            min(self.seeds, self.network_seeds, self.workers) < 1
            or not self.labels
            or min(self.labels) < 1
        ):
            raise BadBenchmark("seeds, workers and every number of labels must be at least 1")
        if self.real not in REAL:
            raise BadBenchmark(f"real is one of {REAL}, not {self.real!r}")
        if not self.sky and self.real == "none":
            raise BadBenchmark("without the pretend sky there is nothing to measure: give real gz2")
        if self.pool.seed == self.test.seed:
            raise BadBenchmark("pool and test must be different skies: give them different seeds")


def few_shot_config(
    size: str,
    out: Path,
    *,
    seeds: int | None = None,
    labels: tuple[int, ...] = (),
    real: str = "none",
    **options: Any,
) -> FewShotConfig:
    """Return the benchmark of a size.

    "quick" takes minutes of two cores, "hours" as long as it says: with three times as many objects
    to choose from, networks are trained nearly to their best. "full" is for a GPU.

    Parameters
    ----------
    seeds, labels, real, options
        In place of the size's own values.
    """
    if size not in SIZES:
        raise BadBenchmark(f"size is one of {SIZES}, not {size!r}")
    config = FewShotConfig(out=out)
    if size == "hours":
        config = replace(
            config,
            network_labels=(256, 800, 2400),
            pool=replace(config.pool, count=24),
            network=NetworkConfig(steps=1200),
        )
    if size == "full":
        config = replace(
            config,
            labels=(*config.labels, 1024, 2048),
            network_labels=(32, 64, 128, 256, 512, 1024, 2048, 4096),
            full_labels=4096,
            network_seeds=5,
            pool=replace(config.pool, count=48),
            test=replace(config.test, count=12),
            network=NetworkConfig(steps=3000, least_steps=300, epochs=60),
        )
    if labels:
        config = replace(config, labels=labels, network_labels=labels)
    if seeds is not None:
        config = replace(config, seeds=seeds, network_seeds=seeds)
    return replace(config, real=real, **options)
