"""Self-supervised pre-training without painting: two views of one galaxy must look alike.

Two random changes of the same cutouts (turned, shifted, dimmed, blurred, noisier) go through the
encoder; their projections are to agree with one another more than with those of other galaxies
(NT-Xent, Chen et al. 2020). What the changes take away, brightness among it, the embedding forgets;
what they leave, the shape and the colours, it keeps. The projector is thrown away afterwards.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from lvm.augment import AugmentConfig, augment
from lvm.encoder import Encoder
from lvm.tensors import Tensors
from lvm.training import Trainable

VIEWS = AugmentConfig(shift=3.0, dim=1.0, reddening=0.05, blur=1.8, noise=0.5)
MARGIN = 8  # pixels kept around the crop, so that what a shift or a blur brings in is sky


@dataclass(frozen=True)
class ContrastConfig:
    """How two views are made and compared.

    Parameters
    ----------
    views : changes of each view
    temperature : of the softmax over the other views of the batch
    width : of the projections that are compared
    """

    views: AugmentConfig = field(default_factory=lambda: VIEWS)
    temperature: float = 0.2
    width: int = 128

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.width < 2:
            raise ValueError("temperature must be above 0 and width at least 2")


class Contrast(Trainable):
    """An encoder and the projector on its embedding."""

    def __init__(
        self, encoder: Encoder, config: ContrastConfig | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.config = config or ContrastConfig()
        self.encoder = encoder
        width = encoder.spec.width
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.projector = nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, 2 * width),
                nn.GELU(),
                nn.Linear(2 * width, self.config.width),
            )

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the loss of a batch of cutouts, whose views are drawn from `generator`."""
        near = self._near(batch)
        bands = self.encoder.config.bands
        views = [augment(near, self.config.views, generator, bands) for _ in range(2)]
        inputs = torch.cat([self.encoder.inputs(view) for view in views])
        projected = self.projector(self.encoder.features(inputs))
        first, second = projected.float().chunk(2)
        loss, right = agreement(first, second, self.config.temperature)
        return {"loss": loss, "pairs_found": right}

    def _near(self, batch: Tensors) -> Tensors:
        """Cut the sky away that neither the network nor a filter sees: it costs the most time."""
        side = int(self.encoder.config.crop_size or 0) + 2 * MARGIN
        size = batch["image"].shape[-1]
        low = max(size // 2 - side // 2, 0)
        cut = slice(low, min(low + side, size))
        spatial = ("image", "invvar", "maskbits")
        return {k: v[..., cut, cut] if k in spatial else v for k, v in batch.items()}


def agreement(
    first: torch.Tensor, second: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return NT-Xent of projections (object, width) and the fraction that find their partner.

    A single object has no others to differ from: its loss is 0.
    """
    unit = F.normalize(torch.cat([first, second]), dim=1)
    count = len(first)
    likeness = unit @ unit.T / temperature
    itself = torch.eye(2 * count, dtype=torch.bool, device=unit.device)
    likeness = likeness.masked_fill(itself, -math.inf)
    partner = (torch.arange(2 * count, device=unit.device) + count) % (2 * count)
    found = (likeness.detach().argmax(dim=1) == partner).float().mean()
    return F.cross_entropy(likeness, partner), found
