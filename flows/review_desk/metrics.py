"""The page for Prometheus, which comes with an API token."""

from starlette.responses import Response

from flows.review_desk.access import Visit, page
from tasks.metrics_endpoint import CONTENT_TYPE, metrics_text


@page("view")
def metrics(visit: Visit) -> Response:
    """Return the figures of the installation."""
    return Response(metrics_text(visit.desk.figures), media_type=CONTENT_TYPE)
