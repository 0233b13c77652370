"""File names and constants of the DESI Legacy Imaging Surveys.

This module finds the files of a brick on disk, in canonical and other layouts. It opens no file;
readers are `storage.coadds` and `storage.tractor`. What a release contains is `storage.layouts`.
Sources: legacysurvey.org, pages "files" and "catalogs" of DR8 to DR10.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from storage.errors import BrickNotFound, StorageError

PIXEL_SCALE_ARCSEC = 0.262  # of every optical coadd
BRICK_SIZE_PIXELS = 3600  # side of a full coadd
AB_ZERO_POINT = 22.5  # AB magnitude of one nanomaggy (MAGZERO of the coadds)
BANDS = ("u", "g", "r", "i", "z", "Y")  # the order of old array columns such as DECAM_FLUX

#: A / E(B-V) with the SFD98 map, DECam filters; the north is treated as DECam (page "catalogs").
EXTINCTION_COEFFICIENTS: Mapping[str, float] = MappingProxyType(
    {"u": 3.995, "g": 3.214, "r": 2.165, "i": 1.592, "z": 1.211, "Y": 1.064}
)

#: Display scales of the survey's own colour pictures (imagine: dr2_rgb, legacypipe: sdss_rgb).
RGB_SCALES: Mapping[str, float] = MappingProxyType({"g": 6.0, "r": 3.4, "i": 3.0, "z": 2.2})

#: File kinds with one file per band that the reader uses.
BAND_KINDS = ("image", "invvar", "nexp", "psfsize")
REGIONS = frozenset({"north", "south"})
BRICK_NAME = re.compile(r"\d{4}[pm]\d{3}")
_SUFFIXES = (".fits.fz", ".fits", ".fits.gz")


@dataclass(frozen=True)
class BrickFiles:
    """The files of one brick that exist, by kind and band.

    ``base`` is the folder that holds ``coadd/`` and ``tractor/``; ``tractor_kind`` is "tractor",
    or "tractor-i" for the intermediate catalogue without extinction columns.
    """

    brickname: str
    base: Path
    image: Mapping[str, Path]
    invvar: Mapping[str, Path]
    nexp: Mapping[str, Path]
    psfsize: Mapping[str, Path]
    maskbits: Path | None
    tractor: Path | None
    tractor_kind: str
    checksum_lists: tuple[Path, ...]

    def data_files(self) -> tuple[Path, ...]:
        """Return the files that decide a brick's cutouts: images, weights, mask, catalogue."""
        single = (path for path in (self.maskbits, self.tractor) if path is not None)
        return (*self.image.values(), *self.invvar.values(), *single)

    def exist(self) -> bool:
        """Tell whether any file was found."""
        return bool(self.data_files() or self.nexp or self.psfsize)


def coadd_path(root: str | Path, brickname: str, kind: str, band: str | None = None) -> Path:
    """Return where the survey writes a coadd: ``root`` is ``<release root>/<region>``."""
    name = f"legacysurvey-{brickname}-{kind}" + (f"-{band}" if band else "") + ".fits.fz"
    return Path(root) / "coadd" / brickname[:3] / brickname / name


def tractor_path(root: str | Path, brickname: str) -> Path:
    """Return where the survey writes a catalogue: ``root`` is ``<release root>/<region>``."""
    return Path(root) / "tractor" / brickname[:3] / f"tractor-{brickname}.fits"


def checksum_path(root: str | Path, brickname: str) -> Path:
    """Return where the pipeline writes a brick's SHA-256 list; ``root`` as in `coadd_path`."""
    return Path(root) / "tractor" / brickname[:3] / f"brick-{brickname}.sha256sum"


def survey_bricks_path(root: str | Path) -> Path:
    """Return the table of all bricks of the sky; ``root`` is the release root."""
    return Path(root) / "survey-bricks.fits.gz"


def region_bricks_path(root: str | Path, release: str, region: str) -> Path:
    """Return the table of a region's bricks; ``root`` is the release root."""
    return Path(root) / region / f"survey-bricks-{release}-{region}.fits.gz"


def survey_bases(root: str | Path, region: str | None = None) -> tuple[Path, ...]:
    """Return the folders below ``root`` that may hold ``coadd/`` and ``tractor/``.

    That is ``root`` itself and each of its sub-folders with such a folder; of the two regions only
    ``region``, where it is given.
    """
    root = Path(root)
    if not root.is_dir():
        raise BrickNotFound(f"{root} is not a folder; give the root of a release or of one region")
    if region is not None and (root / region).is_dir():
        return (root / region,)
    others = REGIONS - {region} if region is not None else frozenset()
    inner = (
        child for child in sorted(root.iterdir()) if child.is_dir() and child.name not in others
    )
    kinds = ("coadd", "tractor", "tractor-i")
    return (root, *(child for child in inner if any((child / kind).is_dir() for kind in kinds)))


def locate_brick_files(
    root: str | Path,
    brickname: str,
    bands: Sequence[str] | None = None,
    region: str | None = None,
) -> BrickFiles:
    """Find the files of a brick in any supported layout.

    Parameters
    ----------
    root : str or Path
        Release root, region folder, or a folder with the files themselves.
    brickname : str
        For example "1238p245".
    bands : sequence of str, optional
        Bands to look for; default all of `BANDS`.
    region : str, optional
        "north" or "south"; needed where both hold the brick.

    Raises
    ------
    BrickNotFound
        When no coadd and no catalogue of the brick is there.
    StorageError
        When two regions hold the brick and none is named.
    """
    if BRICK_NAME.fullmatch(brickname) is None:
        raise BrickNotFound(f"{brickname!r} is no brick name; write it as '1238p245'")
    found = []
    for base in survey_bases(root, region):
        files = _files_under(base, brickname, tuple(bands or BANDS))
        if files.exist():
            found.append(files)
            if base == Path(root):
                break  # the root's own files come before those of folders in it
    if not found:
        raise BrickNotFound(
            f"no coadd and no tractor catalogue of brick {brickname} under {root}; check the root, "
            "which holds coadd/ and tractor/, or fetch the brick"
        )
    if len(found) > 1:
        regions = ", ".join(files.base.name for files in found)
        raise StorageError(f"brick {brickname} is in {regions} under {root}; name the region")
    return found[0]


def coadd_folders(base: Path, brickname: str) -> tuple[Path, ...]:
    """Return the folders in which the coadds of a brick may be, the canonical one first."""
    group, coadd = brickname[:3], base / "coadd"
    below = (coadd / group / brickname, coadd / brickname, coadd / group, coadd)
    return (*below, base / group / brickname, base / brickname, base)


def _files_under(base: Path, brickname: str, bands: tuple[str, ...]) -> BrickFiles:
    coadds = _coadd_files(base, brickname)
    per_band = {
        kind: {band: coadds[kind, band] for band in bands if (kind, band) in coadds}
        for kind in BAND_KINDS
    }
    tractor, tractor_kind = _tractor_file(base, brickname)
    return BrickFiles(
        brickname=brickname,
        base=base,
        **per_band,
        maskbits=coadds.get(("maskbits", "")),
        tractor=tractor,
        tractor_kind=tractor_kind,
        checksum_lists=_checksum_lists(base, brickname, {path.parent for path in coadds.values()}),
    )


def _coadd_files(base: Path, brickname: str) -> dict[tuple[str, str], Path]:
    """Return ``{(kind, band): path}`` of the first folder that holds a coadd of the brick.

    DR1 and DR2 wrote "decals-" where later releases write "legacysurvey-".
    """
    name = re.compile(rf"(?:legacysurvey|decals)-{brickname}-([a-z]+)(?:-(\w+))?(\.fits(?:\.\w+)?)")
    for folder in coadd_folders(base, brickname):
        found: dict[tuple[str, str], Path] = {}
        for entry in sorted(_entries(folder), key=_suffix_rank, reverse=True):
            match = name.fullmatch(entry)
            if match and match.group(3) in _SUFFIXES:
                found[match.group(1), match.group(2) or ""] = folder / entry
        if any(kind in (*BAND_KINDS, "maskbits") for kind, _ in found):
            return found
    return {}


def _suffix_rank(name: str) -> tuple[int, str]:
    """Order files so that the compressed form of a coadd comes first."""
    return next(
        ((rank, name) for rank, suffix in enumerate(_SUFFIXES) if name.endswith(suffix)),
        (len(_SUFFIXES), name),
    )


def _tractor_file(base: Path, brickname: str) -> tuple[Path | None, str]:
    """Prefer the final catalogue; the intermediate one lacks extinction and RELEASE."""
    for kind in ("tractor", "tractor-i"):
        folders = [base / kind / brickname[:3], base / kind]
        names = [f"tractor-{brickname}"]
        if kind == "tractor":
            folders.append(base)
        else:
            names.append(f"tractor-i-{brickname}")
        candidates = (
            folder / f"{name}{suffix}"
            for folder in folders
            for name in names
            for suffix in (".fits", ".fits.gz", ".fits.fz")
        )
        path = next((path for path in candidates if path.is_file()), None)
        if path is not None:
            return path, kind
    return None, "tractor"


def _checksum_lists(base: Path, brickname: str, coadds: set[Path]) -> tuple[Path, ...]:
    """Find the lists of the pipeline (one a brick) and of the release packing (a brick or AAA)."""
    group = brickname[:3]
    of_brick = re.compile(rf".*{brickname}.*\.sha256sum")
    of_group = re.compile(rf"legacysurvey_.*_tractor_{group}\.sha256sum")
    tables = (base / "tractor" / group, base / "tractor")
    return tuple(
        folder / name
        for folder in dict.fromkeys((*tables, *coadds))
        for name in sorted(_entries(folder))
        if of_brick.fullmatch(name) or (folder == tables[0] and of_group.fullmatch(name))
    )


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
