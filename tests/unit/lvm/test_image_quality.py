import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from lvm.figures import Curve, Pictures
from lvm.image_quality import (
    BEST_PSNR,
    Answer,
    aperture_flux,
    fraction_within,
    moments,
    psnr,
    quality,
    quality_figures,
    sigma_factor,
    ssim,
)

SIZE = 48


def gaussian(sigma_x=4.0, sigma_y=4.0, angle=0.0, count=5, flux=100.0):
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    profile = np.exp(-0.5 * ((along / sigma_x) ** 2 + (across / sigma_y) ** 2))
    image = torch.from_numpy(flux * profile / profile.sum()).float()
    return image.expand(count, 2, SIZE, SIZE).clone()


def answer(image, truth, sigma=0.01, variance=0.0):
    full = torch.full_like(truth, sigma)
    noise = torch.full(truth.shape[:2], 0.01)
    return Answer(image, full, image, truth, torch.full_like(truth, variance), noise)


def noise(like, sigma, seed=0):
    return sigma * torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_and_ssim_are_those_of_scikit_image():
    truth = gaussian(6.0, 3.0, 0.4)
    picture = truth + noise(truth, 0.05)
    known = torch.ones_like(truth, dtype=torch.bool)
    first, second = truth[0, 1].numpy(), picture[0, 1].numpy()
    scale = float(first.max())
    expected = peak_signal_noise_ratio(first, second, data_range=scale)
    assert float(psnr(picture, truth, known)[0, 1]) == pytest.approx(expected, abs=1e-3)
    expected = structural_similarity(
        first,
        second,
        data_range=scale,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert float(ssim(picture, truth, known)[0, 1]) == pytest.approx(expected, abs=1e-4)


def test_a_perfect_picture_is_best_and_an_unknown_truth_does_not_count():
    truth = gaussian()
    known = torch.ones_like(truth, dtype=torch.bool)
    assert torch.all(psnr(truth, truth, known) == BEST_PSNR)
    assert torch.allclose(ssim(truth, truth, known), torch.tensor(1.0))
    known[..., :5] = False
    wrong = truth.clone()
    wrong[..., :5] = 1e6
    assert torch.all(psnr(wrong, truth, known) == BEST_PSNR)
    # The windows that reach into the unknown pixels see 0 in both pictures.
    assert torch.allclose(ssim(wrong, truth, known), torch.tensor(1.0))


def test_a_picture_without_light_has_no_measure():
    nothing = torch.zeros(1, 1, SIZE, SIZE)
    known = torch.ones_like(nothing, dtype=torch.bool)
    assert bool(psnr(nothing, nothing, known).isnan().all())
    assert all(map(math.isnan, (quality(answer(nothing, nothing))[n] for n in ("psnr", "ssim"))))


def test_ssim_refuses_pictures_smaller_than_its_window():
    small = torch.ones(1, 1, 10, 10)
    with pytest.raises(ValueError, match="window"):
        ssim(small, small, small > 0)


def test_flux_and_moments_are_those_of_a_gaussian():
    picture = gaussian(5.0, 3.0, math.pi / 2)  # long along y
    assert torch.allclose(aperture_flux(picture, 20.0), torch.tensor(100.0), rtol=1e-3)
    _, e1, e2 = moments(picture)
    weighted = [1.0 / (1.0 / s**2 + 1.0 / 4.0**2) for s in (3.0, 5.0)]
    expected = (weighted[0] - weighted[1]) / sum(weighted)
    assert torch.allclose(e1, torch.tensor(expected), atol=1e-3)
    assert torch.allclose(e2, torch.zeros(()), atol=1e-4)


def test_biases_have_the_size_and_sign_that_were_put_in():
    truth = gaussian(3.0, 3.0)
    brighter = quality(answer(1.02 * truth, truth))
    assert brighter["flux_bias"] == pytest.approx(0.02, abs=1e-4)
    assert brighter["size_bias"] == pytest.approx(0.0, abs=1e-5)
    wider = quality(answer(gaussian(3.3, 3.3), truth))
    assert 0.02 < wider["size_bias"] < 0.1
    longer = quality(answer(gaussian(3.3, 3.0), truth))
    assert longer["ellipticity_bias"] > 0.02
    faint = quality(answer(1.02 * truth, 1e-3 * truth))
    assert math.isnan(faint["flux_bias"])


def test_uncertainties_that_mean_what_they_say():
    truth = gaussian(count=20)
    honest = answer(truth + noise(truth, 0.05), truth, sigma=0.04, variance=0.03**2)
    values = quality(honest)
    assert values["within_1_sigma"] == pytest.approx(0.683, abs=0.01)
    assert values["within_3_sigma"] == pytest.approx(0.997, abs=0.002)
    assert values["invented_5_sigma"] == 0
    proud = answer(truth + noise(truth, 0.05), truth, sigma=0.025)
    assert sigma_factor(proud, 1) == pytest.approx(2.0, rel=0.02)


def test_invented_and_erased_light_is_found():
    truth = gaussian()
    ghost = truth.clone()
    ghost[0, 0, 10:14, 10:14] += 1.0  # 100 sigma
    ghost[0, 0, 30, 30:33] -= 1.0
    values = quality(answer(ghost, truth))
    assert values["invented_5_sigma"] == pytest.approx(16 / truth.numel())
    assert values["erased_5_sigma"] == pytest.approx(3 / truth.numel())
    worst = quality_figures(answer(ghost, truth), ("g", "r"))[-1]
    assert isinstance(worst, Pictures)
    assert float(worst.panels["departure [sigma]"][0, 0, 12, 12]) > 50


def test_figures_hold_numbers_for_every_band():
    truth = gaussian(count=12)
    found = quality_figures(answer(truth + noise(truth, 0.01), truth), ("g", "r"))
    curves = [figure for figure in found if isinstance(figure, Curve)]
    assert [figure.name for figure in curves] == [
        "restoration_coverage",
        "restoration_gain",
        "restoration_flux_bias",
    ]
    assert set(curves[0].lines) == {"g", "r"}
    assert np.allclose(curves[0].lines["g"], curves[0].x, atol=0.02)
    assert np.isfinite(curves[2].lines["r"]).sum() == 1  # all have one magnitude


def test_a_fraction_of_nothing_is_not_a_number():
    assert math.isnan(fraction_within(torch.full((3,), torch.nan), 1.0))
