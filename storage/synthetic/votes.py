"""Soft votes: what some forty volunteers would say of each galaxy.

The chance of each answer follows the true class where the structure can be seen, and slides to
"elliptical" (smooth) where the source is small against the PSF or faint; galaxies near the border
of two classes split the votes. Dirichlet noise stands for the volunteers' shared mistakes.
"""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

VOTERS = 40.0
# Answers (elliptical, edge-on, spiral, other) for each true class, seen clearly and not at all;
# the confusions are those of volunteers: small discs look smooth, faint irregulars too.
SEEN = np.array(
    [
        [0.91, 0.02, 0.03, 0.04],
        [0.05, 0.89, 0.04, 0.02],
        [0.04, 0.03, 0.89, 0.04],
        [0.04, 0.02, 0.07, 0.87],
    ]
)
UNSEEN = np.array(
    [
        [0.88, 0.03, 0.04, 0.05],
        [0.52, 0.34, 0.05, 0.09],
        [0.78, 0.06, 0.10, 0.06],
        [0.58, 0.08, 0.08, 0.26],
    ]
)


def visibility(code: NDArray[np.uint8], relative_size: FloatArray, snr: FloatArray) -> FloatArray:
    """Return how well the class can be told, 0 to 1.

    Parameters
    ----------
    code : ndarray, shape (n,), uint8 — class codes.
    relative_size : ndarray, shape (n,) — half-light radius over PSF width.
    snr : ndarray, shape (n,)
    """
    # An edge-on disc shows its elongation at smaller sizes than a spiral shows its arms.
    needed = np.choose(code, [0.5, 0.75, 1.15, 0.9])
    size = 1 / (1 + np.exp(-8.0 * np.log10(np.maximum(relative_size, 1e-3) / needed)))
    light = 1 / (1 + np.exp(-5.0 * np.log10(np.maximum(snr, 1e-3) / 45.0)))
    return np.asarray(size * light, dtype=np.float64)


def answer_chances(rows: NDArray[np.void], seen: FloatArray, blendedness: FloatArray) -> FloatArray:
    """Return the chance of each answer before noise, shape (n, class).

    Parameters
    ----------
    rows : ndarray, shape (n,), SOURCE_DTYPE — galaxies only.
    seen : ndarray, shape (n,) — `visibility`.
    blendedness : ndarray, shape (n,)
        Strong blends look peculiar.
    """
    code = rows["code"]
    clear = SEEN[code].copy()
    spiral = code == 2
    bare = spiral & (rows["n_arms"] == 0)  # lenticulars with a bar or ring only
    clear[bare] += np.array([0.33, 0.0, -0.36, 0.03])
    inclined = np.clip((0.5 - rows["axis_ratio"]) / 0.14, 0, 1) * spiral
    clear += inclined[:, None] * np.array([0.0, 0.3, -0.3, 0.0])
    flat = np.clip((rows["axis_ratio"] - 0.2) / 0.07, 0, 1) * (code == 1)
    clear += flat[:, None] * np.array([0.12, -0.22, 0.1, 0.0])
    chances = seen[:, None] * clear + (1 - seen[:, None]) * UNSEEN[code]
    odd = np.clip(blendedness - 0.15, 0, 0.35)[:, None]
    chances = (1 - odd) * chances + odd * np.array([0.1, 0.0, 0.0, 0.9])
    return np.asarray(chances / chances.sum(axis=1, keepdims=True), dtype=np.float64)


def draw_votes(
    rng: np.random.Generator, chances: FloatArray, seen: FloatArray
) -> NDArray[np.int32]:
    """Draw vote counts per class, shape (n, class), int32.

    Parameters
    ----------
    rng : numpy.random.Generator
    chances : ndarray, shape (n, class)
    seen : ndarray, shape (n,)
        Volunteers agree more on what they see well: the Dirichlet concentration grows with it.
    """
    concentration = (8.0 + 40.0 * seen)[:, None] * chances
    draws = rng.gamma(np.maximum(concentration, 1e-3))
    fractions = draws / np.maximum(draws.sum(axis=1, keepdims=True), 1e-12)
    fractions /= fractions.sum(axis=1, keepdims=True)
    voters = np.clip(rng.poisson(VOTERS, len(chances)), 20, 60)
    return rng.multinomial(voters, fractions).astype(np.int32)
