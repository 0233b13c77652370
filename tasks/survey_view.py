"""The newest snapshot of a survey as pages look at it: an object by its id, its neighbours."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.brick_ledger import ledger, ledger_of
from storage.brick_store import read_layout, read_objects
from storage.bricks import brick_from_id
from storage.catalogue import format_object_id
from storage.errors import StorageError
from storage.repository import (
    SURVEY_REPOSITORY,
    open_repository,
    read_session,
    repository_place,
    snapshot_id,
)
from storage.schema import BrickState
from storage.search.objects import ObjectNotFound
from storage.survey_group import list_surveys
from tasks.settings import Settings

ARCSEC = 3600.0  # in a degree
BRICKS_KEPT = 256

Key = tuple[int, int, int]


@dataclass(frozen=True)
class ShownObject:
    """An object of a survey: its row, place [deg], and a digest of what its brick was made from."""

    key: Key
    row: int
    ra: float
    dec: float
    brickname: str
    version: str

    @property
    def object_id(self) -> str:
        """Return `<release>-<brickid>-<objid>`."""
        return format_object_id(*self.key)


@dataclass(frozen=True)
class _Brick:
    """The objects of a brick by their keys, and the places of the same objects [deg]."""

    objects: dict[Key, ShownObject]
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]


class SurveyView:
    """A snapshot of a survey that many threads read; bricks are read once and kept for a while."""

    def __init__(self, survey: str, snapshot: str, session: Any) -> None:
        layout = read_layout(session, survey)
        self.survey, self.snapshot, self.session = survey, snapshot, session
        self.bands, self.size, self.pixel_scale = layout.bands, layout.size, layout.pixel_scale
        self._bricks: OrderedDict[int, _Brick] = OrderedDict()
        self._lock = Lock()

    @classmethod
    def newest(cls, settings: Settings, survey: str, known: "SurveyView | None") -> "SurveyView":
        """Open the newest snapshot; returns `known` when it is still the newest.

        Raises
        ------
        StorageError
            If there is no store, or no such survey in it.
        """
        repository = open_repository(repository_place(settings.store_path, SURVEY_REPOSITORY))
        newest = snapshot_id(repository)
        if known is not None and known.snapshot == newest:
            return known
        session = read_session(repository, snapshot=newest)
        if survey not in list_surveys(session):
            raise StorageError(f"survey {survey!r} is not in the store")
        return cls(survey, newest, session)

    def find(self, key: Key) -> ShownObject:
        """Return an object by release, brickid and objid, or raise `ObjectNotFound`."""
        found = self._brick(key[1]).objects.get(key)
        if found is None:
            raise ObjectNotFound(f"object {format_object_id(*key)} is not in {self.survey}")
        return found

    def near(self, found: ShownObject) -> list[str]:
        """Return the other objects of the same brick whose centres lie in an object's cutout."""
        return [item.object_id for item, _ in self._inside(found)]

    def neighbours(self, found: ShownObject) -> npt.NDArray[np.float64]:
        """Return the places of `near` in the cutout.

        Returns
        -------
        ndarray, shape (object, 2), float64
            x and y [pixel], 0-based, the first row on top (north).
        """
        return np.array([place for _, place in self._inside(found)]).reshape(-1, 2)

    def _inside(self, found: ShownObject) -> list[tuple[ShownObject, npt.NDArray[np.float64]]]:
        brick = self._brick(found.key[1])
        east = (brick.ra - found.ra + 180.0) % 360.0 - 180.0
        north = brick.dec - found.dec
        centre = self.size // 2
        x = centre - east * np.cos(np.deg2rad(found.dec)) * ARCSEC / self.pixel_scale
        y = self.size - 1 - centre - north * ARCSEC / self.pixel_scale
        places = np.stack([x, y], axis=1)
        inside = ((places >= 0) & (places <= self.size - 1)).all(axis=1)  # none where NaN
        return [
            (item, place)
            for item, place, here in zip(brick.objects.values(), places, inside, strict=True)
            if here and item.row != found.row
        ]

    def _brick(self, brickid: int) -> "_Brick":
        with self._lock:
            if brickid in self._bricks:
                self._bricks.move_to_end(brickid)
                return self._bricks[brickid]
        brick = self._read_brick(brickid)
        with self._lock:
            self._bricks[brickid] = brick
            while len(self._bricks) > BRICKS_KEPT:
                self._bricks.popitem(last=False)
        return brick

    def _read_brick(self, brickid: int) -> "_Brick":
        columns = ("brickid", "state", "content_digest", "config_digest")
        known = ledger_of(self.session, self.survey, self._names(brickid), columns)
        known = known[(known["brickid"] == brickid) & (known["state"] == int(BrickState.WRITTEN))]
        if known.empty:
            raise ObjectNotFound(f"brick {brickid} is not in {self.survey}, or was taken out")
        names = [str(name) for name in known.index]
        table = read_objects(self.session, self.survey, bricknames=names, catalogue=False)
        version = "".join(known["content_digest"] + known["config_digest"])
        names = ("release", "brickid", "objid", "row", "ra", "dec", "brickname")
        objects = {}
        for a, b, c, row, ra, dec, name in zip(*(table[x].tolist() for x in names), strict=True):
            objects[(a, b, c)] = ShownObject((a, b, c), row, ra, dec, name, version)
        return _Brick(objects, table["ra"].to_numpy(), table["dec"].to_numpy())

    def _names(self, brickid: int) -> list[str]:
        """Return the bricks that may have this number: the sky's own, or a block of pictures."""
        try:
            name = brick_from_id(brickid).brickname
            if len(ledger_of(self.session, self.survey, [name], ("brickid",))):
                return [name]
        except (StorageError, ValueError):
            pass  # a block of an image folder
        table = ledger(self.session, self.survey, ("brickid",))
        return [str(name) for name in table.index[table["brickid"] == brickid]]
