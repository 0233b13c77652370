"""Detection: where the sources of a field are, with their boxes (CenterNet, Zhou et al. 2019).

What "accuracy" means here. The paper (Fu et al. 2024) reports 96.7 % of a measure that it does not
define. Here the word stands for **F1 at 1 arcsec**: of all statements (each source that must be
found, each source that the model claims) the share that has a partner within 1 arcsec, partners
being one to one (`lvm.matching`). Of the candidates it is the one that counts both kinds of
mistakes once, at the threshold that is really used. Completeness, purity, AP at 1 arcsec and AP50
of the boxes are reported beside it.

What must be found. Sources brighter than `faint_limit` whose centre lies in the field, a matching
radius inside its edge. Fainter ones, those at the edge, and those of unknown magnitude (a caller
may say so of sources under a mask) are ignored: finding them is neither right nor wrong.

The box of a source is that of the ellipse of `BOX_RADII` half-light radii, the PSF added in
quadrature: 9 pixels for a star. Masks are not predicted: the ellipse says as much as the truth.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lvm.detecting import DetectionHead, Grid, Truth, detection_loss, find_peaks, perfect_map
from lvm.downstream.base import SOURCES, Columns, DownstreamTask, Metric, TaskConfig, register
from lvm.encoder import FeatureSpec
from lvm.field_symmetry import turn_pixels, turn_places
from lvm.figures import Curve, Figure, Pictures
from lvm.matching import (
    Array,
    Found,
    Known,
    Matches,
    average_precision,
    best_threshold,
    completeness,
    completeness_in_bins,
    curve,
    f1,
    match_by_distance,
    match_by_overlap,
    nearest_neighbour,
    purity,
)
from lvm.tensors import Tensors

# After `pose`: place as in `lvm.detecting`, half sides of the box [pixel], magnitude, radius.
X, Y, HALF_WIDTH, HALF_HEIGHT, MAG, RADIUS = range(6)
BOX_RADII = 2.0
MATCH_RADIUS = 3.8  # pixel: 1 arcsec of the survey's 0.262 arcsec
LOWEST_LOGIT = -6.0  # peaks below this are not worth a look: 1 in 400
MAGNITUDE_EDGES = (15.0, 17.0, 18.0, 19.0, 20.0, 20.5, 21.0, 21.5, 22.0)
NEIGHBOUR_EDGES = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0)  # FWHM of the PSF
PICTURES = 8


@dataclass(frozen=True)
class DetectionConfig(TaskConfig):
    """Options of the detection task.

    Parameters
    ----------
    width, stride, pixels : see `lvm.detecting.DetectionHead`
    faint_limit : fainter sources are ignored [mag of the last band]; 22 is S/N 20 of the survey
    psf_fwhm : typical of the survey's coadds [pixel]
    crop : side of what the encoder sees [survey pixel]; 0: the network's input, not resized
    flips : turn and flip fields at random when the question is put; boxes turn along
    """

    width: int = 48
    stride: int = 2
    pixels: bool = True
    faint_limit: float = 22.0
    psf_fwhm: float = 4.5
    crop: int = 0
    flips: bool = True


@register
class Detection(DownstreamTask):
    """Centres and boxes of all sources; the output is (object, channel, y, x), see `detecting`."""

    name = "detection"
    headline = Metric("f1", higher_is_better=True)
    needs = (SOURCES,)
    uses = "pixels"
    slow_metrics = True
    columns = {
        "sources": ("", "sources found within the field"),
        "centre_score": ("1", "score of the source at the centre, 0 where none is found"),
        "neighbour_pixel": ("pixel", "distance of the central source to its nearest neighbour"),
    }
    # What moves or blurs sources is not among them: places, and which are found, would change.
    keeps_label = ("reddening", "band_drop")
    config_class = DetectionConfig

    @property
    def options(self) -> DetectionConfig:
        """The configuration, as the type that it is."""
        return cast(DetectionConfig, self.config)

    def pose(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return places from the centre with the boxes of the sources, turned at random."""
        side = batch["image"].shape[-1]
        posed = {**batch, "target": self._places(batch["target"].float(), side)}
        if not self.options.flips:
            return posed
        element = torch.randint(8, (len(batch["image"]),), generator=generator)
        for name in ("image", "invvar", "maskbits"):
            if name in posed:
                posed[name] = turn_pixels(posed[name], element)
        posed["target"] = turn_places(posed["target"], element, side)
        return posed

    def _places(self, sources: torch.Tensor, side: int) -> torch.Tensor:
        if not sources.shape[1]:  # no field has a source: one row that pads
            sources = F.pad(sources, (0, 0, 0, 1), value=torch.nan)
        x, y, radius, mag, ratio, angle = sources.unbind(dim=-1)
        radius, ratio = radius.nan_to_num(0.0), ratio.nan_to_num(1.0)
        seeing = (0.5 * self.options.psf_fwhm) ** 2
        major, minor = radius.square() + seeing, (ratio * radius).square() + seeing
        cosine = angle.nan_to_num(0.0).cos().square()
        half = [
            BOX_RADII * (major * cosine + minor * (1.0 - cosine)).sqrt(),
            BOX_RADII * (major * (1.0 - cosine) + minor * cosine).sqrt(),
        ]
        return torch.stack([x - side // 2, y - side // 2, *half, mag, radius], dim=-1)

    def head(self, features: FeatureSpec) -> nn.Module:
        """Return the pyramid with a map of sources on top."""
        options = self.options
        return DetectionHead(features, options.width, options.stride, options.pixels)

    def loss(self, output: torch.Tensor, batch: Tensors) -> Tensors:
        """Return the loss of a map of sources."""
        grid = self._grid(output)
        return detection_loss(output, self._truth(batch["target"], grid), grid)

    def metrics(self, output: torch.Tensor, batch: Tensors) -> dict[str, float]:
        """Return f1, completeness, purity and median offset at the threshold, and two AP."""
        matches, boxes = self._matched(output, batch)
        apart = matches.separation[matches.found_at >= 0]
        return {
            "f1": f1(matches, 0.0),
            "completeness": completeness(matches, 0.0),
            "purity": purity(matches, 0.0),
            "ap_1arcsec": average_precision(matches),
            "ap50": average_precision(boxes),
            "offset_pixel": float(np.median(apart)) if apart.size else math.nan,
            "required": float(len(matches.found_at)),
        }

    def calibrate(
        self, head: nn.Module, output: torch.Tensor, batch: Tensors
    ) -> Mapping[str, float]:
        """Set the threshold at which F1 is largest on objects kept aside."""
        matches, _ = self._matched(output, batch)
        if not len(matches.score) or not len(matches.found_at):
            return {}
        by = best_threshold(matches)
        threshold = cast(torch.Tensor, head.threshold)
        threshold += by
        return {"threshold_logit": float(threshold), "f1": f1(matches, by)}

    def figures(self, output: torch.Tensor, batch: Tensors) -> Sequence[Figure]:
        """Return completeness by magnitude and by neighbour, purity by completeness, pictures."""
        matches, _ = self._matched(output, batch)
        target = batch["target"].cpu().numpy()
        mag, apart = self.properties(matches, target)
        share = curve(matches)
        plots: list[Figure] = [
            _binned("completeness_by_magnitude", matches, mag, MAGNITUDE_EDGES, "magnitude"),
            _binned(
                "completeness_by_neighbour",
                matches,
                apart,
                NEIGHBOUR_EDGES,
                "distance to the nearest source [FWHM of the PSF]",
            ),
            Curve(
                "purity_by_completeness", share[0], {"purity": share[1]}, "completeness", "purity"
            ),
        ]
        if "image" in batch:
            plots.append(self._pictures(output, batch))
        return plots

    def present(self, output: torch.Tensor) -> Columns:
        """Return `sources` (number), `centre_score` and `neighbour_pixel` of the central source.

        The central source is the strongest one within 1 arcsec of the centre; without one the score
        is 0 and the distance to its nearest neighbour NaN, as it is for a source that is alone.
        """
        number, score, apart = [], [], []
        for places, logit in find_peaks(output, self._grid(output), 0.0):
            central = np.flatnonzero(np.hypot(places[:, X], places[:, Y]) <= MATCH_RADIUS)
            number.append(len(logit))
            score.append(1.0 / (1.0 + math.exp(-logit[central[0]])) if central.size else 0.0)
            nearest = nearest_neighbour(places)[central[0]] if central.size else math.nan
            apart.append(nearest if math.isfinite(nearest) else math.nan)
        return {
            "sources": np.array(number, dtype=np.int64),
            "centre_score": np.array(score, dtype=np.float32),
            "neighbour_pixel": np.array(apart, dtype=np.float32),
        }

    def example(self, count: int, features: FeatureSpec, generator: torch.Generator) -> Tensors:
        """Return one to three bright sources a field, far from each other and from the edge."""
        # Around the middle of cutouts of half as much again as the network input (`TinyEncoder`).
        reach = max(features.input_size // 2 - MATCH_RADIUS - 1.0, 1.0)
        middle = 3 * features.input_size // 4
        turn = 2.0 * math.pi * torch.rand((count, 1), generator=generator)
        angle = turn + torch.arange(3) * (2.0 * math.pi / 3.0)
        sources = torch.full((count, 3, 6), torch.nan)
        sources[..., 0] = middle + reach * angle.cos()
        sources[..., 1] = middle + reach * angle.sin()
        sources[..., 2:] = torch.tensor([1.0, 18.0, 0.7, 0.5])
        absent = torch.arange(3)[None, :] > torch.arange(count)[:, None] % 3
        return {"target": sources.masked_fill(absent[..., None], torch.nan)}

    def perfect(self, batch: Tensors) -> torch.Tensor:
        """Return the map with every required source of the whole cutout at its place."""
        side = batch["image"].shape[-1]
        cells = side // self.options.stride
        grid = Grid(cells, cells * self.options.stride)
        return perfect_map(self._truth(batch["target"], grid), grid)

    def _grid(self, output: torch.Tensor) -> Grid:
        side = output.shape[-1]
        return Grid(side, self.options.crop or side * self.options.stride)

    def _truth(self, target: torch.Tensor, grid: Grid) -> Truth:
        target = target.float()
        known = torch.isfinite(target[..., X]) & torch.isfinite(target[..., Y])
        low, high = judged_range(grid)
        inside = (target[..., [X, Y]] >= low) & (target[..., [X, Y]] <= high)
        bright = target[..., MAG] <= self.options.faint_limit  # false for NaN
        places = target[..., : HALF_HEIGHT + 1].nan_to_num(1e6)
        return Truth(places, known, known & bright & inside.all(dim=-1))

    def _matched(self, output: torch.Tensor, batch: Tensors) -> tuple[Matches, Matches]:
        """Return matches by distance and by box."""
        grid = self._grid(output)
        peaks = find_peaks(output, grid, LOWEST_LOGIT)
        return match_sources(peaks, self.known(batch["target"], grid), grid)

    def known(self, target: torch.Tensor, grid: Grid) -> list[Known]:
        """Return what must be found, and what is ignored, of each field of a posed `target`."""
        truth = self._truth(target, grid)
        places, required = truth.places.double().cpu().numpy(), truth.required.cpu().numpy()
        kept = truth.known.cpu().numpy()
        return [Known(places[i][kept[i]], required[i][kept[i]]) for i in range(len(kept))]

    def properties(self, matches: Matches, target: Array) -> tuple[Array, Array]:
        """Return magnitude and nearest neighbour [FWHM] of the required sources."""
        mag, apart = [], []
        for field in range(len(target)):
            rows = target[field]
            rows = rows[np.isfinite(rows[:, X]) & np.isfinite(rows[:, Y])]
            mine = matches.source[matches.field == field]
            mag.append(rows[mine, MAG])
            apart.append(nearest_neighbour(rows[:, :2])[mine] / self.options.psf_fwhm)
        return np.concatenate(mag), np.concatenate(apart)

    def _pictures(self, output: torch.Tensor, batch: Tensors) -> Pictures:
        image = batch["image"][:PICTURES].float().cpu()
        grid = self._grid(output)
        low = image.shape[-1] // 2 - grid.extent // 2
        field = image[..., low : low + grid.extent, low : low + grid.extent]
        heat = torch.sigmoid(output[:PICTURES, :1].float().cpu())
        shown = F.interpolate(heat, size=field.shape[-2:]).expand(-1, field.shape[1], -1, -1)
        panels = {"field": field.numpy(), "sources": shown.numpy()}
        return Pictures("fields", panels, tuple("grizy"[: field.shape[1]]))


def match_sources(
    found: Sequence[tuple[Array, Array]], known: Sequence[Known], grid: Grid
) -> tuple[Matches, Matches]:
    """Return the matches of (places, score) of each field by distance, and those by box."""
    low, high = judged_range(grid)
    fields = []
    for (places, score), truth in zip(found, known, strict=True):
        at = places[:, :2]
        judged = np.asarray(((at >= low) & (at <= high)).all(axis=1))
        fields.append((Found(places, score, judged), truth))
    return match_by_distance(fields, MATCH_RADIUS), match_by_overlap(fields)


def judged_range(grid: Grid) -> tuple[float, float]:
    """Return the range of places, along both axes, in which sources must be found [pixel]."""
    low = -0.5 - grid.extent // 2
    return low + MATCH_RADIUS, low + grid.extent - MATCH_RADIUS


def _binned(
    name: str, matches: Matches, values: Array, edges: Sequence[float], label: str
) -> Curve:
    share, number = completeness_in_bins(matches, values, edges, 0.0)
    middle = 0.5 * (np.array(edges[1:]) + np.array(edges[:-1]))
    lines: dict[str, Any] = {"completeness": share, "share of all": number / max(number.sum(), 1)}
    return Curve(name, middle, lines, label, "completeness")
