"""A drift report as Markdown, or as one HTML page that needs nothing else.

Pure text out of what was measured; publishing it is for others. jinja2 and matplotlib are imported
when a page is made.
"""

import base64
import io
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

import pandas as pd

from storage.drift.brick_shifts import BrickShifts
from storage.drift.counterparts import Counterparts
from storage.drift.two_sample import Difference, DriftLimits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTLIERS_SHOWN = 20
CORRELATIONS_SHOWN = 12
_TEMPLATE = "report.html.jinja"

Row = tuple[str, ...]


@dataclass(frozen=True)
class DriftReport:
    """All that was measured.

    Parameters
    ----------
    first, second : str
        Names of what is compared; `second` is empty where only bricks are.
    encoder : str
        Digest of the encoder.
    limits : DriftLimits
    difference, counterparts
        None where there is no second side, or no object in both.
    shifts : BrickShifts
        Of the bricks of `first`.
    measured : DataFrame
        What receipts say of these bricks.
    notes : tuple of str
        What was left out.
    """

    first: str
    second: str
    encoder: str
    limits: DriftLimits
    difference: Difference | None
    counterparts: Counterparts | None
    shifts: BrickShifts
    measured: pd.DataFrame
    notes: tuple[str, ...] = ()

    @property
    def alarm(self) -> bool:
        """Return whether the two sides differ by more than the limits allow."""
        return self.difference is not None and self.difference.alarm


def verdict(report: DriftReport) -> str:
    """Return the outcome in one or two sentences."""
    outliers = len(report.shifts.outliers)
    bricks = f"{outliers} of {len(report.shifts.table)} bricks of {report.first} stand out."
    if report.difference is None:
        return bricks
    found = report.difference
    chance = f"p = {found.p_value:.3g} by exchanging {found.exchanged}"
    size = f"separation {found.separation:.2f}"
    if found.alarm:
        return f"DRIFT: {report.first} and {report.second} differ ({size}, {chance}). {bricks}"
    return f"No drift of {report.second} from {report.first}: {size}, {chance}. {bricks}"


def difference_rows(report: DriftReport) -> list[Row]:
    """Return what was measured between the two sides: name, value, what it means."""
    found, limits = report.difference, report.limits
    rows: list[Row] = []
    if found is not None:
        rows += [
            ("objects compared", f"{found.objects[0]} and {found.objects[1]}", "random samples"),
            ("MMD²", f"{found.mmd:.2e}", "0: drawn alike"),
            (
                "p-value",
                f"{found.p_value:.3g}",
                f"by exchanging {found.exchanged}; alarm at {limits.p_value:g} and below",
            ),
            (
                "separation",
                f"{found.separation:.3f}",
                f"0.5: indistinguishable, 1: always told apart; alarm at {limits.separation:g}",
            ),
            ("Fréchet distance", f"{found.frechet:.3f}", "over the mean total variance"),
        ]
    twice = report.counterparts
    if twice is not None:
        rows += [
            ("objects in both", str(twice.objects), "same brick and objid"),
            ("nearest is itself", f"{twice.recall_at_1:.3f}", "recall@1 in the other survey"),
            ("itself in nearest ten", f"{twice.recall_at_10:.3f}", "recall@10"),
            ("median rank of itself", f"{twice.median_rank:g}", f"by chance {twice.chance:g}"),
        ]
    return rows


def outlier_rows(report: DriftReport) -> list[Row]:
    """Return the bricks that stand out, the most shifted first."""
    worst = report.shifts.outliers.head(OUTLIERS_SHOWN)
    return [
        (str(name), str(row["objects"]), f"{row['shift']:.2f}", f"{row['p_value']:.1e}")
        for name, row in worst.iterrows()
    ]


def correlation_rows(report: DriftReport) -> list[Row]:
    """Return what the shift of bricks goes along with, the strongest first."""
    return [
        (one.quantity, str(one.bricks), f"{one.rho:+.2f}", f"{one.p_value:.1e}")
        for one in report.shifts.correlations[:CORRELATIONS_SHOWN]
    ]


def markdown_report(report: DriftReport) -> str:
    """Return the report as Markdown."""
    parts = [f"# Drift: {_title(report)}", verdict(report), f"Encoder `{report.encoder[:16]}`."]
    if rows := difference_rows(report):
        parts.append(_table(("", "found", "meaning"), rows))
    if rows := outlier_rows(report):
        parts += ["## Bricks that stand out", _table(_OUTLIER_HEADINGS, rows)]
    if rows := correlation_rows(report):
        parts += ["## What the shift goes along with", _table(_CORRELATION_HEADINGS, rows)]
    parts += [f"* {note}" for note in report.notes]
    return "\n\n".join(parts) + "\n"


def html_report(report: DriftReport, *, made: str) -> str:
    """Return the report as a self-contained page; `made` says when, for the reader."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(files(__package__).joinpath(_TEMPLATE).read_text("utf-8"))
    picture = draw_shifts(report)
    return template.render(
        title=_title(report),
        verdict=verdict(report),
        report=report,
        made=made,
        tables=[
            ("Between the two", ("", "found", "meaning"), difference_rows(report)),
            ("Bricks that stand out", _OUTLIER_HEADINGS, outlier_rows(report)),
            ("What the shift goes along with", _CORRELATION_HEADINGS, correlation_rows(report)),
        ],
        picture=base64.b64encode(picture).decode(),
    )


_OUTLIER_HEADINGS = ("brick", "objects", "shift [σ of an object]", "chance")
_CORRELATION_HEADINGS = ("quantity", "bricks", "rank correlation", "p-value")


def draw_shifts(report: DriftReport) -> bytes:
    """Draw the shifts of the bricks: their histogram, and against seeing and depth; PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = [name for name in report.measured if str(name).startswith(("psfsize", "psfdepth"))]
    chosen = [*columns[:1], *[name for name in columns if str(name).startswith("psfdepth")][:1]]
    figure = Figure(figsize=(4.2 * (1 + len(chosen)), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(chosen), squeeze=False)[0]
    shift = report.shifts.table["shift"]
    axes[0].hist(shift, bins=30, color="#3d6f8e")
    axes[0].set(xlabel="shift of a brick [σ of an object]", ylabel="bricks")
    for place, name in zip(axes[1:], chosen, strict=True):
        _scatter(place, report, str(name))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _scatter(axes: "Axes", report: DriftReport, name: str) -> None:
    table = report.shifts.table
    values = report.measured[name].reindex(table.index)
    outlier = table["outlier"].to_numpy(dtype=bool)
    axes.plot(values[~outlier], table["shift"][~outlier], ".", color="#3d6f8e", ms=4)
    axes.plot(values[outlier], table["shift"][outlier], "o", color="#b03024", ms=4)
    axes.set(xlabel=name, ylabel="shift of a brick")


def _title(report: DriftReport) -> str:
    return f"{report.first} and {report.second}" if report.second else f"bricks of {report.first}"


def _table(headings: Row, rows: list[Row]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
