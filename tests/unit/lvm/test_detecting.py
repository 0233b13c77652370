import numpy as np
import pytest
import torch

from lvm.detecting import (
    CHANNELS,
    DetectionHead,
    Grid,
    Truth,
    detection_loss,
    find_peaks,
    perfect_map,
)


def truth_of(*rows, required=True):
    places = torch.tensor(rows, dtype=torch.float32)[None]
    known = torch.ones(places.shape[:2], dtype=torch.bool)
    return Truth(places, known, known & required)


@pytest.mark.parametrize(("side", "extent"), [(40, 80), (80, 80), (40, 81), (32, 104)])
def test_cells_and_pixels_are_each_others_inverse_and_the_grid_is_centred(side, extent):
    grid = Grid(side, extent)
    pixels = torch.tensor([-10.0, 0.0, 7.25])
    assert torch.allclose(grid.pixels_of(grid.cells_of(pixels)), pixels, atol=1e-4)
    # the first cell begins with the edge of the first pixel that the encoder sees
    assert grid.pixels_of(torch.tensor([-0.5])).item() == pytest.approx(
        -extent // 2 - 0.5 + extent % 2
    )


@pytest.mark.parametrize("side", [20, 40])
def test_a_perfect_map_gives_back_places_and_boxes(side):
    truth = truth_of([-7.3, 4.9, 5.0, 9.0], [11.25, -3.5, 4.5, 4.5])
    grid = Grid(side, 40)
    ((places, logit),) = find_peaks(perfect_map(truth, grid), grid, 0.0)
    order = np.argsort(places[:, 0])
    assert places[order] == pytest.approx(truth.places[0].numpy(), abs=1e-3)
    assert (logit > 0).all()


def test_of_two_peaks_within_two_pixels_the_stronger_stays():
    grid = Grid(20, 20)
    output = torch.full((1, CHANNELS, 20, 20), -9.0)
    output[:, 1:3] = 0.0
    output[0, 0, 10, 10], output[0, 0, 10, 12] = 3.0, 4.0
    output[0, 1, 10, 10] = 0.6  # they are 1.4 pixels apart
    ((places, logit),) = find_peaks(output, grid, 0.0)
    assert logit.tolist() == [4.0]
    assert places[0, 0] == 2.0


def test_the_loss_of_a_perfect_map_is_small_and_a_shifted_one_is_worse():
    truth, grid = truth_of([3.0, 3.0, 5.0, 5.0]), Grid(20, 40)
    perfect = perfect_map(truth, grid)
    least = detection_loss(perfect, truth, grid)["loss"]
    assert least < 0.02
    assert detection_loss(perfect.roll(3, dims=-1), truth, grid)["loss"] > 10 * least


def test_cells_around_an_ignored_source_do_not_count():
    grid = Grid(20, 40)
    ignored = truth_of([3.0, 3.0, 5.0, 5.0], required=False)
    claimed = perfect_map(truth_of([3.0, 3.0, 5.0, 5.0]), grid)
    nothing = torch.full_like(claimed, -10.0)
    assert detection_loss(claimed, ignored, grid)["heat"] < 0.1
    assert detection_loss(nothing, ignored, grid)["heat"] < 0.01
    elsewhere = claimed.roll(8, dims=-1)
    assert detection_loss(elsewhere, ignored, grid)["heat"] > 1.0


def test_fields_without_any_source_have_a_finite_loss_with_a_gradient():
    grid = Grid(20, 40)
    output = torch.zeros(2, CHANNELS, 20, 20, requires_grad=True)
    padding = Truth(
        torch.full((2, 1, 4), 1e6),
        torch.zeros(2, 1, dtype=torch.bool),
        torch.zeros(2, 1, dtype=torch.bool),
    )
    loss = detection_loss(output, padding, grid)["loss"]
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert output.grad is not None
    assert output.grad[:, 0].abs().min() > 0


@pytest.mark.parametrize(
    ("stride", "pixels"), [(4, False), (2, False), (1, False), (2, True), (1, True)]
)
def test_the_head_has_a_cell_for_every_stride_pixels(tiny_encoder, stride, pixels):
    head = DetectionHead(tiny_encoder.spec, 16, stride, pixels)
    inputs = torch.randn(2, 3, 16, 16)
    maps = tiny_encoder.feature_maps(inputs)
    output = head([inputs, *maps])
    assert output.shape == (2, CHANNELS, 16 // stride, 16 // stride)
    head.threshold += 1.5
    again = head([inputs, *maps])
    assert torch.allclose(output[:, 0] - again[:, 0], torch.tensor(1.5), atol=1e-5)
    assert torch.equal(output[:, 1:], again[:, 1:])


def test_a_stride_that_does_not_fit_is_refused(tiny_encoder):
    with pytest.raises(ValueError, match="stride 3"):
        DetectionHead(tiny_encoder.spec, 16, 3)
