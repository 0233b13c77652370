from dataclasses import replace

import numpy as np

from storage.bricks import brick_from_name
from storage.synthetic import SyntheticConfig
from storage.synthetic.sky import STAR_CODE, cell_sources, source_from_row

BRICK = brick_from_name("1501p010")


def test_same_seed_same_sky_and_another_seed_another() -> None:
    config = SyntheticConfig(seed=3)
    first, again = cell_sources(BRICK, config), cell_sources(BRICK, replace(config, count=7))
    np.testing.assert_array_equal(first, again)
    other = cell_sources(BRICK, replace(config, seed=4))
    assert other.size != first.size or not np.array_equal(first["ra"], other["ra"])


def test_source_ids_are_unique_over_cells() -> None:
    config = SyntheticConfig()
    left = cell_sources(BRICK, config)["source_id"]
    right = cell_sources(brick_from_name("1503p010"), config)["source_id"]
    assert np.unique(np.concatenate([left, right])).size == left.size + right.size


def test_structure_follows_the_class() -> None:
    sources = cell_sources(BRICK, SyntheticConfig(density=10.0))
    galaxies = sources[sources["code"] != STAR_CODE]
    assert not galaxies["n_arms"][galaxies["code"] != 2].any()
    assert not galaxies["merger"][galaxies["code"] != 3].any()
    assert (galaxies["axis_ratio"][galaxies["code"] == 1] < 0.3).all()
    assert set(np.unique(galaxies["code"])) == {0, 1, 2, 3}


def test_source_keeps_the_values_of_its_row() -> None:
    row = cell_sources(BRICK, SyntheticConfig())[11]
    source = source_from_row(row)
    assert source.source_id == row["source_id"]
    assert source.flux[3] == row["flux"][3]
    assert isinstance(source.ring, bool)
