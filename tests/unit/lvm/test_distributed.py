import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lvm.distributed import World, joined, launched_device, present_world, share_of_rows

WORKER = Path(__file__).parent / "training_worker.py"


def train(folder, processes):
    """Start the worker as torchrun does, `processes` times; return history and weights."""
    folder.mkdir()
    command = [sys.executable, str(WORKER), str(folder), "3"]
    if processes > 1:
        launcher = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, "-m", *launcher, *command[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    weights = [
        torch.load(folder / f"weights-{rank}.pt", weights_only=True) for rank in range(processes)
    ]
    return json.loads((folder / "history.json").read_text()), weights


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    alone, (one,) = train(tmp_path / "one", 1)
    together, (first, second) = train(tmp_path / "two", 2)
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
