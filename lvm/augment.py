"""Random changes of cutouts that survey images go through anyway, seeded and label-aware.

They act on raw batches (nanomaggies), before the preprocessing, so that everything has a physical
size (`distortions`); this module only draws how much. Which of them keep a label is the
downstream task's to say (`allowed`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from lvm.distortions import blur_to, noise_to, redden, scale_flux, shift
from lvm.tensors import Tensors

# Arrays with sky axes (y, x) at their end: they turn and flip together.
SPATIAL = ("image", "invvar", "maskbits", "target_map")
# What each kind is when it is off.
_OFF: dict[str, Any] = {
    "flip": False,
    "rotate": False,
    "shift": 0.0,
    "dim": 0.0,
    "reddening": 0.0,
    "blur": 0.0,
    "noise": 0.0,
    "band_drop": 0.0,
}
KINDS = tuple(_OFF)
# Median FWHM of the coadds [arcsec] (legacysurvey.org/dr10/description); a batch that knows its own
# says so in `psfsize` (object, band).
TYPICAL_FWHM = {"g": 1.29, "r": 1.18, "i": 1.13, "z": 1.11}
WORST_TYPICAL_FWHM = 1.3  # for bands that are not of the survey


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to a batch; sizes are the largest, each object draws its own below it.

    Parameters
    ----------
    flip, rotate : mirror images; turns by multiples of 90 degrees
    shift : of the object off the centre, along y and along x [pixel]; parts of a pixel included
    dim : how much fainter the object appears, its noise unchanged [mag]
    reddening : E(B-V) of dust, put before the object or taken away [mag]
    blur : FWHM of the PSF that is blurred to [arcsec]; a PSF that is wider already stays
    noise : loss of depth through added noise [mag]
    band_drop : probability that a band of an object is hidden (invvar 0); one band always stays
    """

    flip: bool = True
    rotate: bool = True
    shift: float = 0.0
    dim: float = 0.0
    reddening: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    band_drop: float = 0.0

    def __post_init__(self) -> None:
        negative = [name for name in KINDS if getattr(self, name) < 0]
        if negative or self.band_drop >= 1:
            raise ValueError(
                f"{negative or 'band_drop'}: give at least 0, and for band_drop less than 1"
            )

    def allowed(self, kinds: tuple[str, ...]) -> "AugmentConfig":
        """Return this configuration with only the named kinds left on."""
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise ValueError(f"no augmentation is called {unknown}; there are {KINDS}")
        return replace(self, **{name: off for name, off in _OFF.items() if name not in kinds})


def augment(
    tensors: Tensors,
    config: AugmentConfig,
    generator: torch.Generator,
    bands: Sequence[str] | None = None,
) -> Tensors:
    """Return a changed copy of a batch of tensors; the given one is not changed.

    Parameters
    ----------
    tensors : arrays without sky axes pass through unchanged
    generator : on the CPU
    bands : names of the bands, which reddening and blur need to know
    """
    changed = dict(tensors)
    if config.flip or config.rotate:
        changed = _turn(changed, config, generator)
    if config.shift > 0:
        moves = config.shift * (2.0 * _uniform(changed, 2, generator) - 1.0)
        changed = shift(changed, moves[:, 0], moves[:, 1])
    before = changed.get("invvar")
    if config.dim > 0:
        lost = config.dim * _uniform(changed, 1, generator)
        changed = scale_flux(changed, _dimmed(lost).expand(-1, changed["image"].shape[1]))
    if config.reddening > 0:
        ebv = config.reddening * (2.0 * _uniform(changed, 1, generator)[:, 0] - 1.0)
        changed = redden(changed, ebv, _named(bands, "reddening"))
    if config.blur > 0:
        changed = _blur(changed, config, _named(bands, "blur"), generator)
    if before is not None and (config.noise > 0 or config.dim > 0 or config.blur > 0):
        changed = _add_noise(changed, before, config, generator)
    if config.band_drop > 0:
        changed = _drop_bands(changed, config.band_drop, generator)
    return changed


def _uniform(tensors: Tensors, columns: int, generator: torch.Generator) -> torch.Tensor:
    image = tensors["image"]
    return torch.rand((len(image), columns), generator=generator).to(image.device)


def _dimmed(magnitudes: torch.Tensor) -> torch.Tensor:
    return 10.0 ** (-0.4 * magnitudes)


def _named(bands: Sequence[str] | None, kind: str) -> Sequence[str]:
    if bands is None:
        raise ValueError(f"{kind} differs from band to band: give augment() the bands' names")
    return bands


def _turn(tensors: Tensors, config: AugmentConfig, generator: torch.Generator) -> Tensors:
    count = len(tensors["image"])
    turns = torch.randint(4 if config.rotate else 1, (count,), generator=generator)
    flips = torch.randint(2 if config.flip else 1, (count,), generator=generator)
    element = (turns * 2 + flips).to(tensors["image"].device)
    changed = dict(tensors)
    for name in SPATIAL:
        if name in tensors:
            changed[name] = _turn_array(tensors[name], element)
    return changed


def _turn_array(array: torch.Tensor, element: torch.Tensor) -> torch.Tensor:
    """Apply one of the eight symmetries of the square to each object of an array (object, ...)."""
    turned = torch.empty_like(array)
    for value in sorted(set(element.tolist())):
        chosen = element == value
        part = torch.rot90(array[chosen], value // 2, dims=(-2, -1))
        turned[chosen] = part.flip(-1) if value % 2 else part
    return turned


def _blur(
    tensors: Tensors, config: AugmentConfig, bands: Sequence[str], generator: torch.Generator
) -> Tensors:
    typical = [TYPICAL_FWHM.get(band, WORST_TYPICAL_FWHM) for band in bands]
    present = tensors.get("psfsize", torch.tensor(typical, device=tensors["image"].device)[None])
    draw = _uniform(tensors, 1, generator)
    target = present + draw * (config.blur - present).clamp(min=0.0)
    return blur_to(tensors, target, present)


def _add_noise(
    tensors: Tensors, before: torch.Tensor, config: AugmentConfig, generator: torch.Generator
) -> Tensors:
    """Bring the noise back to what it was `before` dimming and blurring, and further by `noise`."""
    lost = config.noise * _uniform(tensors, 1, generator)
    target = before * _dimmed(lost).square()[:, :, None, None]
    # A pixel that filtering brought data into had none to compare with: it keeps its own noise.
    target = torch.where(before > 0, target, tensors["invvar"]).clamp(min=1e-30)
    return noise_to(tensors, target, generator)


def _drop_bands(tensors: Tensors, probability: float, generator: torch.Generator) -> Tensors:
    image = tensors["image"]
    draw = torch.rand(image.shape[:2], generator=generator)
    kept = (draw >= probability) | (draw == draw.max(dim=1, keepdim=True).values)
    kept = kept.to(image.device)[:, :, None, None]
    changed = dict(tensors)
    changed["invvar"] = tensors.get("invvar", torch.ones_like(image)) * kept
    return changed
