"""A quality report as a document: one HTML file that needs nothing else, or Markdown.

Pure text out of a `QualityReport`; publishing it is for others. jinja2 is imported when a page is
made.
"""

import base64
from dataclasses import fields, is_dataclass
from importlib.resources import files
from typing import Any

import pandas as pd

from storage.quality.limits import BandLimit, Limit
from storage.quality.pictures import draw_coverage, draw_depth_map, draw_histogram
from storage.quality.results import Check, Level, QualityReport

_TEMPLATE = "report.html.jinja"
_WORST_FIRST = tuple(reversed(Level))
_OUTLIERS_IN_MARKDOWN = 10


def html_report(
    report: QualityReport, *, made: str, bricks_table: pd.DataFrame | None = None
) -> str:
    """Return the report as a self-contained page.

    Parameters
    ----------
    made : str
        When the report was made, for the reader.
    bricks_table : DataFrame, optional
        Region's table of bricks: those that are not in the store are drawn too.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "z": _z}
    template = environment.from_string(files(__package__).joinpath(_TEMPLATE).read_text("utf-8"))
    found, limits = report.measurements, report.limits
    pictures = {
        "coverage": draw_coverage(found, bricks_table),
        "depth_map": draw_depth_map(found),
        "depth": draw_histogram(found, "depth", "5σ depth [AB mag]", limits.depth_least),
        "psf": draw_histogram(found, "psfsize", "PSF FWHM [arcsec]", limits.psfsize_most),
    }
    return template.render(
        report=report,
        checks=_sorted(report),
        verdict=verdict(report),
        made=made,
        limits=_limit_rows(report),
        problem_kinds=sorted(found.problem_kinds.items(), key=lambda item: -item[1]),
        masked=sorted(found.masked.items(), key=lambda item: -item[1]),
        pictures={name: base64.b64encode(data).decode() for name, data in pictures.items() if data},
    )


def markdown_report(report: QualityReport) -> str:
    """Return the report as Markdown: verdict, checks, what to do, outliers, facts."""
    checks = _sorted(report)
    rows = [(check.name, f"**{check.level}**", check.found, check.allowed) for check in checks]
    advice = [f"* **{check.name}**: {_told(check)}" for check in checks if check.advice]
    outliers = [
        (item.brickname, item.quantity, *map(_number, (item.value, item.median)), _z(item.sigmas))
        for item in report.outliers[:_OUTLIERS_IN_MARKDOWN]
    ]
    parts = [
        f"# Quality of {report.survey}",
        f"{verdict(report)} Snapshot `{report.snapshot}`.",
        _table(("check", "result", "found", "allowed"), rows),
    ]
    if advice:
        parts += ["## What to do", "\n".join(advice)]
    if outliers:
        parts += [
            "## Outliers",
            _table(("brick", "quantity", "value", "median", "robust z"), outliers),
        ]
    parts += ["## Facts", _table(("", ""), list(report.facts.items()))]
    return "\n\n".join(parts) + "\n"


def verdict(report: QualityReport) -> str:
    """Return the outcome in a sentence."""
    counts = [
        f"{report.count(level)} {word}"
        for level, word in (
            (Level.FAIL, "failed"),
            (Level.WARN, "with a warning"),
            (Level.NOT_MEASURED, "not measured"),
            (Level.PASS, "passed"),
        )
        if report.count(level)
    ]
    good = report.level is not Level.FAIL
    word = "The survey passes." if good else "The survey does not pass."
    return f"{word} {len(report.checks)} checks: {', '.join(counts)}."


def _sorted(report: QualityReport) -> list[Check]:
    return sorted(report.checks, key=lambda check: _WORST_FIRST.index(check.level))


def _told(check: Check) -> str:
    examples = f" ({', '.join(check.examples)})" if check.examples else ""
    return f"{check.advice}{examples}"


def _limit_rows(report: QualityReport) -> list[tuple[str, str]]:
    rows = []
    for item in fields(report.limits):
        value: Any = getattr(report.limits, item.name)
        rows.append((item.name, _limit_text(value)))
    return rows


def _limit_text(value: Any) -> str:
    if isinstance(value, Limit):
        return f"warn above {value.warn:g}, fail above {value.fail:g}"
    if isinstance(value, BandLimit) and is_dataclass(value):
        given = {item.name: getattr(value, item.name) for item in fields(value)}
        return ", ".join(f"{band} {number:g}" for band, number in given.items() if number)
    return f"{value:g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _z(sigmas: float) -> str:
    return f"{sigmas:+.1f}"


def _table(headings: tuple[str, ...], rows: "list[Any]") -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(_cell(item) for item in line)} |" for line in lines)


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
