"""The data: what it means and where it lives. No torch, no orchestration.

The names below are the public ones; each is imported from its module when it is first used, so that
``import storage`` costs nothing and a reader of bricks does not load the renderer of the pretend
survey.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.brick import BrickCutouts, BrickPlan, IngestConfig, read_brick, survey_brick
    from storage.bricks import Brick, brick_at, brick_from_id, brick_from_name, discover_bricks
    from storage.cutouts import CutoutConfig, cutout, pixel_to_sky, sky_to_pixel
    from storage.errors import (
        BrickNotFound,
        ChecksumMismatch,
        CorruptFile,
        IncompleteBrick,
        NothingToDo,
        RepositoryBusy,
        SchemaMismatch,
        StorageError,
    )
    from storage.repository import open_repository
    from storage.rgb import legacy_rgb
    from storage.selection import Selection
    from storage.synthetic.release import write_synthetic_release

__all__ = [
    "Brick",
    "BrickCutouts",
    "BrickNotFound",
    "BrickPlan",
    "ChecksumMismatch",
    "CorruptFile",
    "CutoutConfig",
    "IncompleteBrick",
    "IngestConfig",
    "NothingToDo",
    "RepositoryBusy",
    "SchemaMismatch",
    "Selection",
    "StorageError",
    "brick_at",
    "brick_from_id",
    "brick_from_name",
    "cutout",
    "discover_bricks",
    "legacy_rgb",
    "open_repository",
    "pixel_to_sky",
    "read_brick",
    "sky_to_pixel",
    "survey_brick",
    "write_synthetic_release",
]

_HOMES = {
    "storage.brick": ("BrickCutouts", "BrickPlan", "IngestConfig", "read_brick", "survey_brick"),
    "storage.bricks": ("Brick", "brick_at", "brick_from_id", "brick_from_name", "discover_bricks"),
    "storage.cutouts": ("CutoutConfig", "cutout", "pixel_to_sky", "sky_to_pixel"),
    "storage.errors": (
        "BrickNotFound",
        "ChecksumMismatch",
        "CorruptFile",
        "IncompleteBrick",
        "NothingToDo",
        "RepositoryBusy",
        "SchemaMismatch",
        "StorageError",
    ),
    "storage.repository": ("open_repository",),
    "storage.rgb": ("legacy_rgb",),
    "storage.selection": ("Selection",),
    "storage.synthetic.release": ("write_synthetic_release",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'storage' has no public name {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)
