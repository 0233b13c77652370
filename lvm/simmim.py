"""Self-supervised pre-training: hide patches of cutouts and learn to paint them (SimMIM).

Hidden pixels are replaced before the encoder sees them, so that nothing of them can leak, with
any trunk. The loss counts hidden pixels only, weighted by how far a pixel may be trusted. Plain
reconstruction (Fu et al. 2024: the whole image in, the same image out) is the other objective.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import nn

from lvm.augment import AugmentConfig, augment
from lvm.encoder import Encoder
from lvm.heads import create_decoder
from lvm.masking import expand_masks, random_patch_masks
from lvm.preprocess import Prepared
from lvm.tensors import Batch, Tensors
from lvm.training import BatchFactory, Callback, FitResult, Trainable, TrainConfig, fit

OBJECTIVES = ("masked", "reconstruction")


@dataclass(frozen=True)
class SimMIMConfig:
    """What is hidden and how it is painted.

    Parameters
    ----------
    objective : "masked" hides patches; "reconstruction" hides nothing and counts every pixel
    mask_ratio : fraction of the patches that is hidden
    mask_patch : side of a hidden patch [pixel of the network input]. 8 px are 2 arcsec: wider
        than the PSF, so that neighbours do not give a pixel away, and narrower than the galaxies
    decoder : "linear" (SimMIM's) or "swin" (the other half of a U-Net)
    """

    objective: str = "masked"
    mask_ratio: float = 0.6
    mask_patch: int = 8
    decoder: str = "linear"
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise ValueError(f"objective is one of {OBJECTIVES}, not {self.objective!r}")


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
        turned = augment(batch, self.config.augment, generator)
        prepared = self.encoder.prepare(turned)
        hidden = self.draw_hidden(len(prepared.inputs), generator)
        painted = self.paint(prepared.inputs, hidden)
        return {"loss": painting_loss(painted, prepared, hidden)}

    def draw_hidden(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Return which pixels the loss asks for: (object, 1, y, x), bool."""
        device = self.mask_pixels.device
        if self.config.objective == "reconstruction":
            side = self.grid * self.config.mask_patch
            return torch.ones((count, 1, side, side), dtype=torch.bool, device=device)
        grid = (self.grid, self.grid)
        masks = random_patch_masks(count, grid, self.config.mask_ratio, generator)
        return expand_masks(masks, self.config.mask_patch).to(device)

    def hide(self, inputs: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """Return network input with hidden pixels replaced by the learned ones."""
        if self.config.objective == "reconstruction":
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
        prepared = self.encoder.prepare(batch)
        hidden = self.draw_hidden(len(prepared.inputs), generator)
        shown = self.hide(prepared.inputs, hidden)
        return Painting(prepared.inputs, shown, self.paint(prepared.inputs, hidden), hidden)


def painting_loss(painted: torch.Tensor, prepared: Prepared, hidden: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference over hidden pixels, weighted by trust.

    Pixels of weight 0 (no data, masked) and pixels that were shown cannot change it. A batch
    without a single pixel that counts gives 0, with a gradient of 0.
    """
    weight = prepared.weight * hidden
    error = (painted.float() - prepared.inputs).abs() * weight
    return error.sum() / weight.sum().clamp(min=1e-6)


class PretrainResult(NamedTuple):
    """The model with its decoder (for pictures), and what the training did."""

    model: SimMIM
    fit: FitResult


def pretrain(
    encoder: Encoder,
    batches: BatchFactory,
    train: TrainConfig,
    config: SimMIMConfig | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
) -> PretrainResult:
    """Pre-train `encoder` in place.

    Parameters
    ----------
    encoder : made by `create_encoder` with a sample, so that its preprocessing fits the data
    batches : batches(epoch) gives batches with image, invvar and maskbits
    train, callbacks, checkpoint : see `training.fit`
    config : what is hidden and how it is painted

    Returns
    -------
    PretrainResult; its first part shows what is painted (`SimMIM.show`)
    """
    model = SimMIM(encoder, config, seed=train.seed)
    return PretrainResult(model, fit(model, batches, train, callbacks, checkpoint))
