"""Command lines of `brickyard`, parsed as the program would, without running anything."""

import re
from pathlib import Path

from typer.main import get_command

from flows.__main__ import app


def check_brickyard(words: list[str]) -> None:
    """Let Typer parse the words after `brickyard`; raise what a user would be told."""
    name, command = "brickyard", get_command(app)
    contexts = []
    try:
        while True:
            parent = contexts[-1] if contexts else None
            context = command.make_context(name, list(words), parent=parent)
            contexts.append(context)
            if not hasattr(command, "commands"):
                return
            words = [*context._protected_args, *context.args]
            if not words:  # a group that does something by itself
                return
            name, command, words = command.resolve_command(context, words)
    finally:
        for context in reversed(contexts):
            context.close()


def command_lines(path: Path) -> list[str]:
    """Return the command lines of a page: indented ones, and those after a `$`."""
    found = re.findall(r"^(?: {4}|\$ (?:\w+=\S+ )*)(brickyard .+)$", path.read_text(), re.M)
    return [line.split("  #")[0].split(" 2> ")[0].strip() for line in found]
