import numpy as np
import pytest

from storage.maskbits import (
    DEFAULT_BAD_BITS,
    MaskBit,
    bits_from_header,
    standard_bits,
    usable_pixels,
)


def test_default_bits_spare_overlap_and_galaxies() -> None:
    bits = [number for number in range(20) if DEFAULT_BAD_BITS & (1 << number)]
    assert bits == [1, 2, 3, 4, 5, 6, 7, 11, 14, 15]


def test_usable_needs_weight_and_no_bad_bit() -> None:
    maskbits = np.array([[0, int(MaskBit.NPRIMARY)], [int(MaskBit.SATUR_R), 0]], np.int32)
    invvar = np.array([[[1.0, 1.0], [1.0, 0.0]]], np.float32)
    assert usable_pixels(maskbits, invvar).tolist() == [[[True, True], [False, False]]]


def test_usable_with_small_integers() -> None:
    mask = np.array([[int(MaskBit.BRIGHT), 1]], np.int16)
    assert usable_pixels(mask, np.ones((1, 2), np.float32)).tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("header", "name", "value"),
    [
        ({"MBIT_2": "SATUR_I"}, "SATUR_I", 4),
        ({"MB_SAT_I": 8}, "SATUR_I", 8),
        ({"MB_ALL_G": 64}, "ALLMASK_G", 64),
        ({"MB_NPRIM": 2}, "NPRIMARY", 2),
        ({"MB_WISE1": 16}, "WISEM1", 16),
        ({}, "GALAXY", 1 << 12),
    ],
)
def test_header_names_win(header: dict, name: str, value: int) -> None:
    assert bits_from_header(header)[name] == value


def test_bits_given_to_another_name_are_not_the_default_ones() -> None:
    assert "SATUR_G" not in bits_from_header({"MBIT_2": "SATUR_I"})


def test_moved_bits_come_back_to_their_standard_place() -> None:
    header = {"MBIT_2": "SATUR_I", "MBIT_3": "SATUR_N419"}
    bits, unknown = standard_bits(np.array([[4, 8, 1, 0]], np.int16), header)
    assert bits.tolist() == [[int(MaskBit.SATUR_I), 0, int(MaskBit.NPRIMARY), 0]]
    assert unknown == ("SATUR_N419",)


def test_standard_header_changes_nothing() -> None:
    header = {f"MBIT_{bit}": MaskBit(1 << bit).name for bit in range(14)}
    bits, unknown = standard_bits(np.array([[5, 4097]], np.int32), header)
    assert (bits.tolist(), unknown) == ([[5, 4097]], ())
