"""What somebody asks about: the kinds of names that `trace` understands, and how each is found."""

from collections.abc import Callable
from pathlib import Path

from lvm.downstream import DOWNSTREAM_TASKS
from storage.catalogue import parse_object_id
from storage.errors import SchemaMismatch
from tasks import tracking
from tasks.errors import TaskError
from tasks.lineage.bricks import add_brick, add_object, add_snapshot
from tasks.lineage.catalogues import FITS, PARQUET, UnreadableCatalogue, open_catalogue
from tasks.lineage.context import Context
from tasks.lineage.graph import Kind, Lineage
from tasks.lineage.models import add_encoder, add_model
from tasks.lineage.products import (
    add_catalogue,
    add_products_of_brick,
    add_products_of_model,
    add_products_of_object,
    add_products_of_snapshot,
)
from tasks.lineage.rows import trace_row
from tasks.lineage.store import BrickVersion
from tasks.lineage.training import is_tracked
from tasks.settings import Settings

FORMS = (
    "an object <release>-<brickid>-<objid>, a catalogue (its folder, file or tag; file#row or "
    "file#<object> for one row), a model <task>/<version>, the id or tag of a snapshot, or a brick "
    "(<release>/<region>/<brick> where several surveys have it)"
)


class UnknownSubject(TaskError, LookupError):
    """Nothing of this home or store has such a name."""


class UnknownObject(UnknownSubject):
    """No survey of the store has such an object."""


def trace(settings: Settings, subject: str, *, files: bool = True) -> Lineage:
    """Return where something came from and what it went into.

    Parameters
    ----------
    subject : str
        See `FORMS`. Rows count from 0.
    files : bool
        Whether catalogues may be named by any path of this machine; the desk says no.

    Raises
    ------
    UnknownSubject
        If nothing has that name.
    UnreadableCatalogue
        If a file is no catalogue, or has no such row.
    """
    context, name = Context(settings), subject.strip()
    ways: list[Callable[[Context, str], str | None]] = [_published, _object, _model]
    ways += [_snapshot, _brick]
    if files:
        ways.insert(0, _catalogue)
    for find in ways if name else []:
        found = find(context, name)
        if found is not None:
            return context.graph.finish(found)
    raise UnknownSubject(
        f"nothing called {subject!r} is in the store {settings.store_path} or in "
        f"{settings.home}: give {FORMS}"
    )


def _catalogue(context: Context, name: str) -> str | None:
    place, mark, row = name.rpartition("#")
    if not mark:
        place, row = name, ""
    if not Path(place).exists():
        if place.lower().endswith((*PARQUET, *FITS)):
            raise UnreadableCatalogue(f"there is no file {place}")
        return None
    file = open_catalogue(place)
    if not row:
        return add_catalogue(context, file, origins=True)
    if row.isdecimal():
        return trace_row(context, file, file.row(int(row)))
    try:
        key = parse_object_id(row)
    except SchemaMismatch as error:
        raise UnreadableCatalogue(
            f"{name!r}: after # goes the number of a row, from 0, or an object id"
        ) from error
    found = file.find(key)
    if found is None:
        raise UnreadableCatalogue(f"{place} does not list the object {row}")
    return trace_row(context, file, found)


def _published(context: Context, name: str) -> str | None:
    """Find one of the catalogues of the home by the name of its folder."""
    place, _, row = name.partition("#")
    root = context.settings.catalogue_path
    for file in context.catalogues:
        if place and place in (file.place.name, file.place.relative_to(root).as_posix()):
            return _catalogue(context, f"{file.place}#{row}" if row else str(file.place))
    return None


def _object(context: Context, name: str) -> str | None:
    try:
        key = parse_object_id(name)
    except SchemaMismatch:
        return None
    found = context.store.find_object(key)
    listed = [file for file in context.catalogues if file.find(key) is not None]
    if found is None and not listed:
        raise UnknownObject(
            f"object {name} is in no survey of {context.settings.store_path} and in no catalogue "
            f"of {context.settings.catalogue_path}; an id is <release>-<brickid>-<objid>"
        )
    if found is not None:
        thing = add_object(context, name, found)
    else:
        why = "it is not in the newest snapshot: its brick was replaced or withdrawn"
        thing = context.graph.add(Kind.OBJECT, name, title=f"object {name}", missing=why)
    for file in listed:
        row = file.find(key)
        if row is not None:
            trace_row(context, file, row)
    add_products_of_object(context, thing, name, key)
    return thing


def _model(context: Context, name: str) -> str | None:
    downstream, mark, version = name.rpartition("/")
    settings = context.settings
    if not mark or not is_tracked(settings):
        return None
    if downstream not in {*DOWNSTREAM_TASKS, *tracking.registered_models(settings)}:
        return None
    if not version.isdecimal():
        model = tracking.aliased(settings, downstream, version)
        if model is None:
            raise UnknownSubject(f"no version of {downstream} is called {version!r}")
    else:
        model = tracking.read_version(settings, downstream, version).model
    thing = add_model(context, model)
    add_products_of_model(context, model)
    return thing


def _snapshot(context: Context, name: str) -> str | None:
    store = context.store
    ids = {tag: snapshot for snapshot, tags in store.tags.items() for tag in tags}
    snapshot = ids.get(name, name)
    if store.session(snapshot) is not None and store.commit(snapshot) is not None:
        thing = add_snapshot(context, snapshot)
        add_products_of_snapshot(context, snapshot)
        return thing
    commit = store.commit(snapshot, embeddings=True)
    if commit is None:
        return None
    facts = {"written_at": commit.written_at.isoformat(), "message": commit.message}
    title = f"embeddings snapshot {snapshot[:8]}"
    thing = context.graph.add(Kind.EMBEDDINGS, snapshot, facts, title=title)
    for survey in store.surveys():
        for digest, table in store.embedded(survey, snapshot=snapshot).items():
            context.graph.link(thing, add_encoder(context, digest), "made by")
            for source in sorted(set(table["survey_snapshot"])):
                context.graph.link(thing, add_snapshot(context, str(source), survey), "made from")
    return thing


def _brick(context: Context, name: str) -> str | None:
    """Find a brick, as `<survey>/<brick>` or by its name alone where one survey has it."""
    store = context.store
    wanted, _, brickname = name.rpartition("/")
    found: dict[str, list[BrickVersion]] = {}
    for survey in store.surveys():
        if wanted in ("", survey):
            now = store.brick(survey, brickname)
            versions = store.former_bricks(survey, brickname) + ([now] if now is not None else [])
            if versions:
                found[survey] = versions
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(f"{survey}/{brickname}" for survey in found)
        raise UnknownSubject(f"brick {brickname} is in {len(found)} surveys: give one of {names}")
    [versions] = found.values()
    thing = add_brick(context, versions[-1])
    for version in versions[:-1]:
        context.graph.link(thing, add_brick(context, version), "replaces")
    add_products_of_brick(context, versions[-1])
    return thing
