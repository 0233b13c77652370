"""What a classical reduction would measure of the galaxy in the middle, from its pixels alone.

Fluxes, colours, concentration, elongation and asymmetry, at four scales. No catalogue and no label
is asked: pre-training uses them as targets (`measuring`). They are made for that, not for science:
sums under fixed Gaussian windows around the centre, without deblending and without PSF.
"""

from functools import cache
from typing import NamedTuple

import torch

WINDOWS = (2.5, 5.0, 10.0, 18.0)  # sigma [pixel]: from the PSF to a galaxy that fills the input
HARMONICS = (2, 3, 4)  # of the angle: elongation and bars, lopsided arms, boxes and crosses
NOISE_OVER_SOFTENING = 1.0 / 3.0  # how `preprocess` chose its softening
FAINT = 5.0  # flux below this many sigma counts as that: the logarithm of noise is no colour
DIM = 1.0  # the same for the denominators of shapes
SHAPE_LIMIT = 5.0  # shapes of what is hardly there are noise: bounded


class _Grid(NamedTuple):
    windows: torch.Tensor  # (window, y, x)
    radius2: torch.Tensor  # (y, x) [pixel²]
    angle: torch.Tensor  # (y, x) [rad]


def measure_count(bands: int) -> int:
    """Return how many numbers `measure` gives for so many bands."""
    scales = len(WINDOWS)
    return (
        bands * scales + (bands - 1) * scales + bands * (scales - 1) + scales * (len(HARMONICS) + 2)
    )


def measure(flux: torch.Tensor, softening: torch.Tensor) -> torch.Tensor:
    """Measure the galaxy at (side // 2, side // 2) of each image.

    Parameters
    ----------
    flux : (object, band, y, x), sky subtracted, 0 where there is no data
    softening : (1, band, 1, 1) of the preprocessing, which stands for the noise

    Returns
    -------
    (object, `measure_count(bands)`) float32, all finite
    """
    grid = _grid(flux.shape[-1], flux.device)
    noise = NOISE_OVER_SOFTENING * softening.flatten()[:, None]
    errors = noise * grid.windows.square().sum(dim=(1, 2)).sqrt()
    fluxes = torch.einsum("obyx,wyx->obw", flux, grid.windows)
    logs = (fluxes.clamp(min=0.0) + FAINT * errors).log()
    parts = [
        torch.asinh(fluxes / errors / FAINT),  # brightness
        logs.diff(dim=1),  # colours
        logs.diff(dim=2),  # concentration
    ]
    stacked = (flux / softening).mean(dim=1)
    shapes = _shapes(stacked, grid).clamp(-SHAPE_LIMIT, SHAPE_LIMIT)
    return torch.cat([*(part.flatten(1) for part in parts), shapes], dim=1)


def _shapes(image: torch.Tensor, grid: _Grid) -> torch.Tensor:
    """Return harmonics, asymmetry and size under every window: (object, number)."""
    columns = []
    turned = image.flip((1, 2)).roll((1, 1), (1, 2))  # by 180 degrees about the centre
    half = image[:, 1:, 1:] - turned[:, 1:, 1:]
    for window, sigma in zip(grid.windows, WINDOWS, strict=True):
        floor = DIM * NOISE_OVER_SOFTENING * window.square().sum().sqrt()
        total = (image * window).sum(dim=(1, 2)).clamp(min=0.0) + floor
        scaled = grid.radius2 / sigma**2
        for order in HARMONICS:
            weight = window * scaled ** (order / 2)
            even = (image * (weight * torch.cos(order * grid.angle))).sum(dim=(1, 2))
            odd = (image * (weight * torch.sin(order * grid.angle))).sum(dim=(1, 2))
            columns.append(torch.hypot(even, odd) / total)
        columns.append((half.square() * window[1:, 1:]).sum(dim=(1, 2)).sqrt() / total)
        columns.append((image * (window * scaled)).sum(dim=(1, 2)) / total)
    return torch.stack(columns, dim=1)


@cache
def _grid(side: int, device: torch.device) -> _Grid:
    along = torch.arange(side, device=device, dtype=torch.float32) - side // 2
    y, x = torch.meshgrid(along, along, indexing="ij")
    radius2 = y.square() + x.square()
    windows = torch.stack([torch.exp(-0.5 * radius2 / sigma**2) for sigma in WINDOWS])
    return _Grid(windows, radius2, torch.atan2(y, x))
