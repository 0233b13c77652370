"""How MLflow is reached: one client a call, no global state, text cut to what MLflow takes."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mlflow import MlflowClient

from tasks.settings import Settings

TEXT_LIMIT = 5000  # MLflow refuses longer tags (8000) and parameters (6000)


def connect(settings: Settings) -> MlflowClient:
    """Return a client of the tracking server, or of the database of the home folder."""
    if not settings.tracking_uri:
        settings.home.resolve().mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


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
