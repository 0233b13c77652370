"""Bricks that stand out are named; bricks that differ by chance are not."""

import numpy as np
import pandas as pd
import pytest

from storage.drift.brick_shifts import BrickMeans
from storage.search.vectors import EmbeddedRows

BRICKS, EACH, WIDTH = 60, 40, 6


def rows(count=EACH):
    return EmbeddedRows(
        encoder_digest="e",
        survey_key="dr10/south",
        bricknames=np.array([f"b{k:02d}" for k in range(BRICKS)], dtype=object),
        starts=np.arange(BRICKS, dtype=np.int64) * 64,
        counts=np.full(BRICKS, count, np.int64),
        left_out=0,
        digest="d",
    )


def shifts(offsets, measured=None, count=EACH, block=7):
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(BRICKS, count, WIDTH)) * [1, 2, 3, 1, 1, 5] + 4
    values = (noise + offsets[:, None, :]).reshape(-1, WIDTH)
    where = rows(count)
    index = np.concatenate([np.arange(start, start + count) for start in where.starts])
    means = BrickMeans(where, values[::3])
    step = block * count // 2  # blocks that cut bricks in two
    means.add((index[k : k + step], values[k : k + step]) for k in range(0, len(index), step))
    return means.shifts(measured)


def test_equal_bricks_do_not_stand_out():
    found = shifts(np.zeros((BRICKS, WIDTH)))
    assert len(found.outliers) == 0
    assert len(found.table) == BRICKS
    assert found.table["shift"].median() < 0.2
    assert found.table["p_value"].median() == pytest.approx(0.5, abs=0.2)
    assert (found.table["objects"] == EACH).all()


def test_a_shifted_brick_is_named_with_the_size_of_its_shift():
    offsets = np.zeros((BRICKS, WIDTH))
    offsets[17, 2] = 2 * 3.0  # two standard deviations of an object
    found = shifts(offsets)
    assert list(found.outliers.index) == ["b17"]
    assert found.table.at["b17", "shift"] == pytest.approx(2, abs=0.3)


def test_small_bricks_are_left_out_and_counted():
    found = shifts(np.zeros((BRICKS, WIDTH)), count=10)
    assert (len(found.table), found.too_few) == (0, BRICKS)
    assert len(found.outliers) == 0


def test_a_shift_that_goes_along_with_seeing_is_seen_to():
    rng = np.random.default_rng(0)
    seeing = rng.normal(1.3, 0.2, BRICKS)
    offsets = np.zeros((BRICKS, WIDTH))
    offsets[:, 1] = 10 * (seeing - 1.3)
    names = [f"b{k:02d}" for k in range(BRICKS)]
    other = rng.normal(size=BRICKS)
    table = pd.DataFrame(
        {"depth_r": other, "psfsize_r": seeing, "psfsize_g": np.nan, "depth_g": 1.0}, index=names
    )
    first, second = shifts(offsets, table).correlations  # without the constant and the missing one
    assert first.quantity == "psfsize_r"
    assert abs(first.rho) > 0.8
    assert first.p_value < 1e-6
    assert first.bricks == BRICKS
    assert abs(second.rho) < 0.4
