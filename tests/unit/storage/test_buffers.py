"""Memory is used again only when nobody holds it."""

import threading

import numpy as np

from storage.buffers import BufferPool, Scratch, shared_pool

SHAPES = {"image": ((2, 3), np.dtype(np.float32)), "mask": ((), np.dtype(np.int32))}


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_arrays_have_the_shape_and_type_asked_for():
    arrays = BufferPool(SHAPES).take(5)
    assert {name: (a.shape, a.dtype) for name, a in arrays.items()} == {
        "image": ((5, 2, 3), np.float32),
        "mask": ((5,), np.int32),
    }


def test_memory_comes_back_when_the_last_view_is_gone():
    pool = BufferPool(SHAPES)
    first = pool.take(5)
    address = _address(first["image"])
    view = first["image"][2:4].reshape(-1)[1:]
    del first
    other = pool.take(5)
    assert _address(other["image"]) != address
    del view
    again = pool.take(3)
    assert _address(again["image"]) == address
    assert again["image"].shape == (3, 2, 3)


def test_held_arrays_are_never_shared():
    pool = BufferPool(SHAPES)
    held = [pool.take(4) for _ in range(5)]
    for number, arrays in enumerate(held):
        arrays["image"][:] = number
    assert [arrays["image"].max() for arrays in held] == [0, 1, 2, 3, 4]


def test_a_process_has_one_pool_for_the_same_shapes():
    assert shared_pool(SHAPES) is shared_pool(dict(SHAPES))
    assert shared_pool(SHAPES) is not shared_pool({"image": SHAPES["image"]})


def test_scratch_is_one_array_a_name_and_thread():
    scratch = Scratch()
    here = scratch.array("a", (3,), np.dtype(np.float32))
    assert scratch.array("a", (3,), np.dtype(np.float32)) is here
    assert scratch.array("b", (3,), np.dtype(np.float32)) is not here
    there: list[np.ndarray] = []
    thread = threading.Thread(
        target=lambda: there.append(scratch.array("a", (3,), np.dtype(np.float32)))
    )
    thread.start()
    thread.join()
    assert there[0] is not here


def test_scratch_bytes_grow_to_the_longest_that_was_asked_for():
    scratch = Scratch()
    short = scratch.bytes("packed", 10)
    assert short.shape == (10,)
    assert scratch.bytes("packed", 4).base is short.base
    longer = scratch.bytes("packed", 100)
    assert longer.shape == (100,)
    assert scratch.bytes("packed", 60).base is longer.base
