from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import BrickNotFound, CorruptFile, NothingToDo
from storage.pictures import image_release_code, list_pictures, picture_objid, read_picture


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_pictures_below_a_folder_in_order_of_name(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3))
    for name in ("b/2.png", "a/3.JPG", "1.jpeg"):
        save(tmp_path / name, pixels)
    (tmp_path / "labels.csv").touch()
    assert [path.stem for path in list_pictures(tmp_path)] == ["1", "2", "3"]


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(NothingToDo):
        list_pictures(tmp_path)
    with pytest.raises(BrickNotFound):
        list_pictures(tmp_path / "none")


def test_exact_pixels_where_the_size_fits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3))
    found = read_picture(save(tmp_path / "a.png", pixels), 6, 1.0)
    assert found.dtype == np.float32
    assert (found == pixels[::-1].transpose(2, 0, 1)).all()


def test_the_central_square_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((8, 12, 3))
    pixels[:, 2:10] = 100
    pixels[2:6, 4:8] = 200
    path = save(tmp_path / "a.png", pixels)
    assert (read_picture(path, 8, 1.0)[:, 0] == 100).all()
    assert (read_picture(path, 4, 0.5) == 200).all()


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 3))
    pixels[:, ::2] = 200
    small = read_picture(save(tmp_path / "a.png", pixels), 8, 1.0)
    assert small.min() > 80
    assert small.max() < 120


def test_grey_pictures_have_equal_bands(tmp_path: Path) -> None:
    found = read_picture(save(tmp_path / "a.png", np.full((5, 5), 9)), 5, 1.0)
    assert (found == 9).all()
    assert found.shape == (3, 5, 5)


@pytest.mark.parametrize("keep", [0, 30, 400])
def test_broken_pictures(tmp_path: Path, keep: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    path = save(tmp_path / "a.jpg", pixels)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptFile, match=r"a\.jpg"):
        read_picture(path, 8, 1.0)


def test_identities() -> None:
    assert picture_objid("588018054574375038") == 588018054574375038
    assert picture_objid("007") == 7
    hashed = [picture_objid(stem) for stem in ("J000411.19+020924.0", "a", "9" * 30)]
    assert len(set(hashed)) == 3
    assert all(0 <= value < 2**63 for value in hashed)
    codes = [image_release_code(name) for name in ("gz2_sdss", "gz_decals")]
    assert all(100_000 <= code < 2**31 for code in codes)
    assert codes[0] != codes[1]
    assert image_release_code("gz2_sdss") == 1147595291  # stored with the data: must not change
