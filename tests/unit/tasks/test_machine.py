from pathlib import Path

import numpy as np
import pytest

from tasks import machine
from tasks.settings import Settings


def test_the_disks_of_folders_that_do_not_exist_yet_are_looked_at(tmp_path):
    found = machine.look_at(Settings(home=tmp_path / "new" / "home"))
    assert found.store_free > 0
    assert found.one_disk
    assert found.store.startswith(str(tmp_path))


def test_a_running_cluster_sets_its_own_limits(tmp_path):
    assert machine.look_at(Settings(home=tmp_path)).worker_limit > 0
    elsewhere = Settings(home=tmp_path, scheduler="tcp://127.0.0.1:1")
    assert machine.look_at(elsewhere).worker_limit is None


def test_free_memory_is_what_the_kernel_says_within_the_limit(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 4000 kB\nMemAvailable: 1000 kB\n")
    monkeypatch.setattr(machine, "_MEMINFO", meminfo)
    assert machine.free_memory() == 1000 * 1024
    monkeypatch.setattr(machine, "MEMORY_LIMIT", 4096)
    assert machine.free_memory() == 4096
    monkeypatch.setattr(machine, "_MEMINFO", Path("/nowhere"))
    assert machine.free_memory() == 4096


def test_the_peak_counts_what_was_freed_since():
    block = np.ones(200_000_000 // 8)
    held = machine.peak_memory()
    del block
    # the kernel counts pages in batches, so that two readings may differ by some
    assert machine.peak_memory() == pytest.approx(held, rel=0.01)
    assert held > 200_000_000


@pytest.mark.parametrize(("platform", "factor"), [("linux", 1024), ("darwin", 1)])
def test_without_a_proc_folder_the_peak_is_that_of_getrusage(monkeypatch, platform, factor):
    class Usage:
        ru_maxrss = 5000

    monkeypatch.setattr(machine, "_STATUS", Path("/nowhere"))
    monkeypatch.setattr(machine.resource, "getrusage", lambda who: Usage())
    monkeypatch.setattr(machine.sys, "platform", platform)
    assert machine.peak_memory() == 5000 * factor
