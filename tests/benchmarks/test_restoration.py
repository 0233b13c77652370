"""Restoration of galaxies against what people would use instead, on truth that no model saw.

The pretend sky is trained and tuned on one seed and tested on another; Hubble's galaxies are tested
on only. Every method sees the same degraded pixels; all but the U-Net know the PSF of each of them,
which the U-Net has to learn. It gets the same batches, number of steps and loss. Takes some six
minutes on two cores; environment variable BRICKYARD_RESTORATION_STEPS sets the steps of training:
below 150 the sky is small, nothing is recorded and no goal checked; from 1000 on there is more sky.
"""

import os
import sys
import time
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
import torch
from figures import REPOSITORY, Figure, record
from restoration_pictures import SkyConfig, hubble_pictures, pretend_pictures
from skimage.restoration import richardson_lucy, wiener

from lvm.checkpoint import load_encoder
from lvm.degradation import moffat
from lvm.distortions import PIXEL_SCALE
from lvm.downstream.base import DownstreamModel
from lvm.downstream.restoration import POSED, Restoration, RestorationConfig
from lvm.image_quality import Answer, quality
from lvm.tensors import to_tensors
from lvm.training import TrainConfig, fit
from lvm.unet import UNetModel
from lvm.weights import shipped_weights

pytestmark = pytest.mark.usefixtures("one_thread")
REAL = REPOSITORY.parent / "shared" / "real"
QUICK_STEPS = 150
STEPS = int(os.environ.get("BRICKYARD_RESTORATION_STEPS", str(QUICK_STEPS)))
if STEPS >= QUICK_STEPS:
    TRAIN_SKY = SkyConfig(count=8 if STEPS >= 1000 else 3, brick_size=1500, seed=21)
    TEST_SKY = SkyConfig(count=2 if STEPS >= 1000 else 1, brick_size=1200, seed=23)
else:
    TRAIN_SKY, TEST_SKY = (SkyConfig(count=1, brick_size=500, seed=seed) for seed in (21, 23))
EPOCHS, BATCH = 5, 16
TUNED_ON = 16  # training objects on which the parameters of the classical methods are chosen
POSE_SEED = 1
BALANCES = tuple(10.0**power for power in np.arange(-3.0, 2.01, 0.5))
ITERATIONS, PEDESTALS = (4, 8, 16, 32, 64), (1.0, 3.0)  # pedestal in sigmas of the noise


@dataclass(frozen=True)
class Answers:
    """What a method made of test pictures, measured; `seconds` of processor time to make it."""

    measures: dict[str, float]
    seconds: float


@pytest.fixture(scope="module")
def encoder_and_task():
    return load_encoder(shipped_weights("nano-synthetic")), Restoration()


@pytest.fixture(scope="module")
def training():
    return pretend_pictures(TRAIN_SKY)


@pytest.fixture(scope="module")
def asked(encoder_and_task):
    """Return the posed test pictures by name: the same degraded pixels for every method."""
    _, task = encoder_and_task
    raw = {"synthetic": pretend_pictures(TEST_SKY)}
    if (REAL / "hst_cosmos").is_dir():
        raw["hubble"] = hubble_pictures(REAL / "hst_cosmos", seed=0)
    return {name: pose(task, batch) for name, batch in raw.items()}


def pose(task, batch):
    """Return a batch as it is put to every method, always with the same noise."""
    return task.pose(to_tensors(batch), torch.Generator().manual_seed(POSE_SEED))


def batches(data):
    """Return a factory of shuffled batches: STEPS of them in EPOCHS epochs."""

    def factory(epoch):
        rng = np.random.default_rng(epoch)
        wanted = BATCH * STEPS // EPOCHS
        count = len(data["image"])
        rounds = [rng.permutation(count) for _ in range(wanted // count + 1)]
        order = np.concatenate(rounds)[:wanted]
        parts = [np.sort(order[at : at + BATCH]) for at in range(0, wanted, BATCH)]
        return [{name: values[part] for name, values in data.items()} for part in parts]

    return factory


def train(model, data, rate):
    """Train a model and return the processor seconds that it took."""
    start = time.process_time()
    fit(model, batches(data), TrainConfig(epochs=EPOCHS, learning_rate=rate, weight_decay=0.01))
    return time.process_time() - start


def outputs(model, posed):
    """Return the outputs of a model on posed pictures."""
    model.eval()
    count = len(posed["image"])
    with torch.no_grad():
        parts = [
            model({name: values[at : at + BATCH] for name, values in posed.items()})
            for at in range(0, count, BATCH)
        ]
    return torch.cat(parts)


def measured_answer(posed, image, size):
    """Return pictures of a classical method as an answer, with the noise as uncertainty."""

    def central(array):
        low = array.shape[-1] // 2 - size // 2
        return array[..., low : low + size, low : low + size]

    target, invvar = central(posed["target"]), central(posed["measured_invvar"])
    sigma = invvar.clamp(min=1e-12).rsqrt()
    noise = invvar.mean(dim=(2, 3)).clamp(min=1e-12).rsqrt()
    measured = central(posed["measured"])
    return Answer(central(image), sigma, measured, target[:, 0], target[:, 1], noise)


def deconvolve(posed, method):
    """Apply `method(image, psf, sigma)` to each object and band of posed pictures."""
    kernels = moffat(posed["kernel_fwhm"] / PIXEL_SCALE, 3.0).double().numpy()
    images = posed["measured"].double().numpy()
    noise = posed["measured_invvar"].mean(dim=(2, 3)).clamp(min=1e-12).rsqrt().numpy()
    made = np.empty_like(images)
    for one, band in product(range(images.shape[0]), range(images.shape[1])):
        made[one, band] = method(images[one, band], kernels[one, band], float(noise[one, band]))
    return torch.from_numpy(made).float()


def wiener_with(balance):
    return lambda image, psf, sigma: wiener(image, psf, balance, clip=False)


def lucy_with(iterations, pedestal):
    def method(image, psf, sigma):
        # It wants light, not light minus sky: the sky is put back before and taken away after.
        light = np.maximum(image + pedestal * sigma, 1e-3 * sigma)
        return richardson_lucy(light, psf, iterations, clip=False) - pedestal * sigma

    return method


def tuned(posed, size, methods):
    """Return the method with the best PSNR on pictures that it may be tuned on, and its name."""
    part = {name: values[:TUNED_ON] for name, values in posed.items()}
    found = {
        name: quality(measured_answer(part, deconvolve(part, method), size))["psnr"]
        for name, method in methods.items()
    }
    best = max(found, key=found.get)
    return methods[best], best


@pytest.fixture(scope="module")
def results(encoder_and_task, training, asked):
    """Return Answers by method and test set."""
    encoder, task = encoder_and_task
    size = encoder.config.input_size
    tuning = pose(task, {name: values[:TUNED_ON] for name, values in training.items()})
    choices = {
        "wiener": {f"balance {b:.3g}": wiener_with(b) for b in BALANCES},
        "richardson_lucy": {
            f"{n} iterations, {p} sigma": lucy_with(n, p) for n, p in product(ITERATIONS, PEDESTALS)
        },
    }
    found = {
        (name, "as measured"): Answers(
            quality(measured_answer(posed, posed["measured"], size)), 0.0
        )
        for name, posed in asked.items()
    }
    for label, methods in choices.items():
        method, chosen = tuned(tuning, size, methods)
        for name, posed in asked.items():
            start = time.process_time()
            answer = measured_answer(posed, deconvolve(posed, method), size)
            seconds = time.process_time() - start
            found[name, f"{label} ({chosen})"] = Answers(quality(answer), seconds)
    plain = Restoration(RestorationConfig(strengths=()))
    models = {
        "U-Net alone": (UNetModel(plain, encoder.preprocess.config, plain.channels), plain, 2e-3),
        "LVM": (DownstreamModel(task, encoder), task, 2e-3),
    }
    for label, (model, own_task, rate) in models.items():
        seconds = train(model, training, rate)
        calibrated(model, own_task, tuning)
        for name, posed in asked.items():
            labels = {key: posed[key] for key in POSED}
            found[name, label] = Answers(own_task.metrics(outputs(model, posed), labels), seconds)
    return found


def calibrated(model, task, posed):
    """Calibrate the uncertainties of the model with a head."""
    if isinstance(model, DownstreamModel):
        task.calibrate(model.head, outputs(model, posed), posed)


def table(results):
    names = ("psnr", "ssim", "flux_bias", "size_bias", "ellipticity_error", "invented_5_sigma")
    lines = [f"{'data':10} {'method':42}" + "".join(f"{name:>18}" for name in names)]
    for (data, method), answers in sorted(results.items()):
        cells = "".join(f"{answers.measures[name]:18.4f}" for name in names)
        lines.append(f"{data:10} {method:42}{cells}   {answers.seconds:.0f} s")
    return "\n".join(lines)


def gain(results, data, name):
    """Return how much better the LVM is than the best of the others."""
    ours = results[data, "LVM"].measures[name]
    others = [a.measures[name] for (d, m), a in results.items() if d == data and m != "LVM"]
    return ours - max(others)


def test_restoration_of_synthetic_galaxies(results, capsys):
    with capsys.disabled():
        sys.stdout.write(f"\n{table(results)}\n")
    if STEPS < QUICK_STEPS:
        pytest.skip(f"{STEPS} steps of training: too few to record or to hold to a goal")
    bound = "the best of none, Wiener, Richardson-Lucy, U-Net"
    psnr, ssim = (gain(results, "synthetic", name) for name in ("psnr", "ssim"))
    ours = results["synthetic", "LVM"].measures
    flux = abs(ours["flux_bias"])
    record(Figure("restoration.psnr_gain_over_best_baseline_db", "dB", "> 0", bound, [psnr]))
    record(Figure("restoration.ssim_gain_over_best_baseline", "", "> 0", bound, [ssim]))
    record(Figure("restoration.flux_bias", "", "<= 0.01", "0: the true flux", [flux]))
    assert psnr > 0
    assert ssim > 0
    assert flux <= 0.01


def test_restoration_of_hubble_galaxies(results):
    if ("hubble", "LVM") not in results:
        pytest.skip("real survey data (../shared/real/hst_cosmos) is not on this machine")
    if STEPS < QUICK_STEPS:
        pytest.skip(f"{STEPS} steps of training: too few to record or to hold to a goal")
    bound = "the best of none, Wiener, Richardson-Lucy, U-Net; 20 HST COSMOS galaxies"
    psnr, ssim = (gain(results, "hubble", name) for name in ("psnr", "ssim"))
    record(Figure("restoration.hubble_psnr_gain_db", "dB", "> 0", bound, [psnr]))
    record(Figure("restoration.hubble_ssim_gain", "", "> 0", bound, [ssim]))
    assert psnr > 0
