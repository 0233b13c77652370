"""Random changes of cutouts that keep their label: flips, 90-degree turns, noise, band drop.

They act on raw batches (nanomaggies), before the preprocessing, so that added noise has a
physical size. Which of them keep a label is the downstream task's to say (`allowed`).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from lvm.tensors import Tensors

# Arrays with sky axes (y, x) at their end: they turn and flip together.
SPATIAL = ("image", "invvar", "maskbits", "target_map")
KINDS = ("flip", "rotate", "noise", "band_drop")


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to a batch.

    Parameters
    ----------
    flip, rotate : mirror images; turns by multiples of 90 degrees
    noise : standard deviation of added noise over the pixel's own noise; 0 adds none
    band_drop : probability that a band of an object is hidden (invvar 0); one band always stays
    """

    flip: bool = True
    rotate: bool = True
    noise: float = 0.0
    band_drop: float = 0.0

    def __post_init__(self) -> None:
        if self.noise < 0 or not 0 <= self.band_drop < 1:
            raise ValueError("noise must be at least 0 and band_drop within 0 to below 1")

    def allowed(self, kinds: tuple[str, ...]) -> "AugmentConfig":
        """Return this configuration with only the named kinds left on."""
        unknown = sorted(set(kinds) - set(KINDS))
        if unknown:
            raise ValueError(f"no augmentation is called {unknown}; there are {KINDS}")
        off: dict[str, Any] = {"flip": False, "rotate": False, "noise": 0.0, "band_drop": 0.0}
        return replace(self, **{name: off[name] for name in KINDS if name not in kinds})


def augment(tensors: Tensors, config: AugmentConfig, generator: torch.Generator) -> Tensors:
    """Return an augmented copy of a batch of tensors; the given one is not changed.

    The generator lives on the CPU. Arrays without sky axes pass through unchanged.
    """
    changed = dict(tensors)
    if config.flip or config.rotate:
        changed = _turn(changed, config, generator)
    if config.noise > 0 and "invvar" in changed:
        changed = _add_noise(changed, config.noise, generator)
    if config.band_drop > 0:
        changed = _drop_bands(changed, config.band_drop, generator)
    return changed


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


def _add_noise(tensors: Tensors, noise: float, generator: torch.Generator) -> Tensors:
    image, invvar = tensors["image"], tensors["invvar"]
    sigma = torch.where(invvar > 0, invvar, torch.inf).rsqrt()
    draw = torch.randn(image.shape, generator=generator).to(image.device)
    changed = dict(tensors)
    changed["image"] = image + noise * sigma * draw
    changed["invvar"] = invvar / (1.0 + noise**2)
    return changed


def _drop_bands(tensors: Tensors, probability: float, generator: torch.Generator) -> Tensors:
    image = tensors["image"]
    draw = torch.rand(image.shape[:2], generator=generator)
    kept = (draw >= probability) | (draw == draw.max(dim=1, keepdim=True).values)
    kept = kept.to(image.device)[:, :, None, None]
    changed = dict(tensors)
    changed["invvar"] = tensors.get("invvar", torch.ones_like(image)) * kept
    return changed
