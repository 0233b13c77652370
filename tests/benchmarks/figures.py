"""Record the figures of a benchmark run in docs/benchmarks.json and in the table made from it."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = REPOSITORY / "docs" / "benchmarks.json"
TABLE = REPOSITORY / "docs" / "benchmarks.md"

HEADER = """# Benchmarks

Made by `make bench` from `docs/benchmarks.json`; do not edit. `make bench ONLY=loader` runs one
group. The value is the median of the runs, the spread is the smallest and the largest.

| name | value | unit | goal | bound | spread | runs | device | date | commit |
|---|---|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Figure:
    """What a benchmark measured."""

    name: str
    unit: str
    goal: str
    bound: str
    values: Sequence[float]  # one a run
    device: str = ""  # empty: the processor cores of this machine


def record(figure: Figure) -> float:
    """Record a figure and return its median."""
    value = median(figure.values)
    entry = {
        "name": figure.name,
        "value": _short(value),
        "unit": figure.unit,
        "goal": figure.goal,
        "bound": figure.bound,
        "command": f"make bench ONLY={figure.name.split('.')[0]}",
        "device": figure.device or f"{os.cpu_count()} cores",
        "runs": len(figure.values),
        "spread": [_short(min(figure.values)), _short(max(figure.values))],
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
    }
    _write(entry)
    return value


def _write(entry: dict[str, object]) -> None:
    # A figure of another device is another row: a GPU figure is never rewritten by a CPU run.
    entries = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.is_file() else []
    by_key = {(old["name"], old["device"]): old for old in entries}
    by_key[(str(entry["name"]), str(entry["device"]))] = entry
    ordered = [by_key[key] for key in sorted(by_key)]
    RECORDS.parent.mkdir(exist_ok=True)
    RECORDS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(HEADER + "".join(map(_line, ordered)), encoding="utf-8")


def _line(entry: dict[str, object]) -> str:
    names = ("value", "unit", "goal", "bound", "spread", "runs", "device", "date", "commit")
    cells = [f"`{entry['name']}`", *(str(entry[name]) for name in names)]
    return "| " + " | ".join(cells) + " |\n"


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "none yet"
