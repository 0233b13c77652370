"""Several objectives at once on one encoder, with proportions that follow their progress.

The objects of a batch are divided among the objectives, so that a step costs what it costs with
one of them. The rule of the proportions: an objective whose loss has stopped to fall gets more of
the next batches, one that still falls gets less (dynamic weight average, Liu et al. 2019, with
running means in place of epochs); none falls below a floor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from lvm.distributed import present_world, sum_over
from lvm.tensors import Tensors
from lvm.training import Trainable

FAST, SLOW = 0.9, 0.98  # decay of the running means of a loss: some 10 and some 50 steps


@dataclass(frozen=True)
class BalanceConfig:
    """How the proportions follow the losses.

    Parameters
    ----------
    temperature : of the softmax over "recent loss / earlier loss"; large keeps all equal
    floor : least proportion of an objective
    adjust : False keeps the proportions equal
    """

    temperature: float = 0.1
    floor: float = 0.1
    adjust: bool = True

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.floor <= 1:
            raise ValueError("temperature must be above 0 and floor within 0 to 1")


class MultiTask(Trainable):
    """Objectives that share one encoder.

    Parameters
    ----------
    encoder : shared by all `parts`
    parts : objective by name; each has a `training_step`. One that cannot use a batch, such as a
        classification without labels, gives a loss of 0 that depends on no weight
    """

    fast: torch.Tensor
    slow: torch.Tensor
    seen: torch.Tensor

    def __init__(
        self,
        encoder: nn.Module,
        parts: Mapping[str, Trainable],
        config: BalanceConfig | None = None,
    ) -> None:
        super().__init__()
        self.config = config or BalanceConfig()
        if len(parts) < 2 or self.config.floor * len(parts) > 1:
            raise ValueError(
                f"objectives {sorted(parts)}: give at least two, and a floor below 1 / their number"
            )
        self.encoder = encoder
        self.parts = nn.ModuleDict(dict(parts))
        # Buffers, so that a resumed training goes on with the same proportions.
        for name in ("fast", "slow", "seen"):
            self.register_buffer(name, torch.zeros(len(parts), dtype=torch.float64))

    def proportions(self) -> dict[str, float]:
        """Return the part of a batch that each objective gets; they sum to 1."""
        count = len(self.parts)
        share = torch.full((count,), 1.0 / count, dtype=torch.float64)
        if self.config.adjust and bool((self.seen > 0).all()):
            fast = self.fast / (1.0 - FAST**self.seen)
            slow = self.slow / (1.0 - SLOW**self.seen)
            ratio = (fast / slow.clamp(min=1e-12)).cpu()
            share = torch.softmax(ratio / self.config.temperature, dim=0)
        share = self.config.floor + (1.0 - count * self.config.floor) * share
        return dict(zip(self.parts, share.tolist(), strict=True))

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the sum of the objectives' losses, each with its proportion, and both apart."""
        shares = self.proportions()
        total: torch.Tensor | float = 0.0
        report: Tensors = {}
        first = next(iter(batch.values()))
        sizes = _sizes(list(shares.values()), len(first))
        order = torch.randperm(len(first), generator=generator).to(first.device)
        for (name, part), chosen in zip(self.parts.items(), torch.split(order, sizes), strict=True):
            if len(chosen) == 0:  # fewer objects than objectives: its turn comes in another batch
                loss = first.new_zeros((), dtype=torch.float32)
            else:
                taken = {key: value[chosen] for key, value in batch.items()}
                loss = cast(Trainable, part).training_step(taken, generator)["loss"]
            total = total + shares[name] * loss
            report[f"loss_{name}"] = loss.detach()
            report[f"share_{name}"] = torch.tensor(shares[name])
        self._remember([float(report[f"loss_{name}"]) for name in shares])
        return {"loss": torch.as_tensor(total), **report}

    @torch.no_grad()
    def _remember(self, losses: list[float]) -> None:
        world = present_world()
        # Every process must come to the same proportions, so all take the mean of all.
        means = sum_over(world, {str(index): value for index, value in enumerate(losses)})
        for index in range(len(losses)):
            value = means[str(index)] / world.size
            if value > 0:  # 0 is "could not be used": it says nothing of the progress
                self.fast[index] = FAST * self.fast[index] + (1.0 - FAST) * value
                self.slow[index] = SLOW * self.slow[index] + (1.0 - SLOW) * value
                self.seen[index] += 1


class Labelled(Trainable):
    """An objective that needs votes, on the objects of a batch that have some."""

    def __init__(self, model: Trainable) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the loss over the labelled objects; 0 where none is."""
        votes = batch.get("target")
        if votes is not None:
            known = votes.sum(dim=1) > 0
            if bool(known.any()):
                labelled = {name: value[known] for name, value in batch.items()}
                return self.model.training_step(labelled, generator)
        return {"loss": torch.zeros((), device=batch["image"].device)}


def _sizes(shares: list[float], count: int) -> list[int]:
    """Return whole numbers of objects in these proportions that sum to `count`."""
    bounds = [0]
    so_far = 0.0
    for share in shares:
        so_far += share
        bounds.append(min(round(so_far * count), count))
    bounds[-1] = count
    return [high - low for low, high in zip(bounds, bounds[1:], strict=False)]
