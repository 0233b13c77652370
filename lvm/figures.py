"""What is worth plotting of a model's answers, as plain numbers; drawing is the caller's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Curve:
    """Lines over one axis, such as a reliability diagram or completeness by magnitude.

    Parameters
    ----------
    name : of the figure, a file name without its ending
    x, lines : (point,) float64; {name of the line: (point,) float64}, NaN where not defined
    x_label, y_label : with units
    reference : "diagonal" for what a perfect model would follow, or a height [of y]; None: none
    kind : "line", or "points"
    """

    name: str
    x: np.ndarray
    lines: Mapping[str, np.ndarray]
    x_label: str
    y_label: str
    reference: Literal["diagonal"] | float | None = None
    kind: Literal["line", "points"] = "line"


@dataclass(frozen=True)
class Matrix:
    """Counts by two kinds of names, such as a confusion matrix.

    Parameters
    ----------
    values : (row, column) float64
    rows, columns : their names
    """

    name: str
    values: np.ndarray
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_label: str
    column_label: str


@dataclass(frozen=True)
class Pictures:
    """Rows of images of some objects, such as degraded, restored, true.

    Parameters
    ----------
    panels : {what it shows: (object, band, y, x) float32}
    bands : of the images; one band is shown in grey
    """

    name: str
    panels: Mapping[str, np.ndarray]
    bands: tuple[str, ...]


Figure = Curve | Matrix | Pictures
