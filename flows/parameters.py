"""What a run does: the configurations of storage as parameters of flows; see `model_parameters`.

They are frozen dataclasses beside their algorithms. Here they learn to refuse unknown keys, so
that a misspelt one is an error in a Prefect form, in a TOML file and on the command line alike.
"""

import dataclasses
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from storage.brick import IngestConfig
from storage.fetch import FetchConfig
from storage.image_folder import ImageFolderConfig
from storage.quality.limits import QualityLimits
from storage.splits import SplitConfig
from tasks.errors import BadConfiguration
from tasks.references import Reference

__all__ = [
    "FetchConfig",
    "ImageFolderConfig",
    "IngestConfig",
    "IngestRun",
    "QualityLimits",
    "SplitConfig",
    "read_config",
]

ConfigT = TypeVar("ConfigT")


def forbid_unknown_keys(cls: type) -> None:
    """Make pydantic refuse keys that a dataclass, or a dataclass inside it, does not have.

    By default pydantic drops unknown keys of standard dataclasses without a word.
    """
    cls.__pydantic_config__ = {"extra": "forbid"}  # type: ignore[attr-defined]
    for hint in typing.get_type_hints(cls).values():
        for inner in (hint, *typing.get_args(hint)):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                forbid_unknown_keys(inner)


for _config in (
    IngestConfig,
    FetchConfig,
    ImageFolderConfig,
    QualityLimits,
    SplitConfig,
):
    forbid_unknown_keys(_config)


class IngestRun(Reference):
    """How an ingest runs; what it makes is decided by the `IngestConfig`.

    `bricks_per_commit` bricks become visible together; a killed run loses at most these. `again`
    ingests bricks that are unchanged, or withdrawn, once more. `brick_list` is a file of brick
    names. `tag` names the snapshot that the run leads to; by default it gets a running number.
    `fetch` says how hard a remote source may be pressed. A remote source needs room to stage
    `bricks_per_commit` bricks.
    """

    bricks_per_commit: int = Field(default=64, ge=1)
    again: bool = False
    brick_list: str | None = None
    tag: str | None = None
    fetch: FetchConfig | None = None


def read_config(
    cls: type[ConfigT], path: Path | None, overrides: Mapping[str, Any] | None = None
) -> ConfigT:
    """Build a configuration from a TOML file and options that replace single keys of it.

    Parameters
    ----------
    cls : type
        One of the configurations of this module.
    path : Path or None
        TOML file whose tables are the nested configurations; None starts from the defaults.
    overrides : mapping
        Values by dotted key, such as `{"selection.max_mag": 19.0}`; None values are left out.

    Raises
    ------
    BadConfiguration
        If the file cannot be read, or a key or value is wrong; the message names each.
    """
    values: dict[str, Any] = {}
    where = cls.__name__ if path is None else f"{path}: {cls.__name__}"
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise BadConfiguration(f"{path}: {error}") from error
    for key, value in (overrides or {}).items():
        if value is not None:
            _set(values, key.split("."), value)
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise BadConfiguration(f"{where}: " + "; ".join(lines)) from error
    except ValueError as error:  # a dataclass refused the combination of its values
        raise BadConfiguration(f"{where}: {error}") from error


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
    values[keys[-1]] = value
