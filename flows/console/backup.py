"""Sub-commands backup, restore and migrate: the state of an installation, kept and moved on."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console.terminal import console, fail_on_errors


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    for command in (backup, restore, migrate):
        app.command()(command)


@fail_on_errors
def backup(
    target: Annotated[Path, typer.Argument(help="New folder for the backup.")],
    only_local: Annotated[
        bool,
        typer.Option(
            "--only-local", help="Go on although some state is on other machines; name it."
        ),
    ] = False,
) -> None:
    """Save databases, store, models, encoders and catalogues; services may run meanwhile."""
    from tasks.backup import back_up
    from tasks.settings import load_settings

    done = back_up(load_settings(), target, only_local=only_local)
    console.print(
        f"saved {done.files} files, {done.bytes / 1e6:.1f} MB, {len(done.databases)} of them "
        f"databases, in {target}"
    )
    for name, snapshot in done.snapshots.items():
        console.print(f"{name}: snapshot {snapshot}")
    for why, count in done.left_out.items():
        console.print(f"left out: {count} {why}")
    _tell_elsewhere(done.elsewhere)


@fail_on_errors
def restore(
    source: Annotated[Path, typer.Argument(help="Folder of a backup.")],
) -> None:
    """Put a backup into an empty home folder; every file is checked before one takes its place."""
    from tasks.backup import restore as put_back
    from tasks.settings import load_settings

    settings = load_settings()
    done = put_back(settings, source)
    console.print(
        f"restored {done.manifest.files} files, {done.manifest.bytes / 1e6:.1f} MB, saved at "
        f"{done.manifest.made_at}, into {settings.home}"
    )
    if done.relocated:
        console.print(f"{done.relocated} places in MLflow name the new folder now")
    _tell_elsewhere(done.manifest.elsewhere)
    console.print("`brickyard audit` compares the registry with the decisions")


@fail_on_errors
def migrate(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
) -> None:
    """Rewrite surveys of an older schema as new snapshots; old ones keep their tags."""
    from tasks.schema_migration import migrate_store, plan_migration
    from tasks.settings import load_settings

    settings = load_settings()
    waiting = plan_migration(settings)
    if not waiting:
        console.print("every survey has the present schema")
    if dry_run:
        for plan in waiting:
            console.print(
                f"{plan.survey}: {plan.schema}, {plan.bricks - plan.done} of {plan.bricks} bricks "
                "to rewrite"
            )
        return
    for plan in migrate_store(settings):
        console.print(f"{plan.survey}: {plan.bricks} bricks rewritten, snapshot {plan.tag}")


def _tell_elsewhere(places: tuple[str, ...]) -> None:
    for place in places:
        console.print(f"[yellow]not in this backup:[/] {place}", highlight=False)
