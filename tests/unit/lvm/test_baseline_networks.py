"""A network to compare with: the encoder's contract, from scratch or from a file of weights."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from lvm.baseline_networks import create_baseline
from lvm.tensors import to_tensors
from lvm.testing import galaxies

SIDE = 32


@pytest.fixture(scope="module")
def sample():
    made = galaxies(4, np.random.default_rng(0), size=40)
    return {name: made[name] for name in ("image", "invvar", "maskbits")}


def test_it_serves_like_an_encoder(sample):
    network = create_baseline(sample, ("g", "r", "z"), SIDE)
    inputs = network.prepare(to_tensors(sample)).inputs
    assert inputs.shape == (4, 3, SIDE, SIDE)
    assert network.features(inputs).shape == (4, network.spec.width) == (4, 512)
    assert network.feature_maps(inputs)[-1].shape[1] == network.spec.channels[-1]


def test_the_seed_makes_the_weights(sample):
    first, same, other = (
        create_baseline(sample, ("g", "r", "z"), SIDE, seed=seed).trunk.conv1.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_weights_of_a_file_are_taken_and_fitted_to_the_bands(sample, tmp_path):
    path = tmp_path / "resnet18.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(5)
        given = timm.create_model("resnet18").state_dict()
    save_file(given, path)
    network = create_baseline(sample, ("g", "r", "z"), SIDE, weights=path)
    assert torch.equal(network.trunk.conv1.weight, given["conv1.weight"])
    two = {"image": sample["image"][:, :2], "invvar": sample["invvar"][:, :2]}
    two["maskbits"] = sample["maskbits"]
    assert create_baseline(two, ("g", "r"), SIDE, weights=path).trunk.conv1.weight.shape[1] == 2


def test_absent_weights_and_small_sides_are_refused(sample, tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights of resnet18"):
        create_baseline(sample, ("g", "r", "z"), SIDE, weights=tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match="at least 32"):
        create_baseline(sample, ("g", "r", "z"), 16)
