"""Sub-command lineage: where something came from and what it went into."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.tree import Tree

from flows.console.terminal import console, fail_on_errors

if TYPE_CHECKING:
    from tasks.lineage import Lineage, Link, Thing

ENTRIES = 12  # of a list that a person reads; --json has them all


def register(app: typer.Typer) -> None:
    """Add the sub-command to the application."""
    app.command()(lineage)


@fail_on_errors
def lineage(
    subject: Annotated[
        str,
        typer.Argument(
            help="Object id, catalogue (folder or file), file#row, model as TASK/VERSION, "
            "snapshot id or tag, or brick."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a tree.")] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Write a picture (SVG) to this file.")
    ] = None,
) -> None:
    """Show where something came from, down to files and checksums, and what it went into.

    `file#12` is row 12 of a catalogue, counted from 0; `file#10000-349541-123` the row of an
    object. The file may be a copy of a catalogue that somebody was given long ago: the store is
    all that is needed besides it.
    """
    from tasks.lineage import draw, trace
    from tasks.settings import load_settings
    from tasks.whole_files import whole_file

    found = trace(load_settings(), subject)
    if picture is not None:
        with whole_file(picture) as partial:
            partial.write_text(draw(found), encoding="utf-8")
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    console.print(lineage_tree(found))
    if picture is not None:
        console.print(f"picture: {picture}")


def lineage_tree(found: "Lineage") -> Tree:
    """Return a lineage as a tree with two branches: what came before, and what came after."""
    subject = found.thing(found.subject)
    tree = Tree(f"[bold]{escape(subject.title)}[/]")
    _add_facts(tree, subject)
    ways = (
        ("came from", found.sources, lambda link: link.source),
        ("went into", found.products, lambda link: link.made),
    )
    for title, links, other in ways:
        if links(found.subject):
            branch = tree.add(f"[bold yellow]{title}[/]")
            _grow(branch, found, found.subject, (links, other), {found.subject})
    return tree


def _grow(
    tree: Tree,
    found: "Lineage",
    thing_id: str,
    way: "tuple[Callable[[str], list[Link]], Callable[[Link], str]]",
    seen: set[str],
) -> None:
    """Add what is on one side of a thing; what was shown already is only named again."""
    links, other = way
    for link in links(thing_id):
        thing = found.thing(other(link))
        again = " [dim](as above)[/]" if thing.id in seen else ""
        title, how = f"[cyan]{escape(thing.title)}[/]", f"[dim]{escape(link.how)}[/]"
        back = links == found.sources
        branch = tree.add((f"{how} {title}" if back else f"{title} [dim]←[/] {how}") + again)
        if not again:
            seen.add(thing.id)
            _add_facts(branch, thing)
            _grow(branch, found, thing.id, way, seen)


def _add_facts(tree: Tree, thing: "Thing") -> None:
    if thing.missing:
        tree.add(f"[red]missing:[/] {escape(thing.missing)}")
    for name, value in thing.facts.items():
        _add_value(tree, name, value)


def _add_value(tree: Tree, name: str, value: Any) -> None:
    """Add a value: mappings and lists of mappings become branches, long ones cut."""
    pairs: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        pairs = [(str(number), item) for number, item in enumerate(value, 1)]
    if pairs:
        branch = tree.add(escape(name))
        for key, inner in pairs[:ENTRIES]:
            _add_value(branch, key, inner)
        if len(pairs) > ENTRIES:
            branch.add(f"[dim]and {len(pairs) - ENTRIES} more: --json[/]")
    elif value not in _EMPTY:
        tree.add(f"{escape(name)}: {escape(_text(value))}")


def _text(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    shown = ", ".join(str(item) for item in value[:ENTRIES])
    return shown if len(value) <= ENTRIES else f"{shown} and {len(value) - ENTRIES} more"


_EMPTY = ("", None, [], {}, ())
