"""Start and find the Prefect server of the embedded default (SQLite in the home folder).

Prefect reads its settings when it is first imported, so this module does not import it: the
command line calls `configure_environment` before any flow is loaded.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.processes import Service, answers, free_port, running
from tasks.logs import logging_environment

SERVER_RECORD = "prefect-server.json"  # in the home folder: other terminals find the server by it
# In files beside the database: in memory, as by default, a server that is killed forgets who holds
# the only slot of a deployment, ends runs that hold one, and never gives it to another.
LEASES = "prefect.server.concurrency.lease_storage.filesystem"
# What the embedded default wants of the libraries it starts, unless the user has set it.
DEFAULTS = {
    "DASK_LOGGING__DISTRIBUTED": "warning",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


def configure_environment(home: Path, *, verbose: bool = False) -> None:
    """Set what Prefect and MLflow read when they are imported; what the user has set stays.

    Parameters
    ----------
    home : Path
        Home folder; Prefect's own database and results are kept in `<home>/prefect`.
    verbose : bool
        Show the log of flows and tasks; errors reach the user as exceptions in any case.
    """
    prefect_home = home.resolve() / "prefect"
    prefect_home.mkdir(parents=True, exist_ok=True)
    os.environ["BRICKYARD_HOME"] = str(home.resolve())
    os.environ.setdefault("PREFECT_HOME", str(prefect_home))
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")
    for name, value in (DEFAULTS | logging_environment()).items():
        os.environ.setdefault(name, value)
    api_url = running_server(home)
    if api_url:
        os.environ.setdefault("PREFECT_API_URL", api_url)


def running_server(home: Path) -> str | None:
    """Return the API URL of the server started for `home`, or None when none answers."""
    record = home / SERVER_RECORD
    if not record.is_file():
        return None
    api_url = str(json.loads(record.read_text())["api_url"])
    return api_url if answers(f"{api_url}/health") else None


@contextmanager
def use_server() -> Iterator[None]:
    """Make sure that flows find a Prefect server: the configured one, else one started here.

    Prefect would start one by itself, but gives it little time and keeps it from other terminals,
    so that nobody could decide about a promotion that waits.
    """
    if os.environ.get("PREFECT_API_URL"):
        yield
        return
    with prefect_server(Path(os.environ["BRICKYARD_HOME"])) as api_url:
        os.environ["PREFECT_API_URL"] = api_url
        yield


@contextmanager
def prefect_server(home: Path, port: int = 0) -> Iterator[str]:
    """Run a Prefect server while the block runs and yield its API URL.

    Parameters
    ----------
    home : Path
        Home folder; the server's log is `<home>/prefect-server.log`.
    port : int
        Port on 127.0.0.1; 0 takes a free one.

    Raises
    ------
    ServiceFailed
        If the server ends, or does not answer in time; the message names its log.
    """
    home.mkdir(parents=True, exist_ok=True)
    service = prefect_service(home, port or free_port())
    api_url = f"{service.url}/api"
    record = home / SERVER_RECORD
    try:
        with running(service) as pid:
            record.write_text(json.dumps({"api_url": api_url, "pid": pid}))
            yield api_url
    finally:
        record.unlink(missing_ok=True)


def prefect_service(home: Path, port: int) -> Service:
    """Describe the Prefect server of a home folder, on a port of 127.0.0.1."""
    url = f"http://127.0.0.1:{port}"
    command = ("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    return Service(
        name="Prefect",
        command=(sys.executable, *command),
        log=home.resolve() / "prefect-server.log",
        url=url,
        health=f"{url}/api/health",
        environment={
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_SERVER_API_HOST": "127.0.0.1",
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
        },
    )
