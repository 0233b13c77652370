import math

import numpy as np
import pytest
import torch

from lvm.ellipticity import angle_measures, axis_ratio, components, position_angle


def tensors(ratio, angle):
    e1, e2 = components(np.asarray(ratio, float), np.asarray(angle, float))
    return torch.from_numpy(e1), torch.from_numpy(e2)


def test_components_come_back_as_axis_ratio_and_angle():
    ratio, angle = np.array([0.2, 0.5, 0.9]), np.array([10.0, 95.0, 179.0])
    e1, e2 = components(ratio, angle)
    assert axis_ratio(e1, e2) == pytest.approx(ratio)
    width = torch.full((3,), 0.01)
    found, _ = position_angle(torch.from_numpy(e1), torch.from_numpy(e2), (width, width))
    assert found.tolist() == pytest.approx(angle.tolist())


def test_what_a_fit_set_has_no_axis_ratio():
    found = axis_ratio(np.array([0.0, 0.3, 1.0]), np.array([0.0, 0.0, 0.2]))
    assert np.isnan(found).tolist() == [True, False, True]


def test_the_error_of_an_angle_is_that_of_the_scatter_of_components():
    e1, e2 = tensors([0.5], [30.0])
    scatter = torch.randn((2, 20000), generator=torch.Generator().manual_seed(0)) * 0.02
    width = torch.full((1,), 0.02)
    around = (e1 + scatter[0], e2 + scatter[1])
    angle, _ = position_angle(*around, (width, width))
    _, error = position_angle(e1, e2, (width, width))
    assert angle.std().item() == pytest.approx(error.item(), rel=0.03)


def test_only_errors_across_the_direction_turn_an_angle():
    e1, e2 = tensors([0.5], [0.0])  # along e1
    along, across = torch.tensor([0.3]), torch.tensor([0.0])
    assert position_angle(e1, e2, (along, across))[1].item() == pytest.approx(0.0, abs=1e-4)
    assert position_angle(e1, e2, (across, along))[1].item() > 20.0


def test_a_round_galaxy_has_an_angle_of_no_worth():
    zero, width = torch.zeros(1), torch.full((1,), 0.05)
    _, error = position_angle(zero, zero, (width, width))
    assert error.item() == 90.0


def test_differences_of_angles_are_modulo_180():
    e1, e2 = tensors([0.4, 0.4], [179.0, 1.0])
    angle = torch.tensor([1.0, 179.0], dtype=torch.float64)
    found = angle_measures(angle, torch.full((2,), 3.0), e1, e2)
    assert found["nmad"] == pytest.approx(2.0 * 1.4826, abs=1e-3)
    assert found["outliers"] == 0.0
    assert found["coverage_68"] == 1.0


def test_angles_of_round_and_unknown_galaxies_are_not_asked_for():
    e1, e2 = tensors([0.95, 0.3, 0.3, np.nan], [0.0, 0.0, 0.0, 0.0])
    angle = torch.tensor([90.0, 90.0, 0.0, 90.0])
    error = torch.tensor([5.0, 5.0, 80.0, 5.0])
    found = angle_measures(angle, error, e1, e2)
    assert found["given"] == 0.5  # of two elongated ones, one is not sure
    assert found["outliers"] == 1.0
    nothing = angle_measures(angle[:1], error[:1], e1[:1], e2[:1])
    assert all(map(math.isnan, nothing.values()))
