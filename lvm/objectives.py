"""Which objectives pre-train an encoder, and the function that does it.

One objective trains by itself; several share the encoder and divide the batches (`multitask`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from lvm.contrast import Contrast, ContrastConfig
from lvm.downstream import create_task
from lvm.downstream.base import DownstreamModel
from lvm.encoder import Encoder
from lvm.measuring import Measuring, MeasuringConfig
from lvm.multitask import BalanceConfig, Labelled, MultiTask
from lvm.simmim import PAINTINGS, SimMIM, SimMIMConfig
from lvm.training import BatchFactory, Callback, FitResult, Trainable, TrainConfig, fit

OBJECTIVES = (*PAINTINGS, "measures", "contrast", "classification")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What an encoder is pre-trained to do.

    Parameters
    ----------
    names : one or several of `OBJECTIVES`: "masked", "reconstruction" and "restoration" paint
        (`simmim`); "measures" measures (`measuring`); "contrast" compares views (`contrast`);
        "classification" learns votes where a batch has a `target` with votes
    classes : of the votes, in the order of the columns of `target`
    painting, measuring, contrast : of the objectives with these names
    balance : of several objectives
    """

    names: tuple[str, ...] = ("measures",)
    classes: tuple[str, ...] = ("elliptical", "edge-on", "spiral", "other")
    painting: SimMIMConfig = field(default_factory=SimMIMConfig)
    measuring: MeasuringConfig = field(default_factory=MeasuringConfig)
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.names) - set(OBJECTIVES))
        if unknown or not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"objectives {self.names}: give one or more of {OBJECTIVES}, each once"
            )


class PretrainResult(NamedTuple):
    """What was trained, with its decoders and heads, and what the training did."""

    model: Trainable
    fit: FitResult


def pretrain(
    encoder: Encoder,
    batches: BatchFactory,
    train: TrainConfig,
    config: ObjectiveConfig | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> PretrainResult:
    """Pre-train `encoder` in place.

    Parameters
    ----------
    encoder : made by `create_encoder` with a sample, so that its preprocessing fits the data
    batches : batches(epoch) gives batches with image, invvar and maskbits
    train, callbacks, checkpoint : see `training.fit`
    config : the objectives; None: the default ones
    """
    model = create_objective(encoder, config or ObjectiveConfig(), train.seed)
    measuring = [part for part in model.modules() if isinstance(part, Measuring)]
    # A resumed training takes the scaling of its targets from the checkpoint.
    if measuring and not (checkpoint is not None and checkpoint.exists()):
        measuring[0].fit_targets(batches(0))
    return PretrainResult(model, fit(model, batches, train, callbacks, checkpoint))


def create_objective(encoder: Encoder, config: ObjectiveConfig, seed: int = 0) -> Trainable:
    """Return the objective of a configuration; `seed` is that of its decoders and heads."""
    parts = {name: _create_part(name, encoder, config, seed) for name in config.names}
    if len(parts) == 1:
        return next(iter(parts.values()))
    return MultiTask(encoder, parts, config.balance)


def painters(model: Trainable) -> Mapping[str, SimMIM]:
    """Return what of an objective can show pictures (`SimMIM.show`), by the objective's name."""
    found = [part for part in model.modules() if isinstance(part, SimMIM)]
    return {part.config.objective: part for part in found}


def _create_part(name: str, encoder: Encoder, config: ObjectiveConfig, seed: int) -> Trainable:
    if name == "measures":
        return Measuring(encoder, config.measuring, seed)
    if name == "contrast":
        return Contrast(encoder, config.contrast, seed)
    if name == "classification":
        options: dict[str, Any] = {"classes": list(config.classes)}
        task = create_task("morphology", options)
        return Labelled(DownstreamModel(task, encoder, "full", seed=seed))
    return SimMIM(encoder, replace(config.painting, objective=name), seed)
