"""What a telescope could have done to a cutout: shift, blur, redden, dim, more noise.

Physics on raw batches (nanomaggies), with the pixels' own noise carried along: after each of these
`invvar` is that of the new pixels, and pixels without data stay without. Sizes are given for each
object; what is drawn at random is the noise alone.
"""

from collections.abc import Sequence

import torch

from lvm.tensors import Tensors

PIXEL_SCALE = 0.262  # of the survey's coadds [arcsec] (legacysurvey.org/dr10/description)
FWHM_OVER_SIGMA = 2.3548  # of a Gaussian
# A(band) / E(B-V) of Schlegel, Finkbeiner & Davis (1998) with the coefficients of Schlafly &
# Finkbeiner (2011), as legacysurvey.org/dr10/catalogs lists them for DECam.
EXTINCTION = {"g": 3.214, "r": 2.165, "i": 1.592, "z": 1.211}
LANCZOS_TAPS = 3  # lobes: a PSF of the survey (FWHM 4.5 pixels) keeps its place to 0.03 pixel
BLUR_REACH = 3.0  # a Gaussian kernel ends at this many sigma


def shift(tensors: Tensors, dy: torch.Tensor, dx: torch.Tensor) -> Tensors:
    """Move each object by (dy, dx), each (object,) [pixel], parts of a pixel included.

    Lanczos interpolation: flux is kept, the noise of neighbouring pixels becomes correlated.
    Masks and `target_map` move by whole pixels. What comes in from outside has no data.
    """
    return _filtered(tensors, _lanczos(dy)[:, None], _lanczos(dx)[:, None], (dy, dx))


def blur(tensors: Tensors, fwhm: torch.Tensor) -> Tensors:
    """Convolve with a round Gaussian of `fwhm`, (object, band) [pixel]; 0 leaves a band as it is.

    Flux is kept. The noise becomes smaller and correlated; `invvar` says how much smaller.
    """
    kernel = _gaussian(fwhm / FWHM_OVER_SIGMA)
    return _filtered(tensors, kernel, kernel, None)


def blur_to(tensors: Tensors, target: torch.Tensor, present: torch.Tensor) -> Tensors:
    """Blur from PSF widths `present` to `target`, both (object, band) FWHM [arcsec].

    A band whose PSF is as wide as the target already is left as it is: nothing can sharpen it.
    """
    missing = (target.square() - present.square()).clamp(min=0.0).sqrt()
    return blur(tensors, missing / PIXEL_SCALE)


def scale_flux(tensors: Tensors, factor: torch.Tensor) -> Tensors:
    """Multiply flux by `factor`, (object, band), and its noise with it."""
    wide = factor[:, :, None, None]
    changed = {**tensors, "image": tensors["image"] * wide}
    if "invvar" in tensors:
        changed["invvar"] = tensors["invvar"] / wide.square()
    return changed


def redden(tensors: Tensors, ebv: torch.Tensor, bands: Sequence[str]) -> Tensors:
    """Put dust of E(B-V) `ebv`, (object,) [mag], before each object; below 0 takes dust away.

    A band of unknown extinction raises ValueError.
    """
    unknown = sorted(set(bands) - set(EXTINCTION))
    if unknown:
        raise ValueError(f"no extinction is known of bands {unknown}; known: {sorted(EXTINCTION)}")
    coefficients = torch.tensor([EXTINCTION[band] for band in bands], device=ebv.device)
    return scale_flux(tensors, 10.0 ** (-0.4 * ebv[:, None] * coefficients))


def noise_to(tensors: Tensors, invvar: torch.Tensor, generator: torch.Generator) -> Tensors:
    """Add white noise until the inverse variance of each pixel is at most `invvar`.

    Parameters
    ----------
    tensors : with invvar
    invvar : (object, band, y, x) or smaller, to be broadcast [1 / nanomaggies²]; a pixel that is
        noisier already gets none, one without data stays as it is
    generator : on the CPU
    """
    image, present = tensors["image"], tensors["invvar"]
    has_data = present > 0
    added = torch.where(has_data, 1.0 / invvar - 1.0 / present.clamp(min=1e-30), 0.0).clamp(min=0.0)
    draw = torch.randn(image.shape, generator=generator).to(image.device)
    noisy = torch.where(added > 0, image + added.sqrt() * draw, image)
    return {**tensors, "image": noisy, "invvar": torch.minimum(present, invvar)}


def _filtered(
    tensors: Tensors,
    kernel_y: torch.Tensor,
    kernel_x: torch.Tensor,
    moved: tuple[torch.Tensor, torch.Tensor] | None,
) -> Tensors:
    """Apply separable kernels (object, band or 1, tap), and `moved` to what is not flux."""
    image = tensors["image"]
    invvar = tensors.get("invvar", torch.ones_like(image))
    valid = (invvar > 0) & (image.abs() < torch.inf)
    flux = _separable(torch.where(valid, image, 0.0), kernel_y, kernel_x)
    # Beside a gap the rest of the kernel stands for the whole: the mean, not a sum with zeros.
    share = _separable(valid.float(), kernel_y, kernel_x)
    variance = torch.where(valid, 1.0 / invvar.clamp(min=1e-30), 0.0)
    spread = _separable(variance, kernel_y.square(), kernel_x.square())
    kept = (share > 0.5) & (valid if moved is None else _moved(valid, *moved))
    safe = torch.where(kept, share, 1.0)
    changed = {**tensors, "image": torch.where(kept, flux / safe, 0.0)}
    if "invvar" in tensors:
        changed["invvar"] = torch.where(kept, safe.square() / spread.clamp(min=1e-30), 0.0)
    elif not bool(kept.all()):
        changed["invvar"] = kept.float()
    for name in ("maskbits", "target_map"):
        if moved is not None and name in tensors:
            changed[name] = _moved(tensors[name], *moved)
    return changed


def _separable(array: torch.Tensor, along_y: torch.Tensor, along_x: torch.Tensor) -> torch.Tensor:
    return _along(_along(array, along_y, 2), along_x, 3)


def _along(array: torch.Tensor, kernel: torch.Tensor, axis: int) -> torch.Tensor:
    """Correlate (object, band, y, x) with kernels (object, band or 1, tap); 0 outside."""
    reach = kernel.shape[-1] // 2
    size = array.shape[axis]
    padding = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
    wide = torch.nn.functional.pad(array, padding)
    total = torch.zeros_like(array)
    for tap in range(kernel.shape[-1]):
        total.addcmul_(wide.narrow(axis, tap, size), kernel[:, :, tap, None, None])
    return total


def _lanczos(offset: torch.Tensor) -> torch.Tensor:
    """Return kernels (object, tap) that move by `offset` (object,) [pixel]; they sum to 1."""
    reach = int(offset.abs().max().ceil()) + LANCZOS_TAPS
    at = torch.arange(-reach, reach + 1, device=offset.device) + offset[:, None]
    kernel = torch.sinc(at) * torch.sinc(at / LANCZOS_TAPS) * (at.abs() < LANCZOS_TAPS)
    return kernel / kernel.sum(dim=1, keepdim=True)


def _gaussian(sigma: torch.Tensor) -> torch.Tensor:
    """Return Gaussian kernels (object, band, tap) of `sigma` (object, band) [pixel]."""
    reach = max(int((BLUR_REACH * sigma.max()).ceil()), 1)
    at = torch.arange(-reach, reach + 1, device=sigma.device)
    kernel = torch.exp(-0.5 * (at / sigma.clamp(min=1e-3)[..., None]).square())
    return kernel / kernel.sum(dim=-1, keepdim=True)


def _moved(array: torch.Tensor, dy: torch.Tensor, dx: torch.Tensor) -> torch.Tensor:
    """Move (object, ..., y, x) by the nearest whole pixels; 0 (or False) comes in."""
    height, width = array.shape[-2:]
    y = torch.arange(height, device=array.device) - dy.round().long()[:, None]
    x = torch.arange(width, device=array.device) - dx.round().long()[:, None]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    objects = torch.arange(len(array), device=array.device)[:, None, None]
    y, x = y.clamp(0, height - 1)[:, :, None], x.clamp(0, width - 1)[:, None, :]
    last = array.movedim((-2, -1), (1, 2)) if array.ndim > 3 else array
    found = last[objects, y, x]
    found = found.movedim((1, 2), (-2, -1)) if array.ndim > 3 else found
    wide = inside.view(len(array), *([1] * (array.ndim - 3)), height, width)
    return torch.where(wide, found, torch.zeros_like(found))
