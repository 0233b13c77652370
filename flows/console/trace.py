"""Sub-command lineage: where a row came from, as a tree or as JSON."""

import json
from typing import Annotated, Any

import typer
from rich.tree import Tree

from flows.console.terminal import console, fail_on_errors


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(lineage)


@fail_on_errors
def lineage(
    object_id: Annotated[str, typer.Argument(help="RELEASE-BRICKID-OBJID")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a tree.")] = False,
) -> None:
    """Show which brick, files, labels, model and decision stand behind an object."""
    from tasks.lineage import trace_object
    from tasks.settings import load_settings

    found = trace_object(load_settings(), object_id)
    if as_json:
        typer.echo(json.dumps(found, indent=2, default=str))
        return
    tree = Tree(f"[bold]{object_id}[/]")
    for name, value in found.items():
        _grow(tree, name, value)
    console.print(tree)


def _grow(tree: Tree, name: str, value: Any) -> None:
    """Add a value to a tree: mappings and sequences of mappings become branches."""
    if isinstance(value, dict):
        branch = tree.add(f"[cyan]{name}[/]")
        for key, inner in value.items():
            _grow(branch, str(key), inner)
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        branch = tree.add(f"[cyan]{name}[/]")
        for number, item in enumerate(value, 1):
            _grow(branch, str(number), item)
    elif value not in ("", [], {}, ()):
        text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        tree.add(f"{name}: {text}")
