"""The label-efficiency plot: AUC against labels, one line a method, its interval shaded."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from tasks.few_shot import config as methods
from tasks.few_shot.curves import LabelCurve, LabelRatio
from tasks.whole_files import whole_file

# Colours that readers with colour-blindness tell apart (Okabe and Ito), and a marker each.
STYLES = {
    methods.BASELINE: ("#000000", "s"),
    methods.PRETRAINED_BASELINE: ("#999999", "D"),
    methods.LINEAR: ("#56B4E9", "v"),
    methods.TWO_LAYER: ("#0072B2", "^"),
    methods.FULL: ("#CC79A7", "P"),
    methods.DESCRIBED: ("#E69F00", "o"),
    methods.HITL: ("#D55E00", "*"),
    methods.MEASURED: ("#F0E442", "x"),
    methods.MEASURED_HITL: ("#009E73", "+"),
}
STRATEGY_COLOURS = ("#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#999999", "#F0E442")


def draw_curves(
    path: Path,
    curves: Mapping[str, LabelCurve],
    target: float,
    ratio: LabelRatio | None,
    title: str,
) -> None:
    """Write a PNG: methods on the left, what the choice of labels changes on the right.

    Parameters
    ----------
    curves : mapping
        AUC by method.
    ratio : LabelRatio, optional
        Of ResNet18 and the HITL, drawn at the target.
    """
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(12.5, 5.6), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        for method, (colour, marker) in STYLES.items():
            if method in curves:
                name = methods.DESCRIPTIONS[method]
                _line(left, curves[method], name, colour, marker)
        left.axhline(target, color="0.6", linewidth=1, linestyle=":")
        if ratio is not None:
            _arrow(left, ratio, target)
        _strategies(right, curves)
        right.axhline(target, color="0.6", linewidth=1, linestyle=":")
        _axes(left, "methods", curves, STYLES)
        _axes(right, "which labels are asked for (same head)", curves, _strategy_names(curves))
        left.set_ylabel("AUC on frozen test objects (mean of one-versus-rest)")
        figure.suptitle(title)
        with whole_file(path) as partial:
            figure.savefig(partial, format="png", dpi=130)


def _strategy_names(curves: Mapping[str, LabelCurve]) -> list[str]:
    return [name for name in curves if name == methods.DESCRIBED or name.startswith(methods.HITL)]


def _strategies(axes: Axes, curves: Mapping[str, LabelCurve]) -> None:
    others = [name for name in _strategy_names(curves) if name.startswith(f"{methods.HITL}:")]
    for colour, name in zip(STRATEGY_COLOURS, others, strict=False):
        _line(axes, curves[name], name.partition(":")[2].replace("_", "-"), colour, ".")
    for name, label in ((methods.DESCRIBED, "random"), (methods.HITL, methods.HITL_STRATEGY)):
        if name in curves:
            _line(axes, curves[name], label, *STYLES[name])


def _line(axes: Axes, curve: LabelCurve, label: str, colour: str, marker: str) -> None:
    low, high = curve.interval()
    axes.plot(curve.labels, curve.mean(), color=colour, marker=marker, label=label, markersize=6)
    axes.fill_between(curve.labels, low, high, color=colour, alpha=0.13, linewidth=0)


def _arrow(axes: Axes, ratio: LabelRatio, target: float) -> None:
    more, less = (needed.labels for needed in ratio.needed)
    if more <= less:
        return
    style = {"arrowstyle": "<->", "color": "0.25", "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (less, target), (more, target), arrowprops=style)
    text = f"{ratio.bound + ' ' if ratio.bound else ''}{ratio.value:.0f} times fewer labels"
    place = (np.sqrt(more * less), target)
    shift = {"xytext": (0, -6), "textcoords": "offset points"}
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1}
    axes.annotate(text, place, ha="center", va="top", color="0.25", fontsize=9, bbox=box, **shift)


def _axes(
    axes: Axes,
    title: str,
    curves: Mapping[str, LabelCurve],
    names: Mapping[str, object] | list[str],
) -> None:
    labels = sorted({int(n) for name in names if name in curves for n in curves[name].labels})
    axes.set_xscale("log")
    ticks = [n for at, n in enumerate(labels) if at == 0 or n >= 1.4 * labels[at - 1]]
    axes.set_xticks(ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.set_xlabel("labels")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
