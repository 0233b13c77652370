import json

import numpy as np
import pytest
from PIL import Image

from lvm.figures import Curve, Matrix, Pictures
from tasks.plots import write_figures

X = np.linspace(0, 1, 5)
FIGURES = [
    Curve("reliability", X, {"a": X, "b": X**2}, "confidence", "accuracy", "diagonal"),
    Curve("points", X, {"a": np.full(5, np.nan)}, "true [mag]", "found [mag]", 0.0, "points"),
    Matrix("confusion", np.array([[3.0, 1], [0, 4]]), ("a", "b"), ("a", "b"), "is", "called"),
    Pictures(
        "restored",
        {
            "degraded": np.random.default_rng(0).normal(size=(3, 3, 12, 12)),
            "residual": np.zeros((3, 3, 12, 12)),
        },
        ("g", "r", "z"),
    ),
    Pictures("grey", {"image": np.random.default_rng(0).normal(size=(1, 1, 9, 9))}, ("r",)),
]


def test_every_figure_is_a_picture_and_the_numbers_in_it(tmp_path):
    paths = write_figures(FIGURES, tmp_path)
    assert [path.name for path in paths] == [f"{figure.name}.png" for figure in FIGURES]
    for path in paths:
        image = np.asarray(Image.open(path).convert("L"))
        assert image.std() > 5  # something is drawn
    numbers = json.loads((tmp_path / "reliability.json").read_text())
    assert numbers["accuracy"]["b"] == pytest.approx((X**2).tolist())
    matrix = json.loads((tmp_path / "confusion.json").read_text())
    assert matrix["values"] == [[3.0, 1.0], [0.0, 4.0]]
    assert json.loads((tmp_path / "points.json").read_text())["found [mag]"]["a"] == [None] * 5
    assert json.loads((tmp_path / "restored.json").read_text())["panels"]["residual"]["mean"] == 0


def test_two_figures_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="one name"):
        write_figures([FIGURES[0], FIGURES[0]], tmp_path)


def test_no_figure_writes_nothing(tmp_path):
    assert write_figures([], tmp_path) == []
