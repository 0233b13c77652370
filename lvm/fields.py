"""Search a field of any size with a detection model that looks at squares: in overlapping tiles."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F

from lvm.detecting import Grid, find_peaks
from lvm.downstream.base import DownstreamModel
from lvm.matching import Array
from lvm.tensors import Batch, Tensors, to_tensors

# Of a tile, pixels along its edge whose sources are taken from the next tile, which sees more of
# them: nearly two PSF; less where the tile itself is small.
OVERLAP = 8
TILES_AT_A_TIME = 16


def search_field(
    model: DownstreamModel, field: Batch, lowest: float = 0.0, device: torch.device | str = "cpu"
) -> tuple[Array, Array]:
    """Find the sources of one field of any size.

    Parameters
    ----------
    model : of the detection task, whose encoder keeps the survey's pixels (crop_size is input_size)
    field : `image`, and `invvar` if known, (band, y, x) [nanomaggies]; `maskbits` (y, x) if known
    lowest : logit above which a peak is a source; 0 is the model's own threshold

    Returns
    -------
    places (source, 4) float64: x, y of the field, zero-based, half width and height [pixel];
    logit (source,) float64
    """
    config = model.encoder.config
    side = int(config.input_size or 0)
    if config.crop_size != side:
        raise ValueError(
            f"the encoder resizes {config.crop_size} pixels to {side}: a field is searched in the "
            "survey's own pixels, with crop_size equal to input_size"
        )
    tensors = to_tensors({name: np.asarray(value)[None] for name, value in field.items()}, device)
    height, width = tensors["image"].shape[-2:]
    if "invvar" not in tensors:  # what a tile shows beyond the field must count as not seen
        tensors["invvar"] = torch.ones_like(tensors["image"])
    found: list[tuple[Array, Array]] = []
    model.to(device).eval()
    corners = [(y, x) for y in _starts(height, side) for x in _starts(width, side)]
    for at in range(0, len(corners), TILES_AT_A_TIME):
        chosen = corners[at : at + TILES_AT_A_TIME]
        with torch.no_grad():
            output = model(_tiles(tensors, chosen, side))
        peaks = find_peaks(output, Grid(output.shape[-1], side), lowest)
        found += list(_of_tiles(peaks, chosen, side, (height, width)))
    places = np.concatenate([part[0] for part in found])
    logit = np.concatenate([part[1] for part in found])
    order = np.argsort(-logit, kind="stable")
    return places[order], logit[order]


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles start along an axis, so that their cores cover it."""
    if length <= side:
        return [0]
    margin = min(OVERLAP, side // 4)
    number = -(-(length - 2 * margin) // (side - 2 * margin))
    return [round(step * (length - side) / (number - 1)) for step in range(number)]


def _tiles(field: Tensors, corners: list[tuple[int, int]], side: int) -> Tensors:
    """Return squares of the field; outside it, everything is 0, invvar too."""
    height, width = field["image"].shape[-2:]
    pad = (0, max(side - width, 0), 0, max(side - height, 0))
    padded = {name: F.pad(value, pad) for name, value in field.items()}
    return {
        name: torch.cat([value[..., y : y + side, x : x + side] for y, x in corners])
        for name, value in padded.items()
    }


def _of_tiles(
    peaks: list[tuple[Array, Array]],
    corners: list[tuple[int, int]],
    side: int,
    size: tuple[int, int],
) -> Iterator[tuple[Array, Array]]:
    """Yield the sources that lie in the core of their tile, or towards the edge of the field."""
    for (places, logit), corner in zip(peaks, corners, strict=True):
        moved = places.copy()
        moved[:, :2] += side // 2 + np.array(corner[::-1])
        kept = np.ones(len(logit), dtype=bool)
        for axis, (start, length) in enumerate(zip(corner[::-1], size[::-1], strict=True)):
            low, high = _core(start, length, side)
            kept &= (moved[:, axis] >= low) & (moved[:, axis] < high)
        yield moved[kept], logit[kept]


def _core(start: int, length: int, side: int) -> tuple[float, float]:
    """Return the range along an axis that a tile answers for, half-way to its neighbours."""
    starts = _starts(length, side)
    index = starts.index(start)
    low, high = -0.5, length - 0.5
    if index > 0:
        low = 0.5 * (starts[index - 1] + side + start) - 0.5
    if index + 1 < len(starts):
        high = 0.5 * (start + side + starts[index + 1]) - 0.5
    return low, high
