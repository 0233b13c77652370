"""Convolutional decoders to pixels: on an encoder's maps, and a small U-Net that stands alone.

Both normalise over the channels of a pixel, not over the picture: how bright a galaxy is must not
be taken out of its features.
"""

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from lvm.augment import AugmentConfig, augment
from lvm.downstream.base import DownstreamTask
from lvm.encoder import FeatureSpec
from lvm.preprocess import Preprocess, PreprocessConfig
from lvm.tensors import Tensors
from lvm.training import Trainable


class MapDecoder(nn.Module):
    """From feature maps to (object, output, y, x) at the resolution of the network input.

    From the deepest map upwards, each map is joined to what came from below. The last step goes
    from the first map to pixels by a pixel shuffle.

    Parameters
    ----------
    outputs : values a pixel; nearly 0 before the training
    width, fine_width : channels at the maps' resolutions, and at that of the pixels
    """

    def __init__(
        self, spec: FeatureSpec, outputs: int, width: int = 64, fine_width: int = 24
    ) -> None:
        super().__init__()
        self.sides = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in spec.channels)
        self.joins = nn.ModuleList(_block(2 * width, width) for _ in spec.channels[1:])
        step = spec.reductions[0]
        self.expand = nn.Conv2d(width, fine_width * step**2, 1)
        self.shuffle = nn.PixelShuffle(step)
        self.fine = _block(fine_width, fine_width)
        self.project = _silent(fine_width, outputs)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return (object, output, y, x) of maps, high to low resolution."""
        sides = [side(features) for side, features in zip(self.sides, maps, strict=True)]
        below = sides[-1]
        for join, side in zip(self.joins, sides[-2::-1], strict=True):
            below = join(torch.cat([side, _resized(below, side)], dim=1))
        return cast(torch.Tensor, self.project(self.fine(self.shuffle(self.expand(below)))))


class PixelHead(nn.Module):
    """Decoder of pictures and their uncertainties from maps.

    `log_scale` (band,) corrects the uncertainties after training; it is saved with the weights.

    Parameters
    ----------
    channels : values for each band of a pixel; the last one is the log of the uncertainty
    width, fine_width : see `MapDecoder`
    """

    log_scale: torch.Tensor

    def __init__(
        self, features: FeatureSpec, channels: int, width: int = 64, fine_width: int = 24
    ) -> None:
        super().__init__()
        self.bands = features.bands
        self.decoder = MapDecoder(features, features.bands * channels, width, fine_width)
        self.register_buffer("log_scale", torch.zeros(features.bands))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return (object, band, channel, y, x)."""
        flat = self.decoder(maps)
        output = flat.view(len(flat), self.bands, -1, *flat.shape[-2:])
        scale = self.log_scale[:, None, None, None].expand(-1, 1, *flat.shape[-2:])
        return cast(torch.Tensor, output + F.pad(scale, (0, 0, 0, 0, output.shape[2] - 1, 0)))


class SmallUNet(nn.Module):
    """A U-Net of Ronneberger et al. (2015) with `depth` halvings, for pictures of any size.

    Parameters
    ----------
    width : channels at full resolution; doubled by every halving
    """

    def __init__(self, bands: int, outputs: int, width: int = 16, depth: int = 3) -> None:
        super().__init__()
        widths = [width * 2**step for step in range(depth + 1)]
        self.first = _block(bands, width)
        pairs = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(_block(high, low) for high, low in pairs)
        self.up = nn.ModuleList(_block(high + low, high) for high, low in reversed(pairs))
        self.project = _silent(width, outputs)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return (object, output, y, x) of network input (object, band, y, x)."""
        levels = [self.first(inputs)]
        for down in self.down:
            levels.append(down(F.avg_pool2d(levels[-1], 2, ceil_mode=True)))
        below = levels[-1]
        for up, level in zip(self.up, levels[-2::-1], strict=True):
            below = up(torch.cat([level, _resized(below, level)], dim=1))
        return cast(torch.Tensor, self.project(below))


class UNetModel(Trainable):
    """A U-Net that learns a downstream task of pixels by itself, without any encoder.

    It is what an encoder is compared with: the same question, loss and pictures, random weights.

    Parameters
    ----------
    outputs : values that the task's loss takes for each band of a pixel
    """

    def __init__(
        self, task: DownstreamTask, preprocess: PreprocessConfig, outputs: int, seed: int = 0
    ) -> None:
        super().__init__()
        self.task = task
        self.preprocess = Preprocess(preprocess)
        self.augment = AugmentConfig().allowed(task.keeps_label)
        bands = len(preprocess.bands)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.network = SmallUNet(bands, outputs * bands)

    def forward(self, batch: Tensors) -> torch.Tensor:
        """Return (object, band, output, y, x) for a batch of cutouts."""
        flat = cast(torch.Tensor, self.network(self.preprocess(batch).inputs))
        return flat.view(len(flat), len(self.preprocess.config.bands), -1, *flat.shape[-2:])

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the task's loss of an augmented batch, as `DownstreamModel` does."""
        batch = augment(batch, self.augment, generator, self.preprocess.config.bands)
        batch = self.task.pose(batch, generator)
        return self.task.loss(self(batch), batch)

    def trained(self) -> Iterable[nn.Parameter]:
        """Return all parameters."""
        return self.network.parameters()


def _block(width: int, out: int) -> nn.Sequential:
    from timm.layers.norm import LayerNorm2d

    layers: list[nn.Module] = []
    for channels in (width, out):
        layers += [nn.Conv2d(channels, out, 3, padding=1), LayerNorm2d(out), nn.GELU()]
    return nn.Sequential(*layers)


def _silent(width: int, outputs: int) -> nn.Conv2d:
    """Return a last layer that says nearly 0 until it is trained."""
    layer = nn.Conv2d(width, outputs, 1)
    nn.init.trunc_normal_(layer.weight, std=0.01)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _resized(maps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)
