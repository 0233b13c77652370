import dataclasses
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm.preprocess import Preprocess, PreprocessConfig, default_preprocess, fit_preprocess
from lvm.tensors import to_tensors
from lvm.testing import galaxies
from lvm.valid_pixels import some_invalid

BANDS = ("g", "r", "z")


def flat_batch(size=24, sigma=0.01, count=4):
    image = np.random.default_rng(0).normal(0, sigma, (count, 3, size, size)).astype(np.float32)
    return {
        "image": image,
        "invvar": np.full(image.shape, 1 / sigma**2, np.float32),
        "maskbits": np.zeros((count, size, size), np.int32),
    }


def test_the_fit_recovers_the_noise_although_there_are_galaxies():
    sample = galaxies(200, np.random.default_rng(0), size=64)
    sample["image"] -= sample["image"] - np.random.default_rng(1).normal(
        0, 0.02, sample["image"].shape
    ).astype(np.float32)
    sample["image"][:, :, 28:36, 28:36] += 50.0
    config = fit_preprocess(sample, BANDS, 16, 16)
    assert np.allclose(np.array(config.softening) / 3.0, 0.02, rtol=0.05)
    assert np.allclose(config.sky, 0.0, atol=0.002)


def test_the_central_object_stays_at_the_centre_of_the_crop():
    batch = flat_batch(size=24)
    batch["image"][:] = 0.0
    batch["image"][:, :, 12, 12] = 1.0
    inputs = Preprocess(default_preprocess(BANDS, 16, 16))(batch).inputs
    assert (inputs.flatten(2).argmax(dim=2) == 8 * 16 + 8).all()


def test_scaled_noise_is_linear_and_bright_flux_is_asinh():
    config = PreprocessConfig(BANDS, 16, 16, (0.0,) * 3, (0.03,) * 3, (1.0,) * 3, ((),) * 3)
    batch = flat_batch()
    batch["image"][:, :, 12, 12] = 30.0
    inputs = Preprocess(config)(batch).inputs
    expected = np.arcsinh(batch["image"][..., 4:20, 4:20] / 0.03)
    assert np.allclose(inputs.numpy(), expected, atol=1e-5)


def test_masked_pixels_are_zero_and_reported():
    batch = flat_batch()
    batch["image"] += 1.0
    batch["invvar"][0, 1, 10, 10] = 0.0
    batch["maskbits"][0, 12, 12] = 1 << 2  # SATUR_G: the g band only
    prepared = Preprocess(default_preprocess(BANDS, 16, 16))(batch)
    for band, y, x in ((1, 6, 6), (0, 8, 8)):
        assert prepared.inputs[0, band, y, x] == 0.0
        assert not prepared.valid[0, band, y, x]
        assert prepared.weight[0, band, y, x] == 0.0
    assert int((~prepared.valid).sum()) == 2


def test_halo_pixels_are_seen_but_carry_no_weight():
    batch = flat_batch()
    batch["maskbits"][0] = 1 << 11  # MEDIUM
    prepared = Preprocess(default_preprocess(BANDS, 16, 16))(batch)
    assert prepared.valid.all()
    assert prepared.weight[0].max() == 0.0
    assert prepared.weight[1:].min() > 0.0


def test_noisy_pixels_carry_less_weight():
    batch = flat_batch()
    batch["invvar"][:, :, :12] /= 1e4
    weight = Preprocess(default_preprocess(BANDS, 16, 16))(batch).weight
    assert weight[:, :, :8].max() < 0.1 * weight[:, :, 8:].min()


def test_the_preprocessing_does_not_change_its_input():
    batch = flat_batch()
    before = {name: value.copy() for name, value in batch.items()}
    Preprocess(default_preprocess(BANDS, 16, 16))(batch)
    assert all(np.array_equal(batch[name], before[name]) for name in batch)


@settings(max_examples=30)
@given(
    value=st.sampled_from([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45]),
    where=st.sampled_from(["image", "invvar"]),
    resized=st.booleans(),
)
def test_no_value_makes_the_input_infinite_or_nan(value, where, resized):
    batch = flat_batch()
    batch[where][0, :, 8:14, 8:14] = value
    prepared = Preprocess(default_preprocess(BANDS, 16, 24 if resized else 16))(batch)
    assert torch.isfinite(prepared.inputs).all()
    assert torch.isfinite(prepared.weight).all()


def test_resizing_keeps_flux_density_and_does_not_mix_in_filled_pixels():
    batch = flat_batch(sigma=1e-6)
    batch["image"] += 0.5
    batch["image"][:, :, :, 11] = 1e6
    batch["invvar"][:, :, :, 11] = 0.0
    config = PreprocessConfig(BANDS, 12, 24, (0.0,) * 3, (0.1,) * 3, (1.0,) * 3, ((),) * 3)
    prepared = Preprocess(config)(batch)
    seen = prepared.inputs[prepared.valid]
    assert seen.numel() > 0
    assert torch.allclose(seen, torch.full_like(seen, float(np.arcsinh(5.0))), atol=1e-3)


def test_a_jpeg_with_a_black_sky_can_be_fitted():
    image = np.zeros((4, 3, 24, 24), np.float32)
    image[:, :, 10:14, 10:14] = 0.8
    config = fit_preprocess(
        {"image": image, "invvar": np.ones_like(image)}, ("r", "g", "b"), 16, 16
    )
    inputs = Preprocess(config)({"image": image}).inputs
    assert min(config.softening) > 0
    assert inputs.max() < 10.0


def test_a_band_without_data_stays_neutral_and_is_logged(caplog):
    batch = flat_batch()
    batch["invvar"][:, 0] = 0.0
    with caplog.at_level(logging.WARNING):
        config = fit_preprocess(batch, BANDS, 16, 16)
    assert "band g" in caplog.text
    assert config.softening[0] == 1.0


def test_a_sample_without_any_data_is_refused():
    batch = flat_batch()
    batch["invvar"][:] = 0.0
    with pytest.raises(ValueError, match="no valid pixel"):
        fit_preprocess(batch, BANDS, 16, 16)


def test_wrong_shapes_are_refused_with_what_was_expected():
    preprocess = Preprocess(default_preprocess(BANDS, 16, 16))
    batch = flat_batch()
    with pytest.raises(ValueError, match=r"bands \('g', 'r', 'z'\)"):
        preprocess({**batch, "image": batch["image"][:, :2]})
    with pytest.raises(ValueError, match="maskbits has shape"):
        preprocess({**batch, "maskbits": batch["maskbits"][:, :5]})
    with pytest.raises(ValueError, match="smaller than crop_size"):
        preprocess({"image": batch["image"][..., :8, :8]})
    with pytest.raises(ValueError, match="needs 'image'"):
        preprocess({})


def test_a_config_needs_one_constant_a_band():
    with pytest.raises(ValueError, match="softening"):
        dataclasses.replace(default_preprocess(BANDS, 16, 16), softening=(1.0,))


@pytest.mark.parametrize("input_size", [16, 24], ids=["resized", "as it is"])
@pytest.mark.parametrize("fields", [("invvar", "maskbits"), ("maskbits",), ()], ids=str)
def test_the_input_alone_is_that_of_the_whole(input_size, fields):
    rng = np.random.default_rng(4)
    shape = (5, 3, 32, 32)
    batch = {
        "image": rng.normal(0, 0.01, shape).astype(np.float32),
        "invvar": np.where(rng.random(shape) < 0.1, 0, 1e4).astype(np.float32),
        "maskbits": rng.integers(0, 1 << 14, (5, 32, 32)).astype(np.int32),
    }
    batch["image"][0, 0, :9] = np.nan
    batch["image"][1, 1, 9:12] = np.inf
    batch["invvar"][2, 2, 3:9] = np.inf
    used = {name: batch[name] for name in ("image", *fields)}
    preprocess = Preprocess(default_preprocess(("g", "r", "z"), input_size, 24))
    prepared = preprocess(used)
    assert torch.equal(preprocess.inputs(used), prepared.inputs)
    assert torch.isfinite(prepared.inputs).all()
    assert 0 < int(prepared.valid.sum()) < prepared.valid.numel()
    assert not prepared.inputs[~prepared.valid].any()
    assert not prepared.weight[~prepared.valid].any()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *(("image", value) for value in (np.nan, np.inf, -np.inf)),
        *(("invvar", value) for value in (0.0, -1.0, np.nan, np.inf)),
        ("maskbits", 1 << 2),
        ("maskbits", 1 << 7),
    ],
)
def test_one_invalid_pixel_among_clean_cutouts_is_found(where, value):
    batch = flat_batch(size=16, count=5)
    batch[where][3, ..., 4, 9] = value
    config = default_preprocess(("g", "r", "z"), 16, 16)
    assert some_invalid(to_tensors(batch), config.fill_bits).nonzero().tolist() == [[3]]
    prepared = Preprocess(config)(batch)
    assert not prepared.valid[3, :, 4, 9].all()
    assert int((~prepared.valid).sum()) == int((~prepared.valid[3, :, 4, 9]).sum())
    assert torch.equal(Preprocess(config).inputs(batch), prepared.inputs)


def test_mask_bits_of_haloes_and_large_flux_leave_a_cutout_as_it_is():
    batch = flat_batch(size=16, count=2)
    batch["maskbits"][0] = 1 << 1 | 1 << 11
    batch["image"][1] = 3e38  # its sum is not finite
    config = default_preprocess(("g", "r", "z"), 16, 16)
    assert not some_invalid(to_tensors(batch), config.fill_bits)[0]
    prepared = Preprocess(config)(batch)
    assert prepared.valid.all()
    assert torch.equal(Preprocess(config).inputs(batch), prepared.inputs)


def test_on_a_device_no_value_is_waited_for():
    batch = {name: value.to("meta") for name, value in to_tensors(flat_batch(size=16)).items()}
    preprocess = Preprocess(default_preprocess(("g", "r", "z"), 16, 16)).to("meta")
    assert preprocess.inputs(batch).shape == (4, 3, 16, 16)  # meta tensors have no values to ask
