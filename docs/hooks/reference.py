"""Pages of the docs that are made from the program itself: commands, settings, deployments.

mkdocs calls `on_page_markdown` for every page; a line `<!-- commands -->` and the like is replaced.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import yaml
from pydantic import BaseModel
from typer.main import get_command

from flows.__main__ import app
from tasks.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def on_page_markdown(markdown: str, **_page: Any) -> str:
    """Return a page with its marks replaced."""
    for mark, make in PARTS.items():
        line = f"<!-- {mark} -->"
        if line in markdown:
            markdown = markdown.replace(line, make())
    return markdown


def commands_text() -> str:
    """Return every command with its arguments and options."""
    return "\n".join(_commands(get_command(app), "brickyard"))


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        whole = f"{path} {name}"
        yield f"## {whole}\n"
        yield f"{(command.help or '').strip()}\n"
        rows = [_row(item) for item in command.params if item.name != "help"]
        if rows:
            yield "| | | default |\n|---|---|---|"
            yield from rows
            yield ""
        if hasattr(command, "commands"):
            yield from _commands(command, whole)


def _row(item: click.Parameter) -> str:
    if item.param_type_name == "argument":
        name = f"`{(item.name or '').upper()}`"
    else:
        name = ", ".join(f"`{text}`" for text in (*item.opts, *item.secondary_opts))
    default = "" if item.required or item.default is False else _code(item.default)
    return f"| {name} | {_cell(getattr(item, 'help', '') or '')} | {default} |"


def settings_text() -> str:
    """Return every environment variable of `tasks.settings`."""
    parts = {
        name: type(field.default)
        for name, field in Settings.model_fields.items()
        if isinstance(field.default, BaseModel)
    }
    rows = ["| variable | what | default |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if name in parts or field.default is None else str(field.default)
        what = "JSON, see below" if name in parts else _cell(field.description or "")
        rows.append(f"| `BRICKYARD_{name.upper()}` | {what} | {_code(default)} |")
    for name, part in parts.items():
        rows += ["", f"Keys of `BRICKYARD_{name.upper()}`:", ""]
        rows += ["| key | what | default |", "|---|---|---|"]
        for key, field in part.model_fields.items():
            default = field.get_default(call_default_factory=True)
            rows.append(f"| `{key}` | {_cell(field.description or '')} | {_code(default)} |")
    return "\n".join(rows)


def deployments_text() -> str:
    """Return the deployments of prefect.yaml."""
    found = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    rows = ["| deployment | flow | work pool | what |", "|---|---|---|---|"]
    for item in found:
        flow = item["entrypoint"].partition(":")[2]
        pool = item["work_pool"]["name"]
        rows.append(f"| `{item['name']}` | `{flow}` | {pool} | {_cell(item['description'])} |")
    return "\n".join(rows)


def decisions_text() -> str:
    """Return the decision records, each with its title."""
    files = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
    return "\n".join(
        f"* [{path.read_text().splitlines()[0].lstrip('# ')}]({path.name})" for path in files
    )


def _code(value: object) -> str:
    return f"`{value}`" if value not in (None, "", (), {}) else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands_text,
    "settings": settings_text,
    "deployments": deployments_text,
    "decisions": decisions_text,
}
