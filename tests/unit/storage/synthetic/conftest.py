"""One tiny release for the tests of the synthetic survey."""

import pytest

from storage.synthetic import SyntheticConfig, SyntheticRelease, write_synthetic_release

TINY = SyntheticConfig(brick_size=260, density=10.0, star_density=3.0, bright_tilt=0.1, seed=5)


@pytest.fixture(scope="session")
def tiny_config() -> SyntheticConfig:
    return TINY


@pytest.fixture(scope="session")
def tiny_synthetic(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRelease:
    """Two neighbouring bricks of 260 pixels."""
    return write_synthetic_release(tmp_path_factory.mktemp("synthetic"), TINY)
