import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lvm.masking import expand_masks, random_patch_masks


@given(side=st.integers(2, 12), ratio=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_every_mask_hides_the_same_number_of_patches_and_never_all(side, ratio, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = random_patch_masks(3, (side, side), ratio, generator)
    hidden = masks.flatten(1).sum(dim=1)
    assert (hidden == min(max(round(ratio * side**2), 1), side**2 - 1)).all()


def test_every_patch_is_hidden_equally_often(generator):
    masks = random_patch_masks(4000, (4, 4), 0.5, generator)
    assert torch.allclose(masks.float().mean(dim=0), torch.tensor(0.5), atol=0.04)


def test_the_same_seed_gives_the_same_masks():
    draws = [
        random_patch_masks(4, (5, 5), 0.6, torch.Generator().manual_seed(s)) for s in (3, 3, 4)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_expanded_masks_are_squares_of_pixels():
    masks = torch.tensor([[[True, False], [False, False]]])
    pixels = expand_masks(masks, 3)
    assert pixels.shape == (1, 1, 6, 6)
    assert pixels[0, 0, :3, :3].all()
    assert int(pixels.sum()) == 9


def test_a_ratio_that_hides_nothing_or_all_is_refused(generator):
    with pytest.raises(ValueError, match="between 0 and 1"):
        random_patch_masks(1, (2, 2), 1.0, generator)
    with pytest.raises(ValueError, match="smaller patches"):
        random_patch_masks(1, (1, 1), 0.5, generator)
