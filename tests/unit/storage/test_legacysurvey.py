from pathlib import Path

import pytest
from tiny_bricks import BRICK, TinyBrick

from storage.errors import BrickNotFound, StorageError
from storage.legacysurvey import coadd_path, locate_brick_files

NAME = BRICK.brickname


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_canonical_layout_is_found_from_the_region_and_from_the_release(tmp_path: Path) -> None:
    TinyBrick(tmp_path / "south").write()
    for root in (tmp_path, tmp_path / "south"):
        files = locate_brick_files(root, NAME, ("g", "r", "z"))
        assert list(files.image) == ["g", "r", "z"]
        assert files.image["g"] == coadd_path(tmp_path / "south", NAME, "image", "g")
        assert files.maskbits is not None
        assert files.tractor is not None


@pytest.mark.parametrize("folder", ["coadd", f"coadd/123/{NAME}", "coadd/123", f"123/{NAME}", "."])
@pytest.mark.parametrize("suffix", [".fits.fz", ".fits", ".fits.gz"])
def test_other_layouts_and_suffixes(tmp_path: Path, folder: str, suffix: str) -> None:
    image = touch(tmp_path / folder / f"legacysurvey-{NAME}-image-z{suffix}")
    assert locate_brick_files(tmp_path, NAME).image == {"z": image}


def test_only_asked_bands_are_returned(tmp_path: Path) -> None:
    TinyBrick(tmp_path).write()
    assert list(locate_brick_files(tmp_path, NAME, ("z",)).image) == ["z"]


def test_final_catalogue_is_preferred(tmp_path: Path) -> None:
    touch(tmp_path / "tractor-i" / f"tractor-{NAME}.fits")
    assert locate_brick_files(tmp_path, NAME).tractor_kind == "tractor-i"
    final = touch(tmp_path / "tractor" / f"tractor-{NAME}.fits")
    assert locate_brick_files(tmp_path, NAME).tractor == final


def test_two_regions_need_a_name(tmp_path: Path) -> None:
    for region in ("north", "south"):
        TinyBrick(tmp_path / region).write()
    with pytest.raises(StorageError, match="name the region"):
        locate_brick_files(tmp_path, NAME)
    assert locate_brick_files(tmp_path, NAME, region="north").base == tmp_path / "north"


def test_the_other_region_is_never_taken(tmp_path: Path) -> None:
    TinyBrick(tmp_path / "north").write()
    with pytest.raises(BrickNotFound):
        locate_brick_files(tmp_path, NAME, region="south")


@pytest.mark.parametrize("name", ["9999p000", "abc", NAME])
def test_missing_bricks(tmp_path: Path, name: str) -> None:
    with pytest.raises(BrickNotFound):
        locate_brick_files(tmp_path, name)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(BrickNotFound, match="not a folder"):
        locate_brick_files(tmp_path / "none", NAME)
