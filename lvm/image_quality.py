"""How near a picture is to the true one: PSNR, SSIM, flux and shape of the object, error bars.

Pictures are tensors (object, band, y, x) [nanomaggies] with the object at (y // 2, x // 2); every
measure is (object, band). Nothing here knows how a picture was made.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from lvm.figures import Curve, Figure, Pictures

# A picture that agrees with the truth to the rounding of float32 has no larger PSNR than this.
BEST_PSNR = 100.0
SSIM_SIGMA, SSIM_REACH = 1.5, 5  # window of Wang et al. (2004): 11 x 11 pixels
SSIM_CONSTANTS = (0.01**2, 0.03**2)  # of the same
WEIGHT_SIGMA = 4.0  # of the Gaussian that moments are weighted with [pixel]: 1 arcsec
FLUX_RADIUS = 7.6  # of the aperture [pixel]: 2 arcsec, one of the survey's catalogues
SURE = 10.0  # signal-to-noise of the aperture flux above which flux and shape are measured
COVERAGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6827, 0.8, 0.9, 0.9545, 0.9973)
SHOWN = 6  # objects in a figure
MAGNITUDES = np.arange(15.0, 23.5, 1.0)  # edges of the bins of the curves [AB]


class Answer(NamedTuple):
    """Pictures, what they should be, and what they were made from; (object, band, y, x) each.

    image, sigma : the picture and its uncertainty (1 sigma)
    measured : what it was made from
    truth, variance : what it should be, NaN where not known, and the variance of that
    noise : (object, band) of what was measured, a typical pixel's
    """

    image: torch.Tensor
    sigma: torch.Tensor
    measured: torch.Tensor
    truth: torch.Tensor
    variance: torch.Tensor
    noise: torch.Tensor

    @property
    def known(self) -> torch.Tensor:
        """Where the truth is known, bool."""
        return torch.isfinite(self.truth)

    def departure(self, factor: float = 1.0) -> torch.Tensor:
        """Return picture minus truth over the uncertainty times `factor`; NaN where not known."""
        spread = (factor * self.sigma).square() + self.variance
        return (self.image - self.truth) / spread.sqrt()


def peak(truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the brightest true pixel (object, band), what PSNR and SSIM are relative to."""
    bright = torch.where(known, truth, -torch.inf).amax(dim=(2, 3))
    return torch.where(bright > 0, bright, torch.nan)


def psnr(picture: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the peak signal-to-noise ratio [dB], over the pixels whose truth is known.

    NaN where no pixel is known or the truth is nowhere above 0.
    """
    square = torch.where(known, picture - truth, 0.0).square().sum(dim=(2, 3))
    error = (square / known.sum(dim=(2, 3))).sqrt() / peak(truth, known)
    return (-20.0 * torch.log10(error)).clamp(max=BEST_PSNR)


def ssim(picture: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return the structural similarity of Wang et al. (2004), relative to the truth's peak.

    Windows that are not wholly inside the picture are left out, as are those around a pixel
    whose truth is not known. A picture smaller than a window raises ValueError.
    """
    if min(picture.shape[-2:]) <= 2 * SSIM_REACH:
        raise ValueError(
            f"pictures of {tuple(picture.shape[-2:])} pixels are smaller than the window of SSIM "
            f"({2 * SSIM_REACH + 1})"
        )
    scale = peak(truth, known)[:, :, None, None]
    first = torch.where(known, picture, 0.0) / scale
    second = torch.where(known, truth, 0.0) / scale
    mean_1, mean_2 = _windowed(first), _windowed(second)
    both = _windowed(first * second) - mean_1 * mean_2
    spread_1 = _windowed(first.square()) - mean_1.square()
    spread_2 = _windowed(second.square()) - mean_2.square()
    c1, c2 = SSIM_CONSTANTS
    above = (2.0 * mean_1 * mean_2 + c1) * (2.0 * both + c2)
    below = (mean_1.square() + mean_2.square() + c1) * (spread_1 + spread_2 + c2)
    weight = known[..., SSIM_REACH:-SSIM_REACH, SSIM_REACH:-SSIM_REACH]
    total = torch.where(weight, above / below, 0.0).sum(dim=(2, 3))
    return total / weight.sum(dim=(2, 3))


def aperture_flux(picture: torch.Tensor, radius: float) -> torch.Tensor:
    """Return the flux within `radius` [pixel] of the object's place; pixels count whole."""
    return (picture * aperture(picture, radius)).sum(dim=(2, 3))


def aperture(picture: torch.Tensor, radius: float) -> torch.Tensor:
    """Return the mask (y, x) of the pixels of an aperture around the object's place."""
    y, x = _places(picture)
    return (y.square() + x.square()) <= radius**2


def moments(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return size [pixel] and ellipticities e1, e2 from Gaussian-weighted second moments.

    e1 = (Qxx - Qyy) / (Qxx + Qyy), e2 = 2 Qxy / (Qxx + Qyy), about the object's place; the weight
    is the same for every picture, so that only two pictures of one object can be compared. NaN
    where the weighted flux or the size is not above 0.
    """
    y, x = _places(picture)
    weight = torch.exp(-0.5 * (y.square() + x.square()) / WEIGHT_SIGMA**2)
    light = picture * weight
    flux = light.sum(dim=(2, 3))
    xx, yy, xy = ((light * arm).sum(dim=(2, 3)) for arm in (x * x, y * y, x * y))
    size = (xx + yy) / flux
    good = (flux > 0) & (size > 0)
    size = torch.where(good, size, torch.nan)
    total = size * flux
    return size.sqrt(), (xx - yy) / total, 2.0 * xy / total


def quality(answer: Answer) -> dict[str, float]:
    """Return measures of pictures and of their uncertainties.

    Returns
    -------
    psnr, ssim, and psnr_gain, ssim_gain over the measured picture : means over objects and bands
    flux_bias, size_bias : medians of (picture - truth) / truth, of objects with a S/N above `SURE`
    flux_scatter : half the width of the central 68 % of the same
    ellipticity_bias, ellipticity_error : median change of |e|; root mean square of |e - e_true|
    within_1_sigma, within_3_sigma : fraction of pixels; 0.683 and 0.997 if sigma means what it says
    invented_5_sigma, erased_5_sigma : fraction of pixels that are brighter, or fainter, than the
        truth by more than 5 sigma
    """
    known, truth = answer.known, answer.truth
    psnrs = psnr(answer.image, truth, known)
    ssims = ssim(answer.image, truth, known)
    departure = answer.departure()
    pixels = departure[known]
    bias, _ = _flux_bias(answer)
    return {
        "psnr": _mean(psnrs),
        "psnr_gain": _mean(psnrs - psnr(answer.measured, truth, known)),
        "ssim": _mean(ssims),
        "ssim_gain": _mean(ssims - ssim(answer.measured, truth, known)),
        "flux_bias": _quantile(bias, 0.5),
        "flux_scatter": 0.5 * (_quantile(bias, 0.84) - _quantile(bias, 0.16)),
        **_shape_bias(answer, torch.isfinite(bias)),
        "within_1_sigma": fraction_within(departure, 1.0),
        "within_3_sigma": fraction_within(departure, 3.0),
        "invented_5_sigma": float((pixels > 5.0).float().mean()),
        "erased_5_sigma": float((pixels < -5.0).float().mean()),
    }


def fraction_within(departure: torch.Tensor, sigmas: float) -> float:
    """Return the fraction of departures [sigma] within ± `sigmas`; those that are NaN are out."""
    finite = departure[torch.isfinite(departure)]
    return float((finite.abs() <= sigmas).float().mean()) if len(finite) else math.nan


def sigma_factor(answer: Answer, band: int) -> float:
    """Return the factor on sigma that brings 68.27 % of the errors of a band within 1 sigma."""
    low, high = -3.0, 3.0
    for _ in range(24):
        middle = 0.5 * (low + high)
        if fraction_within(answer.departure(math.exp(middle))[:, band], 1.0) < 0.6827:
            low = middle
        else:
            high = middle
    return math.exp(0.5 * (low + high))


def quality_figures(answer: Answer, bands: Sequence[str]) -> list[Figure]:
    """Return calibration of sigma, gain and flux bias by magnitude, examples and worst cases."""
    departure = answer.departure()
    sigmas = [math.sqrt(2.0) * float(torch.erfinv(torch.tensor(p))) for p in COVERAGES]
    reached = {
        name: np.array([fraction_within(departure[:, band], limit) for limit in sigmas])
        for band, name in enumerate(bands)
    }
    known = answer.known
    before = psnr(answer.measured, answer.truth, known)
    gain = psnr(answer.image, answer.truth, known) - before
    bias, magnitude = _flux_bias(answer, sure=0.0)
    far = torch.where(known, departure.abs() > 5.0, False).float().mean(dim=(1, 2, 3))
    bright = torch.nan_to_num(magnitude.nanmean(dim=1), nan=99.0)
    step = max(len(bright) // SHOWN, 1)
    return [
        Curve(
            "restoration_coverage",
            np.array(COVERAGES),
            reached,
            "expected fraction of pixels",
            "fraction within the uncertainty",
            "diagonal",
        ),
        _by_magnitude("restoration_gain", gain, magnitude, bands, "PSNR gained [dB]"),
        _by_magnitude("restoration_flux_bias", bias, magnitude, bands, "relative flux error"),
        _pictures("restoration_examples", answer, bright.argsort()[::step][:SHOWN], bands),
        _pictures("restoration_worst", answer, far.argsort(descending=True)[:SHOWN], bands),
    ]


def _flux_bias(answer: Answer, sure: float = SURE) -> tuple[torch.Tensor, torch.Tensor]:
    """Return relative errors of aperture fluxes, NaN where not sure, and true magnitudes."""
    inside = aperture(answer.truth, FLUX_RADIUS)
    whole = (answer.known | ~inside).all(dim=(2, 3))
    truth = aperture_flux(torch.nan_to_num(answer.truth), FLUX_RADIUS)
    limit = sure * answer.noise * inside.sum().sqrt()
    truth = torch.where(whole & (truth > limit), truth, torch.nan)
    relative = aperture_flux(answer.image, FLUX_RADIUS) / truth - 1.0
    return relative, 22.5 - 2.5 * torch.log10(truth)


def _shape_bias(answer: Answer, sure: torch.Tensor) -> dict[str, float]:
    size, e1, e2 = moments(answer.image)
    true_size, true_e1, true_e2 = moments(torch.nan_to_num(answer.truth))
    wrong = torch.hypot(e1 - true_e1, e2 - true_e2)
    longer = torch.hypot(e1, e2) - torch.hypot(true_e1, true_e2)
    return {
        "size_bias": _quantile((size / true_size - 1.0)[sure], 0.5),
        "ellipticity_bias": _quantile(longer[sure], 0.5),
        "ellipticity_error": math.sqrt(_mean(wrong[sure].square())),
    }


def _by_magnitude(
    name: str, values: torch.Tensor, magnitude: torch.Tensor, bands: Sequence[str], label: str
) -> Curve:
    """Return medians in bins of the magnitude of the aperture's true flux."""
    lines = {}
    for band, line in enumerate(bands):
        bins = np.digitize(magnitude[:, band].cpu().numpy(), MAGNITUDES)
        found = [values[:, band][torch.from_numpy(bins == at + 1)] for at in _bins()]
        lines[line] = np.array([_quantile(part, 0.5) for part in found])
    middle = MAGNITUDES[:-1] + 0.5 * np.diff(MAGNITUDES)
    return Curve(name, middle, lines, "magnitude within 2 arcsec [AB]", label, 0.0)


def _bins() -> range:
    return range(len(MAGNITUDES) - 1)


def _pictures(name: str, answer: Answer, chosen: torch.Tensor, bands: Sequence[str]) -> Pictures:
    image, sigma, measured, truth = (part[chosen] for part in answer[:4])
    panels = {
        "measured": measured,
        "restored": image,
        "true": truth,
        "restored - true": image - truth,
        "uncertainty": sigma,
        "departure [sigma]": answer.departure()[chosen],
    }
    return Pictures(name, {key: value.cpu().numpy() for key, value in panels.items()}, tuple(bands))


def _mean(values: torch.Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _quantile(values: torch.Tensor, part: float) -> float:
    finite = values[torch.isfinite(values)].double()
    return float(finite.quantile(part)) if len(finite) else math.nan


def _windowed(array: torch.Tensor) -> torch.Tensor:
    """Return means under the Gaussian window, where it is wholly inside."""
    at = torch.arange(-SSIM_REACH, SSIM_REACH + 1, device=array.device)
    taps = torch.exp(-0.5 * (at / SSIM_SIGMA).square())
    taps = (taps / taps.sum()).to(array.dtype)
    flat = array.reshape(-1, 1, *array.shape[-2:])
    flat = F.conv2d(F.conv2d(flat, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))
    return flat.view(*array.shape[:2], *flat.shape[-2:])


def _places(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = picture.shape[-2:]
    y = torch.arange(height, device=picture.device, dtype=picture.dtype) - height // 2
    x = torch.arange(width, device=picture.device, dtype=picture.dtype) - width // 2
    return y[:, None].expand(height, width), x.expand(height, width)
