"""Bricks as a source of ingest: those below a local folder."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from storage.brick import (
    IngestConfig,
    brick_fingerprint,
    config_digest,
    read_brick,
    survey_brick,
)
from storage.bricks import discover_bricks
from storage.errors import BrickNotFound, StorageError
from storage.schema import SurveyLayout
from tasks.settings import Settings
from tasks.sources import UnitCutouts, UnitList, UnitPlan, unit_cutouts, unit_plan


@dataclass(frozen=True)
class BrickSource:
    """Bricks below a folder, in any layout that `storage.legacysurvey` knows.

    See `tasks.sources.Source` for the methods.
    """

    root: str
    region: str
    config: IngestConfig

    def list_units(self, wanted: list[str] | None, name_list: str | None = None) -> UnitList:
        """Return brick names: those wanted, in order and once, else all that are found.

        Raises
        ------
        BrickNotFound
            If the folder is absent or holds no brick.
        """
        if wanted or name_list:
            from storage.brick_lists import read_brick_names

            listed = read_brick_names(Path(name_list)) if name_list else ()
            return UnitList(tuple(dict.fromkeys([*(wanted or ()), *listed])))
        found = discover_bricks(self.root, self.region)
        if not found:
            raise BrickNotFound(
                f"no brick below {self.root}: give the folder that holds coadd/ and tractor/"
            )
        return UnitList(tuple(found))

    def fingerprints(self, names: Sequence[str]) -> dict[str, str]:
        """Return digests of names, sizes and times of the files of bricks that are there."""
        found = {}
        for name in names:
            with suppress(StorageError, OSError):  # ingest will say what is wrong with it
                found[name] = brick_fingerprint(self.root, name, self.config.bands, self.region)
        return found

    def layout(self) -> SurveyLayout:
        """Return the layout of a survey in nanomaggies."""
        return SurveyLayout(bands=self.config.bands, size=self.config.cutout.size)

    def config_digest(self) -> str:
        """Return the digest of the ingest configuration."""
        return config_digest(self.config)

    def configuration(self) -> dict[str, Any]:
        """Return the ingest configuration, the selection of objects among it."""
        return asdict(self.config)

    def survey(self, name: str) -> UnitPlan:
        """Say what a brick would give."""
        return unit_plan(survey_brick(self.root, name, self.config, self.region))

    def read(self, name: str) -> UnitCutouts:
        """Read a brick."""
        return unit_cutouts(read_brick(self.root, name, config=self.config, region=self.region))

    def forget(self, names: Sequence[str]) -> None:
        """Do nothing: the files are the user's."""


def open_bricks(
    settings: Settings, source: str, survey: tuple[str, str], config: IngestConfig
) -> BrickSource:
    """Return the source for a folder of bricks."""
    return BrickSource(source, survey[1], config)
