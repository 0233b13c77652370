"""A model over the network: registered with a real MLflow server, loaded by another machine."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from lvm.downstream import DownstreamModel, create_task
from lvm.testing import TinyEncoder
from tasks import tracking
from tasks.models import load_model
from tasks.references import ModelRef
from tasks.settings import Settings

START_SECONDS = 120
PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Run an MLflow server that keeps artifacts behind itself; yield its address."""
    folder = tmp_path_factory.mktemp("mlflow-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = f"sqlite:///{folder / 'mlflow.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", place, "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--serve-artifacts", "--workers", "1"],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(address, process, folder / "log")
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the server and its worker, nothing else
        process.wait(timeout=30)


def wait_for(address, process, log):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"no MLflow server at {address}: {log.read_text()[-2000:]}")


def test_a_model_is_loaded_over_the_network_without_pickle(server, tmp_path):
    here = Settings(home=tmp_path / "here", tracking_uri=server)
    model = DownstreamModel(create_task("morphology"), TinyEncoder()).eval()
    digest = model.save(tmp_path / "model")
    with tracking.start_run(here, experiment="morphology", run_name="r") as run:
        columns = {"answer": np.dtype("U9")}
        tracking.write_interface(tmp_path / "model", run.run_id, bands=3, size=24, columns=columns)
        run.log_artifacts(tmp_path / "model", "model")
    reference = tracking.register_candidate(
        here, "morphology", run_id=run.run_id, artifact="model", digest=digest
    )

    there = Settings(home=tmp_path / "there", tracking_uri=server)
    found = tracking.read_version(there, "morphology", "1").model
    assert found == reference
    loaded = load_model(there, found)
    same = (a.equal(b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True))
    assert all(same)
    files = [path for path in (there.home / "models").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"weights.safetensors", "MLmodel", "digest"}
    assert not [path for path in files if path.suffix in PICKLED]

    forged = ModelRef(**(reference.model_dump() | {"digest": "0" * 64}))
    with pytest.raises(ValueError, match="changed after it was registered"):
        load_model(there, forged)
