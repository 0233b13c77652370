import numpy as np
import pytest
import torch

from lvm.augment import AugmentConfig, augment
from lvm.tensors import to_tensors


def test_the_same_seed_gives_the_same_batch_and_another_seed_another(batch):
    tensors = to_tensors(batch)
    config = AugmentConfig(noise=0.5, band_drop=0.3)
    draws = [
        augment(tensors, config, torch.Generator().manual_seed(seed))["image"] for seed in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_turns_keep_image_invvar_and_mask_together_and_every_pixel(batch, generator):
    tensors = to_tensors(batch)
    tensors["maskbits"] = (tensors["image"][:, 0] > 0.1).int()
    turned = augment(tensors, AugmentConfig(), generator)
    assert torch.equal(turned["maskbits"], (turned["image"][:, 0] > 0.1).int())
    assert not torch.equal(turned["image"], tensors["image"])
    assert torch.equal(
        turned["image"].flatten(2).sort().values, tensors["image"].flatten(2).sort().values
    )


def test_all_eight_symmetries_occur():
    image = torch.arange(16.0).view(1, 1, 4, 4).repeat(200, 1, 1, 1)
    turned = augment({"image": image}, AugmentConfig(), torch.Generator().manual_seed(0))
    assert len({tuple(t.flatten().tolist()) for t in turned["image"]}) == 8


def test_the_given_batch_is_not_changed(batch, generator):
    tensors = to_tensors(batch)
    before = {name: value.clone() for name, value in tensors.items()}
    augment(tensors, AugmentConfig(noise=1.0, band_drop=0.5), generator)
    assert all(torch.equal(before[name], tensors[name]) for name in tensors)


def test_added_noise_has_the_size_asked_for_and_invvar_says_so(generator):
    tensors = {"image": torch.zeros(8, 1, 64, 64), "invvar": torch.full((8, 1, 64, 64), 25.0)}
    noisy = augment(tensors, AugmentConfig(False, False, noise=2.0), generator)
    assert noisy["image"].std().item() == pytest.approx(2.0 / 5.0, rel=0.02)
    assert torch.allclose(noisy["invvar"], torch.tensor(25.0 / 5.0))


def test_pixels_without_data_get_no_noise(generator):
    tensors = {"image": torch.zeros(2, 1, 4, 4), "invvar": torch.zeros(2, 1, 4, 4)}
    assert augment(tensors, AugmentConfig(noise=1.0), generator)["image"].abs().max() == 0.0


def test_band_drop_hides_bands_but_never_all(generator):
    tensors = {"image": torch.ones(300, 3, 2, 2), "invvar": torch.ones(300, 3, 2, 2)}
    dropped = augment(tensors, AugmentConfig(band_drop=0.7), generator)
    kept = (dropped["invvar"].amax(dim=(2, 3)) > 0).sum(dim=1)
    assert kept.min() == 1
    assert 0.5 < float((kept < 3).float().mean()) < 1.0


def test_a_task_can_forbid_kinds():
    allowed = AugmentConfig(noise=0.5, band_drop=0.2).allowed(("flip",))
    assert allowed == AugmentConfig(True, False, 0.0, 0.0)
    with pytest.raises(ValueError, match="warp"):
        AugmentConfig().allowed(("warp",))


def test_senseless_values_are_refused():
    with pytest.raises(ValueError, match="band_drop"):
        AugmentConfig(band_drop=1.0)


def test_labels_pass_through(batch, generator):
    turned = augment(to_tensors(batch), AugmentConfig(), generator)
    assert np.array_equal(turned["target"].numpy(), batch["target"])
