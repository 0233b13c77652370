"""The argument that names a downstream task, which must be registered."""

from typing import Annotated

import typer


def _registered(name: str) -> str:
    from lvm.downstream import DOWNSTREAM_TASKS

    if name not in DOWNSTREAM_TASKS:
        known = ", ".join(sorted(DOWNSTREAM_TASKS))
        raise typer.BadParameter(f"no downstream task is called {name!r}: there are {known}")
    return name


Downstream = Annotated[
    str, typer.Argument(help="Downstream task, such as morphology.", callback=_registered)
]
