"""Named bits of MASKBITS, the per-pixel and per-source quality mask of the survey.

The names are those of DR9 and DR10. In other band sets the bits move; then the file's own header
decides, through `bits_from_header`.
"""

import re
from collections.abc import Mapping
from enum import IntFlag
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MaskBit(IntFlag):
    """Bits of MASKBITS (legacysurvey.org, page "bitmasks"; bits 17 to 19 came after DR10)."""

    NPRIMARY = 1 << 0  # outside the brick's primary area; the pixel itself is fine
    BRIGHT = 1 << 1
    SATUR_G = 1 << 2
    SATUR_R = 1 << 3
    SATUR_Z = 1 << 4
    ALLMASK_G = 1 << 5
    ALLMASK_R = 1 << 6
    ALLMASK_Z = 1 << 7
    WISEM1 = 1 << 8
    WISEM2 = 1 << 9
    BAILOUT = 1 << 10
    MEDIUM = 1 << 11  # halo of a star with G < 16
    GALAXY = 1 << 12  # inside a galaxy of the SGA: wanted here, so never bad by default
    CLUSTER = 1 << 13
    SATUR_I = 1 << 14
    ALLMASK_I = 1 << 15
    SUB_BLOB = 1 << 16
    RESOLVED = 1 << 17
    MCLOUDS = 1 << 18
    WISE_GAIA = 1 << 19


#: Bits that take a pixel's weight away. Not NPRIMARY (the overlap of bricks is valid sky) and not
#: GALAXY (it would remove the large galaxies themselves).
DEFAULT_BAD_BITS = (
    MaskBit.BRIGHT
    | MaskBit.MEDIUM
    | MaskBit.SATUR_G
    | MaskBit.SATUR_R
    | MaskBit.SATUR_I
    | MaskBit.SATUR_Z
    | MaskBit.ALLMASK_G
    | MaskBit.ALLMASK_R
    | MaskBit.ALLMASK_I
    | MaskBit.ALLMASK_Z
)

_SHORT_NAMES = {
    "WISE1": "WISEM1",
    "WISE2": "WISEM2",
    "SUBBL": "SUB_BLOB",
    "RESLV": "RESOLVED",
    "CLOUD": "MCLOUDS",
    "CLOUDS": "MCLOUDS",
}


def bits_from_header(header: Mapping[str, Any]) -> dict[str, int]:
    """Return ``{name: mask value}`` of the bits, the header's own where it names them.

    Two kinds of card are understood: ``MBIT_<n> = 'NAME'`` names bit n, and ``MB_<NAME> = value``
    gives the mask value (a power of two) of a name. Names that the header does not give keep the
    value of `MaskBit`, unless the header gives that bit to another name.
    """
    named: dict[str, int] = {}
    for key in header:
        value = header[key]
        if (bit := re.fullmatch(r"MBIT_?(\d+)", str(key))) and isinstance(value, str):
            named[_full_name(value.strip())] = 1 << int(bit.group(1))
        elif (name := re.fullmatch(r"MB_(\w+)", str(key))) and _is_power_of_two(value):
            named[_full_name(name.group(1))] = int(value)
    taken = set(named.values())
    defaults = {
        str(bit.name): int(bit)
        for bit in MaskBit
        if bit.name not in named and int(bit) not in taken
    }
    return defaults | named


def standard_bits(
    maskbits: NDArray[np.integer[Any]], header: Mapping[str, Any]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Bring a map of mask bits to the bits of `MaskBit`, by the names in its header.

    Returns
    -------
    maskbits : ndarray, shape of the input, int32
    unknown : tuple of str
        Names of the header that `MaskBit` does not have, whose bits are dropped.
    """
    bits = bits_from_header(header)
    moved = {name: bit for name, bit in bits.items() if MaskBit.__members__.get(name) != bit}
    if not moved:
        return maskbits.astype(np.int32, copy=False), ()
    standard = np.zeros(maskbits.shape, np.int32)
    for name, bit in bits.items():
        if name in MaskBit.__members__:
            standard[maskbits.astype(np.int64) & bit != 0] |= int(MaskBit[name])
    return standard, tuple(sorted(name for name in moved if name not in MaskBit.__members__))


def usable_pixels(
    maskbits: NDArray[np.integer[Any]],
    invvar: NDArray[np.floating[Any]],
    bad: int = DEFAULT_BAD_BITS,
) -> NDArray[np.bool_]:
    """Tell which pixels carry information.

    Parameters
    ----------
    maskbits : ndarray, shape (..., y, x), integer
    invvar : ndarray, shape (..., band, y, x) or (..., y, x) [1/nanomaggy^2]
    bad : int
        Bits that spoil a pixel in every band.

    Returns
    -------
    ndarray, shape of ``invvar``, bool
    """
    clean = (maskbits & maskbits.dtype.type(int(bad) & np.iinfo(maskbits.dtype).max)) == 0
    if invvar.ndim == maskbits.ndim + 1:
        clean = clean[..., np.newaxis, :, :]
    usable: NDArray[np.bool_] = (invvar > 0) & clean
    return usable


def _is_power_of_two(value: object) -> bool:
    return isinstance(value, int) and value > 0 and value & (value - 1) == 0


def _full_name(short: str) -> str:
    """Undo the shortening of names in header keys (legacypipe: MASKBITS_DESCRIPTIONS)."""
    short = short.upper()
    long = re.sub(r"^ALL_", "ALLMASK_", re.sub(r"^SAT_", "SATUR_", short))
    long = _SHORT_NAMES.get(long, long)
    starts = [name for name in MaskBit.__members__ if name.startswith(long)]
    return starts[0] if len(starts) == 1 else long
