"""Which bits of MASKBITS take a pixel's weight away, by name.

A policy never changes what is stored: cutouts keep the survey's own invvar and all bits of
maskbits, and who reads them decides. `storage.detection` asks the policy of the ingest at reading
time; a model's own `fill_bits` and `halo_bits` (module ``lvm.preprocess``), which are "legacy" by
default, are saved with its weights, so that it sees the same pixels wherever it goes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.errors import SchemaMismatch
from storage.maskbits import DEFAULT_BAD_BITS, MaskBit, usable_pixels


@dataclass(frozen=True)
class MaskPolicy:
    """A named choice of bad bits.

    ``bad`` is the union of the `MaskBit` values that spoil a pixel in every band; ``reason`` says
    when to choose it.
    """

    name: str
    bad: int
    reason: str

    def usable(
        self, maskbits: NDArray[np.integer[Any]], invvar: NDArray[np.floating[Any]]
    ) -> NDArray[np.bool_]:
        """Tell which pixels carry information; shapes as for `usable_pixels`."""
        return usable_pixels(maskbits, invvar, self.bad)

    def weights(
        self, maskbits: NDArray[np.integer[Any]], invvar: NDArray[np.floating[Any]]
    ) -> NDArray[np.floating[Any]]:
        """Return a copy of invvar that is 0 where a bad bit is set; shapes as `usable_pixels`."""
        return np.where(self.usable(maskbits, invvar), invvar, invvar.dtype.type(0))


MASK_POLICIES: Mapping[str, MaskPolicy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            MaskPolicy(
                "legacy",
                int(DEFAULT_BAD_BITS),
                "galaxies: drops star halos, saturation and pixels bad in all exposures; keeps the "
                "overlap of bricks (NPRIMARY) and large galaxies (GALAXY)",
            ),
            MaskPolicy(
                "strict",
                int(
                    DEFAULT_BAD_BITS
                    | MaskBit.BAILOUT
                    | MaskBit.GALAXY
                    | MaskBit.CLUSTER
                    | MaskBit.SUB_BLOB
                    | MaskBit.RESOLVED
                    | MaskBit.MCLOUDS
                ),
                "clean blank sky: also drops large galaxies, clusters and where the fit gave up",
            ),
            MaskPolicy("none", 0, "every pixel with data"),
        )
    }
)


def mask_policy(name: str) -> MaskPolicy:
    """Return the policy of a name.

    Raises
    ------
    SchemaMismatch
        When there is none.
    """
    if name not in MASK_POLICIES:
        raise SchemaMismatch(
            f"mask policy {name!r}: unknown; choose from {', '.join(MASK_POLICIES)}"
        )
    return MASK_POLICIES[name]
