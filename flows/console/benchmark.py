"""Sub-application `brickyard benchmark`: this model against what people would use instead."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console import benchmark_few_shot
from flows.console.terminal import console, fail, fail_on_errors

if TYPE_CHECKING:  # they load torch, which every other sub-command would wait for
    from tasks.detection_benchmark.runner import Cell

REAL_FIELDS = Path("..") / "shared" / "real" / "fields"
NAMES = {
    "sep": "sep at 1.5 sigma",
    "encoder": "nano-synthetic + detection head",
    "mask_rcnn": "Mask R-CNN, ResNet50",
}


def register(app: typer.Typer) -> None:
    """Add the sub-application with its commands to the application."""
    benchmarks = typer.Typer(no_args_is_help=True, help="Measure against what else there is.")
    benchmarks.command()(detection)
    benchmark_few_shot.register(benchmarks)
    app.add_typer(benchmarks, name="benchmark")


@fail_on_errors
def detection(
    size: Annotated[
        str, typer.Option(help="quick (minutes), hours (1,000 samples, two cores), full (a GPU).")
    ] = "quick",
    seeds: Annotated[int, typer.Option(help="Trainings of each model.", min=1)] = 1,
    out: Annotated[
        Path, typer.Option(help="Folder of everything; a run that was killed goes on there.")
    ] = Path("benchmark-detection"),
    real_folder: Annotated[
        Path, typer.Option(help="Folder of real fields; left out where it is absent.")
    ] = REAL_FIELDS,
) -> None:
    """Find the sources of fields: the encoder's head, Mask R-CNN and sep on the same test sky."""
    from tasks.detection_benchmark.runner import SIZES, run_detection

    if size not in SIZES:
        fail(f"--size {size!r}: give one of {', '.join(SIZES)}")
    try:
        cells = run_detection(SIZES[size], seeds, out, real_folder, console.print)
    except ValueError as error:
        fail(str(error))
    show_cells(cells)
    console.print(f"record: {out / 'detection.json'}", soft_wrap=True)


def show_cells(cells: "list[Cell]") -> None:
    """Print the table of methods, completeness by slices, and what came out on real fields."""
    first = cells[0]
    console.print(
        f"accuracy is F1 at 1 arcsec; {first.measures['required']:.0f} sources of "
        f"{first.settings['test']} test fields; {first.settings['fields']} training fields"
    )
    table = Table(title="detection", title_justify="left")
    headings = (
        "accuracy",
        "95 %",
        "completeness",
        "purity",
        "AP 1 arcsec",
        "AP50",
        "CPU s",
        "passes",
    )
    for heading in ("method", "seed", *headings):
        table.add_column(heading, no_wrap=True)
    for cell in cells:
        low, high = cell.intervals["f1"]
        names = ("completeness", "purity", "ap_1arcsec", "ap50")
        table.add_row(
            NAMES[cell.method],
            str(cell.seed),
            f"{cell.measures['f1']:.3f}",
            f"{low:.3f}-{high:.3f}",
            *(f"{cell.measures[name]:.3f}" for name in names),
            f"{cell.cpu_seconds:.0f}",
            str(cell.settings["epochs"]),
        )
    console.print(table)
    for name, label in (("magnitude", "magnitude"), ("neighbour", "neighbour [PSF FWHM]")):
        console.print(_slice_table(cells, name, label))
    for cell in cells:
        for field, found in cell.real.items():
            values = ", ".join(f"{key} {value:.3g}" for key, value in found.items())
            console.print(f"real field, seed {cell.seed}: {field}: {values}")


def _slice_table(cells: "list[Cell]", name: str, label: str) -> Table:
    shown = [cell for cell in cells if cell.seed == 0]
    table = Table(title=f"completeness by {label}, seed 0", title_justify="left")
    table.add_column(label, no_wrap=True)
    for cell in shown:
        table.add_column(NAMES[cell.method], justify="right")
    table.add_column("sources", justify="right")
    for rows in zip(*(cell.slices[name] for cell in shown), strict=True):
        low, high, _, number = rows[0]
        table.add_row(f"{low:g} to {high:g}", *(f"{row[2]:.2f}" for row in rows), f"{number:.0f}")
    return table
