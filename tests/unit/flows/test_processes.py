"""Services: started, waited for, stopped with their children."""

import os
import sys
import time
from pathlib import Path

import pytest

from flows import processes
from flows.processes import (
    Service,
    ServiceFailed,
    answers,
    free_port,
    is_free,
    running,
    start,
    stop,
    wait_until_ready,
)

SERVE = "import http.server; http.server.test(http.server.SimpleHTTPRequestHandler, port={port})"


def service(tmp_path: Path, code: str, port: int = 0) -> Service:
    return Service(
        "pages",
        (sys.executable, "-c", code),
        tmp_path / "pages.log",
        health=f"http://127.0.0.1:{port}/" if port else "",
        folder=tmp_path,
    )


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_service_answers_while_it_runs_and_not_after(tmp_path):
    port = free_port()
    with running(service(tmp_path, SERVE.format(port=port), port)):
        assert answers(f"http://127.0.0.1:{port}/")
        assert not answers(f"http://127.0.0.1:{port}/nothing-here")
        assert not is_free(port)
    assert not answers(f"http://127.0.0.1:{port}/")
    assert is_free(port)


def test_one_that_ends_is_told_with_the_end_of_its_log(tmp_path):
    broken = service(tmp_path, "raise SystemExit('no database here')", free_port())
    with pytest.raises(ServiceFailed, match="no database here"), running(broken):
        pass


def test_one_that_never_answers_is_given_up_with_the_end_of_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "START_SECONDS", 0.3)
    silent = service(tmp_path, "import time; time.sleep(60)", free_port())
    silent.log.write_text("on my way\n")  # it is appended to
    with pytest.raises(ServiceFailed, match=r"did not answer(.|\n)*on my way"), running(silent):
        pass


def test_what_is_waited_for_is_said_and_a_slow_service_is_not_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "TELL_SECONDS", 0.2)
    port, told = free_port(), []
    go = tmp_path / "go"  # it begins to serve only after somebody was told that it does not yet
    code = "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.05)\n"
    slow = service(tmp_path, code + SERVE.format(port=port), port)

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 2:
            go.touch()

    process = start(slow)
    try:
        wait_until_ready(process, slow, tell)
        assert answers(slow.health)
    finally:
        stop(process)
    assert len(told) >= 2
    assert told[0].startswith("pages runs but does not answer")
    assert slow.health in told[0]
    assert str(slow.log) in told[0]


def test_one_that_is_waited_for_is_a_warning_where_nobody_listens(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(processes, "TELL_SECONDS", -1)  # at every look
    monkeypatch.setattr(processes, "START_SECONDS", 0.3)
    silent = service(tmp_path, "import time; time.sleep(60)", free_port())
    with pytest.raises(ServiceFailed, match="did not answer"), running(silent):
        pass
    assert any("of at most 0.3 s" in record.getMessage() for record in caplog.records)


def test_children_end_with_their_service(tmp_path):
    code = (
        "import subprocess, sys, time;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "open('child', 'w').write(str(child.pid)); time.sleep(60)"
    )
    with running(service(tmp_path, code)):
        deadline = time.monotonic() + 10
        while not (tmp_path / "child").is_file() or not (tmp_path / "child").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        child = int((tmp_path / "child").read_text())
        assert alive(child)
    time.sleep(0.2)
    state = Path(f"/proc/{child}/stat")
    assert not alive(child) or state.read_text().split()[2] == "Z"  # nobody waits for an orphan
