from lvm.preprocess import default_preprocess
from storage.mask_policy import mask_policy


def test_models_fill_and_ignore_the_bits_of_the_default_policy() -> None:
    config = default_preprocess(("g", "r", "i", "z"), 64, 64)
    bits = set(config.halo_bits).union(*config.fill_bits)
    assert sum(1 << bit for bit in bits) == mask_policy("legacy").bad
