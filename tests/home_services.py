"""`brickyard up` of a home as a process of its own that tests can kill, and its pages over HTTP."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
from desk_home import PASSWORD, token_of

from flows.processes import free_port, signal_group
from flows.stack import Ports, ServiceState, read_stack, stop_stack
from tasks.alive import is_alive

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENCE = 240  # seconds; a busy machine imports for a minute and more
START_SECONDS = 300  # five programs and the registration of fifteen deployments


def wait_for(ready: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Look again and again until something is so."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {seconds:.0f} s")
        time.sleep(0.2)


class Stack:
    """Prefect, MLflow, two workers and the desk of a home, started as people start them."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._ports = Ports(*(free_port() for _ in range(3)))
        self._process: subprocess.Popen[bytes] | None = None
        self.api_url = f"http://127.0.0.1:{self._ports.prefect}/api"
        self.mlflow_url = f"http://127.0.0.1:{self._ports.mlflow}"
        self.desk_url = f"http://127.0.0.1:{self._ports.desk}"

    @property
    def services(self) -> list[ServiceState]:
        """Return what is recorded to run."""
        return read_stack(self._home)

    def start(self) -> None:
        """Start the command; `wait` says when everything answers."""
        foreign = ("PREFECT_", "BRICKYARD_", "MLFLOW_")
        environment = {name: v for name, v in os.environ.items() if not name.startswith(foreign)}
        # Everything goes through the MLflow server; a worker looks for runs every second.
        environment["BRICKYARD_TRACKING_URI"] = self.mlflow_url
        environment["PREFECT_WORKER_QUERY_SECONDS"] = "1"
        ports = [f"--{name}-port={port}" for name, port in vars(self._ports).items()]
        with (self._home.parent / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows", "--home", str(self._home), "up", *ports],
                env=environment,
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Return when all five services of the command answer."""
        wait_for(self._stands, "`brickyard up`", START_SECONDS)

    def kill(self, gently: str) -> dict[int, str]:
        """End everything as a crash does: SIGKILL to all, and SIGTERM to one service.

        Returns
        -------
        dict
            What was ended, by process id.
        """
        ended = {state.pid: state.name for state in self.services}
        if self._process is not None:  # the first, or it would start the others again
            self._process.kill()
            self._process.wait()
        for pid, name in ended.items():
            signal_group(pid, signal.SIGTERM if name == gently else signal.SIGKILL)
        wait_for(lambda: not any(map(is_alive, ended)), "the end of all services")
        return ended

    def stop(self) -> None:
        """End everything in order; nothing happens where nothing runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=PATIENCE)
        stop_stack(self._home, lambda _: None)

    def _stands(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError((self._home.parent / "up.log").read_text()[-3000:])
        states = self.services
        return len(states) == 5 and all(state.answers for state in states)


class DeskVisitor:
    """Somebody who uses the pages of the desk over HTTP, as a browser does."""

    def __init__(self, url: str, name: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60, follow_redirects=True)
        answer = self._client.post("/login", data={"name": name, "password": PASSWORD, "next": "/"})
        answer.raise_for_status()

    def close(self) -> None:
        """Forget the connection."""
        self._client.close()

    def get(self, path: str) -> str:
        """Return a page; it is asked for again while the desk is not there."""
        answer: list[httpx.Response] = []

        def answered() -> bool:
            with suppress(httpx.TransportError):
                answer.append(self._client.get(path))
            return bool(answer)

        wait_for(answered, path)
        answer[0].raise_for_status()
        return answer[0].text

    def send(self, path: str, page: str, **fields: object) -> httpx.Response:
        """Hand in a form of a page."""
        return self._client.post(path, data=token_of(page) | fields)

    def decide(self, run_id: str, verdict: str, reason: str, page: str = "") -> httpx.Response:
        """Fill in the form of the desk about a promotion that waits.

        Parameters
        ----------
        page : str, optional
            As it was seen; by default it is asked for now.
        """
        page = page or self.get(f"/approve/{run_id}")
        seen = re.search(r'name="seen_evidence" value="([0-9a-f]{64})"', page)
        fields = {"verdict": verdict, "reason": reason, "override": "a test"}
        return self.send(f"/approve/{run_id}/decide", page, seen_evidence=seen[1], **fields)
