import dataclasses

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


def test_noise_costs_up_to_the_depth_asked_for_and_invvar_says_how_much(generator):
    tensors = {"image": torch.zeros(60, 1, 64, 64), "invvar": torch.full((60, 1, 64, 64), 25.0)}
    noisy = augment(tensors, AugmentConfig(False, False, noise=1.0), generator)
    sigma = noisy["invvar"][:, 0, 0, 0].rsqrt()
    lost = 2.5 * torch.log10(sigma * 5.0)  # magnitudes of depth
    assert 0.0 <= float(lost.min()) < 0.1
    assert 0.9 < float(lost.max()) <= 1.0
    # The pixels held no noise: what is there now is what was added to reach the lower depth.
    added = (sigma.square() - 1 / 25.0).sqrt()
    assert noisy["image"].std(dim=(1, 2, 3)).numpy() == pytest.approx(added.numpy(), rel=0.05)


def test_dimming_keeps_the_noise_and_blur_does_not_lower_it(generator):
    noise = torch.randn((60, 3, 48, 48), generator=generator)
    tensors = {"image": noise, "invvar": torch.ones(60, 3, 48, 48)}
    for config in (AugmentConfig(False, False, dim=1.5), AugmentConfig(False, False, blur=2.0)):
        changed = augment(tensors, config, generator, ("g", "r", "z"))
        inside = changed["image"][..., 8:-8, 8:-8]
        assert float(inside.std()) == pytest.approx(1.0, abs=0.02)
        assert changed["invvar"].max() <= 1.0 + 1e-5


def test_a_dimmed_galaxy_is_fainter_by_up_to_what_was_asked(generator):
    tensors = {"image": torch.full((200, 1, 4, 4), 1e4), "invvar": torch.ones(200, 1, 4, 4)}
    dimmed = augment(tensors, AugmentConfig(False, False, dim=1.5), generator)
    lost = -2.5 * torch.log10(dimmed["image"].mean(dim=(1, 2, 3)) / 1e4)
    assert -0.01 < float(lost.min()) < 0.1
    assert 1.4 < float(lost.max()) < 1.51


def test_a_batch_that_knows_its_psf_is_blurred_from_there(generator):
    image = torch.zeros(2, 1, 32, 32)
    image[:, :, 16, 16] = 1.0
    sharp = {"image": image, "psfsize": torch.tensor([[0.8], [1.9]])}
    blurred = augment(sharp, AugmentConfig(False, False, blur=1.8), generator, ("r",))["image"]
    assert float(blurred[0].max()) < 0.9
    assert torch.allclose(blurred[1], image[1], atol=1e-6)


def test_kinds_that_differ_from_band_to_band_need_the_bands(batch, generator):
    for config in (AugmentConfig(reddening=0.1), AugmentConfig(blur=2.0)):
        with pytest.raises(ValueError, match="bands' names"):
            augment(to_tensors(batch), config, generator)


@pytest.mark.parametrize("kind", ["shift", "dim", "reddening", "blur", "noise", "band_drop"])
def test_every_kind_changes_pixels_and_never_makes_a_value_that_is_not_finite(
    kind, batch, generator
):
    tensors = to_tensors(batch)
    tensors["image"] = torch.where(tensors["invvar"] > 0, tensors["image"], float("nan"))
    size = 2.0 if kind == "blur" else 0.9
    config = dataclasses.replace(AugmentConfig(False, False), **{kind: size})
    changed = augment(tensors, config, generator, ("g", "r", "z"))
    seen = changed["invvar"] > 0
    assert torch.isfinite(changed["image"][seen]).all()
    assert torch.isfinite(changed["invvar"]).all()
    before = torch.where(tensors["invvar"] > 0, tensors["image"], 0.0)
    after = torch.where(seen, changed["image"], 0.0)
    assert not torch.allclose(before, after)


def test_band_drop_hides_bands_but_never_all(generator):
    tensors = {"image": torch.ones(300, 3, 2, 2), "invvar": torch.ones(300, 3, 2, 2)}
    dropped = augment(tensors, AugmentConfig(band_drop=0.7), generator)
    kept = (dropped["invvar"].amax(dim=(2, 3)) > 0).sum(dim=1)
    assert kept.min() == 1
    assert 0.5 < float((kept < 3).float().mean()) < 1.0


def test_a_task_can_forbid_kinds():
    allowed = AugmentConfig(noise=0.5, band_drop=0.2).allowed(("flip",))
    assert allowed == AugmentConfig(True, False)
    with pytest.raises(ValueError, match="warp"):
        AugmentConfig().allowed(("warp",))


def test_senseless_values_are_refused():
    with pytest.raises(ValueError, match="band_drop"):
        AugmentConfig(band_drop=1.0)


def test_labels_pass_through(batch, generator):
    turned = augment(to_tensors(batch), AugmentConfig(), generator)
    assert np.array_equal(turned["target"].numpy(), batch["target"])
