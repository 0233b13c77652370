"""The picture of the layers is true: imports are read from the source, without importing anything.

import-linter says the same in `make check`; this test needs no tool and names the line.
"""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
OWN = {"flows", "tasks", "lvm", "storage"}
SCIENCE_BANS = {"prefect", "dask", "distributed", "mlflow", "pydantic"}
FORBIDDEN = {
    "lvm": SCIENCE_BANS
    | {"flows", "tasks", "storage", "zarr", "xarray", "icechunk", "astropy", "pandas"},
    "storage": SCIENCE_BANS | {"flows", "tasks", "lvm", "torch", "timm"},
    "tasks": {"flows"},
    "flows": {"torch", "timm", "zarr", "icechunk", "mlflow", "dask", "distributed"},
}


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Return the line and the top-level package of every import in a file, inner ones too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.append((node.lineno, (node.module or "").split(".")[0]))
    return found


@pytest.mark.parametrize("package", sorted(FORBIDDEN))
def test_package_imports_only_what_its_layer_may_know(package):
    files = sorted((REPOSITORY / package).rglob("*.py"))
    assert files, f"{package} has no modules"
    wrong = [
        f"{path.relative_to(REPOSITORY)}:{line} imports {name}"
        for path in files
        for line, name in imports_of(path)
        if name in FORBIDDEN[package]
    ]
    assert not wrong


def test_only_tracking_talks_to_mlflow():
    files = [path for package in OWN for path in (REPOSITORY / package).rglob("*.py")]
    users = {
        path.relative_to(REPOSITORY).as_posix()
        for path in files
        if any(name == "mlflow" for _, name in imports_of(path))
    }
    assert users
    assert all(user.startswith("tasks/tracking/") for user in users)


def test_no_file_is_named_for_nothing():
    names = {path.stem for package in OWN for path in (REPOSITORY / package).rglob("*.py")}
    assert not names & {"utils", "helpers", "common", "misc", "manager"}
