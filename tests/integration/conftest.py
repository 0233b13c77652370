"""A real Prefect server for the session and an own home with a real MLflow for each test."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import LocalCluster
from own_prefect import server_of_its_own

from storage.synthetic import SyntheticConfig, SyntheticRelease, write_synthetic_release
from tasks.settings import Settings
from tasks.tracking import model_versions


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run a Prefect server for the whole session, as commands do."""
    with server_of_its_own(tmp_path_factory.mktemp("prefect")):
        yield


@pytest.fixture(scope="session")
def cluster(prefect_server: None) -> Iterator[LocalCluster]:
    """Run two Dask workers for the whole session."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as local:
        yield local


@pytest.fixture
def home(cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new home, set in the environment together with the session's cluster."""
    monkeypatch.setenv("BRICKYARD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BRICKYARD_SCHEDULER", cluster.scheduler_address)
    return tmp_path / "home"


@pytest.fixture(scope="session")
def empty_tracking(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of an MLflow database that was just created (which takes seconds)."""
    home = tmp_path_factory.mktemp("empty-tracking")
    assert model_versions(Settings(home=home), "nothing") == []
    return home


@pytest.fixture
def tracking(empty_tracking: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return the settings of a fresh home with an empty MLflow, also set in the environment."""
    home = tmp_path / "home"
    shutil.copytree(empty_tracking, home)
    monkeypatch.setenv("BRICKYARD_HOME", str(home))
    return Settings(home=home)


@pytest.fixture(scope="session")
def small_release(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRelease:
    """Return a release of two small bricks, which takes seconds to render; nobody changes it."""
    config = SyntheticConfig(count=2, brick_size=460, density=10.0, seed=4, processes=1)
    return write_synthetic_release(tmp_path_factory.mktemp("small-release"), config)
