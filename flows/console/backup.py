"""Sub-commands backup, restore, prune and migrate: the state of an installation, kept in order."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console.terminal import console, fail_on_errors


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    for command in (backup, restore, prune, migrate):
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
    predictions: Annotated[
        bool,
        typer.Option("--predictions", help="Save predictions too, which can be made again."),
    ] = False,
) -> None:
    """Save databases, store, models, encoders and catalogues; services may run meanwhile."""
    from tasks.backup import back_up
    from tasks.settings import load_settings

    done = back_up(load_settings(), target, only_local=only_local, predictions=predictions)
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
    from tasks.backup import PREDICTED
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
    missing = done.manifest.left_out.get(PREDICTED, 0)
    if missing:
        console.print(
            f"{missing} files of {PREDICTED} were not saved: releases hold their rows, and the "
            "next `brickyard cycle` makes those of the champions again"
        )
    console.print("`brickyard audit` compares the registry with the decisions")


@fail_on_errors
def prune(
    older_than: Annotated[
        float, typer.Option(min=0, help="Days; younger files are kept, whatever they are.")
    ] = 14,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; without, only say it.")] = False,
) -> None:
    """Delete predictions of bricks that no release and no champion refers to; a dry run first."""
    from tasks.pruning import plan_pruning
    from tasks.pruning import prune as delete_files
    from tasks.settings import load_settings

    settings = load_settings()
    plan = plan_pruning(settings, older_than)
    for item in plan.prunable:
        console.print(f"{item.what}: {item.files} files, {item.bytes / 1e6:.1f} MB")
    for why, count in plan.kept.items():
        console.print(f"kept for {why}: {count}")
    if not plan.paths:
        console.print("nothing to prune")
    elif delete:
        console.print(f"deleted {delete_files(settings, plan)} files")
    else:
        console.print(
            f"{len(plan.paths)} files, {plan.bytes / 1e6:.1f} MB would be deleted: "
            "`brickyard prune --delete`"
        )


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
