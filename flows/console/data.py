"""Sub-commands that bring data in: synthetic, ingest, ingest-images, labels."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import labels
from flows.console.ingest_options import (
    Again,
    Bands,
    Bricks,
    BricksFrom,
    Detect,
    Edge,
    MaxMag,
    Region,
    Release,
    Size,
    Source,
    Tag,
    config_overrides,
)
from flows.console.terminal import (
    console,
    fail,
    fail_on_errors,
    progress_bars,
    show_receipt,
    write_receipt,
)
from flows.services import use_server

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; single options below replace its values."),
]
ReceiptFile = Annotated[
    Path | None, typer.Option("--receipt", help="Write the whole receipt to this JSON file.")
]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    app.command()(synthetic)
    app.command()(ingest)
    app.command("ingest-images")(ingest_images)
    labels.register(app)


@fail_on_errors
def synthetic(
    folder: Annotated[Path, typer.Argument(help="Folder to write the pretend release into.")],
    bricks: Annotated[int, typer.Option(help="Number of adjoining bricks.")] = 2,
    size: Annotated[
        int, typer.Option(help="Side of a brick [pixel]; the survey's is 3600.")
    ] = 3600,
    seed: Annotated[int, typer.Option(help="Same seed, same files.")] = 0,
    bands: Annotated[str, typer.Option(help="Bands to render, such as grz or griz.")] = "grz",
    density: Annotated[float, typer.Option(help="Times the real number of galaxies.")] = 1.0,
) -> None:
    """Write a synthetic survey in the Legacy Surveys' own file layout, with a truth table."""
    from storage.synthetic import SyntheticConfig, write_synthetic_release

    config = SyntheticConfig(
        count=bricks, brick_size=size, seed=seed, bands=tuple(bands), density=density
    )
    with console.status(f"rendering {bricks} bricks of {size} x {size} pixels"):
        release = write_synthetic_release(folder, config)
    console.print(f"wrote {', '.join(release.bricknames)} to {release.root}")
    console.print(f"next: brickyard ingest {folder} --release dr10 --region south")


@fail_on_errors
def ingest(
    source: Source,
    release: Release = "dr10",
    region: Region = "south",
    brick: Bricks = None,
    bands: Bands = None,
    max_mag: MaxMag = None,
    size: Size = None,
    edge: Edge = None,
    detect: Detect = False,
    bricks_from: BricksFrom = None,
    again: Again = False,
    tag: Tag = None,
    config: ConfigFile = None,
    receipt: ReceiptFile = None,
) -> None:
    """Read bricks, check them, and store a cutout of every selected galaxy.

    Running it again writes only what is new or has changed.
    """
    if "://" not in source:
        _require_folder(source, "coadd/ and tractor/, of a release or a region")
    overrides = config_overrides(bands, max_mag, size, edge, detect)
    with use_server(), progress_bars():
        from flows.ingest import ingest_bricks
        from flows.parameters import IngestConfig, IngestRun, read_config

        settings = read_config(IngestConfig, config, overrides)
        run = IngestRun(again=again, brick_list=bricks_from and str(bricks_from), tag=tag)
        result = ingest_bricks(source, release, region, brick, settings, run)
    show_receipt(result)
    if receipt:
        write_receipt(result, receipt)
    if broken := result.counts["failed"] + result.counts["quarantined"]:
        fail(f"{broken} of {result.total} bricks failed or are quarantined; nothing else was lost")


@fail_on_errors
def ingest_images(
    folder: Annotated[Path, typer.Argument(help="Folder of colour JPEG or PNG cutouts.")],
    labels: Annotated[Path | None, typer.Option(help="CSV with labels or votes.")] = None,
    name: Annotated[str, typer.Option(help="Survey name; default: the folder's.")] = "",
    label_column: Annotated[str | None, typer.Option(help="Column with the label.")] = None,
    id_column: Annotated[str | None, typer.Option(help="Column that names the picture.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of a cutout [pixel].")] = None,
    where: Annotated[
        str | None, typer.Option(help='Rows to use, such as "t06_odd_a14_yes_debiased > 0.5".')
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="Rename a label, as merger=other; may be repeated.")
    ] = None,
    config: ConfigFile = None,
    receipt: ReceiptFile = None,
) -> None:
    """Store a folder of colour pictures (bands r, g, b) and their labels like a survey."""
    _require_folder(folder, "JPEG or PNG cutouts")
    overrides = {
        "label_column": label_column,
        "id_column": id_column,
        "size": size,
        "where": where,
        "rename": dict(pair.split("=", 1) for pair in rename) if rename else None,
    }
    with use_server(), progress_bars():
        from flows.ingest import ingest_images as run
        from flows.parameters import ImageFolderConfig, read_config

        settings = read_config(ImageFolderConfig, config, overrides)
        result = run(str(folder), name or folder.resolve().name, labels and str(labels), settings)
    show_receipt(result)
    if receipt:
        write_receipt(result, receipt)


def _require_folder(folder: str | Path, holds: str) -> None:
    """Refuse a folder that is not there, before a server is started for it."""
    if not Path(folder).is_dir():
        raise typer.BadParameter(f"no folder {folder}: give the folder that holds {holds}")
