"""What Prefect knows of a flow run: state, steps, links to its page and to Dask's dashboard."""

from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from tasks.answers import run_url
from tasks.cluster import DASHBOARD_ARTIFACT
from tasks.run_report.sections import Section

TITLE = "The run"


def flow_run_section(flow_run_id: str) -> Section:
    """Return the section on a flow run; what Prefect cannot tell is missing from it."""
    try:
        wanted = UUID(flow_run_id)
        with get_client(sync_client=True) as client:
            return _section(client, client.read_flow_run(wanted))
    except ValueError:
        return Section(title=TITLE, missing=f"{flow_run_id!r} is no id of a flow run")
    except ObjectNotFound:
        return Section(title=TITLE, missing=f"Prefect knows no flow run {flow_run_id}")
    except (httpx.HTTPError, RuntimeError) as error:
        return Section(title=TITLE, missing=f"Prefect's server does not answer ({error})")


def _section(client: SyncPrefectClient, run: FlowRun) -> Section:
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    steps = client.read_task_runs(flow_run_filter=wanted)
    seconds = run.total_run_time.total_seconds()
    begun = f"{run.start_time:%Y-%m-%d %H:%M:%S} UTC" if run.start_time else "not started"
    rows = [
        (step.name, str(step.state_name), f"{step.total_run_time.total_seconds():.1f} s")
        for step in sorted(steps, key=lambda step: str(step.start_time))
    ]
    return Section(
        title=TITLE,
        lines=(f"{run.name}: {run.state_name}; {begun}, {seconds:.1f} s.",),
        headings=("step", "state", "time"),
        rows=tuple(rows),
        links=_links(client, run),
    )


def _links(client: SyncPrefectClient, run: FlowRun) -> dict[str, str]:
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    links = {"page of the run": run_url(str(run.id))}
    for item in client.read_artifacts(artifact_filter=wanted):
        if item.key == DASHBOARD_ARTIFACT:  # Prefect keeps a link as Markdown: [text](address)
            links["Dask dashboard, while the run goes on"] = str(item.data).rpartition("(")[2][:-1]
    return {name: url for name, url in links.items() if url}
