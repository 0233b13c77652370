"""A real HTTP server in a thread that serves a folder and misbehaves as a test scripts it."""

import hashlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What happens instead of, or during, one answer.

    `status` answers with that and nothing else. `cut_after` closes the connection after so many
    bytes of the body and a pause, in which a client can read them; `stall_after` says nothing more
    after them for `stall_seconds`, `silent` says nothing at all for that long. `wrong` flips a byte
    of the body. `methods` are those that meet the fault.
    """

    status: int = 0
    retry_after: str = ""
    cut_after: int = -1
    cut_pause: float = 0.15
    stall_after: int = -1
    stall_seconds: float = 30.0
    silent: bool = False
    wrong: bool = False
    methods: tuple[str, ...] = ("GET",)


@dataclass(frozen=True)
class Request:
    """A request that came, with its moment [s] and the status of the answer."""

    method: str
    path: str
    range: str
    moment: float
    status: int


@dataclass
class FaultyServer:
    """Serves `root`; `faults` are met once each, in order, by requests whose path ends so.

    `ranges` and `validators` say whether the server knows ranges, and sends ETag and Last-Modified.
    `seconds_a_piece` slows every body down. `content_encoding` labels gzipped files with it, as
    some web servers do.
    """

    root: Path
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    ranges: bool = True
    validators: bool = True
    seconds_a_piece: float = 0.0
    content_encoding: bool = False
    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _under_way: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def script(self, ending: str, *faults: Fault) -> None:
        """Let the next requests for paths with an ending meet faults."""
        with self._lock:
            self.faults.setdefault(ending, []).extend(faults)

    def asked(self, ending: str, method: str = "GET") -> list[Request]:
        """Return the requests of a method for paths with an ending."""
        with self._lock:
            return [
                request
                for request in self.requests
                if request.method == method and request.path.endswith(ending)
            ]

    def statuses(self) -> Counter[int]:
        """Return how often each status was answered."""
        with self._lock:
            return Counter(request.status for request in self.requests)

    @contextmanager
    def running(self) -> Iterator["FaultyServer"]:
        """Serve on a free port of this machine inside the block."""
        with _QuietServer(("127.0.0.1", 0), _handler_of(self)) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self._stopped.set()
                server.shutdown()
                thread.join()

    def next_fault(self, method: str, path: str) -> Fault:
        """Take the fault that a request meets."""
        with self._lock:
            for ending, faults in self.faults.items():
                if path.endswith(ending) and faults and method in faults[0].methods:
                    return faults.pop(0)
        return Fault()

    def note(self, request: Request) -> None:
        """Remember a request."""
        with self._lock:
            self.requests.append(request)

    def enter(self) -> None:
        """Count a request as under way."""
        with self._lock:
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)

    def leave(self) -> None:
        """Count a request as answered: before its last bytes go, or the next one may come first."""
        with self._lock:
            self._under_way -= 1

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than the server runs."""
        self._stopped.wait(seconds)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away: tests make them."""


def _handler_of(server: FaultyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.faulty = server
    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    faulty: FaultyServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        """Write no log."""

    def _answer(self) -> None:
        self.faulty.enter()
        fault = self.faulty.next_fault(self.command, self.path)
        file = self.faulty.root / self.path.lstrip("/")
        if fault.silent:
            self.faulty.leave()
            self.faulty.wait(fault.stall_seconds)
            self.close_connection = True
        elif fault.status:
            self._refuse(fault.status, fault.retry_after)
        elif not file.is_file():
            self._refuse(404)
        else:
            self._send(file, fault)

    def _refuse(self, status: int, retry_after: str = "") -> None:
        self._note(status)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.faulty.leave()
        self.end_headers()

    def _send(self, file: Path, fault: Fault) -> None:
        content = file.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        changed = formatdate(file.stat().st_mtime, usegmt=True)
        start = self._start(len(content), etag, changed)
        if start > 0 and start >= len(content):
            self._refuse(416)
            return
        partial = start >= 0
        body = content[max(start, 0) :]
        if self.headers.get("Range") == "bytes=0-0" and partial:
            body = content[:1]
        self._note(206 if partial else 200)
        self.send_response(206 if partial else 200)
        self.send_header("Content-Length", str(len(body)))
        if partial:
            last = start + len(body) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        if self.faulty.validators:
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", changed)
        if self.faulty.content_encoding and file.suffix == ".gz":
            self.send_header("Content-Encoding", "gzip")
        if self.command == "HEAD" or not body:
            self.faulty.leave()
            self.end_headers()
            return
        self.end_headers()
        self._send_body(_flipped(body) if fault.wrong else body, fault)

    def _start(self, size: int, etag: str, changed: str) -> int:
        """Return the first byte asked for, -1 when the whole file has to be sent."""
        asked = self.headers.get("Range", "")
        condition = self.headers.get("If-Range", etag)
        if not (self.faulty.ranges and asked.startswith("bytes=") and size):
            return -1
        if condition not in (etag, changed):
            return -1
        return int(asked.removeprefix("bytes=").partition("-")[0])

    def _send_body(self, body: bytes, fault: Fault) -> None:
        stops = [stop for stop in (fault.cut_after, fault.stall_after) if stop >= 0]
        end = min([*stops, len(body)])
        if end == 0:
            self.faulty.leave()
        with suppress(OSError):  # the client went away
            for first in range(0, end, PIECE):
                if self.faulty.seconds_a_piece:
                    self.faulty.wait(self.faulty.seconds_a_piece)
                if first + PIECE >= end:
                    self.faulty.leave()
                self.wfile.write(body[first : min(first + PIECE, end)])
        if end < len(body):
            self.faulty.wait(fault.stall_seconds if fault.stall_after >= 0 else fault.cut_pause)
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    def _note(self, status: int) -> None:
        asked = self.headers.get("Range", "")
        self.faulty.note(Request(self.command, self.path, asked, time.monotonic(), status))


def _flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
