import pytest
import torch

from lvm.stem import ConvStem


@pytest.mark.parametrize(("patch_size", "bands"), [(2, 1), (4, 3), (8, 4)])
def test_tokens_have_the_grid_that_the_trunk_expects(patch_size, bands):
    stem = ConvStem(32, patch_size, bands, 24)
    tokens = stem(torch.zeros(2, bands, 32, 32))
    assert tokens.shape == (2, *stem.grid_size, 24)
    assert stem.grid_size == (32 // patch_size, 32 // patch_size)


def test_a_patch_size_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="patch_size 6"):
        ConvStem(36, 6, 3, 24)


def test_every_pixel_reaches_the_tokens():
    torch.manual_seed(0)
    stem = ConvStem(16, 4, 3, 32)
    image = torch.randn(16, 3, 16, 16, requires_grad=True)
    stem(image).square().sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().sum(dim=(0, 1)) > 0).all()
