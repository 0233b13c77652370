"""Pictures of a quality report as PNG: sky coverage, depth and PSF by band.

matplotlib is imported when a picture is drawn, and used without its global state.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from storage.quality.limits import BandLimit
from storage.quality.measurements import SurveyMeasurements
from storage.schema import BrickState

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130
_ALL_SKY_DEG = 40.0  # wider footprints are drawn as the whole sky
# Right ascension in the middle of the whole sky: no galactic cap is cut at the border.
_ALL_SKY_CENTRE = 120.0
_SQUARE_POINTS = (0.7, 4.0)  # sides of a brick on the whole sky: of very many, of a few
_OUTLINED_BRICKS = 2000  # more of them are too small for outlines
_WIDTH = 4.8  # inches: letters stay readable on a phone
_NOT_IN_STORE = "not in the store"
_STATE_COLOURS = {
    "written": "#2f7d5b",
    "empty": "#b9c7bf",
    "failed": "#c0392b",
    "quarantined": "#e08e0b",
    "withdrawn": "#7d6b91",
    "fetched": "#5b8db8",
    "verified": "#5b8db8",
    _NOT_IN_STORE: "#e4e4e4",
}
_BAND_COLOURS = {
    "u": "#5e60ce",
    "g": "#2f7d5b",
    "r": "#c0392b",
    "i": "#b5651d",
    "z": "#6d4c8d",
    "Y": "#444444",
}


def draw_coverage(found: SurveyMeasurements, bricks_table: pd.DataFrame | None) -> bytes | None:
    """Draw the bricks on the sky, coloured by what became of them; None where none has a place."""
    names = {int(state): state.name.lower() for state in BrickState}
    places = found.bricks[["ra", "dec"]].assign(state=found.bricks["state"].map(names))
    if bricks_table is not None:
        other = bricks_table[~bricks_table["brickname"].isin(places.index)][["ra", "dec"]]
        places = pd.concat([other.assign(state=_NOT_IN_STORE), places])
    places = places.dropna(subset=["ra"])
    if not len(places):
        return None
    sky = _Sky.around(places)
    states = places["state"].to_numpy()
    for state, colour in _STATE_COLOURS.items():
        chosen = states == state
        if chosen.any():
            sky.draw_bricks(places[chosen], facecolor=colour)
            label = f"{state} ({np.count_nonzero(chosen):,})"
            sky.axes.scatter([], [], marker="s", color=colour, label=label)
    _legend(sky.figure, columns=2)
    return _png(sky.figure)


def draw_depth_map(found: SurveyMeasurements) -> bytes | None:
    """Draw the depth on the sky in the band that most bricks have; None without measurements."""
    measured = found.measured.dropna(subset=["ra"])
    counts = {band: int(measured[f"depth_{band}"].notna().sum()) for band in found.bands}
    band = max(counts, key=lambda name: counts[name], default="")
    if not band or not counts[band]:
        return None
    shown = measured[measured[f"depth_{band}"].notna()]
    depth = shown[f"depth_{band}"].to_numpy(np.float64)
    low, high = np.percentile(depth, [2, 98])  # or one bad brick takes all of the colours
    middle, half = (low + high) / 2, max((high - low) / 2, 0.05)
    sky = _Sky.around(shown)
    bricks = sky.draw_bricks(
        shown, array=depth, cmap="viridis", clim=(middle - half, middle + half)
    )
    bar = sky.figure.colorbar(bricks, ax=sky.axes, location="bottom", fraction=0.05, aspect=30)
    bar.set_label(f"5σ depth in {band} [AB mag]")
    bar.outline.set_visible(False)
    return _png(sky.figure)


def draw_histogram(
    found: SurveyMeasurements, quantity: str, label: str, limit: BandLimit
) -> bytes | None:
    """Draw a quantity of all measured bricks by band, its limits dashed; None where unmeasured.

    Parameters
    ----------
    quantity : str
        One of `storage.quality.measurements.BAND_QUANTITIES`.
    label : str
        Of the axis.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(_WIDTH, 0.72 * _WIDTH), layout="constrained")
    axes = figure.add_subplot()
    for band in found.bands:
        values = found.measured[f"{quantity}_{band}"].dropna().to_numpy(np.float64)
        if len(values):
            _draw_band(axes, values, band, limit.of(band))
    if not axes.has_data():
        return None
    axes.set_xlabel(label)
    axes.set_ylabel("bricks")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    _legend(figure, columns=4)
    return _png(figure)


def _draw_band(axes: "Axes", values: NDArray[np.float64], band: str, limit: float | None) -> None:
    middle = float(np.median(values))
    spread = float(np.median(np.abs(values - middle)))
    reach = max(8.0 * spread, 0.05)
    bins = np.linspace(middle - reach, middle + reach, 41).tolist()
    clipped = np.clip(values, bins[0], bins[-1])
    colour = _BAND_COLOURS.get(band, "#444444")
    axes.hist(clipped, bins=bins, histtype="stepfilled", alpha=0.25, color=colour)
    axes.hist(clipped, bins=bins, histtype="step", color=colour, lw=1.4, label=band)
    if limit is not None:
        axes.axvline(limit, color=colour, ls="--", lw=1)


@dataclass(frozen=True)
class _Sky:
    """A map: a patch of sky true to scale around ``centre``, or all of it; east is left."""

    figure: "Figure"
    axes: "Axes"
    centre: float
    whole: bool

    @classmethod
    def around(cls, places: pd.DataFrame) -> "_Sky":
        """Return a map on which all these places are."""
        from matplotlib.figure import Figure

        ra, dec = places["ra"].to_numpy(np.float64), places["dec"].to_numpy(np.float64)
        angle = np.radians(ra)
        centre = float(np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean())))
        east = np.mod(ra - centre + 180.0, 360.0) - 180.0
        stretch = float(np.cos(np.radians(np.clip(dec.mean(), -85, 85))))
        width, height = np.ptp(east) * stretch + 0.4, np.ptp(dec) + 0.4
        if max(width, height) > _ALL_SKY_DEG:
            figure = Figure(figsize=(_WIDTH, 0.68 * _WIDTH), layout="constrained")
            return cls._all_sky(figure)
        ratio = float(np.clip(height / width, 0.4, 1.2))
        figure = Figure(figsize=(_WIDTH, _WIDTH * ratio + 0.9), layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="RA [deg]", ylabel="Dec [deg]", aspect=1.0 / stretch)
        margin = 0.2 / stretch
        axes.set_xlim(centre + east.max() + margin, centre + east.min() - margin)
        axes.set_ylim(dec.min() - 0.2, dec.max() + 0.2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{np.mod(value, 360.0):.5g}")
        axes.locator_params(nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
        return cls(figure, axes, centre, whole=False)

    @classmethod
    def _all_sky(cls, figure: "Figure") -> "_Sky":
        axes: Any = figure.add_subplot(projection="mollweide")
        ticks = (-120, -60, 0, 60, 120)
        labels = [f"{(_ALL_SKY_CENTRE - tick) % 360:g}°" for tick in ticks]
        axes.set_xticks(np.radians(ticks), labels, fontsize=8)
        axes.tick_params(axis="y", labelsize=8)
        axes.set_axisbelow(True)
        axes.grid(alpha=0.4, lw=0.5)
        return cls(figure, axes, _ALL_SKY_CENTRE, whole=True)

    def draw_bricks(self, places: pd.DataFrame, **style: Any) -> Any:
        """Draw bricks: as the areas that they cover, on the whole sky as squares to be seen."""
        from matplotlib.collections import PolyCollection

        dec = places["dec"].to_numpy(np.float64)
        east = np.mod(places["ra"].to_numpy(np.float64) - self.centre + 180.0, 360.0) - 180.0
        if self.whole:  # a Mollweide projection of areas takes a millisecond a brick
            side = float(np.clip(60.0 / np.sqrt(len(places)), *_SQUARE_POINTS))
            where = (np.radians(-east), np.radians(dec))
            drawn: Any = self.axes.scatter(*where, s=side**2, marker="s", linewidths=0)
            drawn.set(**style)
            return drawn
        wide = 0.125 / np.cos(np.radians(np.clip(dec, -89, 89)))
        east, edges = east + self.centre, (dec - 0.125, dec + 0.125)
        corners = [(-1, edges[0]), (1, edges[0]), (1, edges[1]), (-1, edges[1])]
        areas = np.stack(
            [np.stack([east + side * wide, edge], axis=1) for side, edge in corners], axis=1
        )
        line = 0.4 if len(places) < _OUTLINED_BRICKS else 0.0
        bricks = PolyCollection(list(areas), edgecolors="white", linewidths=line, **style)
        self.axes.add_collection(bricks, autolim=False)
        return bricks


def _legend(figure: "Figure", columns: int) -> None:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _png(figure: "Figure") -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
