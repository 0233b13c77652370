"""A lineage as a graph: things, and what each was made from.

Links point from what was made to what it was made from, so one graph answers both questions: where
something came from, and what it went into. Everything in it is JSON-sized.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from tasks.references import Reference


class Kind(StrEnum):
    """What a thing of a lineage is, from the sky to the row, which is how pictures order them."""

    CONFIGURATION = "configuration"
    FILES = "files"
    BRICK = "brick"
    BRICKS = "bricks"
    OBJECT = "object"
    SNAPSHOT = "snapshot"
    ENCODER = "encoder"
    EMBEDDINGS = "embeddings"
    LABELS = "labels"
    DATASET = "data set"
    RUN = "run"
    DECISION = "decision"
    MODEL = "model"
    ROW = "row"
    CATALOGUE = "catalogue"


class Thing(Reference):
    """One thing of a lineage; `missing` says what could not be found of it, and why."""

    id: str
    kind: Kind
    title: str
    facts: dict[str, Any] = Field(default_factory=dict)
    missing: str = ""


class Link(Reference):
    """`made` was made from `source`, in the way that `how` says: "trained on", "predicted by"."""

    made: str
    source: str
    how: str


class Lineage(Reference):
    """What is known about where a thing came from and what it went into."""

    subject: str
    things: tuple[Thing, ...]
    links: tuple[Link, ...]

    def thing(self, thing_id: str) -> Thing:
        """Return a thing by its id."""
        return next(thing for thing in self.things if thing.id == thing_id)

    def of_kind(self, kind: Kind) -> list[Thing]:
        """Return all things of a kind."""
        return [thing for thing in self.things if thing.kind is kind]

    def sources(self, thing_id: str) -> list[Link]:
        """Return the links to what a thing was made from."""
        return [link for link in self.links if link.made == thing_id]

    def products(self, thing_id: str) -> list[Link]:
        """Return the links from what was made from a thing."""
        return [link for link in self.links if link.source == thing_id]

    def origins(self, thing_id: str) -> set[str]:
        """Return the ids of everything that a thing goes back to."""
        found: set[str] = set()
        waiting = [thing_id]
        while waiting:
            for link in self.sources(waiting.pop()):
                if link.source not in found:
                    found.add(link.source)
                    waiting.append(link.source)
        return found


class Graph:
    """A lineage that is being gathered."""

    def __init__(self) -> None:
        self._things: dict[str, Thing] = {}
        self._links: dict[tuple[str, str, str], Link] = {}

    def __contains__(self, thing_id: str) -> bool:
        return thing_id in self._things

    def add(
        self,
        kind: Kind,
        key: str,
        facts: Mapping[str, Any] | None = None,
        *,
        title: str = "",
        missing: str = "",
    ) -> str:
        """Add a thing, or more facts about one that is there, and return its id.

        Facts that are empty are left out; of two values of a fact, the first one stays.
        """
        thing_id = f"{kind.value} {key}"
        told = {name: value for name, value in (facts or {}).items() if value not in _EMPTY}
        known = self._things.get(thing_id)
        self._things[thing_id] = Thing(
            id=thing_id,
            kind=kind,
            title=title or (known.title if known else key),
            facts=told | (known.facts if known else {}),
            missing=missing or (known.missing if known else ""),
        )
        return thing_id

    def link(self, made: str, source: str, how: str) -> None:
        """Say that one thing was made from another; a thing is never made from itself."""
        if made != source:
            self._links[made, source, how] = Link(made=made, source=source, how=how)

    def facts(self, thing_id: str) -> dict[str, Any]:
        """Return what is known of a thing so far."""
        return self._things[thing_id].facts

    def made_from(self, source: str, kind: Kind) -> list[Thing]:
        """Return the things of a kind that were made from a thing."""
        found = [self._things[link.made] for link in self._links.values() if link.source == source]
        return [thing for thing in found if thing.kind is kind]

    def finish(self, subject: str) -> Lineage:
        """Return what was gathered."""
        return Lineage(
            subject=subject,
            things=tuple(self._things.values()),
            links=tuple(self._links.values()),
        )


_EMPTY: tuple[Any, ...] = ("", None, [], {}, ())
