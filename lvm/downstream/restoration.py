"""Restoration: what a galaxy would look like with a sharper PSF and without noise.

The question is made from cutouts (`degradation`): a picture is made worse, and what it was is the
answer. On cutouts of a real survey there is no truth without noise: the answer is then the cutout
itself, with its own noise. Such a model learns to undo a known loss *relative to the survey*, its
measures are limited by the noise of the answers (`psnr` is against the noisy answer), and whoever
restores survey cutouts with it assumes that what holds one step worse holds here too. With
`target_map` (pictures without noise, such as synthetic ones or stamps of a space telescope brought
to the survey's pixels) the answer is exact, and the degraded picture is what the survey measures.

How it answers: linear filters (`degradation.linear_restorations`) undo the blur more or less
boldly. The head says, pixel by pixel, how to mix them, adds a change of its own, and says how far
off it may be. What is not in the light that was measured must come in through that change, so it is
reported (`invention`), as are the pixels where the answer departs from the truth by more than its
uncertainty allows. The encoder must keep the survey's pixels (crop_size equal to input_size).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lvm.degradation import (
    DEGRADATIONS,
    DegradationConfig,
    degrade,
    filled,
    linear_restorations,
    moffat,
)
from lvm.distortions import PIXEL_SCALE
from lvm.downstream.base import (
    Columns,
    DownstreamModel,
    DownstreamTask,
    Metric,
    TaskConfig,
    register,
)
from lvm.encoder import FeatureSpec
from lvm.figures import Figure
from lvm.image_quality import BEST_PSNR, Answer, quality, quality_figures, sigma_factor
from lvm.tensors import Batch, Tensors, central, to_tensors
from lvm.unet import PixelHead

# From the inverse of the blur to a mean over an arcsecond and more; factors of ten, as the best one
# shifts with the signal-to-noise of a pixel, which spans four decades in a survey.
STRENGTHS = (0.003, 0.03, 0.3, 3.0, 30.0, 1000.0)
UNIT_STRENGTH = 3.0  # of the filter whose brightness sets the unit of a change
UNIT_FRACTION = 0.1  # of that brightness; the noise is added in quadrature
MAX_LOG_SIGMA = 6.0
ERROR_FLOOR = 1e-3  # of the noise's variance: nearer to the truth than that is not asked for
POSED = ("measured", "measured_invvar", "target", "kernel_fwhm")  # what `pose` adds
COARSE, COARSE_WEIGHT = 8, 0.5  # [pixel] over which flux shall be right, and how much it counts
CHUNK = 32  # objects whose filters are held at a time when many are measured


class Restored(NamedTuple):
    """A restored picture and its uncertainty (1 sigma), (object, band, y, x) [nanomaggies]."""

    image: torch.Tensor
    sigma: torch.Tensor


@dataclass(frozen=True)
class RestorationConfig(TaskConfig):
    """Options of the restoration task.

    Parameters
    ----------
    kind : what is undone: "both", "deblur" or "denoise" (`degradation.DEGRADATIONS`)
    degradation : in place of the one that `kind` stands for
    strengths : of the linear filters that are mixed; none: the change alone is added to the picture
    width, fine_width : of the decoder (`unet.PixelHead`)
    bands : names of the bands, for figures
    """

    kind: str = "both"
    degradation: DegradationConfig | None = None
    strengths: tuple[float, ...] = STRENGTHS
    width: int = 64
    fine_width: int = 24
    bands: tuple[str, ...] = ("g", "r", "z")

    def __post_init__(self) -> None:
        if self.kind not in DEGRADATIONS:
            raise ValueError(f"kind is one of {sorted(DEGRADATIONS)}, not {self.kind!r}")
        if any(strength <= 0 for strength in self.strengths):
            raise ValueError(f"strengths {self.strengths}: each must be above 0")


@register
class Restoration(DownstreamTask):
    """Sharper pictures with less noise; the output is (object, band, channel, y, x).

    Channels: weight of each candidate (none with `strengths` empty), change, and log of the
    uncertainty; the last two in units of noise and brightness (see `restored`).
    """

    name = "restoration"
    headline = Metric("psnr", higher_is_better=True, best=BEST_PSNR)
    needs = ()
    uses = "maps"
    survey_pixels = True
    slow_metrics = True
    columns = {
        "invention": ("1", "mean change beyond linear filters, over the noise"),
        "uncertainty": ("1", "mean uncertainty (1 sigma) of the restored picture, over the noise"),
    }
    keeps_label = ("flip", "rotate")  # `pose` makes PSF and noise what they should be
    config_class = RestorationConfig

    @property
    def options(self) -> RestorationConfig:
        """The configuration, as the type that it is."""
        return cast(RestorationConfig, self.config)

    @property
    def degradation(self) -> DegradationConfig:
        """What is to be undone."""
        return self.options.degradation or DEGRADATIONS[self.options.kind]

    @property
    def channels(self) -> int:
        """Number of channels of the output for each band."""
        return len(self.options.strengths) + 3 if self.options.strengths else 2

    def pose(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the batch made worse; `measured` is what the network is shown."""
        posed = degrade(batch, self.degradation, generator)
        return {**posed, "measured": posed["image"], "measured_invvar": posed["invvar"]}

    def head(self, features: FeatureSpec) -> nn.Module:
        """Return a convolutional decoder on the maps."""
        return PixelHead(features, self.channels, self.options.width, self.options.fine_width)

    def restored(self, output: torch.Tensor, batch: Tensors) -> Restored:
        """Return pictures and uncertainties from an output and what was measured.

        Parameters
        ----------
        output : (object, band, channel, y, x)
        batch : with `measured`, `measured_invvar` (object, band, y, x) and perhaps `kernel_fwhm`
            (object, band) [arcsec]: the blur to undo; absent: that of the configuration
        """
        base, unit, change, log_sigma = self._parts(output.float(), batch)
        return Restored(base + unit * change, unit * log_sigma.exp())

    def loss(self, output: torch.Tensor, batch: Tensors) -> Tensors:
        """Return the loss of pictures and of their uncertainties.

        The picture is fitted by the log of its mean squared error, object by object and band by
        band, which is PSNR; the uncertainty by the Gaussian likelihood of what is left of the
        error. Apart, because together bright pixels are given up in exchange for a wide error bar
        (Seitzer et al. 2022).
        """
        base, unit, change, log_sigma = self._parts(output.float(), batch)
        flux, variance = _answer(batch, output)
        known = torch.isfinite(flux)
        error = torch.where(known, base + unit * change - flux, 0.0)
        pixels = known.sum(dim=(2, 3)).clamp(min=1.0)
        floor = ERROR_FLOOR * _noise(batch, output).square()[..., 0, 0]
        square = (error.square().sum(dim=(2, 3)) / pixels + floor).log() - floor.log()
        coarse = F.avg_pool2d(error, COARSE, ceil_mode=True).square().mean(dim=(2, 3))
        coarse = (coarse + floor / COARSE**2).log() - (floor / COARSE**2).log()
        spread = (unit * log_sigma.exp()).square() + variance
        left = error.detach().square() / spread + (spread / unit.square()).log()
        likelihood = 0.5 * torch.where(known, left, 0.0).sum(dim=(2, 3)) / pixels
        return {
            "loss": (square + COARSE_WEIGHT * coarse + likelihood).mean(),
            "log_error": square.detach().mean(),
            "log_coarse_error": coarse.detach().mean(),
            "likelihood": likelihood.detach().mean(),
        }

    def metrics(self, output: torch.Tensor, batch: Tensors) -> dict[str, float]:
        """Return `image_quality.quality` of the pictures, and how much of each is invention."""
        invention = float(_changes(output).mean())
        return {**quality(self._answered(output, batch)), "invention": invention}

    def calibrate(
        self, head: nn.Module, output: torch.Tensor, batch: Tensors
    ) -> Mapping[str, float]:
        """Scale the uncertainties of each band so that 68.3 % of the errors are within them."""
        answer = self._answered(output, batch)
        scale = cast(PixelHead, head).log_scale
        values = {}
        for band in range(len(scale)):
            factor = sigma_factor(answer, band)
            scale[band] += math.log(factor)
            values[f"sigma_factor_{self._names(output)[band]}"] = factor
        return values

    def figures(self, output: torch.Tensor, batch: Tensors) -> Sequence[Figure]:
        """Return curves of what is reached, examples, and where the restoration is most wrong."""
        return quality_figures(self._answered(output, batch), self._names(output))

    def present(self, output: torch.Tensor) -> Columns:
        """Return `invention` and `uncertainty`, means over the picture in units of its noise."""
        return {
            "invention": _changes(output).cpu().numpy().astype(np.float32),
            "uncertainty": output[:, :, -1].float().exp().mean(dim=(1, 2, 3)).cpu().numpy(),
        }

    def example(self, count: int, features: FeatureSpec, generator: torch.Generator) -> Tensors:
        """Return nothing: `pose` makes the answers from the cutouts."""
        return {}

    def perfect(self, batch: Tensors) -> torch.Tensor:
        """Return the output whose change leads exactly to the true picture."""
        flux = batch["target"][:, 0]
        shape = (len(flux), flux.shape[1], self.channels, *flux.shape[2:])
        output = torch.zeros(shape, device=flux.device)
        base, unit, _, _ = self._parts(output, batch)
        output[:, :, -2] = torch.where(torch.isfinite(flux), (flux - base) / unit, 0.0)
        return output

    def _parts(self, output: torch.Tensor, batch: Tensors) -> tuple[torch.Tensor, ...]:
        """Return the mixed picture, unit, change and log of sigma; (object, band, y, x) each."""
        strengths = (*self.options.strengths, UNIT_STRENGTH)
        measured, valid = batch["measured"], batch["measured_invvar"] > 0
        fwhm = torch.full(measured.shape[:2], self.degradation.blur_fwhm, device=measured.device)
        fwhm = batch.get("kernel_fwhm", fwhm)
        with torch.no_grad():
            kernel = moffat(fwhm / PIXEL_SCALE, self.degradation.beta)
            found = linear_restorations(measured, valid, kernel, strengths)
            found = central(found, output.shape[-1])
            unit = torch.hypot(_noise(batch, output), UNIT_FRACTION * found[:, -1])
        if self.options.strengths:
            # 0 is a candidate too: empty sky.
            candidates = torch.cat([torch.zeros_like(found[:, :1]), found[:, :-1]], dim=1)
            weights = F.softmax(output[:, :, :-2], dim=2)
            base = (weights * candidates.transpose(1, 2)).sum(dim=2)
        else:
            base = central(filled(measured, valid), output.shape[-1])
        return base, unit, output[:, :, -2], output[:, :, -1].clamp(-MAX_LOG_SIGMA, MAX_LOG_SIGMA)

    def _answered(self, output: torch.Tensor, batch: Tensors) -> Answer:
        """Return restored and true pictures side by side, made in small parts."""
        parts = []
        for first in range(0, len(output), CHUNK):
            names = [name for name in POSED if name in batch]
            part: Tensors = {name: batch[name][first : first + CHUNK] for name in names}
            chosen, size = output[first : first + CHUNK], output.shape[-1]
            image, sigma = self.restored(chosen, part)
            measured = central(filled(part["measured"], part["measured_invvar"] > 0), size)
            flux, variance = _answer(part, chosen)
            noise = _noise(part, chosen)[..., 0, 0]
            parts.append(Answer(image, sigma, measured, flux, variance, noise))
        return Answer(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def _names(self, output: torch.Tensor) -> tuple[str, ...]:
        count = output.shape[1]
        known = len(self.options.bands) == count
        return self.options.bands if known else tuple(str(band) for band in range(count))


def restore(model: DownstreamModel, batch: Batch) -> Restored:
    """Return restored pictures of cutouts as they were measured, with their uncertainties.

    Parameters
    ----------
    model : of the restoration task
    batch : cutouts; with `kernel_fwhm` (object, band) [arcsec], the blur to undo in each

    Returns
    -------
    Restored, of the central pixels that the encoder sees
    """
    if not isinstance(model.task, Restoration):
        raise ValueError(f"a model of {model.task.name} cannot restore pictures")
    tensors = to_tensors(batch, next(model.parameters()).device)
    invvar = tensors.get("invvar", torch.ones_like(tensors["image"]))
    known = {**tensors, "measured": tensors["image"], "measured_invvar": invvar}
    model.eval()
    with torch.no_grad():
        return model.task.restored(model(tensors), known)


def _answer(batch: Tensors, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return true flux (NaN: not known) and its variance, (object, band, y, x)."""
    target = central(batch["target"], output.shape[-1])
    return target[:, 0], target[:, 1]


def _noise(batch: Tensors, output: torch.Tensor) -> torch.Tensor:
    """Return the typical noise (object, band, 1, 1) of what was measured [nanomaggies]."""
    invvar = central(batch["measured_invvar"], output.shape[-1])
    total = (invvar > 0).sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return (invvar.sum(dim=(2, 3), keepdim=True) / total).clamp(min=1e-12).rsqrt()


def _changes(output: torch.Tensor) -> torch.Tensor:
    """Return the root mean square of the change of each object (object,)."""
    return output[:, :, -2].float().square().mean(dim=(1, 2, 3)).sqrt()
