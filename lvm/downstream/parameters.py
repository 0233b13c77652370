"""Parameters: how bright, large, elongated and concentrated a galaxy is, and how sure that is.

The uncertainties are quantiles, not a Gaussian and not a mixture density: catalogues hold blunders
and one-sided errors (a blend is too bright, never too faint), which quantiles take as they are; the
loss is a proper score that no outlier dominates, and the intervals that are reported are
what is learnt, not a function of it. `calibrate` moves each quantile to where it holds on objects
kept aside (conformal), so that 68 % means 68 % whatever the head got wrong.

The position angle is learnt as the ellipticity components, e1 and e2, which are its double angle
times the elongation: 0 and 180 degrees are the same, and the angle of a round galaxy, which
means nothing, costs nothing (see `lvm.ellipticity`). It is read from the maps, as all shapes are:
an embedding that was trained to ignore how a galaxy is turned holds fluxes and sizes, but no angle
and hardly an axis ratio (measured on the shipped encoder; see `lvm.moments`).

What the answers are measured against is what the columns hold. Shapes and indices that a catalogue
did not fit but set (a round REX, the index of an EXP or DEV) are not known: they count nowhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from lvm.downstream.base import Columns, DownstreamTask, Metric, TaskConfig, register
from lvm.ellipticity import MAX_ANGLE_ERROR, angle_measures, position_angle
from lvm.encoder import FeatureSpec
from lvm.field_symmetry import turn_pixels
from lvm.figures import Curve, Figure
from lvm.galaxy_parameters import REDSHIFT, catalogue_parameters, parameters_asked
from lvm.heads import embedding_head
from lvm.moments import MomentPooling
from lvm.quantiles import (
    INTERVALS,
    LEVELS,
    MIDDLE,
    ONE_SIGMA,
    QuantileHead,
    conformal_shift,
    coverage,
    crps,
    one_sigma,
    quantile_loss,
    residual_measures,
    shifted,
)
from lvm.tensors import Tensors

PIXELS = ("image", "invvar", "maskbits")


@dataclass(frozen=True)
class ParametersConfig(TaskConfig):
    """Options of the parameters task.

    Parameters
    ----------
    bands : whose magnitudes are asked for; columns flux_<band> [nanomaggy]
    redshift : name of a column of redshifts; empty: none is asked for
    turns : turn and mirror objects at random when the question is put; angles turn along
    channels : mixed from those of each map (`moments.MomentPooling`)
    hidden : width of the hidden layer of the head; 0 for a linear head
    """

    bands: tuple[str, ...] = ("g", "r", "z")
    redshift: str = ""
    turns: bool = True
    channels: int = 8
    hidden: int = 128
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.bands or len(set(self.bands)) != len(self.bands):
            raise ValueError(f"bands must be different names, at least one; got {self.bands}")


@register
class Parameters(DownstreamTask):
    """Photometric and structural parameters; the output is quantiles (object, parameter, level)."""

    name = "parameters"
    headline = Metric("crps", higher_is_better=False, best=0.0)
    needs = ("flux_g", "flux_r", "flux_z", "shape_r", "shape_e1", "shape_e2", "sersic")
    uses = "pixels"
    # Dimming and reddening would change the magnitudes; the angle turns with the galaxy in `pose`.
    keeps_label = ("shift", "blur", "noise", "band_drop")
    columns = {
        "mag_": ("mag", "AB magnitude in band {}"),
        "radius": ("arcsec", "half-light radius"),
        "axis_ratio": ("1", "minor over major axis"),
        "e1": ("1", "ellipticity component 1, as in the survey's catalogues"),
        "e2": ("1", "ellipticity component 2, as in the survey's catalogues"),
        "sersic": ("1", "Sersic index"),
        "redshift": ("1", "photometric redshift"),
        "angle": ("deg", "position angle of the major axis, north to east; NaN: not known"),
        "angle_error": ("deg", "uncertainty of the position angle, 1 sigma"),
    }
    config_class = ParametersConfig

    def __init__(self, config: TaskConfig | None = None) -> None:
        super().__init__(config)
        options = self.options
        fluxes = tuple(f"flux_{band}" for band in options.bands)
        redshift = (options.redshift,) if options.redshift else ()
        # Of this instance: bands and redshift are options. The class says what the default needs.
        vars(self)["needs"] = (*fluxes, "shape_r", "shape_e1", "shape_e2", "sersic", *redshift)
        self.parameters = parameters_asked(options.bands, bool(options.redshift))

    @property
    def options(self) -> ParametersConfig:
        """The configuration, as the type that it is."""
        return cast(ParametersConfig, self.config)

    def target(self, columns: Columns) -> np.ndarray[Any, np.dtype[Any]]:
        """Return the parameters (object, parameter) float32 of catalogue columns.

        Columns are those of the survey's catalogues: flux_<band> [nanomaggy] (0: not observed),
        shape_r [arcsec] (0: a point), shape_e1 and shape_e2 (both 0: not fitted), sersic.
        """
        return catalogue_parameters(columns, self.options.bands, self.options.redshift)

    def pose(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        """Return the batch with each object turned or mirrored at random, its angle too."""
        if not self.options.turns or "image" not in batch:
            return batch
        element = torch.randint(8, (len(batch["image"]),), generator=generator)
        posed = dict(batch)
        for name in PIXELS:
            if name in posed:
                posed[name] = turn_pixels(posed[name], element)
        target = self._target(batch).clone()
        first, second = self._components()
        transposed, upside, mirrored = (element.to(target.device) & bit > 0 for bit in (1, 2, 4))
        target[transposed, first] *= -1.0
        target[upside ^ mirrored, second] *= -1.0
        posed["target"] = target
        return posed

    def head(self, features: FeatureSpec) -> nn.Module:
        """Return a head of quantiles on the moments of the network input and the maps."""
        options = self.options
        pooling = MomentPooling(features.with_input(), options.channels)
        outputs = len(self.parameters) * len(LEVELS)
        last = embedding_head(pooling.width, outputs, options.hidden, options.dropout)
        centre = [parameter.centre for parameter in self.parameters]
        scale = [parameter.scale for parameter in self.parameters]
        return QuantileHead(nn.Sequential(pooling, last), centre, scale)

    def loss(self, output: torch.Tensor, batch: Tensors) -> Tensors:
        """Return the mean CRPS in units of the scales; what is not known does not count."""
        return {"loss": quantile_loss(output.float(), self._target(batch), self._scale(output))}

    def calibrate(
        self, head: nn.Module, output: torch.Tensor, batch: Tensors
    ) -> Mapping[str, float]:
        """Set the shifts of the quantiles of `head`; return the coverage before and after.

        What is reached afterwards is of the same objects; only a test split tells what it is worth.
        """
        if not isinstance(head, QuantileHead):
            raise TypeError(f"expected the head of this task, not {type(head).__name__}")
        target = self._target(batch)
        after = shifted(output, conformal_shift(output, target))
        head.recalibrate(output, target)
        found = {"calibration_objects": float(len(target))}
        for state, quantiles in (("before", output), ("after", after)):
            for nominal in (0.68, 0.95):
                inside = coverage(quantiles, target, nominal)
                found[f"coverage_{100 * nominal:.0f}_{state}"] = float(inside.nanmean())
        return found

    def metrics(self, output: torch.Tensor, batch: Tensors) -> dict[str, float]:
        """Return the mean score and coverage, and measures of each parameter.

        `crps` is in units of the scales; `coverage_68` and `coverage_95` are means over parameters.
        `<measure>_<parameter>`: crps, bias, nmad, outliers, coverage_68, coverage_95, in the unit
        of the parameter. Of the angle, for elongated galaxies: bias, nmad and outliers [deg],
        coverage_68, and the share of them of which an angle is `given` (`ellipticity`).
        """
        target = self._target(batch)
        scores = crps(output, target).nanmean(dim=0)
        inside = {nominal: coverage(output, target, nominal) for nominal in (0.68, 0.95)}
        found = {"crps": float((scores / self._scale(output)).nanmean())}
        for nominal, shares in inside.items():
            found[f"coverage_{100 * nominal:.0f}"] = float(shares.nanmean())
        for index, parameter in enumerate(self.parameters):
            residual = output[:, index, MIDDLE] - target[:, index]
            if parameter is REDSHIFT:
                residual = residual / (1.0 + target[:, index])
            values = residual_measures(residual, parameter.outlier)
            values["crps"] = float(scores[index])
            for nominal, shares in inside.items():
                values[f"coverage_{100 * nominal:.0f}"] = float(shares[index])
            found |= {f"{measure}_{parameter.name}": value for measure, value in values.items()}
        first, second = self._components()
        of_angle = angle_measures(*self._angle(output), target[:, first], target[:, second])
        return found | {f"{measure}_angle": value for measure, value in of_angle.items()}

    def present(self, output: torch.Tensor) -> Columns:
        """Return each parameter with the ends of its 68 % interval, `<name>_low`, `<name>_high`.

        mag_<band> [mag], radius [arcsec], axis_ratio, e1, e2, sersic, redshift; and `angle`, from
        north to east [deg], with `angle_error` (one sigma), NaN where it is not known.
        """
        columns: Columns = {}
        ends = {"": MIDDLE, "_low": ONE_SIGMA[0], "_high": ONE_SIGMA[1]}
        for index, parameter in enumerate(self.parameters):
            for suffix, level in ends.items():
                values = output[:, index, level].float().cpu().numpy()
                name = parameter.name.removeprefix("log_")
                if name != parameter.name:
                    values = 10.0**values
                if name == "axis_ratio":
                    values = values.clip(0.0, 1.0)
                columns[f"{name}{suffix}"] = values
        angle, error = self._angle(output)
        unknown = error > MAX_ANGLE_ERROR
        columns["angle"] = angle.masked_fill(unknown, torch.nan).cpu().numpy()
        columns["angle_error"] = error.masked_fill(unknown, torch.nan).cpu().numpy()
        return columns

    def figures(self, output: torch.Tensor, batch: Tensors) -> Sequence[Figure]:
        """Return the coverage of all intervals, and predicted against true for each parameter."""
        target = self._target(batch)
        shares = torch.stack([coverage(output, target, nominal) for nominal in INTERVALS])
        lines = {p.name: shares[:, i].double().numpy() for i, p in enumerate(self.parameters)}
        nominal = np.array(list(INTERVALS))
        found = [
            Curve("coverage", nominal, lines, "nominal coverage", "coverage reached", "diagonal")
        ]
        for index, parameter in enumerate(self.parameters):
            known = torch.isfinite(target[:, index])
            label = f"{parameter.name} [{parameter.unit}]" if parameter.unit else parameter.name
            predicted = output[known, index, MIDDLE].double().numpy()
            truth = target[known, index].double().numpy()
            points = {"predicted": predicted}
            name = f"predicted_{parameter.name}"
            axes = (f"true {label}", f"predicted {label}")
            found.append(Curve(name, truth, points, *axes, reference="diagonal", kind="points"))
        return found

    def example(self, count: int, features: FeatureSpec, generator: torch.Generator) -> Tensors:
        """Return parameters around their centres; the first object's last one is not known."""
        draw = torch.randn((count, len(self.parameters)), generator=generator)
        centre = draw.new_tensor([parameter.centre for parameter in self.parameters])
        target = centre + 0.4 * draw * self._scale(draw)
        target[0, -1] = torch.nan
        return {"target": target}

    def perfect(self, batch: Tensors) -> torch.Tensor:
        """Return quantiles that are all at the truth."""
        target = self._target(batch)
        known = torch.where(torch.isfinite(target), target, 0.0)
        return known[..., None].expand(-1, -1, len(LEVELS)).clone()

    def _target(self, batch: Tensors) -> torch.Tensor:
        target = batch["target"].float()
        if target.ndim != 2 or target.shape[1] != len(self.parameters):
            raise ValueError(
                f"target has shape {tuple(target.shape)}; expected (object, parameter) with "
                f"parameters {[parameter.name for parameter in self.parameters]}"
            )
        return target

    def _scale(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_tensor([parameter.scale for parameter in self.parameters])

    def _components(self) -> tuple[int, int]:
        names = [parameter.name for parameter in self.parameters]
        return names.index("e1"), names.index("e2")

    def _angle(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the position angle and its error (object,) [deg]."""
        first, second = self._components()
        quantiles = output.float()
        width = one_sigma(quantiles)
        e1, e2 = quantiles[:, first, MIDDLE], quantiles[:, second, MIDDLE]
        return position_angle(e1, e2, (width[:, first], width[:, second]))
