"""Sub-commands on embeddings: search, anomalies, map, drift."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console.models import Encoder
from flows.console.store import Survey
from flows.console.terminal import console, fail_on_errors, flow_command, progress_bars

if TYPE_CHECKING:  # these load Prefect, which every other sub-command would wait for
    from tasks.anomaly import AnomalyRanking
    from tasks.drift import DriftRef
    from tasks.search import SearchResult

TOP_SHOWN = 10  # rare objects in the terminal; the picture and the table have more


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    app.command()(search)
    app.command()(anomalies)
    app.command("map")(draw)
    app.command()(drift)


@fail_on_errors
def search(
    survey: Survey,
    like: Annotated[
        str, typer.Option(help="RELEASE-BRICKID-OBJID, or ra,dec in degrees of an object.")
    ],
    number: Annotated[int, typer.Option("-k", "--number", help="Objects to find.")] = 20,
    encoder: Encoder = "",
    picture: Annotated[
        Path | None, typer.Option(help="PNG file for a sheet of what is found.")
    ] = None,
) -> None:
    """Find the objects that look most like one of them; the index is built when it is outdated."""
    from flows.search import search_survey
    from tasks.encoders import find_encoder
    from tasks.settings import load_settings

    chosen = find_encoder(load_settings(), encoder)
    with console.status(f"searching {survey}"):
        found = search_survey(survey, chosen, like, number, str(picture or ""))
    show_matches(found)


@fail_on_errors
def anomalies(
    survey: Survey,
    method: Annotated[str, typer.Option(help="both, neighbours or forest.")] = "both",
    keep: Annotated[int, typer.Option(help="Objects in the table that is written.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the sample and of the forest.")] = 0,
    encoder: Encoder = "",
    picture: Annotated[Path | None, typer.Option(help="PNG file of the sheet.")] = None,
) -> None:
    """Rank objects by how rare they look, and draw the rarest."""
    from tasks.anomaly import AnomalyConfig, rank_anomalies
    from tasks.encoders import find_encoder
    from tasks.settings import load_settings

    settings = load_settings()
    config = AnomalyConfig(method=method, keep=keep, seed=seed)
    chosen = find_encoder(settings, encoder)
    with progress_bars():
        found = rank_anomalies.fn(settings, survey, chosen, config, str(picture or ""))
    show_anomalies(found)


@fail_on_errors
def draw(
    survey: Survey,
    target: Annotated[Path, typer.Argument(help="File to write: .png or .html.")],
    sample: Annotated[int, typer.Option(help="Objects to arrange.")] = 4000,
    seed: Annotated[int, typer.Option(help="Equal seeds make equal pictures.")] = 0,
    encoder: Encoder = "",
) -> None:
    """Draw the survey as its encoder sees it: a UMAP of cutouts, alike ones side by side."""
    from tasks.embedding_map import MapConfig, draw_map
    from tasks.encoders import find_encoder
    from tasks.settings import load_settings

    settings = load_settings()
    chosen = find_encoder(settings, encoder)
    with console.status(f"arranging {survey}"):
        config = MapConfig(sample=sample, seed=seed)
        found = draw_map.fn(settings, survey, chosen, str(target), config)
    console.print(f"{found.shown} of {found.arranged} arranged objects in [bold]{found.path}[/]")
    _show_left_out(found.bricks_left_out, survey)


@flow_command
def drift(
    first: Annotated[str, typer.Argument(help="Survey, or survey@tag, such as dr10/south.")],
    second: Annotated[
        str, typer.Argument(help="Another; without it only bricks are compared.")
    ] = "",
    encoder: Encoder = "",
    seed: Annotated[int, typer.Option(help="Of the samples and permutations.")] = 0,
) -> None:
    """Compare the embeddings of two surveys or snapshots; exit code 1 when they have drifted."""
    from flows.drift import check_drift
    from storage.drift.two_sample import DriftLimits
    from tasks.encoders import find_encoder
    from tasks.settings import load_settings

    chosen = find_encoder(load_settings(), encoder)
    found = check_drift(chosen, first, second, DriftLimits(seed=seed))
    show_drift(found)
    if found.alarm:
        raise typer.Exit(code=1)


def show_matches(found: "SearchResult") -> None:
    """Print what was found, nearest first."""
    query, index = found.query, found.index
    table = Table(title=f"most like {query.object_id}", title_justify="left")
    for heading in ("object", "ra", "dec", "similarity"):
        table.add_column(heading, no_wrap=True)
    for match in found.matches:
        place = (f"{match.ra:.5f}", f"{match.dec:+.5f}")
        table.add_row(match.object_id, *place, f"{match.similarity:.3f}")
    console.print(table)
    state = "built now" if index.built else "up to date"
    console.print(f"{index.total} objects searched; index {state}: {index.path}", soft_wrap=True)
    _show_left_out(index.bricks_left_out, index.embeddings.survey)
    if found.picture:
        console.print(f"picture: {found.picture}", soft_wrap=True)


def show_anomalies(found: "AnomalyRanking") -> None:
    """Print the rarest objects and where the others are."""
    survey = found.embeddings.survey
    table = Table(title=f"rarest of {found.total} objects of {survey}", title_justify="left")
    for heading in ("object", "ra", "dec", "rarity [σ]"):
        table.add_column(heading, no_wrap=True)
    for item in found.top[:TOP_SHOWN]:
        table.add_row(item.object_id, f"{item.ra:.5f}", f"{item.dec:+.5f}", f"{item.rarity:.1f}")
    console.print(table)
    console.print(f"table: {found.table}\npicture: {found.picture}", soft_wrap=True)
    _show_left_out(found.bricks_left_out, survey)


def show_drift(found: "DriftRef") -> None:
    """Print the verdict, the measures and where the report is."""
    console.print(found.verdict)
    for name, value in {**found.difference, **found.counterparts}.items():
        console.print(f"  {name.replace('_', ' ')}: {value}")
    if found.outliers:
        console.print(f"  bricks that stand out: {', '.join(found.outliers[:TOP_SHOWN])}")
    console.print(f"report: {found.path}", soft_wrap=True)


def _show_left_out(bricks: int, survey: str) -> None:
    if bricks:
        console.print(
            f"[yellow]{bricks} bricks left out[/]: they are not embedded, or were ingested again "
            f"since; run `brickyard embed {survey}`"
        )
