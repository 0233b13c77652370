"""Figures of a model (`lvm.figures`) as PNG files, each with a JSON file of its numbers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lvm.figures import Curve, Figure, Matrix, Pictures
from storage.legacysurvey import RGB_SCALES
from storage.rgb import legacy_rgb

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

DPI = 110
LINES = ("#1f5fa8", "#c4501b", "#2e7d4f", "#7a4ea3", "#8a6d1d", "#5b6570")
SHOWN = 8  # objects in a sheet of pictures
CELL = 1.4  # inch
# Panels with such a word in their name have no colours: they are shown in grey.
GREY = ("residual", "uncertainty", "sigma", "error", "difference")
QUANTILES = (0.01, 0.995)  # that become black and white


def write_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write every figure as `<name>.png` and `<name>.json` into a folder; return the pictures.

    Two figures of one name raise ValueError: one would replace the other.
    """
    names = [figure.name for figure in figures]
    if len(set(names)) < len(names):
        raise ValueError(f"two figures have one name: {sorted(names)}")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for figure in figures:
        draw, numbers = _how(figure)
        canvas = draw(figure)
        path = folder / f"{figure.name}.png"
        canvas.savefig(path, dpi=DPI)
        path.with_suffix(".json").write_text(json.dumps(numbers(figure), indent=1))
        paths.append(path)
    return paths


def _how(figure: Figure) -> tuple[Callable[[Any], "Canvas"], Callable[[Any], dict[str, Any]]]:
    if isinstance(figure, Curve):
        return _draw_curve, _curve_numbers
    if isinstance(figure, Matrix):
        return _draw_matrix, _matrix_numbers
    return _draw_pictures, _picture_numbers


def _canvas(width: float, height: float) -> "Canvas":
    """Return an empty picture of so many inches, without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to load
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(canvas)
    return canvas


def _draw_curve(figure: Curve) -> "Canvas":
    canvas = _canvas(5.6, 4.2)
    axes = canvas.add_subplot()
    style: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}
    if figure.kind == "points":
        style = {"marker": "o", "markersize": 2.5, "linestyle": "none", "alpha": 0.5}
    for number, (name, line) in enumerate(figure.lines.items()):
        axes.plot(figure.x, line, label=name, color=LINES[number % len(LINES)], **style)
    if figure.reference == "diagonal":
        drawn = np.concatenate([figure.x, *figure.lines.values()])
        ends = [np.nanmin(drawn), np.nanmax(drawn)] if np.isfinite(drawn).any() else [0, 1]
        axes.plot(ends, ends, color="0.5", linestyle="--", linewidth=1, zorder=0)
    elif figure.reference is not None:
        axes.axhline(figure.reference, color="0.5", linestyle="--", linewidth=1, zorder=0)
    axes.set(xlabel=figure.x_label, ylabel=figure.y_label, title=figure.name)
    axes.grid(alpha=0.25)
    if len(figure.lines) > 1:
        axes.legend(fontsize=8)
    return canvas


def _draw_matrix(figure: Matrix) -> "Canvas":
    rows, columns = figure.values.shape
    canvas = _canvas(2.2 + 0.7 * columns, 1.8 + 0.6 * rows)
    axes = canvas.add_subplot()
    total = figure.values.sum(axis=1, keepdims=True)
    share = figure.values / np.where(total > 0, total, 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for y, x in np.ndindex(rows, columns):
        ink = "white" if share[y, x] > 0.55 else "black"
        value = figure.values[y, x]
        text = f"{value:.0f}" if float(value).is_integer() else f"{value:.2g}"
        axes.text(x, y, text, ha="center", va="center", color=ink, fontsize=9)
    axes.set_xticks(range(columns), figure.columns, rotation=35, ha="right")
    axes.set_yticks(range(rows), figure.rows)
    axes.set(xlabel=figure.column_label, ylabel=figure.row_label, title=figure.name)
    return canvas


def _draw_pictures(figure: Pictures) -> "Canvas":
    count = min(SHOWN, max((len(panel) for panel in figure.panels.values()), default=0))
    canvas = _canvas(CELL * max(count, 1) + 0.4, (CELL + 0.15) * len(figure.panels))
    grid = canvas.subplots(len(figure.panels), max(count, 1), squeeze=False)
    for row, (name, panel) in zip(grid, figure.panels.items(), strict=True):
        for axes, image in zip(row, panel[:count], strict=False):
            grey = any(word in name for word in GREY)
            axes.imshow(_pixels(image, () if grey else figure.bands), cmap="gray")
        for axes in row:
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name, fontsize=9)
    return canvas


def _pixels(image: np.ndarray, bands: tuple[str, ...]) -> np.ndarray:
    """Return colours (y, x, 3) uint8, or grey (y, x) 0 to 1; north is up."""
    if len(bands) > 1 and set(bands) <= set(RGB_SCALES):
        return legacy_rgb(image, bands)
    plane = np.nan_to_num(image.mean(axis=0))[::-1]
    low, high = np.quantile(plane, QUANTILES)
    return np.clip((plane - low) / max(high - low, 1e-12), 0, 1)


def _curve_numbers(figure: Curve) -> dict[str, Any]:
    lines = {name: _plain(line) for name, line in figure.lines.items()}
    return {figure.x_label: _plain(figure.x), figure.y_label: lines}


def _matrix_numbers(figure: Matrix) -> dict[str, Any]:
    values = [_plain(row) for row in figure.values]
    return {figure.row_label: figure.rows, figure.column_label: figure.columns, "values": values}


def _picture_numbers(figure: Pictures) -> dict[str, Any]:
    """Return what is shown; pixels are in the store, and not worth a text file."""
    panels = {
        name: {"objects": len(panel), "mean": float(np.nanmean(panel))}
        for name, panel in figure.panels.items()
    }
    return {"bands": figure.bands, "panels": panels}


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
