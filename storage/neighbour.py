"""A brick beside the one that is read: what it shows of the sky, and its pixels there.

Its files are opened when they are first needed, and only the strip that is needed is decoded. What
goes wrong with them is the neighbour's problem, never the failure of the brick beside it.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from storage.bricks import Brick
from storage.checksums import file_sha256, listed_hashes
from storage.coadds import coadd_frame, read_coadds
from storage.cutouts import sky_to_pixel
from storage.errors import ChecksumMismatch, StorageError
from storage.legacysurvey import BrickFiles
from storage.resampling import SPLINE_REACH, Resampled, Section
from storage.table_columns import Version, file_version

_ABSENT = "absent"
_HASHES_KEPT = 4096  # of files: a brick is the neighbour of up to eight others


class Neighbour:
    """A neighbouring brick.

    Parameters
    ----------
    brick : Brick
    bands : sequence of str
        Bands of the cutouts; one that the neighbour lacks is 0 with invvar 0.
    files : BrickFiles or None
        Its coadds, without the catalogue; None where there are none.
    verify : bool
        Trust only files that are those of their SHA-256 lists, where there are any.
    problem : str
        "absent", or "unreadable: why"; empty as long as nothing is known to be wrong.
    """

    def __init__(
        self,
        brick: Brick,
        bands: Sequence[str],
        files: BrickFiles | None,
        verify: bool = True,
        problem: str = "",
    ) -> None:
        self.brick, self.bands, self.files, self.verify = brick, tuple(bands), files, verify
        self.problem = problem or ("" if files else _ABSENT)
        self._frame: tuple[WCS, tuple[int, int]] | None = None
        self._section: Section | None = None

    def hashes(self) -> dict[str, str]:
        """Return ``{file name: sha256}`` as the lists say if they name every file, else as it is.

        Raises
        ------
        CorruptFile
            When a list cannot be read.
        """
        if self.files is None:
            return {}
        listed = listed_hashes(self.files) if self.verify else {}
        return listed if len(listed) == len(self.files.data_files()) else _hashed(self.files)

    def show(
        self, ra: NDArray[np.float64], dec: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
        """Return which places [deg] are on the image, and where: (y, x) [pixel]."""
        if not self.problem and self._frame is None:
            self._open()
        if self._frame is None or self.problem:
            return np.zeros(len(ra), bool), np.zeros(len(ra)), np.zeros(len(ra))
        wcs, (height, width) = self._frame
        y, x = sky_to_pixel(wcs, ra, dec)
        return (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1), y, x

    def read(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> None:
        """Decode what these places need; what cannot be read becomes the problem."""
        if self.files is None or self._frame is None:
            return
        rows, columns = (
            slice(
                max(int(places.min()) - SPLINE_REACH, 0),
                min(int(places.max()) + SPLINE_REACH + 2, length),
            )
            for places, length in zip((y, x), self._frame[1], strict=True)
        )
        try:
            part = read_coadds(self.files, self.brick, self.bands, box=(rows, columns))
        except StorageError as error:
            self.problem = unreadable(error)
            return
        self._section = Section(part, rows.start, columns.start)

    def at(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> Resampled:
        """Return the pixels at places that `read` was told of."""
        if self._section is None:
            raise StorageError(f"neighbour {self.brick.brickname} has not been read; call read()")
        return self._section.at(y, x)

    def _open(self) -> None:
        if self.files is None:
            return
        try:
            if self.verify:
                _compare(self.files)
            self._frame = coadd_frame(self.files, self.brick, self.bands)
        except StorageError as error:
            self.problem = unreadable(error)


def unreadable(error: StorageError) -> str:
    """Return the problem of a neighbour whose files are no good."""
    return f"unreadable: {type(error).__name__}: {error}"


def _compare(files: BrickFiles) -> None:
    listed = listed_hashes(files)
    found = _hashed(files) if listed else {}
    if wrong := [name for name, value in listed.items() if found[name] != value]:
        raise ChecksumMismatch(f"{', '.join(wrong)}: SHA-256 differs from the list of the brick")


def _hashed(files: BrickFiles) -> dict[str, str]:
    return {path.name: _kept_sha256(*file_version(path)) for path in files.data_files()}


@lru_cache(maxsize=_HASHES_KEPT)
def _kept_sha256(path: Path, version: Version) -> str:
    """Hash a file once; ``version`` makes a changed file be hashed again."""
    return file_sha256(path)
