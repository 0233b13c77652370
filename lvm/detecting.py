"""Sources as peaks of a map: head, targets, loss, and how peaks become sources (CenterNet).

Maps are on a grid of cells over the part of the cutout that the encoder sees. A place is in survey
pixels from the centre of the cutout's central pixel (size // 2, size // 2), so that it does not
depend on the size of cutout, crop or grid. Nothing here knows magnitudes or a catalogue.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from lvm.encoder import FeatureSpec
from lvm.matching import Array
from lvm.tensors import Tensors

CHANNELS = 5  # logit of a source; its x, y from the cell's centre [cell]; log half width, height
# Prior of a source in a cell: with less, the first steps only unlearn thousands of empty cells.
PRIOR_LOGIT = -4.0
# A loss of 1 pixel of place weighs as much as a factor e of size; both beside a focal loss near 1.
PLACE_WEIGHT, SIZE_WEIGHT = 1.0, 0.3


@dataclass(frozen=True)
class Grid:
    """Cells over the centre of a cutout.

    Parameters
    ----------
    side : cells along an axis
    extent : side of what they cover [survey pixel]
    """

    side: int
    extent: int

    @property
    def cell(self) -> float:
        """Side of a cell [survey pixel]."""
        return self.extent / self.side

    def cells_of(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return cell coordinates (centre of the first cell: 0) of places [pixel]."""
        return (pixels + self.extent // 2 + 0.5) / self.cell - 0.5

    def pixels_of(self, cells: torch.Tensor) -> torch.Tensor:
        """Return places [pixel] of cell coordinates."""
        return (cells + 0.5) * self.cell - 0.5 - self.extent // 2

    def centres(self) -> torch.Tensor:
        """Return the places of the cells' centres along an axis (side,) [pixel]."""
        return self.pixels_of(torch.arange(self.side, dtype=torch.float32))


class DetectionHead(nn.Module):
    """From the encoder's maps, and its input where it is given, to a map of sources.

    Parameters
    ----------
    spec : of the encoder
    width : channels of the pyramid
    stride : side of a cell [pixel of the network input], a power of two
    pixels : join the network input, which is the first of the maps, to the pyramid

    Attributes
    ----------
    threshold : logit from which on a peak is called a source; the output is relative to it, so
        that a logit above 0 is a source
    """

    threshold: torch.Tensor

    def __init__(
        self, spec: FeatureSpec, width: int = 48, stride: int = 2, pixels: bool = False
    ) -> None:
        from torchvision.ops import FeaturePyramidNetwork

        super().__init__()
        steps = (spec.reductions[0] // stride).bit_length() - 1
        if stride << steps != spec.reductions[0]:
            raise ValueError(f"stride {stride}: give {spec.reductions[0]} over a power of two")
        self.pixels = pixels
        self.pyramid = FeaturePyramidNetwork(list(spec.channels), width)
        self.rise = nn.Sequential(*(_Rise(width) for _ in range(steps)))
        self.stem = _stem(spec.bands, width, stride) if pixels else nn.Identity()
        joined = 2 * width if pixels else width
        self.mix = nn.Sequential(*_convolution(joined, width), *_convolution(width, width))
        self.out = nn.Conv2d(width, CHANNELS, kernel_size=1, bias=False)
        nn.init.normal_(self.out.weight, std=0.01)
        self.bias = nn.Parameter(torch.tensor([PRIOR_LOGIT, 0.0, 0.0, 0.0, 0.0]))
        self.register_buffer("threshold", torch.zeros(()))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return the map (object, CHANNELS, y, x)."""
        stages = maps[1:]
        named = OrderedDict((str(index), stage) for index, stage in enumerate(stages))
        x = self.rise(self.pyramid(named)["0"])
        if self.pixels:
            x = torch.cat([x, self.stem(maps[0])], dim=1)
        found = self.out(self.mix(x)) + self.bias[:, None, None]
        return torch.cat([found[:, :1] - self.threshold, found[:, 1:]], dim=1)


class _Rise(nn.Module):
    """Twice the resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, 4 * width, kernel_size=1)
        self.shuffle = nn.PixelShuffle(2)
        self.smooth = nn.Sequential(*_convolution(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.smooth(self.shuffle(self.expand(x))))


def _convolution(width: int, out: int, stride: int = 1) -> list[nn.Module]:
    kernel = nn.Conv2d(width, out, kernel_size=3, stride=stride, padding=1, bias=False)
    return [kernel, nn.GroupNorm(max(out // 8, 1), out), nn.GELU()]


def _stem(bands: int, width: int, stride: int) -> nn.Sequential:
    layers = _convolution(bands, width // 2)
    for step in range(stride.bit_length() - 1):
        layers += _convolution(width // 2 if step == 0 else width, width, stride=2)
    return nn.Sequential(*layers) if stride > 1 else nn.Sequential(*_convolution(bands, width))


@dataclass(frozen=True)
class Truth:
    """Places of the sources of a batch of fields, padded.

    Parameters
    ----------
    places : (object, source, 4) float32: x, y, half width, half height [pixel from the centre]
    known : (object, source) bool, False pads
    required : (object, source) bool; known ones that are not are ignored
    """

    places: torch.Tensor
    known: torch.Tensor
    required: torch.Tensor


def detection_loss(output: torch.Tensor, truth: Truth, grid: Grid) -> Tensors:
    """Return {"loss", "heat", "place", "size"} of a map for the sources of its fields.

    The heat is CenterNet's focal loss with soft surroundings; cells around ignored sources do not
    count, unless a required one is as near. Place and size are learnt within one cell and a half.
    """
    output = output.float()
    target = _draw(truth, grid)
    logit = output[:, 0]
    chance = torch.sigmoid(logit)
    positive, counted = target["peak"], target["counted"]
    right = (1.0 - chance).square() * F.logsigmoid(logit) * positive
    wrong = chance.square() * F.logsigmoid(-logit) * (1.0 - target["heat"]).pow(4) * counted
    number = positive.sum().clamp(min=1.0)
    heat = -(right + wrong * (1.0 - positive)).sum() / number
    near = target["near"]
    cells = near.sum().clamp(min=1.0)
    apart = F.smooth_l1_loss(output[:, 1:3], target["offset"], reduction="none", beta=0.3)
    sizes = F.smooth_l1_loss(output[:, 3:5], target["size"], reduction="none", beta=0.3)
    place = (apart.sum(dim=1) * near).sum() / cells
    size = (sizes.sum(dim=1) * near).sum() / cells
    return {
        "loss": heat + PLACE_WEIGHT * place + SIZE_WEIGHT * size,
        "heat": heat.detach(),
        "place": place.detach(),
        "size": size.detach(),
    }


def _draw(truth: Truth, grid: Grid) -> Tensors:
    """Return the target maps (object, ..., y, x)."""
    places = truth.places
    centres = grid.centres().to(places.device)
    # (object, source, y, x) [cell] from the cell's centre to the source
    along = (places[..., 0, None, None] - centres[None, None, None, :]) / grid.cell
    up = (places[..., 1, None, None] - centres[None, None, :, None]) / grid.cell
    square = (along.square() + up.square()) * grid.cell**2
    # The centre of a large galaxy is less certain than that of a star.
    width = (0.25 * places[..., 2:4].amin(dim=-1)).clamp(1.2, 4.0)[..., None, None]
    glow = torch.exp(-0.5 * square / width.square())
    required = truth.required[..., None, None]
    heat = (glow * required).amax(dim=1)
    ignored = (glow * (truth.known & ~truth.required)[..., None, None]).amax(dim=1)
    distance = torch.where(required, square, torch.inf)
    nearest = distance.argmin(dim=1, keepdim=True)
    chosen = torch.gather(distance, 1, nearest)[:, 0] / grid.cell**2

    def of_nearest(values: torch.Tensor) -> torch.Tensor:
        return torch.gather(values.expand_as(square), 1, nearest)[:, 0]

    log_size = places[..., 2:4].clamp(min=0.5).log()
    offset = torch.stack([of_nearest(along), of_nearest(up)], dim=1)
    size = torch.stack([of_nearest(log_size[..., axis, None, None]) for axis in (0, 1)], dim=1)
    in_cell = (along.abs() <= 0.5) & (up.abs() <= 0.5) & required
    return {
        "heat": heat,
        "peak": in_cell.any(dim=1).float(),
        "counted": (heat >= ignored).float() + (ignored < 0.1).float() * (heat < ignored),
        "near": (chosen <= 1.5**2).float(),
        "offset": offset,
        "size": size,
    }


def perfect_map(truth: Truth, grid: Grid) -> torch.Tensor:
    """Return the map (object, CHANNELS, y, x) that says the required sources as well as it can."""
    target = _draw(truth, grid)
    logit = 20.0 * target["peak"] - 10.0
    return torch.cat([logit[:, None], target["offset"], target["size"]], dim=1)


@torch.no_grad()
def find_peaks(
    output: torch.Tensor, grid: Grid, lowest: float, separation: float = 2.0, most: int = 100
) -> list[tuple[Array, Array]]:
    """Return the sources of each field, strongest first.

    Parameters
    ----------
    output : (object, CHANNELS, y, x)
    lowest : logit below which no peak is looked at
    separation : of two sources [pixel]; of nearer ones the stronger is kept
    most : sources of a field

    Returns
    -------
    list of (places (source, 4) float64 as in `Truth`, logit (source,) float64)
    """
    from torchvision.ops import nms

    output = output.detach().float().cpu()
    logit = output[:, 0]
    peak = (logit >= F.max_pool2d(logit[:, None], 3, 1, 1)[:, 0]) & (logit > lowest)
    found = []
    for index in range(len(output)):
        y, x = torch.nonzero(peak[index], as_tuple=True)
        values = output[index, :, y, x]
        place = torch.stack(
            [
                grid.pixels_of(x + values[1].clamp(-1.5, 1.5)),
                grid.pixels_of(y + values[2].clamp(-1.5, 1.5)),
                values[3].clamp(-1.0, 6.0).exp(),
                values[4].clamp(-1.0, 6.0).exp(),
            ],
            dim=1,
        )
        # Squares that share a third of their union are as far apart as half of their side.
        squares = torch.cat([place[:, :2] - separation, place[:, :2] + separation], dim=1)
        kept = nms(squares, values[0], 1.0 / 3.0)[:most]
        found.append((place[kept].double().numpy(), values[0][kept].double().numpy()))
    return found
