"""Releases of the Legacy Surveys as data: what each holds, and where a file of a brick is in it.

A path is a template below the release root, so that names of remote files follow from data. To add
a release is to add a line to `LAYOUTS`. Nothing is opened here. Sources: legacysurvey.org, pages
"files" of DR8 to DR10.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from storage.errors import StorageError

#: What the reader uses of a brick, in the order in which it is fetched: the catalogue first, since
#: it may say that nothing is selected.
BRICK_KINDS = ("tractor", "image", "invvar", "maskbits", "nexp", "psfsize")

_COADD = "{region}/coadd/{group}/{brickname}/"


@dataclass(frozen=True)
class ReleaseLayout:
    """What one release contains in one region, and where.

    ``release_codes`` are the values of the catalogue column RELEASE; ``maskbits_dtype`` is the
    type of the pixel map of mask bits; ``sweeps`` is the folder of sweep files, ``checksum_lists``
    are both known forms: the pipeline's (one a brick) and the release packing's (one for the coadds
    of a brick, one for the catalogues of a group of bricks). A brick may lack any of these files.
    """

    release: str
    region: str
    release_codes: tuple[int, ...]
    bands: tuple[str, ...]
    maskbits_dtype: str
    sweeps: str
    band_coadd: str = _COADD + "legacysurvey-{brickname}-{kind}-{band}.fits.fz"
    coadd: str = _COADD + "legacysurvey-{brickname}-{kind}.fits.fz"
    tractor: str = "{region}/tractor/{group}/tractor-{brickname}.fits"
    checksum_lists: tuple[str, ...] = (
        "{region}/tractor/{group}/brick-{brickname}.sha256sum",
        _COADD + "legacysurvey_{release}_{region}_coadd_{group}_{brickname}.sha256sum",
        "{region}/tractor/{group}/legacysurvey_{release}_{region}_tractor_{group}.sha256sum",
    )
    survey_bricks: str = "survey-bricks.fits.gz"
    region_bricks: str = "{region}/survey-bricks-{release}-{region}.fits.gz"

    @property
    def survey_key(self) -> str:
        """Zarr group path of the survey, "<release>/<region>"."""
        return f"{self.release}/{self.region}"

    @property
    def region_bricks_path(self) -> str:
        """Path of the table of the region's bricks below the release root."""
        return self.region_bricks.format(release=self.release, region=self.region)

    @property
    def sweeps_path(self) -> str:
        """Path of the folder of sweep files below the release root."""
        return self.sweeps.format(region=self.region)

    def brick_paths(
        self, brickname: str, bands: Sequence[str], kinds: Sequence[str] = BRICK_KINDS
    ) -> Iterator[tuple[str, str, str]]:
        """Yield (kind, band, path below the release root) of the files that a brick may have.

        Raises
        ------
        StorageError
            When a kind is unknown, or the release has no such band.
        """
        unknown = set(kinds) - set(BRICK_KINDS)
        if unknown:
            raise StorageError(f"no file kind {sorted(unknown)}; choose from {BRICK_KINDS}")
        missing = [band for band in bands if band not in self.bands]
        if missing:
            raise StorageError(
                f"{self.survey_key} has no band {missing}; it has {', '.join(self.bands)}"
            )
        for kind in sorted(kinds, key=BRICK_KINDS.index):
            if kind == "tractor":
                yield kind, "", self._fill(self.tractor, brickname)
            elif kind == "maskbits":
                yield kind, "", self._fill(self.coadd, brickname, kind)
            else:
                for band in bands:
                    yield kind, band, self._fill(self.band_coadd, brickname, kind, band)

    def checksum_paths(self, brickname: str) -> tuple[str, ...]:
        """Return the paths, below the release root, of the lists that may name a brick's files."""
        return tuple(self._fill(template, brickname) for template in self.checksum_lists)

    def shares(self, path: str) -> bool:
        """Tell whether a file of a brick belongs to the other bricks of its group as well."""
        return path.endswith(".sha256sum") and "_tractor_" in path

    def _fill(self, template: str, brickname: str, kind: str = "", band: str = "") -> str:
        return template.format(
            release=self.release,
            region=self.region,
            group=brickname[:3],
            brickname=brickname,
            kind=kind,
            band=band,
        )


LAYOUTS: Mapping[tuple[str, str], ReleaseLayout] = MappingProxyType(
    {
        (layout.release, layout.region): layout
        for layout in (
            ReleaseLayout("dr8", "south", (8000,), ("g", "r", "z"), "int16", "{region}/sweep/8.0"),
            ReleaseLayout("dr8", "north", (8001,), ("g", "r", "z"), "int16", "{region}/sweep/8.0"),
            # 9012: 1,691 bricks of DR9 south that were run again
            ReleaseLayout(
                "dr9", "south", (9010, 9012), ("g", "r", "z"), "int16", "{region}/sweep/9.0"
            ),
            ReleaseLayout("dr9", "north", (9011,), ("g", "r", "z"), "int16", "{region}/sweep/9.0"),
            # 10002: 598 SUB_BLOB bricks of DR10.1, whose sweeps replace those of 10.0
            ReleaseLayout(
                "dr10",
                "south",
                (10000, 10002),
                ("g", "r", "i", "z"),
                "int32",
                "{region}/sweep/10.1",
            ),
        )
    }
)


def layout_of(release: str, region: str) -> ReleaseLayout:
    """Return the layout of a region of a release.

    Raises
    ------
    StorageError
        When there is none; DR10 has no north of its own.
    """
    layout = LAYOUTS.get((release, region))
    if layout is not None:
        return layout
    if (release, region) == ("dr10", "north"):
        raise StorageError("dr10 has no north: the north comes from dr9; ask for dr9 north")
    known = ", ".join(f"{known_release} {known_region}" for known_release, known_region in LAYOUTS)
    raise StorageError(f"no layout of {release!r} {region!r}; known are {known}")
