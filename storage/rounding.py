"""Round float32 pixels to the digits that their noise leaves meaningful, so that they compress.

The pixels of a cutout become multiples of a power of two far below its noise: their last bytes are
zero, which the codec takes away. They stay plain float32, to be read without any conversion.
"""

import numpy as np
import numpy.typing as npt

#: Largest step of the stored pixels of a cutout in a band, in units of its smallest pixel noise
#: 1/sqrt(invvar). A rounding error is uniform within half a step, so a flux summed over pixels with
#: any weights moves by at most 1.8e-5 of its error (rms); 1e-4 is more than five times that.
STEP_OVER_NOISE = 2.0**-14

#: Largest rounding error of a stored pixel, in units of its noise.
MAX_ROUNDING_OVER_NOISE = STEP_OVER_NOISE / 2

# A plane that is brighter than this many steps is kept as it is: image / step must not overflow,
# and float32 has no digits below the step from 2**24 steps on.
_MAX_STEPS = 2.0**100

Float32 = npt.NDArray[np.float32]


def round_image(image: Float32, invvar: Float32) -> Float32:
    """Round every plane to multiples of the largest power of two within `STEP_OVER_NOISE`.

    Rounding again changes nothing.

    Parameters
    ----------
    image : ndarray, shape (object, band, y, x), float32
        Finite pixels.
    invvar : ndarray, same shape, float32
        Inverse variance; a plane in which it is 0 everywhere has no noise and is kept as it is.

    Returns
    -------
    ndarray, same shape, float32
        Within `MAX_ROUNDING_OVER_NOISE` of the noise of every pixel.
    """
    step = _steps(image, invvar)
    exact = np.flatnonzero(step == 0)
    step.flat[exact] = 1
    rounded = np.empty_like(image)
    inverse = 1 / step
    for index, pixels in enumerate(image):  # one cutout fits a core's cache, a block does not
        target = rounded[index]
        np.multiply(pixels, inverse[index], out=target)
        np.rint(target, out=target)
        np.multiply(target, step[index], out=target)
    for place in exact:
        plane = np.unravel_index(place, step.shape)[:2]
        rounded[plane] = image[plane]
    return rounded


def _steps(image: Float32, invvar: Float32) -> Float32:
    """Return the step of every plane, shape (object, band, 1, 1); 0 keeps the plane."""
    largest = invvar.max(axis=(2, 3), keepdims=True, initial=0).astype(np.float64)
    noise = np.zeros_like(largest)
    np.divide(1, np.sqrt(largest), out=noise, where=largest > 0)
    with np.errstate(divide="ignore"):  # the step of a plane without noise is exp2(-inf), 0
        step = np.exp2(np.floor(np.log2(noise * STEP_OVER_NOISE)))
    brightest = np.maximum(
        image.max(axis=(2, 3), keepdims=True, initial=0),
        -image.min(axis=(2, 3), keepdims=True, initial=0),
    )
    return np.where(brightest < step * _MAX_STEPS, step, 0).astype(np.float32)
