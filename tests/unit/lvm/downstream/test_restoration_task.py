import dataclasses
import math

import numpy as np
import pytest
import torch

from lvm.degradation import DegradationConfig
from lvm.downstream import DOWNSTREAM_TASKS, DownstreamModel, create_task
from lvm.downstream.restoration import Restoration, RestorationConfig, restore
from lvm.figures import Pictures
from lvm.tensors import to_tensors
from lvm.testing import TINY_CUTOUT, TinyEncoder, check_downstream_task, galaxies

INPUT = 16  # pixels that the tiny encoder sees


def pictures(count=6, seed=1):
    """Return cutouts with their noiseless truth: here, the pretend cutouts themselves."""
    batch = to_tensors(galaxies(count, np.random.default_rng(seed), size=TINY_CUTOUT))
    del batch["target"]
    return {**batch, "target_map": batch["image"].clone()}


def posed(task, batch, seed=0):
    return task.pose(batch, torch.Generator().manual_seed(seed))


def output_of(task, batch, seed=0):
    model = DownstreamModel(task, TinyEncoder(), seed=seed).eval()
    with torch.no_grad():
        return model(batch)


@pytest.mark.parametrize(
    "config",
    [
        RestorationConfig("denoise", strengths=(), width=16, fine_width=8),
        RestorationConfig("deblur", DegradationConfig(0.8, math.inf, 0.0, 0.2), (0.1, 9.0), 16, 8),
    ],
)
def test_other_kinds_keep_the_contract(config):
    check_downstream_task(Restoration(config), TinyEncoder())


def test_the_task_is_registered_with_its_options():
    assert DOWNSTREAM_TASKS["restoration"] is Restoration
    task = create_task("restoration", {"kind": "denoise", "degradation": {"blur_fwhm": 0.5}})
    assert task.degradation == DegradationConfig(blur_fwhm=0.5)
    assert create_task("restoration", {"kind": "denoise"}).degradation.blur_fwhm == 0
    with pytest.raises(ValueError, match="kind is one of"):
        create_task("restoration", {"kind": "upscale"})
    with pytest.raises(ValueError, match="above 0"):
        RestorationConfig(strengths=(0.0,))


def test_a_question_is_the_same_whenever_it_is_put_with_one_seed():
    task, batch = Restoration(), pictures()
    first, again, other = (posed(task, batch, seed) for seed in (3, 3, 4))
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    assert torch.equal(first["measured"], first["image"])
    assert torch.equal(batch["image"], pictures()["image"])  # the batch given is left as it was


def test_what_is_needed_to_measure_is_beside_the_pixels():
    # An evaluation keeps the arrays of a batch, but not its pixels (`inference.evaluate`).
    task, batch = Restoration(), posed(Restoration(), pictures())
    labels = {k: v for k, v in batch.items() if k not in ("image", "invvar", "maskbits")}
    assert task.metrics(output_of(task, batch), labels)["psnr"] > 0


def test_no_weight_on_any_but_one_filter_is_that_filter():
    task, batch = Restoration(RestorationConfig(strengths=(1e-6,))), pictures()
    exact = {**posed(task, batch), "kernel_fwhm": torch.zeros(6, 3)}
    output = torch.zeros(6, 3, task.channels, INPUT, INPUT)
    output[:, :, 1] = 50.0  # channel 0 is the empty sky
    found = task.restored(output, exact).image
    low, high = (TINY_CUTOUT - INPUT) // 2, (TINY_CUTOUT + INPUT) // 2
    shown = exact["measured"][..., low:high, low:high]
    known = exact["measured_invvar"][..., low:high, low:high] > 0
    assert torch.allclose(found[known], shown[known], atol=1e-3)
    output[:, :, 0] = 100.0
    assert task.restored(output, exact).image.abs().max() < 1e-6


def test_the_gradient_of_the_picture_does_not_come_from_its_uncertainty():
    task, batch = Restoration(), posed(Restoration(), pictures())
    output = output_of(task, batch)
    gradients = []
    for wide in (0.0, 2.0):
        moved = output.clone()
        moved[:, :, -1] += wide
        moved.requires_grad_()
        torch.autograd.backward(task.loss(moved, batch)["loss"])
        gradients.append(moved.grad[:, :, :-1])
    assert torch.allclose(*gradients, atol=1e-7)


def test_pixels_without_a_known_truth_do_not_count():
    task, raw = Restoration(), pictures()
    raw["target_map"][:, :, 10, 10] = torch.nan
    batch = posed(task, raw)
    output = output_of(task, batch)
    spoilt = {**batch, "target": batch["target"].clone()}
    spoilt["target"][:, 1, :, 10, 10] = 1e6  # variance of a truth that is not known
    assert torch.equal(task.loss(output, batch)["loss"], task.loss(output, spoilt)["loss"])


def test_calibration_makes_the_uncertainties_cover_what_they_should():
    task, batch = Restoration(), posed(Restoration(), pictures(16))
    model = DownstreamModel(task, TinyEncoder()).eval()
    with torch.no_grad():
        found = task.calibrate(model.head, model(batch), batch)
        after = task.metrics(model(batch), batch)
    assert set(found) == {"sigma_factor_g", "sigma_factor_r", "sigma_factor_z"}
    assert after["within_1_sigma"] == pytest.approx(0.683, abs=0.02)


def test_a_calibrated_head_is_calibrated_after_loading(tmp_path):
    task, batch = Restoration(), posed(Restoration(), pictures())
    model = DownstreamModel(task, TinyEncoder()).eval()
    with torch.no_grad():
        task.calibrate(model.head, model(batch), batch)
        model.save(tmp_path / "model")
        assert torch.equal(DownstreamModel.load(tmp_path / "model")(batch), model(batch))


def test_what_is_added_to_the_measured_light_is_reported():
    task, batch = Restoration(), posed(Restoration(), pictures())
    output = torch.zeros(6, 3, task.channels, INPUT, INPUT)
    assert task.metrics(output, batch)["invention"] == 0
    output[2, :, -2] = 3.0
    assert task.present(output)["invention"].tolist() == pytest.approx([0, 0, 3, 0, 0, 0])
    assert task.metrics(output, batch)["invention"] == pytest.approx(0.5)


def test_figures_show_residual_and_uncertainty():
    task, batch = Restoration(), posed(Restoration(), pictures())
    found = {figure.name: figure for figure in task.figures(output_of(task, batch), batch)}
    shown = found["restoration_worst"]
    assert isinstance(shown, Pictures)
    assert {"restored - true", "uncertainty", "departure [sigma]"} <= set(shown.panels)
    assert shown.bands == ("g", "r", "z")


def test_cutouts_are_restored_as_they_were_measured():
    batch = galaxies(3, np.random.default_rng(0), size=TINY_CUTOUT)
    model = DownstreamModel(Restoration(), TinyEncoder())
    found = restore(model, batch)
    assert found.image.shape == found.sigma.shape == (3, 3, INPUT, INPUT)
    assert bool((found.sigma > 0).all())
    wide = restore(model, {**batch, "kernel_fwhm": np.full((3, 3), 2.0, np.float32)})
    assert not torch.allclose(wide.image, found.image)
    with pytest.raises(ValueError, match="cannot restore"):
        restore(DownstreamModel(create_task("morphology"), TinyEncoder()), batch)


def test_an_encoder_that_resizes_is_refused():
    encoder = TinyEncoder()
    resizing = dataclasses.replace(encoder.config, crop_size=TINY_CUTOUT, input_size=INPUT)
    encoder.config = resizing
    with pytest.raises(ValueError, match=f"resizes {TINY_CUTOUT} of them to {INPUT}"):
        DownstreamModel(Restoration(), encoder)
    DownstreamModel(create_task("morphology"), encoder)
