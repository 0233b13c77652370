import numpy as np
import pytest
from PIL import Image

from tasks.sheets import cutout_sheet, painting_sheet


def test_a_sheet_has_a_cell_for_every_cutout(tmp_path):
    images = np.zeros((7, 3, 64, 64), np.float32)
    path = cutout_sheet(images, ("g", "r", "z"), [str(i) for i in range(7)], tmp_path / "a.png", 3)
    with Image.open(path) as sheet:
        assert sheet.width == 3 * 132 + 4
        assert sheet.height == 3 * (132 + 14) + 4


def test_north_is_up_in_both_kinds_of_sheet(tmp_path):
    image = np.zeros((1, 3, 64, 64), np.float32)
    image[..., 48:, :] = 5.0  # the northern quarter is bright
    paths = [
        cutout_sheet(image, ("g", "r", "z"), ["a"], tmp_path / "a.png"),
        painting_sheet([image, image, image], tmp_path / "b.png"),
    ]
    for path in paths:
        with Image.open(path) as sheet:
            cell = np.asarray(sheet.convert("L"), np.float64)[4:132, 4:132]
        assert cell[:30].mean() > cell[40:].mean() + 50


def test_no_pictures_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no pictures"):
        cutout_sheet(np.zeros((0, 3, 8, 8), np.float32), ("g", "r", "z"), [], tmp_path / "a.png")
