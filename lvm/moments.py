"""Moments of feature maps around the object: how much, where, how wide, how elongated.

The pooled embedding of an encoder that was trained to ignore how a galaxy is turned does not hold
its position angle, and hardly its axis ratio. Its maps do: their moments under Gaussian
windows are a fixed number of values, of any resolution.
"""

from typing import cast

import torch
from torch import nn

from lvm.encoder import FeatureSpec
from lvm.heads import Standardise

MOMENTS = 6  # of one window: sum, two of position, two of elongation, one of size
INPUT_WINDOWS = (2.0, 4.0, 8.0, 16.0)  # sigma [pixel of the input]: from a star to a large galaxy
LARGEST_WINDOW = 0.25  # sigma over the side of the input; wider ones see mostly the neighbours


class MomentPooling(nn.Module):
    """From feature maps to `width` numbers an object.

    Each map is pooled under windows of one and two of its cells (sigma), the network input, where
    it is among them (reduction 1), under those of `INPUT_WINDOWS`. The moments are standardised by
    the first batch of a training, and the channels of a map mixed to `channels`, which are learnt.
    """

    fitted: torch.Tensor

    def __init__(self, spec: FeatureSpec, channels: int = 8) -> None:
        super().__init__()
        windows = [_windows(spec.input_size, reduction) for reduction in spec.reductions]
        for index, window in enumerate(windows):
            self.register_buffer(f"window_{index}", window, persistent=False)
        numbers = [len(window) for window in windows]
        self.scale = nn.ModuleList(
            Standardise(width * number)
            for width, number in zip(spec.channels, numbers, strict=True)
        )
        self.mix = nn.ModuleList(nn.Linear(width, channels) for width in spec.channels)
        self.width = channels * sum(numbers)
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return (object, `width`) of maps (object, channel, y, x), high to low resolution."""
        pooled = [
            torch.einsum("ocyx,kyx->ock", found.float(), self.get_buffer(f"window_{index}"))
            for index, found in enumerate(maps)
        ]
        if self.training and not self.fitted and len(pooled[0]) > 1:
            self._fit(pooled)
        parts = []
        for values, scale, mix in zip(pooled, self.scale, self.mix, strict=True):
            scaled = scale(values.flatten(1)).unflatten(1, values.shape[1:])
            parts.append(mix(scaled.transpose(1, 2)).flatten(1))
        return torch.cat(parts, dim=1)

    def _fit(self, pooled: list[torch.Tensor]) -> None:
        for values, scale in zip(pooled, self.scale, strict=True):
            cast(Standardise, scale).fit(values.detach().flatten(1))
        self.fitted.fill_(True)


def _windows(side: int, reduction: int) -> torch.Tensor:
    """Return (window and moment, y, x) for a map of an input of `side` pixels."""
    cells = torch.arange(side // reduction, dtype=torch.float32)
    # The object is on pixel side // 2 of the input; a cell stands for `reduction` pixels.
    along = (cells + 0.5) * reduction - 0.5 - side // 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    found: list[torch.Tensor] = []
    for sigma in INPUT_WINDOWS if reduction == 1 else (float(reduction), 2.0 * reduction):
        if found and sigma > LARGEST_WINDOW * side:
            break
        window = torch.exp(-0.5 * (x.square() + y.square()) / sigma**2)
        window /= window.sum()
        u, v = x / sigma, y / sigma
        shapes = (torch.ones_like(u), u, v, u.square() - v.square(), 2 * u * v, u * u + v * v)
        found += [window * shape for shape in shapes]
    return torch.stack(found)
