"""Networks that an encoder has to beat, such as ResNet18, under the encoder's own contract.

Any timm model with `forward_intermediates` will do. It sees the same bands through the same
preprocessing as the encoders of this package, so that heads and trainings serve both.
"""

from pathlib import Path
from typing import Any

from lvm.encoder import Encoder, EncoderConfig, create_encoder
from lvm.tensors import Batch

RESNET18 = "resnet18"
SMALLEST_SIDE = 32  # pixel: ResNet halves five times


def create_baseline(
    sample: Batch,
    bands: tuple[str, ...],
    side: int,
    *,
    name: str = RESNET18,
    weights: Path | None = None,
    seed: int = 0,
) -> Encoder:
    """Create a network to compare with.

    Parameters
    ----------
    sample : cutouts that the preprocessing is fitted on
    bands : names of the bands, in the order of the arrays
    side : of the central part of the cutouts that it sees, not resized [pixel]
    name : of a timm model
    weights : file of that model's weights for three-band pictures (safetensors, or a state dict
        that loads without pickled code); its first layer is adapted to the bands and its classifier
        is left out. None: from scratch
    seed : of the initial weights

    Returns
    -------
    Encoder, on the CPU, in evaluation mode. Weights that are absent or do not fit raise.
    """
    if side < SMALLEST_SIDE:
        raise ValueError(f"side {side}: give at least {SMALLEST_SIDE} pixels")
    cutout = int(sample["image"].shape[-1])
    config = EncoderConfig(name, bands, cutout_size=cutout, input_size=side, crop_size=side)
    network = create_encoder(config, sample=sample, seed=seed)
    if weights is not None:
        network.trunk.load_state_dict(_state(name, weights, len(bands)), strict=True)
    return network


def _state(name: str, weights: Path, bands: int) -> Any:
    """Return the state of a trunk for so many bands, as timm adapts it."""
    import timm

    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: no weights of {name} there; give the file's path")
    adapted = timm.create_model(
        name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(weights)},
        in_chans=bands,
        num_classes=0,
        global_pool="avg",
    )
    return adapted.state_dict()
