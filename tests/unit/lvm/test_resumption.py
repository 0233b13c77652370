import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import training_worker

from lvm.resumption import load_state, save_state

EPOCHS = 12


def start(folder):
    folder.mkdir()
    command = [sys.executable, training_worker.__file__, str(folder), str(EPOCHS)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_process_killed_for_good_goes_on_where_it_was(tmp_path):
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    process = start(killed)
    marker = killed / "epochs"
    deadline = time.monotonic() + 100
    while not (marker.is_file() and (marker.read_text() or "0") >= "3"):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / "history.json").exists()
    at = torch.load(killed / "run.pt", weights_only=True)["epoch"]
    assert 2 <= at < EPOCHS
    training_worker.main(killed, EPOCHS)
    unbroken.mkdir()
    training_worker.main(unbroken, EPOCHS)
    histories = [json.loads((folder / "history.json").read_text()) for folder in (unbroken, killed)]
    assert histories[0] == histories[1]
    weights = [torch.load(f / "weights-0.pt", weights_only=True) for f in (unbroken, killed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_broken_write_leaves_the_last_state(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    save_state(path, {"config": {"seed": 1}, "epoch": 1})

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("lvm.resumption.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_state(path, {"config": {"seed": 1}, "epoch": 2})
    assert load_state(path, {"seed": 1}, "cpu")["epoch"] == 1


def test_a_state_serves_its_own_configuration_alone(tmp_path):
    path = tmp_path / "run.pt"
    save_state(path, {"config": {"seed": 1, "device": "cuda"}})
    assert load_state(path, {"seed": 1, "device": "cpu"}, "cpu")["config"]["seed"] == 1
    with pytest.raises(ValueError, match="seed"):
        load_state(path, {"seed": 2, "device": "cuda"}, "cpu")
