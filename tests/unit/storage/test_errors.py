import pytest

from storage import errors


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("BrickNotFound", FileNotFoundError),
        ("CorruptFile", OSError),
        ("ChecksumMismatch", errors.CorruptFile),
        ("SchemaMismatch", ValueError),
        ("RepositoryBusy", RuntimeError),
    ],
)
def test_errors_are_caught_as_storage_errors_and_as_builtins(name: str, builtin: type) -> None:
    error = getattr(errors, name)
    assert issubclass(error, errors.StorageError)
    assert issubclass(error, builtin)


def test_the_drawn_tree_names_every_error() -> None:
    classes = [name for name, value in vars(errors).items() if isinstance(value, type)]
    assert all(name in errors.__doc__ for name in classes)
