"""Start and find the Prefect server of the embedded default (SQLite in the home folder).

Prefect reads its settings when it is first imported, so this module does not import it: the
command line calls `configure_environment` before any flow is loaded.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 120  # a first start on a busy machine creates and migrates the database
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


class ServiceFailed(RuntimeError):
    """A service of the embedded default did not start."""


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
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    api_url = running_server(home)
    if api_url:
        os.environ.setdefault("PREFECT_API_URL", api_url)


def running_server(home: Path) -> str | None:
    """Return the API URL of the server started for `home`, or None when none answers."""
    record = home / "prefect-server.json"
    if not record.is_file():
        return None
    api_url = str(json.loads(record.read_text())["api_url"])
    return api_url if _answers(api_url) else None


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
    port = port or _free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    record, log_path = home / "prefect-server.json", home / "prefect-server.log"
    environment = os.environ | {
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=environment, stdout=log, stderr=log
        )
    try:
        _wait_until_ready(process, api_url, log_path)
        record.write_text(json.dumps({"api_url": api_url, "pid": process.pid}))
        yield api_url
    finally:
        record.unlink(missing_ok=True)
        _stop(process)


def _wait_until_ready(process: "subprocess.Popen[bytes]", api_url: str, log_path: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServiceFailed(f"the Prefect server ended with {process.returncode}: {log_path}")
        if _answers(api_url):
            return
        time.sleep(0.25)
    raise ServiceFailed(f"the Prefect server did not answer in {START_SECONDS} s: {log_path}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answers(api_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{api_url}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
