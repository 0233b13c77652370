"""Ellipticity and position angle: components of a catalogue, axis ratio, angle and its error.

Components are those of the Legacy Surveys' catalogues, shape_e1 and shape_e2: their modulus is
(1 - q) / (1 + q) of the axis ratio q, their direction twice the position angle, from north to east.
So 0 and 180 degrees are the same, and the angle of a round galaxy has no weight.
"""

import math
from typing import Any

import numpy as np
import torch

from lvm.quantiles import residual_measures

Array = np.ndarray[Any, np.dtype[Any]]

ELONGATED = 0.1  # modulus from which an angle is asked for: an axis ratio of 0.82
MAX_ANGLE_ERROR = 30.0  # [deg]; of an angle that is not known at all it is 52


def axis_ratio(e1: Array, e2: Array) -> Array:
    """Return the axis ratio of components; NaN for both exactly 0, which is set and not fitted."""
    modulus = np.hypot(e1, e2)
    fitted = (modulus > 0) & (modulus < 1)
    return np.where(fitted, (1 - modulus) / (1 + modulus), np.nan)


def components(ratio: Array, angle: Array) -> tuple[Array, Array]:
    """Return the components of axis ratios and position angles [deg]."""
    modulus = (1 - ratio) / (1 + ratio)
    double = 2 * np.deg2rad(angle)
    return modulus * np.cos(double), modulus * np.sin(double)


def position_angle(
    e1: torch.Tensor, e2: torch.Tensor, widths: tuple[torch.Tensor, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return position angles from 0 to 180 and their errors (one sigma, at most 90), both [deg].

    Parameters
    ----------
    e1, e2 : (object,)
    widths : their errors (one sigma); only what lies across the direction of (e1, e2) turns it
    """
    double = torch.atan2(e2, e1)
    across = torch.hypot(double.sin() * widths[0], double.cos() * widths[1])
    error = across / torch.hypot(e1, e2).clamp(min=1e-6) / 2.0
    return torch.rad2deg(double / 2.0) % 180.0, torch.rad2deg(error).clamp(max=90.0)


def angle_measures(
    angle: torch.Tensor, error: torch.Tensor, e1: torch.Tensor, e2: torch.Tensor
) -> dict[str, float]:
    """Return how well angles and their errors [deg] fit true components; NaN is not known.

    Of galaxies that are `ELONGATED`: bias, nmad and outliers (see `residual_measures`, differences
    modulo 180) and `coverage_68`, where the error is at most `MAX_ANGLE_ERROR`; and `given`, the
    share of which that is so.
    """
    asked = torch.hypot(e1, e2) >= ELONGATED  # false where not known
    given = asked & (error <= MAX_ANGLE_ERROR)
    true = torch.rad2deg(torch.atan2(e2, e1)) / 2.0
    residual = ((angle - true + 90.0) % 180.0 - 90.0)[given]
    values = residual_measures(residual, MAX_ANGLE_ERROR)
    inside = (residual.abs() <= error[given]).float()
    values["coverage_68"] = float(inside.mean()) if len(residual) else math.nan
    values["given"] = len(residual) / int(asked.sum()) if asked.any() else math.nan
    return values
