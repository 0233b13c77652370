"""`brickyard benchmark few-shot`: labels against AUC, and how many labels each method needs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console.terminal import console, fail, fail_on_errors, progress_bars

if TYPE_CHECKING:  # it loads torch, which every other sub-command would wait for
    from tasks.few_shot.curves import LabelRatio
    from tasks.few_shot.report import DataReport, FewShotReport

REAL_FOLDER = Path("..") / "shared" / "real" / "gz2_sdss"


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application of benchmarks."""
    app.command("few-shot")(few_shot)


@fail_on_errors
def few_shot(
    size: Annotated[
        str, typer.Option(help="quick (two cores, minutes), hours (two cores) or full (a GPU).")
    ] = "quick",
    seeds: Annotated[int | None, typer.Option(help="Repetitions; default: the size's.")] = None,
    labels: Annotated[
        str, typer.Option(help="Numbers of labels, such as 8,16,32; default: the size's.")
    ] = "",
    real: Annotated[str, typer.Option(help="gz2: cross-validate on real pictures too.")] = "none",
    real_folder: Annotated[
        Path, typer.Option(help="Folder of the pictures: labels.csv and images/.")
    ] = REAL_FOLDER,
    sky: Annotated[
        bool, typer.Option("--sky/--no-sky", help="Measure on the pretend sky; not: real alone.")
    ] = True,
    out: Annotated[
        Path, typer.Option(help="Folder of everything; a run that was killed goes on there.")
    ] = Path("benchmark-few-shot"),
    encoder: Annotated[str, typer.Option(help="Shipped weights, or a folder.")] = "nano-synthetic",
    imagenet: Annotated[
        Path | None, typer.Option(help="ImageNet weights of ResNet18; without: left out.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of the networks: cpu, cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Cells measured at a time.", min=1)] = 2,
) -> None:
    """Compare how many labels methods need, against ResNet18, with active learning and without."""
    from tasks.few_shot import few_shot_config, run_few_shot

    options = {
        "real_folder": real_folder,
        "sky": sky,
        "encoder": encoder,
        "imagenet": imagenet,
        "device": device,
        "workers": workers,
    }
    config = few_shot_config(
        size, out, seeds=seeds, labels=parse_labels(labels), real=real, **options
    )
    with progress_bars():
        report = run_few_shot(config)
    show_report(report)


def parse_labels(text: str) -> tuple[int, ...]:
    """Return the numbers of a list with commas, rising."""
    try:
        return tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        fail(f"--labels {text!r}: give numbers with commas, such as 8,16,32")


def show_report(report: "FewShotReport") -> None:
    """Print curves, ratios and where the files are."""
    for part in report.parts:
        for measure, digits in (("auc", 3), ("balanced_accuracy", 2)):
            console.print(_curve_table(part, measure, digits))
        console.print(_ratio_table(part, report.config.target))
        chosen, error = part.hitl, sum(part.hitl_error) / len(part.hitl_error)
        console.print(
            f"chosen against random labels, the same head: {_ratio(chosen)} times fewer labels at "
            f"AUC {report.config.target:g} ({chosen.low:.2f} to {chosen.high:.2f}); error with "
            f"random labels over error with chosen ones {error:.2f}"
        )
        console.print(f"plot: {part.plot}", soft_wrap=True)
    console.print(f"{report.cpu_seconds:.0f} s of processor time; record: {report.path}")


def _curve_table(part: "DataReport", measure: str, digits: int) -> Table:
    curves = part.curves[measure]
    numbers = sorted({int(n) for curve in curves.values() for n in curve.labels})
    table = Table(
        title=f"{measure.replace('_', ' ')} by number of labels, {part.data}, "
        f"{part.test['objects']} test objects",
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for number in numbers:
        table.add_column(str(number), justify="right")
    for name, curve in curves.items():
        found = dict(zip(curve.labels.tolist(), curve.mean().tolist(), strict=True))
        cells = [f"{found[n]:.{digits}f}" if n in found else "" for n in numbers]
        table.add_row(name, *cells)
    return table


def _ratio_table(part: "DataReport", target: float) -> Table:
    table = Table(title=f"labels needed for AUC {target:g}", title_justify="left")
    for heading in ("method", "labels", "ResNet18 needs", "ratio", "95 % interval"):
        table.add_column(heading, no_wrap=True)
    for name, ratio in part.ratios.items():
        more, less = ratio.needed
        row = [f"{needed.bound} {needed.labels:.0f}".strip() for needed in (less, more)]
        table.add_row(name, *row, _ratio(ratio), f"{ratio.low:.1f} to {ratio.high:.1f}")
    return table


def _ratio(ratio: "LabelRatio") -> str:
    return f"{ratio.bound} {ratio.value:.1f}".strip()
