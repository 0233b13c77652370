"""Sub-command `runs`: every registered model in one table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from flows.console.terminal import console, fail_on_errors

if TYPE_CHECKING:
    from tasks.model_story import ModelStory

SHORT = 8  # digits of a digest that people tell apart


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(runs)


@fail_on_errors
def runs(
    downstream: Annotated[
        str | None, typer.Option(help="Only models of this downstream task.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="File to write the whole stories to.")
    ] = None,
) -> None:
    """Show every registered model: what it reaches, what made it, its cost, the decision."""
    from tasks.model_story import ModelStory, model_stories
    from tasks.settings import load_settings

    settings = load_settings()
    stories = model_stories(settings, downstream)
    if as_json is not None:
        from pydantic import TypeAdapter

        as_json.write_bytes(TypeAdapter(list[ModelStory]).dump_json(stories, indent=2))
        console.print(f"{len(stories)} models in {as_json}")
        return
    if not stories:
        console.print(f"no model is registered in {settings.mlflow_uri}: `brickyard finetune`")
        return
    console.print(stories_table(stories))


def stories_table(stories: "list[ModelStory]") -> Table:
    """Return the table that people read; digests are cut short."""
    table = Table(title="registered models, newest first", title_justify="left")
    for heading in ("model", "alias"):
        table.add_column(heading, no_wrap=True)
    for heading in ("test split", "data", "labels", "encoder", "mode"):
        table.add_column(heading, overflow="fold")
    table.add_column("CPU s", justify="right")
    table.add_column("decision", overflow="fold")
    for story in stories:
        table.add_row(
            f"{story.downstream} {story.version}",
            ", ".join(story.aliases) or "-",
            _measure(story),
            f"{story.survey} {story.snapshot_id[:SHORT]}, {story.training_objects} objects",
            story.labels_digest[:SHORT] or "-",
            story.encoder_digest[:SHORT],
            story.mode,
            f"{story.cpu_seconds:.0f}",
            story.decision + (f" by {story.reviewer}" if story.reviewer else ""),
        )
    return table


def _measure(story: "ModelStory") -> str:
    if story.value is None:
        return "not measured"
    value = story.value
    return f"{story.headline} {value.value:.3f} ({value.low:.3f} to {value.high:.3f})"
