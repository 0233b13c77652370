"""How a model is trained, as data."""

from dataclasses import dataclass

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained.

    Parameters
    ----------
    epochs : passes over the batches
    learning_rate : peak of the schedule; `floor` times it at the end
    warmup : fraction of the training during which the rate rises
    weight_decay, layer_decay : see `optim.parameter_groups`
    clip_norm : largest norm of the gradient
    ema_decay : of the running average of the weights that the model ends with; 0 keeps the last
    precision : float32, or bfloat16 by autocast
    steps_per_epoch : batches of an epoch; needed when they have no length
    checkpoint_every : epochs between two checkpoints
    accumulate : batches whose gradients make one step; the last of an epoch may have fewer
    gradient_checkpointing, compiler : see `acceleration.accelerated`
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    floor: float = 0.01
    warmup: float = 0.1
    weight_decay: float = 0.05
    layer_decay: float = 1.0
    clip_norm: float = 1.0
    ema_decay: float = 0.0
    precision: str = "float32"
    seed: int = 0
    steps_per_epoch: int | None = None
    checkpoint_every: int = 1
    device: str = "cpu"
    accumulate: int = 1
    gradient_checkpointing: bool = False
    compiler: str = ""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is one of {sorted(PRECISIONS)}, not {self.precision!r}")
        counts = (self.epochs, self.checkpoint_every, self.accumulate)
        if min(counts) < 1 or self.learning_rate <= 0:
            raise ValueError(
                "epochs, learning_rate, checkpoint_every and accumulate must be above 0"
            )
