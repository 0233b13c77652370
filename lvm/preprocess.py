"""From cutouts in nanomaggies to network input, and which of its pixels may be trusted.

The mapping is asinh((flux - sky) / softening) / spread, per band: linear at the noise, slow at
the bright end. Its constants are fitted once on a sample and saved with the weights. It is not
an augmentation: nothing here is random.
"""

import logging
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lvm.tensors import Batch, central, to_tensors
from lvm.valid_pixels import has_bits, some_invalid, valid_pixels

_logger = logging.getLogger(__name__)

Array = np.ndarray[Any, np.dtype[Any]]

# Saturated or masked in every exposure of that band: SATUR_b, ALLMASK_b of the Legacy Surveys'
# MASKBITS (legacysurvey.org/dr10/bitmasks). Such pixels hold no flux of the sky.
FILL_BITS = {"g": (2, 5), "r": (3, 6), "z": (4, 7), "i": (14, 15)}
# BRIGHT and MEDIUM: haloes of stars. The galaxy is still there, so the network sees these pixels,
# but no loss is asked to explain them.
HALO_BITS = (1, 11)
# asinh bends at this many times the sky noise: below it noise stays Gaussian, above it flux is
# compressed.
SOFTENING_OVER_NOISE = 3.0
# Typical sky noise of a coadd pixel [nanomaggy] at DR10 depth; used when nothing was fitted.
TYPICAL_NOISE = {"g": 0.004, "r": 0.006, "i": 0.01, "z": 0.015}
# A cosmic ray of 1e38 nanomaggies must not reach the weights as inf.
MAX_INPUT = 30.0


@dataclass(frozen=True)
class PreprocessConfig:
    """How flux becomes network input, per band; made by `fit_preprocess`.

    Parameters
    ----------
    bands : one name a band, in the order of the arrays
    input_size : side of the network input [pixel]
    crop_size : side of the central part of a cutout that is used [pixel]; resized to `input_size`
    sky, softening : zero point and bend of asinh, one a band, in the unit of the image
    spread : divisor that gives the network input a standard deviation near 1
    fill_bits : per band, the mask bits whose pixels are filled
    halo_bits : mask bits whose pixels are seen but given no weight in a loss
    """

    bands: tuple[str, ...]
    input_size: int
    crop_size: int
    sky: tuple[float, ...]
    softening: tuple[float, ...]
    spread: tuple[float, ...]
    fill_bits: tuple[tuple[int, ...], ...]
    halo_bits: tuple[int, ...] = HALO_BITS

    def __post_init__(self) -> None:
        for name in ("sky", "softening", "spread", "fill_bits"):
            if len(getattr(self, name)) != len(self.bands):
                raise ValueError(f"{name} needs one value for each of the bands {self.bands}")
        if min(self.softening) <= 0 or min(self.spread) <= 0:
            raise ValueError("softening and spread must be above 0")
        if self.input_size < 1 or self.crop_size < 1:
            raise ValueError("input_size and crop_size must be at least 1 pixel")


class Prepared(NamedTuple):
    """Network input with its masks; each (object, band, y, x), side `input_size`.

    inputs : float32, 0 where not valid, never NaN
    valid : bool, the pixel holds flux of the sky
    weight : float32 in 0..1, how much a loss should care; 0 where not valid
    """

    inputs: torch.Tensor
    valid: torch.Tensor
    weight: torch.Tensor


def default_preprocess(bands: tuple[str, ...], input_size: int, crop_size: int) -> PreprocessConfig:
    """Return constants for coadds of DR10 depth, for use before anything was fitted."""
    noise = [TYPICAL_NOISE.get(band, 1.0 / SOFTENING_OVER_NOISE) for band in bands]
    return PreprocessConfig(
        bands=bands,
        input_size=input_size,
        crop_size=crop_size,
        sky=(0.0,) * len(bands),
        softening=tuple(SOFTENING_OVER_NOISE * value for value in noise),
        spread=(1.0,) * len(bands),
        fill_bits=tuple(FILL_BITS.get(band, ()) for band in bands),
    )


def fit_preprocess(
    sample: Batch, bands: tuple[str, ...], input_size: int, crop_size: int
) -> PreprocessConfig:
    """Fit sky, softening and spread on a sample of cutouts.

    Parameters
    ----------
    sample : a batch; some hundred cutouts are enough
    bands : names of the bands, in the order of `sample["image"]`
    input_size, crop_size : see `PreprocessConfig`

    Returns
    -------
    PreprocessConfig. Noise is 1.4826 times the median absolute deviation of the valid pixels, so
    that bright galaxies do not move it. A band without any valid pixel keeps neutral constants
    and a warning is logged; no valid pixel at all raises ValueError.
    """
    start = default_preprocess(bands, input_size, crop_size)
    tensors = to_tensors(sample)
    _check(tensors, start)
    valid = valid_pixels(tensors, start.fill_bits).numpy() > 0
    if not valid.any():
        raise ValueError(
            "no valid pixel in the sample (invvar is 0 or the image is not finite everywhere): "
            "fit the preprocessing on cutouts that hold data"
        )
    image = tensors["image"].numpy()
    fitted = [_fit_band(image[:, b][valid[:, b]], band) for b, band in enumerate(bands)]
    sky, softening, spread = zip(*fitted, strict=True)
    return PreprocessConfig(
        bands, input_size, crop_size, sky, softening, spread, start.fill_bits, start.halo_bits
    )


def _fit_band(pixels: Array, band: str) -> tuple[float, float, float]:
    """Return (sky, softening, spread) of the valid pixels of one band."""
    if pixels.size == 0:
        _logger.warning("band %s has no valid pixel in the sample: not scaled", band)
        return 0.0, 1.0, 1.0
    pixels = pixels.astype(np.float64)
    sky = float(np.median(pixels))
    noise = 1.4826 * float(np.median(np.abs(pixels - sky)))
    if noise <= 0:  # more than half of the pixels are equal: the black sky of a JPEG
        noise = float(pixels.std()) or 1.0
    softening = SOFTENING_OVER_NOISE * noise
    spread = float(np.arcsinh((pixels - sky) / softening).std()) or 1.0
    return sky, softening, spread


class Preprocess(nn.Module):
    """Apply a `PreprocessConfig` to batches. No parameters: the constants are in the config."""

    sky: torch.Tensor
    softening: torch.Tensor
    spread: torch.Tensor

    def __init__(self, config: PreprocessConfig) -> None:
        super().__init__()
        self.config = config
        for name in ("sky", "softening", "spread"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    def forward(self, batch: Batch) -> Prepared:
        """Return network input and masks of a batch, on the device of this module.

        A batch whose bands or size do not fit raises ValueError. `invvar` and `maskbits` may be
        absent: then every finite pixel is valid.
        """
        tensors = self._used(batch)
        with torch.no_grad():
            valid = valid_pixels(tensors, self.config.fill_bits)
            inputs, kept = self._scaled(tensors["image"], valid)
            weight = self._weight(tensors, valid > 0)
            if self.config.crop_size != self.config.input_size:
                weight = _resample(weight, self.config.input_size).clamp_(0.0, 1.0).mul_(kept)
            return Prepared(inputs, kept > 0, weight)

    def inputs(self, batch: Batch) -> torch.Tensor:
        """Return the network input alone, as `forward` does: all that an encoder asks for."""
        tensors, fill_bits = self._used(batch), self.config.fill_bits
        with torch.no_grad():
            resized = self.config.crop_size != self.config.input_size
            if resized or self.sky.device.type != "cpu":  # a GPU would have to be waited for
                return self._scaled(tensors["image"], valid_pixels(tensors, fill_bits))[0]
            flux = tensors["image"] - self.sky
            some = some_invalid(tensors, fill_bits).nonzero()[:, 0]
            if len(some):  # which pixels are invalid is asked of these cutouts alone
                part = {name: values[some] for name, values in tensors.items()}
                flux[some] = _zero_filled_(flux[some], valid_pixels(part, fill_bits))
            return self._stretched_(flux)

    def _used(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the central part of the pixels, on the device of this module."""
        tensors = to_tensors(batch, self.sky.device)
        _check(tensors, self.config)
        return {
            name: central(tensors[name], self.config.crop_size)
            for name in ("image", "invvar", "maskbits")
            if name in tensors
        }

    def _scaled(
        self, image: torch.Tensor, valid: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the network input, and where it is valid at its own size."""
        flux = _zero_filled_(image - self.sky, valid)
        if self.config.crop_size != self.config.input_size:
            flux, valid = _resize(flux, valid, self.config.input_size)
        return self._stretched_(flux), valid

    def _stretched_(self, flux: torch.Tensor) -> torch.Tensor:
        # In place: on a CPU, fresh memory costs more than the arithmetic.
        scaled = _asinh_(flux.div_(self.softening)).div_(self.spread)
        return scaled.clamp_(-MAX_INPUT, MAX_INPUT)

    def _weight(self, tensors: dict[str, torch.Tensor], valid: torch.Tensor) -> torch.Tensor:
        """Return 1 / (1 + variance / softening²): near 1 at survey depth, small where noisy."""
        if "invvar" in tensors:
            weight = tensors["invvar"] * self.softening**2
            weight.div_(1.0 + weight)
        else:
            weight = torch.ones_like(tensors["image"])
        unseen = ~valid
        if "maskbits" in tensors:
            unseen |= has_bits(tensors["maskbits"], self.config.halo_bits)[:, None]
        return weight.masked_fill_(unseen, 0.0)


def _check(tensors: dict[str, torch.Tensor], config: PreprocessConfig) -> None:
    if "image" not in tensors:
        raise ValueError(f"a batch needs 'image'; this one has {sorted(tensors)}")
    shape = tuple(tensors["image"].shape)
    if len(shape) != 4 or shape[1] != len(config.bands):
        raise ValueError(
            f"image has shape {shape}; expected (object, band, y, x) with bands {config.bands}"
        )
    if min(shape[2:]) < config.crop_size:
        raise ValueError(
            f"cutouts of {shape[2]}x{shape[3]} pixels are smaller than crop_size "
            f"{config.crop_size}: use a smaller crop_size or larger cutouts"
        )
    wanted = {"invvar": shape, "maskbits": (shape[0], *shape[2:])}
    for name, expected in wanted.items():
        if name in tensors and tuple(tensors[name].shape) != expected:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, expected {expected}")


def _zero_filled_(flux: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return flux.nan_to_num_(0.0, 0.0, 0.0).mul_(valid)


def _asinh_(values: torch.Tensor) -> torch.Tensor:
    """Return asinh of values; three times as fast on a CPU as torch.asinh (not vectorised).

    log(|x| + sqrt(x² + 1)) is off by 1e-7 at most, and inf where x² overflows: clamped later.
    """
    size = values.abs()
    root = (values * values).add_(1.0).sqrt_()
    return size.add_(root).log_().copysign_(values)


def _resize(
    flux: torch.Tensor, valid: torch.Tensor, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resample with antialiasing, in flux, so that filled pixels do not leak into good ones."""
    share = _resample(valid, size)
    kept = (share > 0.5).to(flux.dtype)
    return _resample(flux, size).div_(share.clamp(min=1e-3)).mul_(kept), kept


def _resample(array: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(array, size=(size, size), mode="bilinear", antialias=True)
