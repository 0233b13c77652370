"""What a downstream task is, the registry of them, and the model that serves one.

A downstream task says what is asked of an encoder: a head, a loss, measures, and how the answer
is shown. `DownstreamModel` is encoder + head for one of them. How it is trained is
`lvm.finetuning`'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import nn

from lvm.augment import KINDS, AugmentConfig, augment
from lvm.checkpoint import (
    build_encoder,
    encoder_digest,
    encoder_document,
    load_strict,
    load_weights,
    save_weights,
)
from lvm.columns import Meanings
from lvm.configs import config_from_dict, config_to_dict
from lvm.encoder import Encoder, FeatureSpec
from lvm.figures import Figure
from lvm.tensors import Tensors
from lvm.training import Trainable

Columns = dict[str, np.ndarray[Any, np.dtype[Any]]]
MODES = ("head", "full")
# In `needs`: all sources of the catalogue that lie in a cutout, one row each, NaN rows at the end.
SOURCES = "sources"
SOURCE_FIELDS = ("x", "y", "radius", "mag", "axis_ratio", "angle")


@dataclass(frozen=True)
class Metric:
    """The measure that two models are compared by; `best` is its value for a perfect one."""

    name: str
    higher_is_better: bool = True
    best: float = 1.0


@dataclass(frozen=True)
class TaskConfig:
    """Base of the configurations of downstream tasks; by itself it has no options."""


class DownstreamTask:
    """Contract of a downstream task; subclasses are registered with `register`.

    Attributes
    ----------
    name : of the task, its MLflow model and its --downstream choice
    headline : the measure that models are compared by
    needs : what the right answer is made of: "<question>_vote" (votes of the label ledger),
        columns of the object table, or `SOURCES` (every source within the cutout); empty for a
        task that makes its answer from the cutout itself (see `pose`)
    uses : "embedding" (the pooled vector; may come from a cache), "maps" (every stage) or
        "pixels" (the network input, then every stage)
    keeps_label : the augmentations (`augment.KINDS`) that do not change the right answer
    survey_pixels : needs the survey's own pixels, so an encoder that does not resize
    slow_metrics : measuring takes too long to be repeated hundreds of times
    columns : unit and meaning of what `present` returns, besides `lvm.columns.COMMON`
    config_class : frozen dataclass of its options
    """

    name: ClassVar[str]
    headline: ClassVar[Metric]
    needs: ClassVar[tuple[str, ...]]
    uses: ClassVar[str] = "embedding"
    keeps_label: ClassVar[tuple[str, ...]] = KINDS
    survey_pixels: ClassVar[bool] = False
    slow_metrics: ClassVar[bool] = False
    columns: ClassVar[Meanings] = {}
    config_class: ClassVar[type[TaskConfig]] = TaskConfig

    def __init__(self, config: TaskConfig | None = None) -> None:
        self.config = config or self.config_class()

    def target(self, columns: Columns) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the right answers (object, ...) float32 from the columns that it `needs`.

        Votes come as one column `<question>_vote` (object, class), sources as one column
        `SOURCES` (object, source, field). NaN means not known: it counts neither in the loss nor
        in a measure.
        """
        (only,) = self.needs
        return columns[only].astype(np.float32)

    def pose(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return a batch as the question is put in training and in evaluation.

        Unchanged, unless the task makes question and answer out of the cutout: then `image` and
        `invvar` are what the encoder is shown, and `target` the right answer. Every draw is from
        `generator`.
        """
        return batch

    def calibrate(
        self, head: nn.Module, output: torch.Tensor, batch: Tensors
    ) -> Mapping[str, float]:
        """Set what a head knows of its own certainty, from outputs on objects kept aside.

        Called once, after training, with the validation split; what is set are buffers of `head`,
        which are saved with the weights. Returns what it set and reached, for the record.
        """
        return {}

    def figures(self, output: torch.Tensor, batch: Tensors) -> Sequence[Figure]:
        """Return what should be plotted of the answers on a test split, besides the measures."""
        return ()

    def head(self, features: FeatureSpec) -> nn.Module:
        """Return the module from an embedding (or list of maps) to the output."""
        raise NotImplementedError

    def loss(self, output: torch.Tensor, batch: Tensors) -> Tensors:
        """Return {"loss": scalar, ...} of an output (object, ...) for a batch with `target`."""
        raise NotImplementedError

    def metrics(self, output: torch.Tensor, batch: Tensors) -> dict[str, float]:
        """Return measures by name, the headline among them."""
        raise NotImplementedError

    def present(self, output: torch.Tensor) -> Columns:
        """Return what a reviewer and a catalogue see: arrays (object,) by column name."""
        raise NotImplementedError

    def example(self, count: int, features: FeatureSpec, generator: torch.Generator) -> Tensors:
        """Return made-up labels of `count` objects, as a batch would hold them."""
        raise NotImplementedError

    def perfect(self, batch: Tensors) -> torch.Tensor:
        """Return the output that answers a batch with `target` as well as can be."""
        raise NotImplementedError


_REGISTRY: dict[str, type[DownstreamTask]] = {}


def register(task: type[DownstreamTask]) -> type[DownstreamTask]:
    """Add a downstream task to the registry; a name that is taken raises ValueError."""
    if task.name in _REGISTRY:
        raise ValueError(
            f"two downstream tasks are called {task.name!r}: "
            f"{_REGISTRY[task.name].__module__} and {task.__module__}"
        )
    _REGISTRY[task.name] = task
    return task


def registered() -> Mapping[str, type[DownstreamTask]]:
    """Return the live registry, by name."""
    return _REGISTRY


def create_task(name: str, options: Mapping[str, Any] | None = None) -> DownstreamTask:
    """Return the downstream task called `name` with the given options."""
    if name not in _REGISTRY:
        raise ValueError(f"no downstream task is called {name!r}: there are {sorted(_REGISTRY)}")
    task = _REGISTRY[name]
    return task(config_from_dict(task.config_class, options or {}))


class DownstreamModel(Trainable):
    """Encoder and head of one downstream task.

    Parameters
    ----------
    mode : "head": the encoder is frozen, and embeddings from a cache of this encoder will do;
        "full": the encoder is trained too, and only cutouts will do
    augment : applied in training steps on cutouts, as far as the task's label allows
    seed : of the head's initial weights

    Raises
    ------
    ValueError
        If the task needs the survey's own pixels and the encoder resizes them.
    """

    def __init__(
        self,
        task: DownstreamTask,
        encoder: Encoder,
        mode: str = "head",
        augment: AugmentConfig | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.task = task
        crop, size = encoder.config.crop_size, encoder.config.input_size
        if task.survey_pixels and crop != size:
            raise ValueError(
                f"{task.name} works on the survey's own pixels, and the encoder resizes {crop} of "
                f"them to {size}: use an encoder with crop_size equal to input_size"
            )
        self.encoder = encoder
        self.encoder_digest = encoder_digest(encoder)
        self.augment = (augment or AugmentConfig()).allowed(task.keeps_label)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = task.head(encoder.spec)
        self.set_mode(mode)

    def set_mode(self, mode: str) -> None:
        """Freeze ("head") or free ("full") the encoder, for this model alone.

        The encoder's own `requires_grad` flags are not touched: others may be training it.
        """
        if mode not in MODES:
            raise ValueError(f"mode is one of {MODES}, not {mode!r}")
        self.mode = mode
        self.train(self.training)

    def train(self, mode: bool = True) -> "DownstreamModel":
        """Set training mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.train(mode and self.mode == "full")
        return self

    def trained(self) -> Iterable[nn.Parameter]:
        """Return the parameters that a training changes."""
        return self.parameters() if self.mode == "full" else self.head.parameters()

    def features(self, batch: Tensors) -> Any:
        """Return what the head takes: embeddings (object, width), or the list of maps."""
        if "embedding" in batch and self.mode == "head" and self.task.uses == "embedding":
            return batch["embedding"]
        if "image" not in batch:
            raise ValueError(
                f"{self.task.name} ({self.mode} mode, uses {self.task.uses}) needs cutouts: cached "
                "embeddings serve only a frozen encoder and a head on embeddings"
            )
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.mode == "full"):
            inputs = self.encoder.inputs(batch)
            if self.task.uses == "embedding":
                return self.encoder.features(inputs)
            maps = self.encoder.feature_maps(inputs)
            return [inputs, *maps] if self.task.uses == "pixels" else maps

    def forward(self, batch: Tensors) -> torch.Tensor:
        """Return the head's output (object, ...) for a batch of cutouts or embeddings."""
        return cast(torch.Tensor, self.head(self.features(batch)))

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the task's loss of an augmented batch."""
        if "image" in batch and (self.mode == "full" or "embedding" not in batch):
            batch = augment(batch, self.augment, generator, self.encoder.config.bands)
            batch = self.task.pose(batch, generator)
        return self.task.loss(self(batch), batch)

    def save(self, directory: Path) -> str:
        """Write weights, configuration and digest into a new directory; return the digest."""
        document = {
            "downstream": self.task.name,
            "options": config_to_dict(self.task.config),
            "mode": self.mode,
            "augment": config_to_dict(self.augment),
            "encoder_digest": self.encoder_digest,
            **encoder_document(self.encoder),
        }
        return save_weights(Path(directory), "downstream", document, self)

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> "DownstreamModel":
        """Read a model that `save` wrote, in evaluation mode; anything amiss raises.

        `encoder_digest` is that of the encoder it started from: in "head" mode, cached embeddings
        with this digest may be given to it.
        """
        document, state = load_weights(Path(directory), "downstream")
        task = create_task(document["downstream"], document["options"])
        encoder = build_encoder(document)
        model = cls(
            task, encoder, document["mode"], config_from_dict(AugmentConfig, document["augment"])
        )
        load_strict(model, state)
        model.encoder_digest = document["encoder_digest"]
        return model.to(device).eval()
