import subprocess
import sys

import pytest

import storage


@pytest.mark.parametrize("name", storage.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(storage, name).__name__ == name


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no public name 'nothing'"):
        _ = storage.nothing  # type: ignore[attr-defined]


def test_import_is_free() -> None:
    code = "import storage, sys; print(sorted({'torch', 'galsim', 'astropy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
