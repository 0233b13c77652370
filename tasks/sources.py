"""Where cutouts come from: bricks of a survey, or a folder of pictures. Both look alike to ingest.

A source lists its units (bricks, or blocks of pictures), says cheaply what a unit holds (`survey`)
and reads it whole (`read`). Sources are small and frozen: they travel to workers.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol

import xarray as xr

from storage.brick import (
    BrickCutouts,
    BrickPlan,
    IngestConfig,
    config_digest,
    read_brick,
    survey_brick,
)
from storage.bricks import discover_bricks
from storage.errors import BrickNotFound
from storage.image_folder import (
    IMAGE_BANDS,
    IMAGE_UNIT,
    ImageFolderConfig,
    list_blocks,
    read_block,
    survey_block,
)
from storage.schema import SurveyLayout


@dataclass(frozen=True)
class UnitPlan:
    """What a unit would give, before its pixels are read; `status` "failed" has a `reason`."""

    name: str
    brickid: int
    digest: str
    n_objects: int
    status: str
    reason: str = ""
    not_selected: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class UnitCutouts:
    """What a unit gave: a block of cutouts and its account."""

    dataset: xr.Dataset
    digest: str
    not_selected: dict[str, int]
    without_cutout: dict[str, list[int]]
    notes: tuple[str, ...]
    verification: str
    files: dict[str, str]


class Source(Protocol):
    """What ingest asks of a source."""

    def list_units(self, wanted: list[str] | None) -> tuple[str, ...]:
        """Return the names of the units, all or those that are wanted."""
        ...

    def layout(self) -> SurveyLayout:
        """Return the layout of the survey that the units are written to."""
        ...

    def config_digest(self) -> str:
        """Return the digest of configuration and algorithm."""
        ...

    def survey(self, name: str) -> UnitPlan:
        """Say what a unit would give; one that cannot be read is a plan that says why."""
        ...

    def read(self, name: str) -> UnitCutouts:
        """Read a unit."""
        ...


@dataclass(frozen=True)
class BrickSource:
    """Bricks below a folder, in any layout that `storage.legacysurvey` knows."""

    root: str
    region: str
    config: IngestConfig

    def list_units(self, wanted: list[str] | None) -> tuple[str, ...]:
        """Return brick names: those wanted, in order and once, else all that are found.

        Raises
        ------
        BrickNotFound
            If the folder is absent or holds no brick.
        """
        if wanted:
            return tuple(dict.fromkeys(wanted))
        found = discover_bricks(self.root, self.region)
        if not found:
            raise BrickNotFound(
                f"no brick below {self.root}: give the folder that holds coadd/ and tractor/"
            )
        return tuple(found)

    def layout(self) -> SurveyLayout:
        """Return the layout of a survey in nanomaggies."""
        return SurveyLayout(bands=self.config.bands, size=self.config.cutout.size)

    def config_digest(self) -> str:
        """Return the digest of the ingest configuration."""
        return config_digest(self.config)

    def survey(self, name: str) -> UnitPlan:
        """Say what a brick would give."""
        return _unit_plan(survey_brick(self.root, name, self.config, self.region))

    def read(self, name: str) -> UnitCutouts:
        """Read a brick."""
        return _unit_cutouts(read_brick(self.root, name, config=self.config, region=self.region))


@dataclass(frozen=True)
class ImageSource:
    """A folder of colour pictures, in blocks that stand where bricks stand."""

    folder: str
    name: str
    labels: str | None
    config: ImageFolderConfig

    def list_units(self, wanted: list[str] | None) -> tuple[str, ...]:
        """Return the names of the blocks."""
        return tuple(wanted or list_blocks(self.folder))

    def layout(self) -> SurveyLayout:
        """Return the layout of a survey of pictures."""
        return SurveyLayout(IMAGE_BANDS, self.config.size, IMAGE_UNIT, self.config.pixel_scale)

    def config_digest(self) -> str:
        """Return the digest of what decides the pixels: labels may change without them."""
        pixels = replace(
            ImageFolderConfig(),
            size=self.config.size,
            central_fraction=self.config.central_fraction,
            pixel_scale=self.config.pixel_scale,
        )
        return config_digest(pixels)

    def survey(self, name: str) -> UnitPlan:
        """Say what a block would give."""
        return _unit_plan(survey_block(self.folder, self.name, name, self.labels, self.config))

    def read(self, name: str) -> UnitCutouts:
        """Read a block."""
        return _unit_cutouts(read_block(self.folder, self.name, name, self.labels, self.config))


def _unit_plan(plan: BrickPlan) -> UnitPlan:
    return UnitPlan(
        plan.brickname,
        plan.brickid,
        plan.digest,
        plan.n_objects,
        plan.status,
        plan.reason,
        dict(plan.dropped),
    )


def _unit_cutouts(found: BrickCutouts) -> UnitCutouts:
    return UnitCutouts(
        dataset=found.dataset,
        digest=found.digest,
        not_selected=dict(found.dropped),
        without_cutout={key: list(ids) for key, ids in found.without_cutout.items()},
        notes=tuple(found.notes),
        verification=str(found.verification),
        files=dict(found.files),
    )
