import math

import pytest
import torch

from lvm.degradation import (
    DegradationConfig,
    convolve,
    degrade,
    filled,
    linear_restorations,
    moffat,
)
from lvm.distortions import PIXEL_SCALE

SIZE = 48


def star(place=(24, 24), flux=10.0):
    image = torch.zeros(1, 1, SIZE, SIZE)
    image[0, 0, place[0], place[1]] = flux
    return image


def scene(count=3, sigma=0.1):
    generator = torch.Generator().manual_seed(5)
    image = 10.0 * torch.rand((count, 2, SIZE, SIZE), generator=generator)
    return {"image": image, "invvar": torch.full_like(image, sigma**-2)}


@pytest.mark.parametrize("beta", [2.5, 3.0, math.inf])
def test_a_kernel_is_round_sums_to_one_and_has_its_width(beta):
    kernel = moffat(torch.tensor([[5.0]]), beta)[0, 0]
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(kernel, kernel.T)
    assert torch.allclose(kernel, kernel.flip(0))
    fine = torch.tensor([[5.0 * 2]])  # at twice the FWHM, half the maximum is 5 pixels away
    assert moffat(fine, beta)[0, 0, 12, 17] / moffat(fine, beta)[0, 0, 12, 12] == pytest.approx(
        0.5, abs=1e-4
    )


def test_a_kernel_of_no_width_changes_nothing():
    seen = convolve(scene(), moffat(torch.zeros(3, 2), 3.0))
    assert torch.allclose(seen["image"], scene()["image"], atol=1e-5)


def test_convolution_puts_the_kernel_where_the_star_is():
    kernel = moffat(torch.tensor([[4.0]]), 3.0)
    seen = convolve({"image": star((20, 30)), "invvar": torch.ones(1, 1, SIZE, SIZE)}, kernel)
    assert torch.allclose(seen["image"][0, 0, 8:33, 18:43], 10.0 * kernel[0, 0], atol=1e-5)


def test_convolution_says_how_large_the_noise_is_afterwards():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((40, 1, SIZE, SIZE), generator=generator)
    kernel = moffat(torch.full((40, 1), 3.0), 3.0)
    seen = convolve({"image": noise, "invvar": torch.ones_like(noise)}, kernel)
    inside = (..., slice(13, -13), slice(13, -13))
    assert (seen["image"] * seen["invvar"].sqrt())[inside].std() == pytest.approx(1.0, abs=0.03)


def test_a_gap_stays_a_gap_and_does_not_dim_what_is_beside_it():
    flat = {"image": torch.ones(1, 1, SIZE, SIZE), "invvar": torch.ones(1, 1, SIZE, SIZE)}
    flat["invvar"][..., :, 20:23] = 0.0
    flat["image"][..., :, 20:23] = 1e6
    seen = convolve(flat, moffat(torch.tensor([[4.0]]), 3.0))
    assert bool((seen["invvar"][..., 20:23] == 0).all())
    assert torch.allclose(seen["image"][..., :20], torch.tensor(1.0), atol=1e-4)


def test_a_truth_without_noise_gets_the_noise_of_the_survey():
    batch = scene(count=30)
    batch["target_map"] = torch.full_like(batch["image"], 3.0)
    seen = degrade(batch, DegradationConfig(), torch.Generator().manual_seed(1))
    assert (seen["image"] - 3.0).std() == pytest.approx(0.1, rel=0.02)
    assert torch.allclose(seen["invvar"], batch["invvar"], rtol=1e-4)
    assert torch.equal(seen["target"][:, 0], batch["target_map"])
    assert not seen["target"][:, 1].any()


def test_a_cutout_that_is_its_own_truth_keeps_its_noise_besides():
    batch = scene()
    seen = degrade(batch, DegradationConfig(0.0, noise=2.0), torch.Generator().manual_seed(1))
    assert torch.allclose(seen["invvar"], batch["invvar"] / 5.0, rtol=1e-4)  # 1 + 2²
    assert torch.equal(seen["target"][:, 0], batch["image"])
    assert torch.allclose(seen["target"][:, 1], 1.0 / batch["invvar"])


def test_pixels_without_data_have_no_truth_and_no_weight():
    batch = scene()
    batch["invvar"][:, :, :5] = 0.0
    batch["image"][0, 0, 40, 40] = torch.nan
    seen = degrade(batch, DegradationConfig(), torch.Generator().manual_seed(1))
    assert bool(seen["target"][:, 0, :, :5].isnan().all())
    assert bool(seen["target"][0, 0, 0, 40, 40].isnan())
    assert not seen["invvar"][:, :, :5].any()
    assert bool(torch.isfinite(seen["image"]).all())


def test_the_same_seed_degrades_alike_and_another_one_does_not():
    first, second, other = (
        degrade(scene(), DegradationConfig(), torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first["image"], second["image"])
    assert not torch.equal(first["kernel_fwhm"], other["kernel_fwhm"])
    assert bool((first["kernel_fwhm"] - 1.0).abs().max() <= 0.1 + 1e-6)


def test_a_weak_filter_undoes_a_blur_and_every_filter_keeps_the_flux():
    kernel = moffat(torch.tensor([[3.0]]), 3.0)
    point = {"image": star(), "invvar": torch.ones(1, 1, SIZE, SIZE)}
    sharp = convolve(point, moffat(torch.tensor([[2.7]]), math.inf))["image"]
    valid = torch.ones_like(sharp, dtype=torch.bool)
    seen = convolve({"image": sharp, "invvar": valid.float()}, kernel)["image"]
    found = linear_restorations(seen, valid, kernel, (1e-6, 1e-2, 10.0))
    assert found.shape == (1, 3, 1, SIZE, SIZE)
    assert (found[:, 0] - sharp).abs().max() < 0.02 * sharp.max()
    assert (seen - sharp).abs().max() > 0.4 * sharp.max()
    assert torch.allclose(found.sum(dim=(-2, -1)), torch.tensor(10.0), rtol=0.01)


def test_gaps_are_filled_from_around():
    image = torch.full((1, 1, SIZE, SIZE), 2.0)
    valid = torch.ones_like(image, dtype=torch.bool)
    valid[..., 20:24, 20:24] = False
    image[..., 20:24, 20:24] = torch.nan
    assert torch.allclose(filled(image, valid), torch.tensor(2.0), atol=1e-4)
    assert not filled(image, torch.zeros_like(valid)).any()


@pytest.mark.parametrize(
    ("options", "word"), [({"noise": -1.0}, "noise"), ({"beta": 1.0}, "Moffat")]
)
def test_impossible_degradations_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        DegradationConfig(**options)


def test_the_kernel_width_is_in_arcsec():
    batch = {**scene(), "target_map": star().expand(3, 2, -1, -1)}
    config = DegradationConfig(blur_fwhm=1.5, fwhm_spread=0.0, noise=0.0)
    seen = degrade(batch, config, torch.Generator().manual_seed(0))["image"]
    expected = 10.0 * moffat(torch.full((3, 2), 1.5 / PIXEL_SCALE), 3.0)
    assert torch.allclose(seen[:, :, 12:37, 12:37], expected, atol=1e-5)
