import hashlib
from pathlib import Path

import pytest
from tiny_bricks import BRICK, TinyBrick

from storage.checksums import (
    content_digest,
    file_sha256,
    hash_files,
    listed_hashes,
    read_checksums,
    verify_files,
)
from storage.errors import ChecksumMismatch, CorruptFile
from storage.legacysurvey import BrickFiles, locate_brick_files

SUM = hashlib.sha256(b"x").hexdigest()


def located(root: Path) -> BrickFiles:
    return locate_brick_files(root, BRICK.brickname, ("g", "r", "z"))


def test_both_forms_of_list(tmp_path: Path) -> None:
    path = tmp_path / "a.sha256sum"
    path.write_text(f"{SUM} *coadd/123/a.fits\n\n{SUM.upper()}  b.fits\n")
    assert read_checksums(path) == {"a.fits": SUM, "b.fits": SUM}


def test_a_damaged_list_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.sha256sum"
    path.write_text(f"{SUM}  b.fits\nrubbish\n")
    with pytest.raises(CorruptFile, match="line 2"):
        read_checksums(path)


def test_verification(tmp_path: Path) -> None:
    tiny = TinyBrick(tmp_path).write()
    assert verify_files(located(tmp_path)) == "unverified"
    tiny.write_checksums()
    files = located(tmp_path)
    assert verify_files(files) == "verified"
    assert listed_hashes(files) == hash_files(files).sha256
    with files.image["r"].open("ab") as handle:
        handle.write(b"more")
    with pytest.raises(ChecksumMismatch, match="image-r"):
        verify_files(files)
    assert hash_files(files, compare=False).verification == "unverified"


def test_a_list_of_some_files_verifies_partly(tmp_path: Path) -> None:
    tiny = TinyBrick(tmp_path).write()
    path = tiny.write_checksums()
    path.write_text(path.read_text().splitlines()[0])
    assert verify_files(located(tmp_path)) == "partly verified"


def test_digest_depends_on_names_and_contents_only(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "one").write_text("1")
        (tmp_path / folder / "two").write_text("2")
    a, b = tmp_path / "a", tmp_path / "b"
    same = content_digest([a / "one", a / "two"])
    assert content_digest([b / "two", b / "one"]) == same
    (b / "two").write_text("3")
    assert content_digest([b / "two", b / "one"]) != same
    assert file_sha256(a / "one") == hashlib.sha256(b"1").hexdigest()


def test_real_list_verifies(real_data: Path) -> None:
    files = locate_brick_files(real_data / "bricks/obiwan_brick_1238p245", "1238p245", ("z",))
    assert verify_files(files) == "verified"
