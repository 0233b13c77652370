"""Load loops that numba compiles, where numba is there (`brickyard[fast]`)."""

import logging
from functools import lru_cache
from importlib import import_module
from types import ModuleType

logger = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def compiled_loops(name: str, otherwise: str, level: int = logging.WARNING) -> ModuleType | None:
    """Return a module of compiled loops, None where they cannot be had.

    Parameters
    ----------
    name : str
        Of the module.
    otherwise : str
        What happens without it, for the log.
    level : int
        Of that line of the log.
    """
    try:
        return import_module(name)
    except (ImportError, RuntimeError) as error:  # no numba; no folder where it may keep its code
        logger.log(level, "%s: %s", otherwise, error)
        return None
