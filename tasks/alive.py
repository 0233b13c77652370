"""Whether a process of this host runs."""

import os
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended and that nobody asked about counts as gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    state = Path(f"/proc/{pid}/stat")
    return not state.is_file() or state.read_text().rpartition(")")[2].split()[0] != "Z"
