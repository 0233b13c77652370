import numpy as np
import pytest
import torch

from lvm.downstream.restoration import Restoration, RestorationConfig
from lvm.encoder import FeatureSpec
from lvm.tensors import to_tensors
from lvm.testing import TINY_CUTOUT, TinyEncoder, galaxies
from lvm.training import TrainConfig, constant_batches, fit
from lvm.unet import MapDecoder, PixelHead, SmallUNet, UNetModel

SPEC = FeatureSpec(32, (8, 16, 32), (4, 8, 16), 3, 32)


def maps(count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn((count, width, 32 // step, 32 // step), generator=generator)
        for width, step in zip(SPEC.channels, SPEC.reductions, strict=True)
    ]


def test_a_decoder_gives_every_pixel_of_the_input_its_values():
    decoder = MapDecoder(SPEC, outputs=5, width=8, fine_width=4)
    assert decoder(maps()).shape == (2, 5, 32, 32)


def test_every_map_reaches_the_decoded_pixels():
    decoder = MapDecoder(SPEC, outputs=1, width=8, fine_width=4)
    before = decoder(maps())
    for index in range(3):
        changed = maps()
        changed[index] = changed[index] + 1.0
        assert not torch.allclose(decoder(changed), before)


def test_maps_that_do_not_halve_will_do():
    spec = FeatureSpec(16, (16, 16), (8, 8), 3, 32)
    features = [torch.randn(1, 16, 4, 4), torch.randn(1, 16, 4, 4)]
    assert MapDecoder(spec, outputs=2, width=8, fine_width=4)(features).shape == (1, 2, 32, 32)


def test_a_scale_changes_the_last_channel_alone():
    head = PixelHead(SPEC, channels=4, width=8, fine_width=4).eval()
    before = head(maps())
    head.log_scale.copy_(torch.tensor([0.0, 0.5, 1.0]))
    moved = head(maps()) - before
    assert before.shape == (2, 3, 4, 32, 32)
    assert not moved[:, :, :-1].any()
    assert torch.allclose(moved[:, :, -1].mean(dim=(0, 2, 3)), head.log_scale, atol=1e-5)


@pytest.mark.parametrize("size", [16, 21])
def test_a_unet_takes_pictures_of_any_size(size):
    network = SmallUNet(bands=2, outputs=3, width=4, depth=2)
    assert network(torch.randn(2, 2, size, size)).shape == (2, 3, size, size)


def test_a_unet_alone_learns_the_task():
    task = Restoration(RestorationConfig(strengths=()))
    model = UNetModel(task, TinyEncoder().preprocess.config, task.channels, seed=1)
    batch = galaxies(8, np.random.default_rng(0), size=TINY_CUTOUT)
    config = TrainConfig(epochs=6, learning_rate=5e-3, warmup=0.0, weight_decay=0.0)
    history = fit(model, constant_batches([batch]), config).history
    assert history[-1]["loss"] < history[0]["loss"]


def test_a_unet_starts_from_its_seed():
    task = Restoration(RestorationConfig(strengths=()))
    config = TinyEncoder().preprocess.config
    batch = to_tensors(galaxies(2, np.random.default_rng(0)))
    first, second, other = (
        UNetModel(task, config, task.channels, seed=seed)(batch) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
