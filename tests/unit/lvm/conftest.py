"""Small things that the tests of the model share."""

import numpy as np
import pytest
import torch

from lvm.testing import TinyEncoder, galaxies


@pytest.fixture
def tiny_encoder():
    return TinyEncoder()


@pytest.fixture
def batch():
    return galaxies(12, np.random.default_rng(1))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
