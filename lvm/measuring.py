"""Self-supervised pre-training by measuring: say what the galaxy is like, from a worse image of it.

The targets are `measures` of the cutout as it is; the encoder sees it with noise added and predicts
them from its embedding with one linear layer. So the embedding must hold brightness, colours, size
and shape in a form that a linear probe can read, and must look through the noise to find them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import nn

from lvm.augment import AugmentConfig, augment
from lvm.encoder import Encoder
from lvm.measures import measure, measure_count
from lvm.preprocess import Prepared
from lvm.tensors import Batch, Tensors
from lvm.training import Trainable

TARGET_SAMPLE = 512  # cutouts that the whitening of the targets is fitted on
# Added to the eigenvalues of the correlations (mean 1): directions below it are mostly noise.
WHITENING_FLOOR = 0.05


@dataclass(frozen=True)
class MeasuringConfig:
    """What is done to the image before the encoder sees it.

    Parameters
    ----------
    turns : flips and turns, which keep the measures
    worse : what the encoder has to look through; the targets are measured before it
    """

    turns: AugmentConfig = field(default_factory=AugmentConfig)
    worse: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(flip=False, rotate=False, noise=0.5)
    )

    def __post_init__(self) -> None:
        moves = replace(self.worse, dim=0.0, reddening=0.0, blur=0.0, noise=0.0, band_drop=0.0)
        if moves != AugmentConfig(flip=False, rotate=False):
            raise ValueError("worse may not move the galaxy away from where it was measured")


class Whitening(nn.Module):
    """Measures to uncorrelated targets of equal weight.

    Most measures follow the brightness. Without this the loss is content with that, and what
    is particular to a galaxy, its elongation or its arms, hardly counts.
    """

    mean: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("matrix", torch.eye(count))

    @torch.no_grad()
    def fit(self, values: torch.Tensor) -> None:
        """Set mean and matrix from values (object, number)."""
        values = values.double()
        self.mean.copy_(values.mean(dim=0))
        centred = values - values.mean(dim=0)
        # One that never changes gets no weight, instead of its rounding errors all of it.
        spread = centred.square().mean(dim=0).sqrt()
        scale = torch.where(spread > 1e-6, 1.0 / spread.clamp(min=1e-6), 0.0)
        unit = centred * scale
        variance, direction = torch.linalg.eigh(unit.T @ unit / len(unit))
        root = (variance.clamp(min=0.0) + WHITENING_FLOOR).rsqrt()
        self.matrix.copy_(scale[:, None] * direction * root)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return whitened values."""
        return (values - self.mean) @ self.matrix


class Measuring(Trainable):
    """An encoder and one linear layer from its embedding to the measures."""

    def __init__(
        self, encoder: Encoder, config: MeasuringConfig | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.config = config or MeasuringConfig()
        self.encoder = encoder
        count = measure_count(encoder.spec.bands)
        self.whiten = Whitening(count)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = nn.Linear(encoder.spec.width, count)

    def fit_targets(self, batches: Iterable[Batch]) -> None:
        """Fit the whitening of the targets on the first cutouts of some batches."""
        found: list[torch.Tensor] = []
        for batch in batches:
            found.append(self.measured(self.encoder.prepare(batch)))
            if sum(len(part) for part in found) >= TARGET_SAMPLE:
                break
        self.whiten.fit(torch.cat(found))

    def measured(self, prepared: Prepared) -> torch.Tensor:
        """Return the measures of network input, (object, number)."""
        preprocess = self.encoder.preprocess
        with torch.no_grad():
            flux = torch.sinh(prepared.inputs * preprocess.spread) * preprocess.softening
            return measure(flux, preprocess.softening)

    def training_step(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the loss of a batch of cutouts."""
        bands = self.encoder.config.bands
        # Before the turns: they keep the measures, but move the centre of an even number of pixels.
        target = self.whiten(self.measured(self.encoder.prepare(batch)))
        turned = augment(batch, self.config.turns, generator, bands)
        worse = augment(turned, self.config.worse, generator, bands)
        embedding = self.encoder.features(self.encoder.inputs(worse))
        return {"loss": F.smooth_l1_loss(self.head(embedding).float(), target)}
