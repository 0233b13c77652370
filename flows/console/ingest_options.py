"""The options that say what to ingest; `ingest` and `plan` have them alike."""

from pathlib import Path
from typing import Annotated, Any

import typer

Source = Annotated[
    str, typer.Argument(help="Folder of a release, a region or bricks; or https://, s3://.")
]
Release = Annotated[str, typer.Option(help="Release, such as dr9 or dr10.")]
Region = Annotated[str, typer.Option(help="north or south.")]
Bricks = Annotated[
    list[str] | None, typer.Option("--brick", "-b", help="Only this brick; may be repeated.")
]
Bands = Annotated[str | None, typer.Option(help="Bands to store, such as grz.")]
MaxMag = Annotated[
    float | None, typer.Option(help="Faintest dereddened magnitude (z band by default).")
]
Size = Annotated[int | None, typer.Option(help="Side of a cutout [pixel].")]
Edge = Annotated[str | None, typer.Option(help="stitch, drop or pad cutouts that leave the image.")]
Detect = Annotated[
    bool, typer.Option("--detect", help="Detect sources where a brick has no tractor table.")
]
BricksFrom = Annotated[Path | None, typer.Option(help="File with brick names: text, CSV or FITS.")]
Again = Annotated[
    bool, typer.Option("--again", help="Also bricks that are unchanged, or were withdrawn.")
]
Tag = Annotated[str | None, typer.Option(help="Name of the snapshot; default: a running number.")]


def config_overrides(
    bands: str | None, max_mag: float | None, size: int | None, edge: str | None, detect: bool
) -> dict[str, Any]:
    """Return what the options put in place of the values of a configuration file."""
    return {
        "bands": tuple(bands) if bands else None,
        "selection.max_mag": max_mag,
        "cutout.size": size,
        "cutout.edge": edge,
        "detect_missing_catalogue": detect or None,
    }
