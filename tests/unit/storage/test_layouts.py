from pathlib import Path

import pytest

from storage.errors import StorageError
from storage.layouts import BRICK_KINDS, LAYOUTS, ReleaseLayout, layout_of
from storage.legacysurvey import (
    checksum_path,
    coadd_path,
    locate_brick_files,
    region_bricks_path,
    survey_bricks_path,
    tractor_path,
)

NAME = "1238p245"
EVERY = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.survey_key)


@EVERY
def test_the_layout_names_the_files_that_the_reader_looks_for(layout: ReleaseLayout) -> None:
    root = Path("dr")
    base = root / layout.region
    for kind, band, path in layout.brick_paths(NAME, layout.bands):
        canonical = coadd_path(base, NAME, kind, band or None)
        assert root / path == (tractor_path(base, NAME) if kind == "tractor" else canonical)
    assert root / layout.checksum_paths(NAME)[0] == checksum_path(base, NAME)
    assert root / layout.survey_bricks == survey_bricks_path(root)
    table = region_bricks_path(root, layout.release, layout.region)
    assert root / layout.region_bricks_path == table


@EVERY
def test_every_file_of_a_layout_is_found_on_disk(layout: ReleaseLayout, tmp_path: Path) -> None:
    paths = [path for _, _, path in layout.brick_paths(NAME, layout.bands)]
    for path in (*paths, *layout.checksum_paths(NAME)):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    files = locate_brick_files(tmp_path, NAME, layout.bands, layout.region)
    found = {*files.data_files(), *files.nexp.values(), *files.psfsize.values()}
    assert found == {tmp_path / path for path in paths}
    assert set(files.checksum_lists) == {tmp_path / path for path in layout.checksum_paths(NAME)}


def test_names_of_a_release() -> None:
    layout = layout_of("dr10", "south")
    assert (layout.survey_key, layout.bands) == ("dr10/south", ("g", "r", "i", "z"))
    assert list(layout.brick_paths(NAME, ("i",), ("image", "tractor"))) == [
        ("tractor", "", f"south/tractor/123/tractor-{NAME}.fits"),
        ("image", "i", f"south/coadd/123/{NAME}/legacysurvey-{NAME}-image-i.fits.fz"),
    ]
    assert layout.checksum_paths(NAME) == (
        f"south/tractor/123/brick-{NAME}.sha256sum",
        f"south/coadd/123/{NAME}/legacysurvey_dr10_south_coadd_123_{NAME}.sha256sum",
        "south/tractor/123/legacysurvey_dr10_south_tractor_123.sha256sum",
    )
    assert [layout.shares(path) for path in layout.checksum_paths(NAME)] == [False, False, True]


@pytest.mark.parametrize(
    ("release", "region", "sweeps"),
    [
        ("dr8", "north", "north/sweep/8.0"),
        ("dr9", "south", "south/sweep/9.0"),
        ("dr10", "south", "south/sweep/10.1"),
    ],
)
def test_folders_of_sweeps(release: str, region: str, sweeps: str) -> None:
    assert layout_of(release, region).sweeps_path == sweeps


@pytest.mark.parametrize(
    ("release", "region", "message"),
    [
        ("dr10", "north", "the north comes from dr9"),
        ("dr7", "south", "known are dr8 south"),
        ("dr9", "east", "known are"),
    ],
)
def test_releases_that_are_not_known(release: str, region: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        layout_of(release, region)


def test_what_a_release_has_not() -> None:
    layout = layout_of("dr9", "north")
    with pytest.raises(StorageError, match=r"dr9/north has no band \['i'\]"):
        list(layout.brick_paths(NAME, ("g", "i")))
    with pytest.raises(StorageError, match="no file kind"):
        list(layout.brick_paths(NAME, ("g",), (*BRICK_KINDS, "model")))
