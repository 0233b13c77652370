"""Where things came from and what they went into: rows, models, snapshots, bricks, objects.

Every answer is read from what was recorded when a thing was made; nothing is guessed, and what is
not known is said to be missing. Nothing is written, not even an empty database.
"""

from tasks.lineage.catalogues import UnreadableCatalogue
from tasks.lineage.graph import Kind, Lineage, Link, Thing
from tasks.lineage.models import trace_model
from tasks.lineage.objects import trace_object
from tasks.lineage.picture import draw
from tasks.lineage.subjects import FORMS, UnknownObject, UnknownSubject, trace

__all__ = [
    "FORMS",
    "Kind",
    "Lineage",
    "Link",
    "Thing",
    "UnknownObject",
    "UnknownSubject",
    "UnreadableCatalogue",
    "draw",
    "trace",
    "trace_model",
    "trace_object",
]
