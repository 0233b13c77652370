"""What a night at the telescope does to a picture, as numbers: a wider PSF and more noise.

`degrade` makes the pair that a restoration learns from: what was there, and what the survey would
have measured of it. Everything is explicit and every draw comes from one generator. The pixels
stay those of the survey: bring a truth of other pixels to `PIXEL_SCALE` first.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lvm.distortions import FWHM_OVER_SIGMA, PIXEL_SCALE, noise_to
from lvm.tensors import Tensors

KERNEL_REACH = 12  # half a side of a kernel's stamp [pixel]: 3 arcsec hold 99 % of a survey PSF
GAP_FWHM = 8.0  # of the Gaussian that carries flux into pixels without data [pixel]
LEAST_SHARE = 0.2  # of a kernel that must lie on data; the corner of a picture has a quarter
NO_NOISE = 1e30  # inverse variance of what is known exactly


@dataclass(frozen=True)
class DegradationConfig:
    """How a picture is made worse.

    Parameters
    ----------
    blur_fwhm : of the kernel that the picture is convolved with [arcsec]; 0: not blurred
    beta : of this Moffat kernel; inf: a Gaussian
    fwhm_spread : the kernel of each object and band is drawn within this fraction around blur_fwhm
    noise : of the white noise that is added, over the survey's own noise in that pixel
    """

    blur_fwhm: float = 1.0
    beta: float = 3.0
    fwhm_spread: float = 0.1
    noise: float = 1.0

    def __post_init__(self) -> None:
        if min(self.blur_fwhm, self.noise) < 0 or not 0 <= self.fwhm_spread < 1:
            raise ValueError("give blur_fwhm and noise of at least 0, fwhm_spread from 0 to 1")
        if self.beta <= 1:
            raise ValueError(f"a Moffat profile of beta {self.beta} has no finite flux: above 1")


# Added to a sharp picture of FWHM 0.7 arcsec, 1.0 arcsec make the survey's 1.2 to 1.3. A picture
# without any noise can be sharpened without end: "deblur" is a survey ten times less noisy.
DEGRADATIONS = {
    "both": DegradationConfig(),
    "deblur": DegradationConfig(noise=0.1),
    "denoise": DegradationConfig(blur_fwhm=0.0),
}


def degrade(tensors: Tensors, config: DegradationConfig, generator: torch.Generator) -> Tensors:
    """Return a batch with its pictures made worse, and what they were before.

    Parameters
    ----------
    tensors : image, invvar (object, band, y, x). With `target_map` (object, band, y, x)
        [nanomaggies], a picture without noise, that one is degraded, and `invvar` says what the
        survey's noise is. Without it, the image itself is, and keeps its own noise besides.
    generator : on the CPU

    Returns
    -------
    The batch with the degraded `image` and `invvar`, and with `kernel_fwhm` (object, band)
    [arcsec] and `target` (object, 2, band, y, x): flux before, NaN where not known, and its
    variance.
    """
    survey = tensors.get("invvar", torch.ones_like(tensors["image"]))
    has_data = (survey > 0) & (tensors["image"].abs() < torch.inf)
    if "target_map" in tensors:
        before = tensors["target_map"]
        exact = torch.where(has_data, NO_NOISE, 0.0)
        known, variance = torch.isfinite(before), torch.zeros_like(before)
        clean = {"image": torch.where(known, before, 0.0), "invvar": exact}
    else:
        before, known = tensors["image"], has_data
        variance = torch.where(known, 1.0 / survey.clamp(min=1e-30), 0.0)
        clean = {"image": torch.where(known, before, 0.0), "invvar": survey * has_data}
    fwhm = _draw_fwhm(before, config, generator)
    blurred = convolve(clean, moffat(fwhm / PIXEL_SCALE, config.beta)) if fwhm.any() else clean
    if config.noise > 0:
        added = config.noise**2 / survey.clamp(min=1e-30)
        total = 1.0 / (1.0 / blurred["invvar"].clamp(min=1e-30) + added)
        blurred = noise_to(blurred, torch.where(has_data, total, NO_NOISE), generator)
    target = torch.stack([torch.where(known, before, torch.nan), variance], dim=1)
    return {**tensors, **blurred, "kernel_fwhm": fwhm, "target": target}


def moffat(fwhm: torch.Tensor, beta: float) -> torch.Tensor:
    """Return kernels (object, band, tap, tap) of `fwhm` (object, band) [pixel] and sum 1.

    The tap in the middle is the object's place. FWHM 0 is a kernel that changes nothing.
    """
    at = torch.arange(-KERNEL_REACH, KERNEL_REACH + 1, device=fwhm.device, dtype=fwhm.dtype)
    square = (at[:, None].square() + at.square()) / fwhm.clamp(min=1e-3)[..., None, None].square()
    if math.isinf(beta):
        kernel = torch.exp(-0.5 * FWHM_OVER_SIGMA**2 * square)
    else:
        kernel = (1.0 + 4.0 * (2.0 ** (1.0 / beta) - 1.0) * square) ** -beta
    return kernel / kernel.sum(dim=(-2, -1), keepdim=True)


def convolve(tensors: Tensors, kernel: torch.Tensor) -> Tensors:
    """Return `image` and `invvar` of pictures convolved with kernels (object, band, tap, tap).

    Flux is kept; the noise becomes smaller and correlated, and `invvar` says how much smaller.
    Beside a gap or the border the rest of the kernel stands for the whole.
    """
    valid = tensors["invvar"] > 0
    flux = _fft_convolve(tensors["image"] * valid, kernel)
    share = _fft_convolve(valid.float(), kernel)
    variance = torch.where(valid, 1.0 / tensors["invvar"].clamp(min=1e-30), 0.0)
    spread = _fft_convolve(variance, kernel.square()).clamp(min=1.0 / NO_NOISE)
    kept = valid & (share > LEAST_SHARE)
    safe = torch.where(kept, share, 1.0)
    return {
        "image": torch.where(kept, flux / safe, 0.0),
        "invvar": torch.where(kept, safe.square() / spread, 0.0),
    }


def linear_restorations(
    image: torch.Tensor, valid: torch.Tensor, kernel: torch.Tensor, strengths: tuple[float, ...]
) -> torch.Tensor:
    """Return pictures with a blur undone by Wiener filters of several strengths.

    The filter is H* / (|H|² + strength |L|²) with the transform H of the kernel and L of the
    Laplacian (Hunt 1973): it leaves flux as it is, and an ever stronger one smooths ever more. With
    a kernel that changes nothing the filters only smooth.

    Parameters
    ----------
    image, valid : (object, band, y, x); pixels that are not valid are filled from around them
    kernel : (object, band, tap, tap), see `moffat`

    Returns
    -------
    (object, strength, band, y, x) [unit of the image]
    """
    height, width = image.shape[-2:]
    margin = min(KERNEL_REACH, height - 1, width - 1)
    wide = F.pad(filled(image, valid), (margin, margin, margin, margin), mode="reflect")
    shape = (wide.shape[-2], wide.shape[-1])
    seen = torch.fft.rfft2(wide)
    response = torch.fft.rfft2(_centred(kernel, shape))
    laplacian = _laplacian(shape, image.device)
    power = response.abs().square()
    restored = [
        torch.fft.irfft2(seen * response.conj() / (power + strength * laplacian), s=shape)
        for strength in strengths
    ]
    inside = (slice(margin, margin + height), slice(margin, margin + width))
    return torch.stack([picture[..., inside[0], inside[1]] for picture in restored], dim=1)


def filled(image: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Return the image with a mean of the pixels around in place of those that are not valid."""
    flux = torch.where(valid, image, 0.0)
    if bool(valid.all()):
        return flux
    kernel = moffat(torch.full(image.shape[:2], GAP_FWHM, device=image.device), math.inf)
    share = _fft_convolve(valid.float(), kernel)
    around = _fft_convolve(flux, kernel) / share.clamp(min=1e-3)
    return torch.where(valid, flux, torch.where(share > 1e-3, around, 0.0))


def _draw_fwhm(
    image: torch.Tensor, config: DegradationConfig, generator: torch.Generator
) -> torch.Tensor:
    draw = 2.0 * torch.rand(image.shape[:2], generator=generator) - 1.0
    return (config.blur_fwhm * (1.0 + config.fwhm_spread * draw)).to(image.device)


def _fft_convolve(array: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """Convolve (object, band, y, x) with kernels (object, band, tap, tap); 0 outside."""
    height, width = array.shape[-2:]
    shape = (height + KERNEL_REACH, width + KERNEL_REACH)
    if min(height, width) <= KERNEL_REACH:  # a kernel must fit into its own transform
        shape = (height + 2 * KERNEL_REACH, width + 2 * KERNEL_REACH)
    product = torch.fft.rfft2(array, s=shape) * torch.fft.rfft2(_centred(kernel, shape))
    made: torch.Tensor = torch.fft.irfft2(product, s=shape)
    return made[..., :height, :width]


def _centred(kernel: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return kernels on a grid of `shape` with their middle tap at (0, 0)."""
    wide = torch.zeros((*kernel.shape[:2], *shape), device=kernel.device, dtype=kernel.dtype)
    reach = kernel.shape[-1] // 2
    wide[..., : kernel.shape[-2], : kernel.shape[-1]] = kernel
    return wide.roll((-reach, -reach), dims=(-2, -1))


def _laplacian(shape: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Return |L|² (y, x // 2 + 1) of the five-point Laplacian."""
    along_y = 2.0 - 2.0 * torch.cos(2.0 * math.pi * torch.fft.fftfreq(shape[0], device=device))
    along_x = 2.0 - 2.0 * torch.cos(2.0 * math.pi * torch.fft.rfftfreq(shape[1], device=device))
    return (along_y[:, None] + along_x).square()
