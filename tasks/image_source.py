"""A folder of colour pictures as a source of ingest, in blocks that stand where bricks stand."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from storage.brick import config_digest
from storage.image_folder import (
    IMAGE_BANDS,
    IMAGE_UNIT,
    ImageFolderConfig,
    list_blocks,
    read_block,
    survey_block,
)
from storage.schema import SurveyLayout
from tasks.sources import UnitCutouts, UnitList, UnitPlan, unit_cutouts, unit_plan


@dataclass(frozen=True)
class ImageSource:
    """A folder of colour pictures; see `tasks.sources.Source` for the methods."""

    folder: str
    name: str
    labels: str | None
    config: ImageFolderConfig

    def list_units(self, wanted: list[str] | None, name_list: str | None = None) -> UnitList:
        """Return the names of the blocks; there are no lists of them."""
        return UnitList(tuple(wanted or list_blocks(self.folder)))

    def fingerprints(self, names: Sequence[str]) -> dict[str, str]:
        """Return nothing: pictures are small enough to be read and compared."""
        return {}

    def layout(self) -> SurveyLayout:
        """Return the layout of a survey of pictures."""
        return SurveyLayout(IMAGE_BANDS, self.config.size, IMAGE_UNIT, self.config.pixel_scale)

    def config_digest(self) -> str:
        """Return the digest of what decides the pixels: labels may change without them."""
        return config_digest(self._pixels())

    def configuration(self) -> dict[str, Any]:
        """Return what decides the pixels."""
        return {"source": "images", **asdict(self._pixels())}

    def survey(self, name: str) -> UnitPlan:
        """Say what a block would give."""
        return unit_plan(survey_block(self.folder, self.name, name, self.labels, self.config))

    def read(self, name: str) -> UnitCutouts:
        """Read a block."""
        return unit_cutouts(read_block(self.folder, self.name, name, self.labels, self.config))

    def forget(self, names: Sequence[str]) -> None:
        """Do nothing: the pictures are the user's."""

    def _pixels(self) -> ImageFolderConfig:
        return replace(
            ImageFolderConfig(),
            size=self.config.size,
            central_fraction=self.config.central_fraction,
            pixel_scale=self.config.pixel_scale,
        )
