"""Prefect and MLflow on PostgreSQL by configuration alone; the database restarts in between."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_prefect import talking_to
from postgres import Postgres, postgres, postgres_programs
from prefect import flow
from prefect.client.orchestration import get_client

from flows.processes import Service, free_port, running
from flows.services import prefect_service
from tasks import tracking
from tasks.settings import Settings


@pytest.fixture
def database() -> Iterator[Postgres]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server in /usr/lib/postgresql (Debian: postgresql)")
    # The server's own user has to reach its folder, which pytest's are closed to.
    with tempfile.TemporaryDirectory(prefix="brickyard-postgres-") as folder:
        Path(folder).chmod(0o755)
        with postgres(Path(folder) / "server", programs) as server:
            yield server


def test_runs_and_models_outlive_a_crash_of_the_database(database, tmp_path):
    database.create("mlflow")
    settings = Settings(
        home=tmp_path / "home", tracking_uri=database.address("mlflow", "postgresql+psycopg2")
    )
    with tracking.start_run(settings, experiment="morphology", run_name="one") as run:
        run.log_metrics({"loss": 1.0})
    database.stop("immediate")
    database.start()
    assert tracking.read_run(settings, run.run_id).metrics["loss"] == 1.0
    with tracking.start_run(settings, experiment="morphology", run_name="two"):
        pass
    assert len(tracking.find_runs(settings, "morphology")) == 2


@flow
def count() -> int:
    """Return how many runs the server knows, this one included."""
    with get_client(sync_client=True) as client:
        return len(client.read_flow_runs())


def test_flow_runs_are_kept_in_the_database(database, tmp_path, monkeypatch):
    database.create("prefect")
    home = tmp_path / "home"
    monkeypatch.setenv("PREFECT_HOME", str(home / "prefect"))
    monkeypatch.setenv(
        "PREFECT_SERVER_DATABASE_CONNECTION_URL", database.address("prefect", "postgresql+asyncpg")
    )
    counts = []
    for _ in range(2):  # another server on the same database
        service: Service = prefect_service(home, free_port())
        api = service.environment["PREFECT_API_URL"]
        with running(service), talking_to(api):
            counts.append(count())
    assert counts == [1, 2]
    assert not list(home.rglob("*.db"))  # nothing fell back to SQLite
