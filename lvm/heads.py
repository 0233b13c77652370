"""Small modules on top of an encoder: heads on the embedding, decoders back to pixels.

They know shapes, not tasks: losses and labels are in `simmim` and `downstream`.
"""

from typing import cast

import torch
from torch import nn

from lvm.encoder import FeatureSpec


class Standardise(nn.Module):
    """Subtract a mean and divide by a deviation that were fitted on training embeddings.

    Channels of an embedding differ in scale by orders of magnitude; without this a head needs
    many more steps. The constants are buffers and are saved with the weights.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    @torch.no_grad()
    def fit(self, embeddings: torch.Tensor) -> None:
        """Set the constants from embeddings (object, width)."""
        self.mean.copy_(embeddings.mean(dim=0))
        spread = embeddings.std(dim=0, unbiased=False)
        # A channel that never changes carries nothing; dividing by its rounding would blow it up.
        floor = 1e-3 * spread.mean().clamp(min=1e-6)
        self.deviation.copy_(spread.clamp(min=floor))

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return standardised embeddings."""
        return (embeddings - self.mean) / self.deviation


def embedding_head(
    width: int, outputs: int, hidden: int = 0, dropout: float = 0.0
) -> nn.Sequential:
    """Return a head on embeddings: linear when `hidden` is 0, else two fully connected layers."""
    layers: list[nn.Module] = [Standardise(width)]
    if hidden:
        layers += [nn.Linear(width, hidden), nn.GELU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    last = nn.Linear(hidden or width, outputs)
    nn.init.trunc_normal_(last.weight, std=0.01)  # start near "knows nothing", not near a guess
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


class AnswerHead(nn.Sequential):
    """A head for questions whose output says how it is to be read.

    The output is the logits of all answers (object, answer). Once `calibrate` was called, two
    numbers a question follow them: by what its logits are to be divided to be probabilities, and
    the probability below which its answer should be left to people. All are saved with the
    weights.

    Parameters
    ----------
    layers : from embeddings (object, width) to logits
    questions : how many questions the answers belong to
    """

    temperature: torch.Tensor
    threshold: torch.Tensor

    def __init__(self, layers: nn.Sequential, questions: int = 1) -> None:
        super().__init__(*layers)
        self.register_buffer("temperature", torch.zeros(questions))  # 0: not calibrated
        self.register_buffer("threshold", torch.zeros(questions))

    @torch.no_grad()
    def calibrate(self, temperature: torch.Tensor, threshold: torch.Tensor) -> None:
        """Set temperatures, all > 0, and thresholds of the questions."""
        if not bool((temperature > 0).all()):
            raise ValueError(f"temperatures are positive, not {temperature.tolist()}")
        self.temperature.copy_(temperature)
        self.threshold.copy_(threshold)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return logits, followed by temperatures and thresholds of a calibrated head."""
        logits = embeddings
        for layer in self:
            logits = layer(logits)
        if not self.temperature.any():
            return logits
        reading = torch.cat([self.temperature, self.threshold]).expand(len(logits), -1)
        return torch.cat([logits.float(), reading], dim=1)


class LinearDecoder(nn.Module):
    """SimMIM's decoder: one linear layer from the last feature map to the pixels of its patch."""

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        reduction = spec.reductions[-1]
        self.project = nn.Conv2d(spec.channels[-1], spec.bands * reduction**2, kernel_size=1)
        self.shuffle = nn.PixelShuffle(reduction)

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return pixels (object, band, y, x) from feature maps."""
        return cast(torch.Tensor, self.shuffle(self.project(maps[-1])))


class SwinDecoder(nn.Module):
    """The other half of a Swin U-Net: up-sample, join the encoder's map, attend; once a stage."""

    def __init__(self, spec: FeatureSpec, depth: int = 8, window_size: int = 8) -> None:
        super().__init__()
        steps = zip(spec.reductions, spec.reductions[1:], strict=False)
        if any(low != 2 * high for high, low in steps):
            raise ValueError(
                f"SwinDecoder needs maps that halve from stage to stage, not {spec.reductions}: "
                "use LinearDecoder with this encoder"
            )
        stages = range(len(spec.channels) - 1, 0, -1)
        self.stages = nn.ModuleList(_UpStage(spec, i, depth, window_size) for i in stages)
        self.norm = nn.LayerNorm(spec.channels[0])
        self.project = nn.Linear(spec.channels[0], spec.bands * spec.reductions[0] ** 2)
        self.shuffle = nn.PixelShuffle(spec.reductions[0])

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return pixels (object, band, y, x) from feature maps."""
        x = maps[-1].permute(0, 2, 3, 1)
        for stage, skip in zip(self.stages, maps[-2::-1], strict=True):
            x = stage(x, skip.permute(0, 2, 3, 1))
        pixels = self.project(self.norm(x)).permute(0, 3, 1, 2)
        return cast(torch.Tensor, self.shuffle(pixels))


class _UpStage(nn.Module):
    """From stage `index` of the encoder to the one above it; maps are (object, y, x, channel)."""

    def __init__(self, spec: FeatureSpec, index: int, depth: int, window_size: int) -> None:
        from timm.models.swin_transformer import SwinTransformerBlock

        super().__init__()
        below, above = spec.channels[index], spec.channels[index - 1]
        side = spec.input_size // spec.reductions[index - 1]
        self.expand = nn.Linear(below, 4 * above)
        self.shuffle = nn.PixelShuffle(2)
        self.join = nn.Linear(2 * above, above)
        self.blocks = nn.Sequential(
            *(
                SwinTransformerBlock(
                    dim=above,
                    input_resolution=(side, side),
                    num_heads=max(above // 32, 1),
                    window_size=min(window_size, side),
                    shift_size=0 if block % 2 == 0 else min(window_size, side) // 2,
                )
                for block in range(depth)
            )
        )

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = self.shuffle(self.expand(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return cast(torch.Tensor, self.blocks(self.join(torch.cat([x, skip], dim=-1))))


def create_decoder(name: str, spec: FeatureSpec) -> nn.Module:
    """Return the decoder called `name`: "linear" or "swin"."""
    if name == "linear":
        return LinearDecoder(spec)
    if name == "swin":
        return SwinDecoder(spec)
    raise ValueError(f"no decoder is called {name!r}: use 'linear' or 'swin'")
