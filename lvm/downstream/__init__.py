"""Downstream tasks: one file each. A file beside this one that registers a task is found."""

import importlib
import pkgutil
from collections.abc import Mapping

from lvm.downstream.base import (
    DownstreamModel,
    DownstreamTask,
    Metric,
    TaskConfig,
    create_task,
    register,
    registered,
)

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

DOWNSTREAM_TASKS: Mapping[str, type[DownstreamTask]] = registered()

__all__ = [
    "DOWNSTREAM_TASKS",
    "DownstreamModel",
    "DownstreamTask",
    "Metric",
    "TaskConfig",
    "create_task",
    "register",
]
