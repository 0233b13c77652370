"""Frozen dataclasses to JSON and back, strictly: an unknown or missing key is an error.

Not a configuration system: no files are looked for, nothing is read from the environment.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

ConfigT = TypeVar("ConfigT")


def config_to_dict(config: object) -> dict[str, Any]:
    """Return a frozen dataclass as nested dicts, lists, strings, numbers and None."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected an instance of a configuration dataclass, got {config!r}")
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def config_from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Build a configuration dataclass from what `config_to_dict` returned.

    Parameters
    ----------
    cls : the dataclass to build
    values : every key must be a field of `cls`; fields that have a default may be left out

    Returns
    -------
    An instance equal to the one that was written: lists become tuples, nested mappings become
    nested dataclasses. A key that is no field raises ValueError and names the known ones.
    """
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"{cls!r} is not a configuration dataclass")
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no key {unknown}; its keys are {sorted(known)}")
    return cls(**{name: _typed(hints[name], value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return config_to_dict(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a configuration holds plain values only, not {type(value).__name__}")


def _typed(hint: Any, value: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return None if value is None else _typed(inner[0], value)
    if origin is tuple:
        arm = typing.get_args(hint)[0]
        return tuple(_typed(arm, item) for item in value)
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return config_from_dict(typing.cast(type[Any], hint), value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
