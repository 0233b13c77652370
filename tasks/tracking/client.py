"""How MLflow is reached: one client a call, no global state, text cut to what MLflow takes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlflow import MlflowClient

from tasks.first_opening import first_opening
from tasks.settings import Settings

TEXT_LIMIT = 5000  # MLflow refuses longer tags (8000) and parameters (6000)

_opened: set[str] = set()  # databases that this process has opened: they are there and migrated


def connect(settings: Settings) -> MlflowClient:
    """Return a client of the tracking server, or of the database of the home folder.

    A process opens a database for the first time while no other does: see `tasks.first_opening`.
    """
    uri = settings.mlflow_uri
    if settings.tracking_uri or uri in _opened:
        return _client(uri)
    with first_opening(settings.home):
        client = _client(uri)
    _opened.add(uri)
    return client


def _client(uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Yield what a search of MLflow finds, page by page."""
    page = search()
    yield from page
    while page.token:
        page = search(page_token=page.token)
        yield from page


def shortened(values: Mapping[str, Any] | None) -> dict[str, str]:
    """Return values as text that MLflow accepts."""
    return {name: str(value)[:TEXT_LIMIT] for name, value in (values or {}).items()}
