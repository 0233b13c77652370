"""The deployments of prefect.yaml and the automations beside the flows, put on a server."""

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
    """Put work pools, deployments and automations on the server; may be repeated.

    Raises
    ------
    ServiceFailed
        If Prefect refuses one; the message shows what it said.
    """
    environment = os.environ | {"PREFECT_API_URL": api_url, "BRICKYARD_HOME": str(home.resolve())}
    for pool in POOLS:
        _run(
            environment, "prefect", "work-pool", "create", pool, "--type", "process", "--overwrite"
        )
    _run(environment, "prefect", "--no-prompt", "deploy", "--all")
    _run(environment, "flows", "automations", "apply")


def _run(environment: dict[str, str], module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment,
        cwd=project_folder(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ServiceFailed(
            f"`{module} {' '.join(arguments)}` failed:\n{(done.stdout + done.stderr)[-2000:]}"
        )
