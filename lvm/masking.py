"""Which patches of an image are hidden in masked-image pre-training.

Masks come from an explicit generator; nothing here knows what is put in place of a patch.
"""

import torch


def random_patch_masks(
    count: int, grid: tuple[int, int], ratio: float, generator: torch.Generator
) -> torch.Tensor:
    """Return masks (count, grid y, grid x), bool, True = hidden.

    Exactly round(ratio * patches) patches are hidden in each mask, at least one and never all.
    The generator lives on the CPU, so that masks are the same on every device.
    """
    if not 0.0 < ratio < 1.0:
        raise ValueError(f"the masking ratio must be between 0 and 1, got {ratio}")
    patches = grid[0] * grid[1]
    if patches < 2:
        raise ValueError(f"a grid of {grid} patches cannot be masked in part: use smaller patches")
    hidden = min(max(round(ratio * patches), 1), patches - 1)
    order = torch.rand((count, patches), generator=generator).argsort(dim=1)
    return (order < hidden).view(count, *grid)


def expand_masks(masks: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Return patch masks (object, y, x) as pixel masks (object, 1, y, x), bool."""
    pixels = masks.repeat_interleave(patch_size, dim=1).repeat_interleave(patch_size, dim=2)
    return pixels[:, None]
