import gc
import weakref

import numpy as np
import pytest
import torch

from lvm.forward import (
    BATCH_SIZES,
    Forward,
    ForwardConfig,
    OutOfDeviceMemory,
    choose_device,
    choose_precision,
)
from lvm.testing import galaxies

CPU = torch.device("cpu")


def split(batch, size):
    count = len(batch["rows"])
    return [
        {name: value[start : start + size] for name, value in batch.items()}
        for start in range(0, count, size)
    ]


def embeddings(forward, batches):
    return np.concatenate([values for _, values in forward.embed(batches)])


@pytest.fixture
def limited_memory(tiny_encoder, monkeypatch):
    """Return a function that makes passes of more than some cutouts fail, and counts passes."""
    sizes = []

    def limit(most, error):
        features = tiny_encoder.features

        def run(inputs):
            sizes.append(len(inputs))
            if len(inputs) > most:
                raise error
            return features(inputs)

        monkeypatch.setattr(tiny_encoder, "features", run)
        return sizes

    return limit


def test_auto_is_what_this_machine_has(monkeypatch):
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for bfloat16, precision in ((True, "bfloat16"), (False, "float32")):
        found = {"avx512_bf16": bfloat16, "avx2": True}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert choose_precision("auto", CPU) == precision
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_a_torch_that_cannot_tell_what_the_cpu_has_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", CPU) == "float32"


def test_a_gpu_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no GPU"):
        choose_device("cuda:0")


@pytest.mark.parametrize(
    ("values", "message"),
    [({"batch_size": 0}, "batch_size"), ({"precision": "int8"}, "precision is one of")],
)
def test_settings_that_cannot_be_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        ForwardConfig(**values)


def test_how_it_is_applied_changes_only_the_rounding(tiny_encoder, batch):
    exact = embeddings(Forward(tiny_encoder, ForwardConfig(precision="float32")), [batch])
    for config in (
        ForwardConfig(batch_size=5, precision="float32"),
        ForwardConfig(channels_last=True, precision="float32"),
    ):
        found = embeddings(Forward(tiny_encoder, config), split(batch, 7))
        assert np.abs(found - exact).max() < 1e-5
    rough = embeddings(Forward(tiny_encoder, ForwardConfig(precision="bfloat16")), [batch])
    assert 0 < np.abs(rough - exact).max() < 0.1


def test_the_batch_size_suits_the_device_unless_it_is_given(tiny_encoder):
    assert Forward(tiny_encoder, ForwardConfig(device="cpu")).batch_size == BATCH_SIZES["cpu"]
    assert Forward(tiny_encoder, ForwardConfig(batch_size=3, device="cpu")).batch_size == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_too_little_memory_makes_the_batches_smaller_and_loses_nothing(
    tiny_encoder, batch, limited_memory, error
):
    exact = embeddings(Forward(tiny_encoder), [batch])
    sizes = limited_memory(2, error)
    forward = Forward(tiny_encoder, ForwardConfig(batch_size=8, device="cpu"))
    found = embeddings(forward, split(batch, 5))
    assert np.abs(found - exact).max() < 1e-5
    assert forward.batch_size == 2
    assert sizes[:3] == [5, 4, 2]
    assert max(sizes[3:]) == 2  # what was learned is kept for the batches that follow


def test_a_single_cutout_that_does_not_fit_is_a_clear_error(tiny_encoder, batch, limited_memory):
    limited_memory(0, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(OutOfDeviceMemory, match="one cutout does not fit"):
        Forward(tiny_encoder, ForwardConfig(device="cpu"))(batch)


def test_another_error_is_not_taken_for_too_little_memory(tiny_encoder, batch, limited_memory):
    sizes = limited_memory(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        Forward(tiny_encoder, ForwardConfig(device="cpu"))(batch)
    assert len(sizes) == 1


def test_a_failed_pass_does_not_hold_its_memory_while_the_next_one_runs(
    tiny_encoder, batch, monkeypatch
):
    first: list[weakref.ref] = []
    features = tiny_encoder.features

    def run(inputs):
        if not first:
            first.append(weakref.ref(inputs))
            raise torch.OutOfMemoryError("CUDA out of memory")
        gc.collect()
        assert first[0]() is None
        return features(inputs)

    monkeypatch.setattr(tiny_encoder, "features", run)
    assert len(Forward(tiny_encoder, ForwardConfig(device="cpu"))(batch)) == len(batch["rows"])


def test_compiled_passes_all_have_one_shape(tiny_encoder, batch, monkeypatch):
    exact = embeddings(Forward(tiny_encoder), [batch])
    shapes = []

    def pretend(function):
        def run(inputs):
            shapes.append(tuple(inputs.shape))
            return function(inputs)

        return run

    monkeypatch.setattr(torch, "compile", pretend)
    config = ForwardConfig(batch_size=5, device="cpu", precision="float32", compile=True)
    found = embeddings(Forward(tiny_encoder, config), split(batch, 5))
    assert set(shapes) == {(5, 3, 16, 16)}
    assert np.abs(found - exact).max() < 1e-5


def test_rows_stay_with_their_embeddings_and_none_is_held_back(tiny_encoder):
    batch = galaxies(11, np.random.default_rng(3))
    batch["rows"] = batch["rows"] * 3
    exact = embeddings(Forward(tiny_encoder), [batch])
    parts = list(Forward(tiny_encoder).embed(split(batch, 4)))
    assert [rows.tolist() for rows, _ in parts] == [[0, 3, 6, 9], [12, 15, 18, 21], [24, 27, 30]]
    assert np.allclose(np.concatenate([values for _, values in parts]), exact, atol=1e-5)


def test_no_object_is_no_embedding(tiny_encoder, batch):
    empty = {name: value[:0] for name, value in batch.items()}
    assert Forward(tiny_encoder)(empty).shape == (0, tiny_encoder.spec.width)
    assert list(Forward(tiny_encoder).embed([])) == []
