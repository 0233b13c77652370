import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import training_worker

from lvm.distributed import World, joined, launched_device, present_world, share_of_rows

EPOCHS = 3
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def train_alone(folder, monkeypatch):
    training_worker.main(folder, EPOCHS)


def train_with_another(folder, monkeypatch):
    """Be the first of two processes that torchrun would start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, training_worker.__file__, str(folder), str(EPOCHS)]
    other = subprocess.Popen(command, env=ONE_THREAD | both | {"RANK": "1", "LOCAL_RANK": "1"})
    try:
        for name, value in (both | {"RANK": "0", "LOCAL_RANK": "0"}).items():
            monkeypatch.setenv(name, value)
        training_worker.main(folder, EPOCHS)
        assert other.wait(timeout=100) == 0
    finally:
        other.kill()
        other.wait()


def train_under_torchrun(folder, monkeypatch):
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [sys.executable, "-m", *launcher, training_worker.__file__, str(folder), str(EPOCHS)]
    done = subprocess.run(
        command, env=ONE_THREAD, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def trained(train, folder, monkeypatch):
    """Return the history, and the weights of every process."""
    folder.mkdir()
    with monkeypatch.context() as patch:
        train(folder, patch)
    weights = [torch.load(path, weights_only=True) for path in sorted(folder.glob("weights-*.pt"))]
    return json.loads((folder / "history.json").read_text()), weights


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
# What torch names instead, `forward_sync_buffers`, copies the buffers at the start: not the same.
@pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "train", [train_with_another, pytest.param(train_under_torchrun, marks=pytest.mark.drill)]
)
def test_two_processes_train_as_one_does(tmp_path, monkeypatch, train):
    alone, (one,) = trained(train_alone, tmp_path / "one", monkeypatch)
    together, (first, second) = trained(train, tmp_path / "two", monkeypatch)
    losses = [[epoch["loss"] for epoch in history] for history in (alone, together)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert losses[0][-1] < losses[0][0]
    assert all(torch.equal(first[name], second[name]) for name in first)
    for name, value in one.items():
        assert first[name].numpy() == pytest.approx(value.numpy(), abs=2e-4)


def test_shares_cover_every_row_and_are_equally_long():
    for count, size in ((10, 3), (16, 2), (7, 7), (5, 4), (8, 1)):
        rows = np.arange(count) * 3
        shares = [share_of_rows(rows, World(rank, size)) for rank in range(size)]
        assert len({len(share) for share in shares}) == 1
        assert set(np.concatenate(shares)) == set(rows)
        assert sum(map(len, shares)) < count + size
        assert all((np.diff(share) > 0).all() for share in shares)


def test_fewer_rows_than_processes_are_refused():
    with pytest.raises(ValueError, match="start fewer"):
        share_of_rows(np.arange(2), World(0, 3))


def test_without_a_launcher_a_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined() as world:
        assert world == World(0, 1)
        assert world.leads
    assert present_world() == World()
    assert launched_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launched_device("cuda") == "cuda:1"
    assert launched_device("cpu") == "cpu"
