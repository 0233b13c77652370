import math

import numpy as np
import pytest
import torch

from lvm.distortions import (
    EXTINCTION,
    FWHM_OVER_SIGMA,
    PIXEL_SCALE,
    blur,
    blur_to,
    noise_to,
    redden,
    scale_flux,
    shift,
)
from lvm.tensors import to_tensors

SIZE = 48
SIGMA = 4.5 / FWHM_OVER_SIGMA  # a PSF of the survey: FWHM 1.18 arcsec


def sources(dy=0.0, dx=0.0, sigma=SIGMA, count=2, bands=2):
    """Round Gaussians of flux 1 at (dy, dx) from the centre, without noise."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    profile = np.exp(-((y - dy) ** 2 + (x - dx) ** 2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)
    image = torch.tensor(profile, dtype=torch.float32).expand(count, bands, SIZE, SIZE).clone()
    return {"image": image, "invvar": torch.full_like(image, 4e4)}


def white_noise(seed=0, sigma=0.5, count=40):
    generator = torch.Generator().manual_seed(seed)
    image = sigma * torch.randn((count, 1, SIZE, SIZE), generator=generator)
    return {"image": image, "invvar": torch.full_like(image, sigma**-2)}


def inner(array, margin=10):
    return array[..., margin:-margin, margin:-margin]


def centroid(image):
    along = torch.arange(SIZE) - SIZE // 2
    total = image.sum(dim=(-2, -1))
    return (image.sum(-1) * along).sum(-1) / total, (image.sum(-2) * along).sum(-1) / total


@pytest.mark.parametrize(("dy", "dx"), [(0.5, -0.25), (2.3, 1.7), (-3.0, 0.0)])
def test_a_shift_moves_sources_by_what_was_asked_and_keeps_their_flux(dy, dx):
    moved = shift(sources(), torch.tensor([dy, 0.0]), torch.tensor([dx, 0.0]))
    expected = sources(dy, dx)["image"][0]
    peak = float(expected.max())
    assert float((moved["image"][0] - expected).abs().max()) < 5e-3 * peak
    assert moved["image"].sum(dim=(2, 3)) == pytest.approx(torch.ones(2, 2).numpy(), abs=1e-4)
    found = centroid(moved["image"][0])
    assert found[0] == pytest.approx(np.full(2, dy), abs=0.03)
    assert found[1] == pytest.approx(np.full(2, dx), abs=0.03)
    assert torch.allclose(moved["image"][1], sources()["image"][1], atol=1e-7)


def test_a_whole_pixel_shift_is_exact_and_what_comes_in_has_no_data():
    before = white_noise(count=1)
    moved = shift(before, torch.tensor([2.0]), torch.tensor([0.0]))
    assert torch.allclose(moved["image"][0, 0, 2:], before["image"][0, 0, :-2], atol=1e-6)
    assert float(moved["invvar"][0, 0, :2].max()) == 0.0
    assert float(moved["image"][0, 0, :2].abs().max()) == 0.0
    assert torch.allclose(moved["invvar"][0, 0, 2:], before["invvar"][0, 0, :-2], rtol=1e-4)


def test_masks_move_with_the_pixels():
    batch = sources()
    batch["maskbits"] = torch.zeros((2, SIZE, SIZE), dtype=torch.int32)
    batch["maskbits"][:, 20, 30] = 64
    batch["target_map"] = torch.zeros((2, 3, SIZE, SIZE))
    batch["target_map"][:, 1, 20, 30] = 1.0
    moved = shift(batch, torch.tensor([3.4, -1.0]), torch.tensor([-2.0, 0.6]))
    assert moved["maskbits"][0, 23, 28] == 64
    assert moved["maskbits"][1, 19, 31] == 64
    assert int((moved["maskbits"] > 0).sum()) == 2
    assert moved["target_map"][0, 1, 23, 28] == 1.0


def test_a_blur_gives_the_psf_that_was_asked_for_and_keeps_flux():
    target, present = torch.full((2, 2), 1.9), torch.full((2, 2), 4.5 * PIXEL_SCALE)
    blurred = blur_to(sources(), target, present)["image"]
    expected = sources(sigma=1.9 / PIXEL_SCALE / FWHM_OVER_SIGMA)["image"]
    assert float((blurred - expected).abs().max()) < 0.01 * float(expected.max())
    assert blurred.sum(dim=(2, 3)) == pytest.approx(torch.ones(2, 2).numpy(), abs=1e-3)


def test_a_psf_that_is_wide_enough_stays():
    batch = sources()
    same = blur_to(batch, torch.full((2, 2), 1.0), torch.full((2, 2), 1.3))
    assert torch.allclose(same["image"], batch["image"], atol=1e-7)
    assert torch.allclose(same["invvar"], batch["invvar"], rtol=1e-5)


@pytest.mark.parametrize("change", ["shift", "blur"])
def test_invvar_is_that_of_the_new_noise(change):
    before = white_noise()
    if change == "shift":
        after = shift(before, torch.full((40,), 0.5), torch.full((40,), 0.3))
    else:
        after = blur(before, torch.full((40, 1), 3.0))
    chi = inner(after["image"] * after["invvar"].sqrt())
    assert float(chi.std()) == pytest.approx(1.0, abs=0.02)
    assert float(inner(after["invvar"]).mean()) > 1.1 * float(before["invvar"].mean())


def test_pixels_without_data_do_not_leak_and_do_not_spread_nan():
    clean = sources()
    clean["invvar"][:, :, 10:14] = 0.0
    dirty = {**clean, "image": torch.where(clean["invvar"] > 0, clean["image"], float("nan"))}
    for change in (
        lambda t: shift(t, torch.full((2,), 0.4), torch.zeros(2)),
        lambda t: blur(t, torch.full((2, 2), 3.0)),
    ):
        first, second = change(clean), change(dirty)
        assert torch.equal(first["image"], second["image"])
        assert torch.isfinite(second["image"]).all()
        assert torch.isfinite(second["invvar"]).all()
        assert float(second["invvar"][:, :, 11:13].max()) == 0.0


def test_scaling_flux_scales_its_error():
    batch = sources()
    scaled = scale_flux(batch, torch.tensor([[0.5, 2.0], [1.0, 1.0]]))
    assert torch.allclose(scaled["image"][0, 0], 0.5 * batch["image"][0, 0])
    assert torch.allclose(scaled["invvar"][0, 0], 4.0 * batch["invvar"][0, 0])
    signal = [t["image"] * t["invvar"].sqrt() for t in (batch, scaled)]
    assert torch.allclose(signal[0], signal[1])


def test_reddening_follows_the_coefficients_of_the_bands():
    batch = sources()
    red = redden(batch, torch.tensor([0.1, -0.1]), ("g", "z"))
    lost = -2.5 * torch.log10(red["image"].sum(dim=(2, 3)) / batch["image"].sum(dim=(2, 3)))
    expected = [0.1 * EXTINCTION["g"], 0.1 * EXTINCTION["z"]]
    assert lost[0].numpy() == pytest.approx(expected, rel=1e-3)
    assert lost[1].numpy() == pytest.approx([-value for value in expected], rel=1e-3)
    with pytest.raises(ValueError, match="'b'"):
        redden(batch, torch.tensor([0.1]), ("g", "b"))


def test_noise_reaches_the_depth_that_was_asked_for():
    deep = white_noise(sigma=0.5)
    shallow = noise_to(deep, torch.tensor(1.0), torch.Generator().manual_seed(9))
    assert float(shallow["image"].std()) == pytest.approx(1.0, rel=0.02)
    assert torch.allclose(shallow["invvar"], torch.tensor(1.0))


def test_noise_leaves_shallower_pixels_and_gaps_alone(generator):
    batch = white_noise(sigma=2.0, count=2)
    batch["invvar"][0, 0, 5] = 0.0
    same = noise_to(batch, torch.tensor(1.0), generator)
    assert torch.equal(same["image"], batch["image"])
    assert torch.equal(same["invvar"], batch["invvar"])


def test_a_source_in_noise_keeps_its_significance_under_a_shift():
    """Flux over its error in a matched filter, from `invvar` alone, changes by the correlation."""
    batch = to_tensors({name: value.numpy() for name, value in sources().items()})
    moved = shift(batch, torch.full((2,), 0.5), torch.full((2,), 0.5))
    assert torch.all(moved["invvar"][:, :, 20:28, 20:28] > batch["invvar"][:, :, 20:28, 20:28])
