"""Self-supervised pre-training: hide patches of cutouts and learn to paint them (SimMIM).

Hidden pixels are replaced before the encoder sees them, so that nothing of them can leak, with
any trunk. The loss counts hidden pixels only, weighted by how far a pixel may be trusted. Two
other objectives hide nothing and count every pixel: plain reconstruction (Fu et al. 2024: the whole
image in, the same image out) and restoration (a blurred and noisier image in, the original out).
"""

from dataclasses import dataclass, field
from typing import NamedTuple, cast

import torch
from torch import nn

from lvm.augment import AugmentConfig, augment
from lvm.encoder import Encoder
from lvm.heads import create_decoder
from lvm.masking import expand_masks, random_patch_masks
from lvm.preprocess import Prepared
from lvm.tensors import Batch, Tensors, to_tensors
from lvm.training import Trainable

PAINTINGS = ("masked", "reconstruction", "restoration")


@dataclass(frozen=True)
class SimMIMConfig:
    """What is hidden and how it is painted.

    Parameters
    ----------
    objective : one of `PAINTINGS`
    mask_ratio : fraction of the patches that is hidden
    mask_patch : side of a hidden patch [pixel of the network input]. 8 px are 2 arcsec: wider
        than the PSF, so that neighbours do not give a pixel away, and narrower than the galaxies
    decoder : "linear" (SimMIM's) or "swin" (the other half of a U-Net)
    augment : of image and target alike
    degrade : what restoration undoes; it may not move pixels
    """

    objective: str = "masked"
    mask_ratio: float = 0.6
    mask_patch: int = 8
    decoder: str = "linear"
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    degrade: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(flip=False, rotate=False, blur=2.0, noise=1.0)
    )

    def __post_init__(self) -> None:
        if self.objective not in PAINTINGS:
            raise ValueError(f"objective is one of {PAINTINGS}, not {self.objective!r}")
        if self.degrade.flip or self.degrade.rotate or self.degrade.shift:
            raise ValueError("degrade may not turn or shift: the target would not fit any more")


class Painting(NamedTuple):
    """One batch as pre-training sees it, all (object, band, y, x); for pictures and tests.

    `shown` is what the encoder saw (hidden patches as they were filled), `hidden` is
    (object, 1, y, x).
    """

    target: torch.Tensor
    shown: torch.Tensor
    painted: torch.Tensor
    hidden: torch.Tensor


class SimMIM(Trainable):
    """An encoder, a decoder and the patch of pixels that stands for "hidden"."""

    def __init__(self, encoder: Encoder, config: SimMIMConfig | None = None, seed: int = 0) -> None:
        super().__init__()
        self.config = config or SimMIMConfig()
        spec = encoder.spec
        if spec.input_size % self.config.mask_patch:
            raise ValueError(
                f"input_size {spec.input_size} is no multiple of mask_patch "
                f"{self.config.mask_patch}: choose a mask_patch that divides it"
            )
        self.encoder = encoder
        self.grid = spec.input_size // self.config.mask_patch
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.decoder = create_decoder(self.config.decoder, spec)
            side = self.config.mask_patch
            self.mask_pixels = nn.Parameter(0.02 * torch.randn(1, spec.bands, side, side))

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the loss of a batch of cutouts, with masks drawn from `generator`."""
        bands = self.encoder.config.bands
        turned = augment(batch, self.config.augment, generator, bands)
        prepared = self.encoder.prepare(turned)
        hidden = self.draw_hidden(len(prepared.inputs), generator)
        painted = self.paint(self.seen(turned, prepared, generator), hidden)
        return {"loss": painting_loss(painted, prepared, hidden)}

    def seen(self, batch: Tensors, prepared: Prepared, generator: torch.Generator) -> torch.Tensor:
        """Return the network input before patches are hidden: degraded, for restoration."""
        if self.config.objective != "restoration":
            return prepared.inputs
        worse = augment(batch, self.config.degrade, generator, self.encoder.config.bands)
        return self.encoder.inputs(worse)

    def draw_hidden(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return which pixels the loss asks for: (object, 1, y, x), bool."""
        device = self.mask_pixels.device
        if self.config.objective != "masked":
            side = self.grid * self.config.mask_patch
            return torch.ones((count, 1, side, side), dtype=torch.bool, device=device)
        grid = (self.grid, self.grid)
        masks = random_patch_masks(count, grid, self.config.mask_ratio, generator)
        return expand_masks(masks, self.config.mask_patch).to(device)

    def hide(self, inputs: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return network input with hidden pixels replaced by the learned ones."""
        if self.config.objective != "masked":
            return inputs
        filling = self.mask_pixels.repeat(1, 1, self.grid, self.grid)
        return torch.where(hidden, filling, inputs)

    def paint(self, inputs: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return the decoder's image for network input with hidden pixels."""
        maps = self.encoder.feature_maps(self.hide(inputs, hidden))
        return cast(torch.Tensor, self.decoder(maps))

    @torch.no_grad()
    def show(self, batch: Batch, generator: torch.Generator) -> Painting:
        """Return target, what the encoder saw, and what was painted, for a batch of cutouts."""
        tensors = to_tensors(batch, self.mask_pixels.device)
        prepared = self.encoder.prepare(tensors)
        hidden = self.draw_hidden(len(prepared.inputs), generator)
        inputs = self.seen(tensors, prepared, generator)
        shown = self.hide(inputs, hidden)
        return Painting(prepared.inputs, shown, self.paint(inputs, hidden), hidden)


def painting_loss(painted: torch.Tensor, prepared: Prepared, hidden: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference over hidden pixels, weighted by trust.

    Pixels of weight 0 (no data, masked) and pixels that were shown cannot change it. A batch
    without a single pixel that counts gives 0, with a gradient of 0.
    """
    weight = prepared.weight * hidden
    error = (painted.float() - prepared.inputs).abs() * weight
    return error.sum() / weight.sum().clamp(min=1e-6)
