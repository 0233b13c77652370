"""A PostgreSQL of Debian's packages for one test, on a port of 127.0.0.1."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.processes import free_port

USER = "brickyard"


def postgres_programs() -> Path | None:
    """Return the newest folder with PostgreSQL's server programs, or None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


class Postgres:
    """A server that can be stopped hard and started again."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._data, self._programs = folder / "data", programs
        self.port = free_port()
        # The server refuses to run as root: there it runs as the user of Debian's package.
        self._as = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        folder.mkdir(parents=True)
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
        self._run("initdb", "-D", str(self._data), "-U", USER, "-A", "trust", "-E", "UTF8")

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k '' -c fsync=off"
        log = str(self._data / "log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-o", options, "-l", log, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; mode "immediate" is a crash: nothing is written out."""
        self._run("pg_ctl", "-D", str(self._data), "-w", "-m", mode, "stop")

    def create(self, database: str) -> None:
        where = ("-h", "127.0.0.1", "-p", str(self.port), "-U", USER)
        self._run("createdb", *where, database)

    def address(self, database: str, driver: str) -> str:
        return f"{driver}://{USER}@127.0.0.1:{self.port}/{database}"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(self._programs / program), *arguments]
        # No pipes: the server would inherit them, and whoever reads them would wait for its end.
        done = subprocess.run(
            command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")


@contextmanager
def postgres(folder: Path, programs: Path) -> Iterator[Postgres]:
    server = Postgres(folder, programs)
    server.start()
    try:
        yield server
    finally:
        server.stop("immediate")
