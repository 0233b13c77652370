"""The encoder: a timm trunk with our bands, our input size and our preprocessing.

`features` gives the pooled embedding (see `POOLINGS`), `feature_maps` the maps of every stage.
Heads, decoders and losses live elsewhere.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from lvm.preprocess import (
    Prepared,
    Preprocess,
    PreprocessConfig,
    default_preprocess,
    fit_preprocess,
)
from lvm.stem import ConvStem
from lvm.tensors import Batch

# "mean" over all last tokens describes the whole field. "centre" takes the central token or four:
# the object that the cutout is about, which a mean dilutes among sky and neighbours.
POOLINGS = ("mean", "centre")


@dataclass(frozen=True)
class SwinShape:
    """Shape of a Swin trunk.

    Parameters
    ----------
    input_size : side of the network input [pixel]; a multiple of patch_size * 2**(stages - 1)
    patch_size : side of a token of the first stage [pixel]
    embed_dim : channels of the first stage; doubled by every further one
    depths, num_heads : blocks and attention heads of each stage
    window_size : side of an attention window [token]
    """

    input_size: int
    patch_size: int
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int

    def __post_init__(self) -> None:
        stride = self.patch_size * 2 ** (len(self.depths) - 1)
        if len(self.depths) != len(self.num_heads):
            raise ValueError("depths and num_heads need one value for each stage")
        if self.input_size % stride:
            raise ValueError(
                f"input_size {self.input_size} is no multiple of {stride} (patch_size times 2 for "
                f"each of the {len(self.depths) - 1} merges): tokens would be padded"
            )


PRESETS = {
    # 2.2 M parameters, for two cores: 21 arcsec around the object at the survey's own pixels, all
    # of it in one attention window of the last stage. Chosen by measuring sizes 64 to 96 px.
    "nano": SwinShape(80, 4, 48, (1, 2, 4), (2, 4, 8), 5),
    # 27.5 M parameters: Swin-T at 128 px.
    "tiny": SwinShape(128, 4, 96, (2, 2, 6, 2), (3, 6, 12, 24), 8),
    # 77 M parameters, 100 M with `heads.SwinDecoder`: the encoder of Fu et al. 2024 (SUNet at
    # 128 px), with 32 channels a head, which suit attention kernels, in place of their 8 heads.
    "base": SwinShape(128, 4, 96, (8, 8, 8, 8), (3, 6, 12, 24), 8),
}


@dataclass(frozen=True)
class EncoderConfig:
    """What an encoder is.

    Parameters
    ----------
    name : a preset (nano, tiny, base) or any timm model that has `forward_intermediates`
    bands : bands of the cutouts, in the order of the arrays
    cutout_size : side of the stored cutouts [pixel]
    input_size : side of the network input [pixel]; None: the preset's own
    crop_size : side of the central part that is used [pixel]; None: input_size, which keeps the
        survey's pixels; a larger value is resized down
    drop_path_rate : stochastic depth in training
    pooling : of the embedding, "mean" or "centre" (see `POOLINGS`); the weights do not depend on it
    shape : None: the preset's; given, it replaces the preset's (`name` is then only a name)
    """

    name: str = "nano"
    bands: tuple[str, ...] = ("g", "r", "z")
    cutout_size: int = 152
    input_size: int | None = None
    crop_size: int | None = None
    drop_path_rate: float = 0.0
    pooling: str = "mean"
    shape: SwinShape | None = None

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands must be different names, at least one; got {self.bands}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is one of {POOLINGS}, not {self.pooling!r}")
        if self.crop_size is not None and self.crop_size > self.cutout_size:
            raise ValueError(
                f"crop_size {self.crop_size} is larger than the cutouts ({self.cutout_size} pixels)"
            )

    def resolved(self) -> "EncoderConfig":
        """Return this configuration with every None replaced by what it stands for.

        Saved configurations are resolved, so that a later change of a preset cannot change them.
        """
        shape = self.shape or PRESETS.get(self.name)
        size = self.input_size or (shape.input_size if shape else 128)
        if shape:
            shape = dataclasses.replace(shape, input_size=size)
        crop = self.crop_size or min(size, self.cutout_size)
        return dataclasses.replace(self, input_size=size, crop_size=crop, shape=shape)


@dataclass(frozen=True)
class FeatureSpec:
    """What an encoder offers to heads and decoders.

    Parameters
    ----------
    width : length of the pooled embedding
    channels, reductions : of each feature map, high to low resolution; side = input / reduction
    bands, input_size : number of bands and side of the network input [pixel]
    """

    width: int
    channels: tuple[int, ...]
    reductions: tuple[int, ...]
    bands: int
    input_size: int

    def with_input(self) -> "FeatureSpec":
        """Return the same with the network input as the first of the maps."""
        return dataclasses.replace(
            self, channels=(self.bands, *self.channels), reductions=(1, *self.reductions)
        )


class Encoder(nn.Module):
    """A timm trunk and the preprocessing that it was trained with."""

    trunk: Any  # an nn.Module with timm's methods, of which there is no type

    def __init__(self, config: EncoderConfig, preprocess: PreprocessConfig) -> None:
        super().__init__()
        self.config = config.resolved()
        if preprocess.bands != self.config.bands or preprocess.input_size != self.config.input_size:
            raise ValueError(
                f"the preprocessing (bands {preprocess.bands}, {preprocess.input_size} px) is not "
                f"that of the encoder ({self.config.bands}, {self.config.input_size} px)"
            )
        self.preprocess = Preprocess(preprocess)
        self.trunk = _create_trunk(self.config)

    @property
    def spec(self) -> FeatureSpec:
        """What this encoder offers to heads and decoders."""
        info = self.trunk.feature_info
        return FeatureSpec(
            width=int(self.trunk.num_features),
            channels=tuple(int(stage["num_chs"]) for stage in info),
            reductions=tuple(int(stage["reduction"]) for stage in info),
            bands=len(self.config.bands),
            input_size=int(self.config.input_size or 0),
        )

    def prepare(self, batch: Batch) -> Prepared:
        """Return network input and masks of a batch of cutouts."""
        prepared: Prepared = self.preprocess(batch)
        return prepared

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Return network input (object, band, y, x) of a batch, without its masks."""
        return self.preprocess.inputs(batch)

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return embeddings (object, width) of network input (object, band, y, x)."""
        if self.config.pooling == "centre":
            last = self.feature_maps(inputs)[-1]
            low, high = (last.shape[-1] - 1) // 2, last.shape[-1] // 2 + 1
            return last[..., low:high, low:high].mean(dim=(2, 3))
        tokens = self.trunk.forward_features(inputs)
        return cast(torch.Tensor, self.trunk.forward_head(tokens, pre_logits=True))

    def feature_maps(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return maps (object, channel, y, x) of every stage, high to low resolution."""
        maps = self.trunk.forward_intermediates(inputs, intermediates_only=True, norm=True)
        return list(maps)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return `features(inputs)`."""
        return self.features(inputs)


def create_encoder(
    config: EncoderConfig | None = None, *, sample: Batch | None = None, seed: int = 0
) -> Encoder:
    """Create an encoder with random weights.

    Parameters
    ----------
    config : None: the nano preset for g, r, z
    sample : a batch of cutouts that the preprocessing is fitted on; None: constants of DR10 depth
    seed : of the initial weights; the global random state is left as it was

    Returns
    -------
    Encoder, on the CPU, in evaluation mode
    """
    resolved = (config or EncoderConfig()).resolved()
    size, crop = resolved.input_size or 0, resolved.crop_size or 0
    if sample is None:
        preprocess = default_preprocess(resolved.bands, size, crop)
    else:
        preprocess = fit_preprocess(sample, resolved.bands, size, crop)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Encoder(resolved, preprocess).eval()


def _create_trunk(config: EncoderConfig) -> Any:
    # Here, as everywhere in lvm, timm is loaded where it is used: it takes seconds.
    import timm
    from timm.models.swin_transformer import SwinTransformer

    shape = config.shape
    if shape is not None:
        return SwinTransformer(
            img_size=shape.input_size,
            patch_size=shape.patch_size,
            in_chans=len(config.bands),
            num_classes=0,
            embed_layer=ConvStem,
            embed_dim=shape.embed_dim,
            depths=shape.depths,
            num_heads=shape.num_heads,
            window_size=shape.window_size,
            drop_path_rate=config.drop_path_rate,
        )
    if not config.name.startswith("hf-hub:") and not timm.is_model(config.name):
        raise ValueError(
            f"no encoder is called {config.name!r}: use one of {sorted(PRESETS)}, "
            "or a name from timm.list_models()"
        )
    trunk: Any = timm.create_model(
        config.name,
        in_chans=len(config.bands),
        num_classes=0,
        global_pool="avg",
        drop_path_rate=config.drop_path_rate,
    )
    if not hasattr(trunk, "forward_intermediates"):
        raise ValueError(
            f"timm model {config.name!r} has no forward_intermediates: not usable here"
        )
    if hasattr(trunk, "set_input_size"):  # those that do not have it accept any size
        trunk.set_input_size(img_size=(config.input_size, config.input_size))
    return trunk
