"""What ingest asks of a source of cutouts, whether bricks of a survey or a folder of pictures.

A source lists its units (bricks, or blocks of pictures), says cheaply what a unit holds (`survey`)
and reads it whole (`read`). Sources are small and frozen: they travel to workers. The sources are
`tasks.brick_sources` and `tasks.image_source`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import xarray as xr

from storage.brick import BrickCutouts, BrickPlan
from storage.errors import ChecksumMismatch, InconsistentBrick
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
    fingerprint: str = ""
    verification: str = ""


@dataclass(frozen=True)
class UnitList:
    """The names of units, and those left out before they are looked at, with the reason."""

    names: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)


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
    quality: dict[str, Any] = field(default_factory=dict)
    neighbours: dict[str, str] = field(default_factory=dict)


class Source(Protocol):
    """What ingest asks of a source."""

    def list_units(self, wanted: list[str] | None, name_list: str | None = None) -> UnitList:
        """Return the names of the units: all, or those that are wanted or in a file of names."""
        ...

    def fingerprints(self, names: Sequence[str]) -> dict[str, str]:
        """Return what tells cheaply that a unit changed; units that are gone are left out."""
        ...

    def layout(self) -> SurveyLayout:
        """Return the layout of the survey that the units are written to."""
        ...

    def config_digest(self) -> str:
        """Return the digest of configuration and algorithm."""
        ...

    def configuration(self) -> dict[str, Any]:
        """Return the configuration that the digest is of, as it is kept with the survey."""
        ...

    def survey(self, name: str) -> UnitPlan:
        """Say what a unit would give; one that cannot be read is a plan that says why."""
        ...

    def read(self, name: str) -> UnitCutouts:
        """Read a unit."""
        ...

    def forget(self, names: Sequence[str]) -> None:
        """Give up what was kept of units for their reading; their commit is made."""
        ...


def broken_plan(name: str, error: BaseException, plan: UnitPlan | None = None) -> UnitPlan:
    """Return the plan of a unit that could not be planned, or not be read as planned.

    Its status is "quarantined" where files contradict one another, "failed" for all the rest.
    """
    contradict = isinstance(error, ChecksumMismatch | InconsistentBrick)
    known = plan or UnitPlan(name, 0, "", 0, "failed")
    status = "quarantined" if contradict else "failed"
    return replace(known, status=status, reason=f"{type(error).__name__}: {error}")


def unit_plan(plan: BrickPlan) -> UnitPlan:
    """Return what storage says of a brick, or of a block, as the plan of a unit."""
    return UnitPlan(
        name=plan.brickname,
        brickid=plan.brickid,
        digest=plan.digest,
        n_objects=plan.n_objects,
        status=plan.status,
        reason=plan.reason,
        not_selected=dict(plan.dropped),
        fingerprint=plan.fingerprint,
    )


def unit_cutouts(found: BrickCutouts) -> UnitCutouts:
    """Return what storage read of a brick, or of a block, as a unit."""
    return UnitCutouts(
        dataset=found.dataset,
        digest=found.digest,
        not_selected=dict(found.dropped),
        without_cutout={key: list(ids) for key, ids in found.without_cutout.items()},
        notes=tuple(found.notes),
        verification=found.verification,
        files=dict(found.files),
        quality=dict(found.quality),
        neighbours=dict(found.neighbours),
    )
