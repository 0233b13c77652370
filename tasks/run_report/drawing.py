"""Pictures of a report as PNG; drawn without matplotlib's global state."""

import io
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tasks.references import Interval

DPI = 110
INK = "#2f7d5b"


def draw_plane(vectors: npt.NDArray[np.floating]) -> bytes:
    """Draw vectors, shape (object, value), in the plane of their first two principal components."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]  # largest first
    places = centred @ axes
    share = (places**2).sum(axis=0) / max((centred**2).sum(), np.finfo(np.float64).tiny)
    figure, panel = _panel(5.0, 4.2)
    panel.scatter(*places.T, s=4, alpha=0.5, color=INK, linewidths=0)
    panel.set_xlabel(f"first component ({share[0]:.0%} of the variance)")
    panel.set_ylabel(f"second component ({share[1]:.0%})")
    return _png(figure)


def draw_intervals(values: Mapping[str, Interval]) -> bytes:
    """Draw a value with its interval a line, the first one on top."""
    figure, panel = _panel(6.0, 0.9 + 0.36 * len(values))
    for place, item in enumerate(values.values()):
        panel.plot([item.low, item.high], [place, place], color=INK, linewidth=2)
        panel.plot([item.value], [place], "o", color=INK)
    panel.set_yticks(range(len(values)), list(values))
    panel.invert_yaxis()
    panel.grid(axis="x", alpha=0.3)
    return _png(figure)


def _panel(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _png(figure: Figure) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=DPI)
    return target.getvalue()
