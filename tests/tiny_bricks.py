"""Write tiny bricks in the survey's layout for tests of the reader; lossless, so pixels compare."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from storage.bricks import Brick, brick_from_name, brick_wcs
from storage.checksums import file_sha256
from storage.cutouts import pixel_to_sky
from storage.legacysurvey import checksum_path, coadd_path, tractor_path

BRICK = brick_from_name("1238p245")
SIZE = 120


@dataclass
class TinyBrick:
    """A brick with point sources of one pixel at known places (y, x).

    Its image is the middle of the brick, or with ``origin`` the part of the official image that
    starts at that (y, x).
    """

    root: Path
    brick: Brick = BRICK
    size: int = SIZE
    bands: tuple[str, ...] = ("g", "r", "z")
    places: tuple[tuple[float, float], ...] = ((60.0, 60.0), (30.0, 71.0), (5.0, 5.0))
    fluxes: tuple[float, ...] = (50.0, 40.0, 30.0)
    types: tuple[str, ...] = ("EXP", "DEV", "SER")
    images: dict[str, np.ndarray] = field(default_factory=dict)
    origin: tuple[int, int] | None = None

    @property
    def wcs(self) -> WCS:
        if self.origin is None:
            return brick_wcs(self.brick, self.size)
        wcs = brick_wcs(self.brick)
        wcs.wcs.crpix = wcs.wcs.crpix - np.array(self.origin[::-1])
        return wcs

    def write(self) -> "TinyBrick":
        self.write_coadds()
        self.write_tractor()
        return self

    def write_coadds(self) -> None:
        rng = np.random.default_rng(7)
        shape = (self.size, self.size)
        for number, band in enumerate(self.bands, start=1):
            image = rng.normal(0, 0.01, shape).astype(np.float32)
            for (y, x), flux in zip(self.places, self.fluxes, strict=True):
                image[round(y), round(x)] = flux * number
            self.images[band] = image
            self.write_coadd("image", band, image)
            self.write_coadd("invvar", band, np.full(shape, 1e4, np.float32))
        self.write_coadd("maskbits", None, np.zeros(shape, np.int32))

    def write_coadd(
        self, kind: str, band: str | None, data: np.ndarray, cards: dict | None = None
    ) -> Path:
        header = self.wcs.to_header()
        header.update({"BRICKNAM": self.brick.brickname, "DRVERSIO": 10000} | (cards or {}))
        path = coadd_path(self.root, self.brick.brickname, kind, band)
        path.parent.mkdir(parents=True, exist_ok=True)
        name = f"{kind}_{band}" if band else kind.upper()
        hdu = fits.CompImageHDU(
            data, header, name=name, compression_type="GZIP_1", quantize_level=0.0
        )
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
        return path

    def table(self) -> Table:
        y, x = (np.array(values) for values in zip(*self.places, strict=True))
        ra, dec = pixel_to_sky(self.wcs, y, x)
        number = len(self.places)
        table = Table(
            {
                "release": np.full(number, 10000, np.int16),
                "brickid": np.full(number, self.brick.brickid, np.int32),
                "brickname": [self.brick.brickname] * number,
                "objid": np.arange(10, 10 + number, dtype=np.int32),
                "brick_primary": np.ones(number, bool),
                "type": list(self.types),
                "ra": ra,
                "dec": dec,
                "bx": x.astype(np.float32),
                "by": y.astype(np.float32),
                "ebv": np.full(number, 0.05, np.float32),
                "maskbits": np.zeros(number, np.int32),
            }
        )
        for band in self.bands:
            table[f"flux_{band}"] = np.array(self.fluxes, np.float32)
            table[f"flux_ivar_{band}"] = np.full(number, 400.0, np.float32)
            table[f"mw_transmission_{band}"] = np.full(number, 0.9, np.float32)
        return table

    def write_tractor(self, table: Table | None = None, path: Path | None = None) -> Path:
        path = path or tractor_path(self.root, self.brick.brickname)
        path.parent.mkdir(parents=True, exist_ok=True)
        (self.table() if table is None else table).write(path, format="fits", overwrite=True)
        return path

    def write_checksums(self) -> Path:
        files = sorted(path for path in self.root.rglob("*.fits*") if path.is_file())
        lines = [f"{file_sha256(path)} *{path.relative_to(self.root)}" for path in files]
        path = checksum_path(self.root, self.brick.brickname)
        path.write_text("\n".join(lines) + "\n")
        return path
