import numpy as np
import pytest

from storage.errors import SchemaMismatch
from storage.mask_policy import MASK_POLICIES, mask_policy
from storage.maskbits import MaskBit


def bits_of(mask: int) -> list[int]:
    return [number for number in range(20) if mask & (1 << number)]


def test_the_policies_by_name() -> None:
    assert set(MASK_POLICIES) == {"legacy", "strict", "none"}
    assert bits_of(mask_policy("legacy").bad) == [1, 2, 3, 4, 5, 6, 7, 11, 14, 15]
    assert bits_of(mask_policy("none").bad) == []
    strict = set(bits_of(mask_policy("strict").bad))
    assert {1, 2, 3, 4, 5, 6, 7, 11, 14, 15, 10, 12, 13, 16} <= strict
    assert 0 not in strict
    with pytest.raises(SchemaMismatch, match="'harsh': unknown; choose from legacy"):
        mask_policy("harsh")


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("legacy", [True, False, True, False]),
        ("strict", [True, False, False, False]),
        ("none", [True, True, True, False]),
    ],
)
def test_usable_pixels_and_weights(dtype: type, name: str, usable: list[bool]) -> None:
    bits = [MaskBit.NPRIMARY, MaskBit.MEDIUM, MaskBit.GALAXY, 0]
    maskbits = np.array([bits], dtype)
    invvar = np.array([[[3.0, 3.0, 3.0, 0.0]]], np.float32)
    policy = mask_policy(name)
    assert policy.usable(maskbits, invvar).tolist() == [[usable]]
    weights = policy.weights(maskbits, invvar)
    assert weights.dtype == np.float32
    assert weights.tolist() == [[[3.0 * good for good in usable]]]
    assert invvar[0, 0, 0] == 3.0
