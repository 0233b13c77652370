"""The deployments of prefect.yaml, put on a Prefect server."""

import os
import subprocess
import sys
from pathlib import Path

from flows.processes import ServiceFailed

POOLS = ("cpu", "gpu")  # as in prefect.yaml


def project_folder() -> Path:
    """Return the folder that holds prefect.yaml and the flows.

    Raises
    ------
    ServiceFailed
        If the package was installed without it.
    """
    folder = Path(__file__).resolve().parents[1]
    if not (folder / "prefect.yaml").is_file():
        raise ServiceFailed(
            f"{folder} has no prefect.yaml: deployments are made from a checkout of the project, "
            "installed with `make test` or `pip install -e .`"
        )
    return folder


def register_deployments(home: Path, api_url: str) -> None:
    """Make the work pools and put every deployment of prefect.yaml on the server; may be repeated.

    Raises
    ------
    ServiceFailed
        If Prefect refuses one; the message shows what it said.
    """
    environment = os.environ | {"PREFECT_API_URL": api_url, "BRICKYARD_HOME": str(home.resolve())}
    for pool in POOLS:
        _prefect(environment, "work-pool", "create", pool, "--type", "process", "--overwrite")
    _prefect(environment, "--no-prompt", "deploy", "--all")


def _prefect(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *arguments],
        env=environment,
        cwd=project_folder(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceFailed(
            f"`prefect {' '.join(arguments)}` failed:\n{(done.stdout + done.stderr)[-2000:]}"
        )
