"""Search a survey for objects that look like a given one, with an index that is kept up to date."""

from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.catalogue import parse_object_id
from storage.embedding_store import read_embeddings
from storage.search.index_files import index_folder, refresh_index
from storage.search.objects import FoundObject, find_by_id, find_nearest, objects_at
from tasks.embedded import EmbeddedSurvey, index_root, open_embedded
from tasks.errors import TaskError
from tasks.references import EmbeddingsRef, EncoderRef, Reference
from tasks.settings import Settings

NEAR_ARCSEC = 5.0  # a place is read off a picture to a few times the seeing
MOST_NEIGHBOURS = 1000


class BadQuery(TaskError, ValueError):
    """What to search for is neither an object id nor a place."""


class IndexRef(Reference):
    """The index of a survey's embeddings: where, of how many, and whether it was built just now."""

    path: str
    embeddings: EmbeddingsRef
    total: int
    bricks_left_out: int
    built: bool


class Match(Reference):
    """An object of the survey, and how alike it is: 1 is equal, 0 unrelated."""

    object_id: str
    row: int
    ra: float
    dec: float
    similarity: float


class SearchResult(Reference):
    """The objects most like `query`, nearest first, without itself; `picture` may be empty.

    Bricks that are not embedded, or were ingested again since, were not searched: `index` says how
    many.
    """

    query: Match
    index: IndexRef
    matches: tuple[Match, ...]
    picture: str = ""


@task(name="build-index", cache_policy=NO_CACHE)
def build_search_index(settings: Settings, survey: str, encoder: EncoderRef) -> IndexRef:
    """Build the search index of a survey, unless that of its embeddings is there."""
    source = open_embedded(settings, survey, encoder)
    _, built = refresh_index(index_root(settings), source.vectors, source.rows, source.provenance)
    return _index_ref(settings, source, built)


@task(name="search-like", cache_policy=NO_CACHE)
def search_like(
    settings: Settings,
    survey: str,
    encoder: EncoderRef,
    like: str,
    number: int = 20,
    picture: str = "",
) -> SearchResult:
    """Return the objects whose embeddings are nearest to that of one object.

    Parameters
    ----------
    like : str
        `<release>-<brickid>-<objid>`, or `ra,dec` [deg] of a place within 5 arcsec of an object.
    number : int
        Objects to return, 1 to 1,000.
    picture : str
        PNG file for a sheet of the query and what was found; empty: none.

    Raises
    ------
    BadQuery, StorageError
        If the query cannot be understood, or is of no object of the survey.
    """
    if not 1 <= number <= MOST_NEIGHBOURS:
        raise BadQuery(f"{number} neighbours: ask for 1 to {MOST_NEIGHBOURS}")
    source = open_embedded(settings, survey, encoder)
    query = find_object(source, like)
    index, built = refresh_index(
        index_root(settings), source.vectors, source.rows, source.provenance
    )
    vector, _ = read_embeddings(source.vectors, source.rows.group, np.array([query.row]))
    similarity, rows = index.search(vector, number + 1)
    kept = (rows[0] >= 0) & (rows[0] != query.row)
    matches = _matches(source, rows[0][kept][:number], similarity[0][kept][:number])
    result = SearchResult(
        query=Match(
            object_id=query.object_id, row=query.row, ra=query.ra, dec=query.dec, similarity=1.0
        ),
        index=_index_ref(settings, source, built),
        matches=matches,
        picture=picture,
    )
    if picture:
        draw_matches(source, result, Path(picture))
    return result


def find_object(source: EmbeddedSurvey, like: str) -> FoundObject:
    """Return the object that a user names by its id or by a place."""
    survey = source.snapshot.survey
    if "," not in like:
        return find_by_id(source.session, survey, parse_object_id(like))
    try:
        ra, dec = (float(part) for part in like.split(","))
    except ValueError as error:
        raise BadQuery(
            f"{like!r}: give <release>-<brickid>-<objid>, or ra,dec in degrees, as 150.12,2.21"
        ) from error
    return find_nearest(source.session, survey, ra, dec, NEAR_ARCSEC)


def draw_matches(source: EmbeddedSurvey, result: SearchResult, path: Path) -> Path:
    """Write a sheet of the query, first, and of what was found."""
    found = (result.query, *result.matches)
    captions = ["query", *(f"{match.similarity:.3f}" for match in result.matches)]
    return source.sheet(np.array([match.row for match in found]), captions, path)


def _matches(
    source: EmbeddedSurvey, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]", similarity: object
) -> tuple[Match, ...]:
    table = objects_at(source.session, source.snapshot.survey, rows)
    table["similarity"] = similarity
    names = ["object_id", "row", "ra", "dec", "similarity"]
    return tuple(Match(**record) for record in table[names].to_dict("records"))


def _index_ref(settings: Settings, source: EmbeddedSurvey, built: bool) -> IndexRef:
    return IndexRef(
        path=str(index_folder(index_root(settings), source.rows)),
        embeddings=source.embeddings,
        total=source.rows.total,
        bricks_left_out=source.rows.left_out,
        built=built,
    )
