import numpy as np
import pytest

from storage.bricks import brick_from_name
from storage.synthetic import SyntheticConfig
from storage.synthetic.sky import STAR_CODE, cell_sources
from storage.synthetic.votes import answer_chances, draw_votes, visibility


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    sources = cell_sources(brick_from_name("1501p010"), SyntheticConfig(density=20.0))
    return sources[(sources["code"] != STAR_CODE) & (sources["mag_z"] < 20)]


def test_votes_follow_the_class_where_it_can_be_seen(rows: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    seen = np.ones(rows.size)
    votes = draw_votes(rng, answer_chances(rows, seen, np.zeros(rows.size)), seen)
    agreement = (votes.argmax(axis=1) == rows["code"]).mean()
    assert 0.85 < agreement < 1
    assert votes.sum(axis=1).min() >= 20
    assert votes.sum(axis=1).mean() == pytest.approx(40, abs=2)


def test_unseen_structure_gets_smooth_votes(rows: np.ndarray) -> None:
    seen = np.zeros(rows.size)
    votes = draw_votes(
        np.random.default_rng(1), answer_chances(rows, seen, np.zeros(rows.size)), seen
    )
    spirals = votes[rows["code"] == 2]
    assert (spirals.argmax(axis=1) == 0).mean() > 0.7


def test_visibility_grows_with_size_and_signal() -> None:
    code = np.full(3, 2, dtype=np.uint8)
    by_size = visibility(code, np.array([0.3, 1.0, 4.0]), np.full(3, 200.0))
    by_signal = visibility(code, np.full(3, 2.0), np.array([5.0, 50.0, 500.0]))
    assert (np.diff(by_size) > 0.1).all()
    assert (np.diff(by_signal) > 0.1).all()


def test_blends_look_peculiar(rows: np.ndarray) -> None:
    seen = np.ones(rows.size)
    alone = answer_chances(rows, seen, np.zeros(rows.size))
    blended = answer_chances(rows, seen, np.full(rows.size, 0.6))
    assert (blended[:, 3] > alone[:, 3])[rows["code"] != 3].all()
