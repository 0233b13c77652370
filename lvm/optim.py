"""Parameter groups, the learning-rate schedule and the running average of weights.

Everything the loop needs beside the loop; the optimiser itself is torch's AdamW.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

# A learning rate of exactly 0 at the first step would waste it; one hundredth is timm's habit too.
WARMUP_START = 0.01


def parameter_groups(
    model: nn.Module,
    trained: Iterable[nn.Parameter],
    weight_decay: float,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Return optimiser groups with `lr_scale`, for the `trained` parameters of a model.

    The timm trunk inside `model` (the module with a `group_matcher`), if any, has its learning
    rate multiplied by `layer_decay` once per block counted from its end; everything else keeps
    the full rate. Biases, norms and what timm lists as such have no weight decay.
    """
    from timm import optim

    timm_groups: Any = optim  # its functions carry no complete types
    wanted = {id(parameter) for parameter in trained}
    trunk: Any = next((m for m in model.modules() if hasattr(m, "group_matcher")), None)
    if trunk is None:
        return _chosen(timm_groups.param_groups_weight_decay(model, weight_decay), wanted)
    exempt = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") else ()
    inner = timm_groups.param_groups_layer_decay(
        trunk, weight_decay, no_weight_decay_list=tuple(exempt), layer_decay=layer_decay
    )
    of_trunk = {id(parameter) for parameter in trunk.parameters()}
    outer = timm_groups.param_groups_weight_decay(model, weight_decay)
    return _chosen(inner, wanted) + _chosen(outer, wanted - of_trunk)


def _chosen(groups: list[dict[str, Any]], wanted: set[int]) -> list[dict[str, Any]]:
    """Return the groups with only the wanted parameters (by id), without empty ones."""
    kept = [
        {"lr_scale": 1.0, **group, "params": [p for p in group["params"] if id(p) in wanted]}
        for group in groups
    ]
    return [group for group in kept if group["params"]]


def cosine_with_warmup(progress: float, warmup: float, floor: float) -> float:
    """Return the factor on the learning rate at `progress` through the training.

    Parameters
    ----------
    progress, warmup : fractions of the whole training, 0 to 1
    floor : the factor at the end

    Returns
    -------
    Rises linearly from 0.01 to 1 during the warm-up, then falls as a half cosine to `floor`
    """
    if progress < warmup:
        return WARMUP_START + (1.0 - WARMUP_START) * progress / warmup
    if warmup >= 1.0:
        return 1.0
    along = min((progress - warmup) / (1.0 - warmup), 1.0)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * along))


class WeightAverage:
    """Exponential moving average of a model's floating weights and buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's present weights; early ones are forgotten faster."""
        self.updates += 1
        # Without this ramp the random initial weights stay in it for 1 / (1 - decay) steps.
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value.detach(), 1.0 - decay)
            else:
                self.average[name].copy_(value)

    def copy_to(self, model: nn.Module) -> None:
        """Give the averaged weights to the model."""
        model.load_state_dict(self.average, strict=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs."""
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved average."""
        self.updates = int(state["updates"])
        self.average = {
            name: value.to(self.average[name].device) for name, value in state["average"].items()
        }
