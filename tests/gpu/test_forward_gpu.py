"""What only a GPU can show of `lvm.forward`: results, pinned transfers, real lack of memory."""

import numpy as np
import pytest
import torch

from lvm.encoder import EncoderConfig, create_encoder
from lvm.forward import Forward, ForwardConfig, choose_precision
from lvm.testing import galaxies

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture
def batch():
    return galaxies(50, np.random.default_rng(1), size=152)


@pytest.fixture
def exact(batch):
    config = ForwardConfig(device="cpu", precision="float32")
    [(_, values)] = Forward(create_encoder(EncoderConfig("nano")), config).embed([batch])
    return values


def split(batch, size):
    return [
        {name: value[start : start + size] for name, value in batch.items()}
        for start in range(0, len(batch["rows"]), size)
    ]


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gpu_gives_what_the_cpu_gives(batch, exact, channels_last):
    options = {"device": "cuda", "precision": "float32", "channels_last": channels_last}
    forward = Forward(create_encoder(EncoderConfig("nano")), ForwardConfig(**options))
    found = np.concatenate([values for _, values in forward.embed(split(batch, 16))])
    assert np.abs(found - exact).max() < 2e-2 * exact.std()


def test_bfloat16_and_compiled_are_close(batch, exact):
    assert choose_precision("auto", torch.device("cuda")) == "bfloat16"
    for compiled in (False, True):
        config = ForwardConfig(batch_size=16, device="cuda", compile=compiled)
        forward = Forward(create_encoder(EncoderConfig("nano")), config)
        found = np.concatenate([values for _, values in forward.embed(split(batch, 16))])
        assert np.abs(found - exact).max() < 0.2 * exact.std()


def test_real_lack_of_memory_makes_the_batches_smaller(exact):
    batch = galaxies(2048, np.random.default_rng(1), size=152)
    whole = torch.cuda.get_device_properties(0).total_memory
    forward = Forward(
        create_encoder(EncoderConfig("nano")),
        ForwardConfig(batch_size=2048, device="cuda", precision="float32"),
    )
    torch.cuda.set_per_process_memory_fraction(1.2e9 / whole)
    try:
        [(_, values)] = forward.embed([batch])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert forward.batch_size < 2048
    assert np.isfinite(values).all()
    assert len(values) == 2048
