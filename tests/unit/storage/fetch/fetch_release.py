"""A release of small files of random bytes, in the survey's layout, for tests of transfers."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from storage.fetch import FetchConfig
from storage.layouts import layout_of

NAME = "1238p245"
OTHER = "1238p247"  # shares the group's list of catalogues
BANDS = ("g", "r", "z")
LAYOUT = layout_of("dr9", "south")

#: Quick and patient: tests wait hundredths of seconds where a survey's server is given seconds.
QUICK = FetchConfig(
    connections=3,
    requests_per_second=1000.0,
    attempts=4,
    first_wait_seconds=0.01,
    longest_wait_seconds=0.05,
    timeout_seconds=5.0,
)


@dataclass
class FileRelease:
    """Bricks whose files hold random bytes: a transfer does not look into them."""

    root: Path
    bricknames: tuple[str, ...] = (NAME,)
    size: int = 40_000
    without: tuple[str, ...] = ()
    content: dict[str, bytes] = field(default_factory=dict)

    def write(self) -> "FileRelease":
        rng = np.random.default_rng(3)
        for brickname in self.bricknames:
            for kind, band, path in LAYOUT.brick_paths(brickname, BANDS):
                if kind not in self.without and f"{kind}-{band}" not in self.without:
                    self.put(path, rng.bytes(self.size + len(self.content)))
        return self

    def put(self, path: str, content: bytes) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.content[path] = content
        return file

    def write_list(self, brickname: str = NAME) -> Path:
        """Write the pipeline's form: paths below the region."""
        lines = [
            f"{hashlib.sha256(content).hexdigest()} *{path.removeprefix('south/')}\n"
            for path, content in self.content.items()
            if brickname in path and not path.endswith("sha256sum")
        ]
        return self.put(LAYOUT.checksum_paths(brickname)[0], "".join(lines).encode())

    def write_packed_lists(self, brickname: str = NAME) -> None:
        """Write the form of the release packing: file names, coadds and catalogues apart."""
        for path, kind in zip(
            LAYOUT.checksum_paths(brickname)[1:], ("coadd", "tractor"), strict=True
        ):
            lines = [
                f"{hashlib.sha256(content).hexdigest()}  {Path(name).name}\n"
                for name, content in self.content.items()
                if f"/{kind}/" in name and not name.endswith("sha256sum")
            ]
            self.put(path, "".join(lines).encode())

    def write_region_table(self) -> Path:
        column = fits.Column("BRICKNAME", "8A", array=np.array(self.bricknames))
        path = self.root / LAYOUT.region_bricks_path
        path.parent.mkdir(parents=True, exist_ok=True)
        fits.BinTableHDU.from_columns([column]).writeto(path, overwrite=True)
        return path

    def staged(self, staging: Path) -> dict[str, bytes]:
        """Return the whole files in a staging folder."""
        return {
            file.relative_to(staging).as_posix(): file.read_bytes()
            for file in sorted(staging.rglob("*"))
            if file.is_file() and ".transfer" not in file.parts
        }

    def data(self) -> dict[str, bytes]:
        """Return what a fetch has to bring."""
        return dict(sorted(self.content.items()))


def path_of(kind: str, band: str = "", brickname: str = NAME) -> str:
    """Return the path of a file below the release root."""
    paths = LAYOUT.brick_paths(brickname, BANDS)
    return next(path for k, b, path in paths if (k, b) == (kind, band))
