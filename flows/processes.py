"""Programs that serve others: start one, wait until it answers, stop it.

Nothing here knows what the programs are; `services` and `stack` do.
"""

import logging
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tasks.alive import is_alive

START_SECONDS = 300  # a first start imports, creates and migrates a database: slow where it is busy
TELL_SECONDS = 20  # between lines about a service that is still waited for
ANSWER_SECONDS = 10  # for one request: where nothing listens, the refusal comes at once
STOP_SECONDS = 20

Tell = Callable[[str], None]

logger = logging.getLogger(__name__)


class ServiceFailed(RuntimeError):
    """A service of the embedded default did not start, or did not stay."""


@dataclass(frozen=True)
class Service:
    """A program to run.

    Parameters
    ----------
    name : str
        What people call it.
    command : tuple of str
    log : Path
        File that its output is appended to.
    url : str
        Where people find it; empty for one without pages.
    health : str
        URL that answers without an error once it is ready; empty: ready when it runs.
    environment : mapping
        What is added to the environment of this process.
    folder : Path, optional
        Working folder.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    url: str = ""
    health: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


def start(service: Service) -> "subprocess.Popen[bytes]":
    """Start a service in a session of its own, so that a Ctrl-C here does not reach it first."""
    service.log.parent.mkdir(parents=True, exist_ok=True)
    with service.log.open("ab") as log:
        return subprocess.Popen(
            list(service.command),
            env=os.environ | dict(service.environment),
            stdout=log,
            stderr=log,
            cwd=service.folder,
            start_new_session=True,
        )


def wait_until_ready(
    process: "subprocess.Popen[bytes]", service: Service, tell: Tell = logger.warning
) -> None:
    """Return when the service answers; one that lives is given `START_SECONDS`.

    Parameters
    ----------
    tell : callable
        Given a sentence every `TELL_SECONDS` that says what is waited for.

    Raises
    ------
    ServiceFailed
        If it ends, or does not answer in time; the message shows the end of its log.
    """
    begin = told = time.monotonic()
    while (now := time.monotonic()) < begin + START_SECONDS:
        if process.poll() is not None:
            raise ServiceFailed(
                f"{service.name} ended with status {process.returncode}. The end of "
                f"{service.log}:\n{_end_of(service.log)}"
            )
        if not service.health or answers(service.health):
            return
        if now > told + TELL_SECONDS:
            told = now
            tell(
                f"{service.name} runs but does not answer at {service.health} yet: waiting for it, "
                f"{now - begin:.0f} of at most {START_SECONDS} s; its log is {service.log}"
            )
        time.sleep(0.25)
    raise ServiceFailed(
        f"{service.name} runs but did not answer at {service.health} in {START_SECONDS} s. "
        f"The end of {service.log}:\n{_end_of(service.log)}"
    )


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask a service and its children to end, and end them after `STOP_SECONDS` if they do not."""
    signal_group(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS)
    signal_group(process.pid, signal.SIGKILL)  # children that outlived it
    process.wait()


@contextmanager
def running(service: Service) -> Iterator[int]:
    """Run a service while the block runs and yield its process id once it is ready."""
    process = start(service)
    try:
        wait_until_ready(process, service)
        yield process.pid
    finally:
        stop(process)


def signal_group(pid: int, number: int) -> None:
    """Send a signal to a service and its children; nothing happens if they are gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def wait_until_gone(pid: int) -> None:
    """Return when a service asked to end is gone; it is killed after `STOP_SECONDS`."""
    deadline = time.monotonic() + STOP_SECONDS
    while is_alive(pid):
        if time.monotonic() > deadline:
            signal_group(pid, signal.SIGKILL)
        time.sleep(0.2)


def answers(url: str) -> bool:
    """Say whether something answers at a URL, and not with an error."""
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Say whether a port of 127.0.0.1 can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _end_of(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
