import numpy as np
import pytest
import torch

from lvm.tensors import batch_size, rows_of, to_tensors


def test_floats_become_float32_and_integers_keep_their_type():
    tensors = to_tensors(
        {"image": np.ones((2, 1), np.float16), "maskbits": np.ones((2, 1), np.int32)}
    )
    assert tensors["image"].dtype == torch.float32
    assert tensors["maskbits"].dtype == torch.int32


def test_a_read_only_array_is_copied_without_a_warning():
    array = np.zeros((2, 3), np.float32)
    array.flags.writeable = False
    tensor = to_tensors({"image": array})["image"]
    tensor += 1.0
    assert array.sum() == 0.0


def test_big_endian_arrays_of_fits_are_read():
    array = np.arange(4, dtype=">f4")
    assert to_tensors({"image": array})["image"].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_strings_are_left_out():
    assert to_tensors({"brickname": np.array(["0001p000"])}) == {}


def test_arrays_that_disagree_on_the_number_of_objects_are_refused():
    with pytest.raises(ValueError, match="disagree"):
        batch_size({"image": np.zeros(3), "target": np.zeros(2)})


def test_rows_are_counted_from_start_where_a_batch_names_none():
    assert rows_of({"image": np.zeros((2, 1))}, 5).tolist() == [5, 6]
    assert rows_of({"rows": torch.tensor([9, 7])}, 5).tolist() == [9, 7]
