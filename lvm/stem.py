"""The convolutional stem of the Swin trunks: pixels to tokens through 3 x 3 convolutions.

Fu et al. 2024 (SUNet) put a 3 x 3 convolution before their first tokens. Early convolutions also
make small trunks learn from hundreds of labels where a patch projection needs many thousands
(Xiao et al. 2021). Used in place of timm's `PatchEmbed`, whose interface it keeps.
"""

from typing import Any, cast

import torch
from torch import nn

GROUP_CHANNELS = 8  # channels that are normalised together


class ConvStem(nn.Module):
    """Turn (object, band, y, x) into tokens (object, y, x, channel) of `patch_size` pixels.

    Parameters
    ----------
    img_size, patch_size : side of the input and of a token [pixel]; patch_size is a power of two
    in_chans, embed_dim : bands in, channels out
    options : what timm passes to a `PatchEmbed` besides (norm_layer, output_fmt); the stem always
        normalises, and always puts channels last
    """

    def __init__(
        self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **options: Any
    ) -> None:
        super().__init__()
        steps = patch_size.bit_length() - 1
        if patch_size != 1 << steps or steps < 1:
            raise ValueError(f"patch_size {patch_size}: a convolutional stem halves, give 2, 4, 8")
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        layers: list[nn.Module] = []
        width = in_chans
        for step in range(steps):
            out = embed_dim >> (steps - 1 - step)
            layers += _convolution(width, out, stride=2)
            width = out
        layers += _convolution(width, embed_dim, stride=1)
        self.layers = nn.Sequential(*layers)
        self.proj = nn.Conv2d(embed_dim, embed_dim, kernel_size=1)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return tokens, channels last."""
        return cast(torch.Tensor, self.norm(self.proj(self.layers(inputs)).permute(0, 2, 3, 1)))


def _convolution(width: int, out: int, stride: int) -> list[nn.Module]:
    kernel = nn.Conv2d(width, out, kernel_size=3, stride=stride, padding=1, bias=False)
    # Groups, not the batch, are normalised: the same numbers in training and in use, for any batch.
    return [kernel, nn.GroupNorm(max(out // GROUP_CHANNELS, 1), out), nn.ReLU()]
