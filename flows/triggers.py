"""What events and schedules start: a fit where one is due, and label rounds that can go on."""

from prefect import flow

from flows.finetune import finetune_downstream
from flows.model_parameters import DownstreamConfig
from flows.parameters import SplitConfig
from tasks.datasets import NotEnoughLabels
from tasks.round_holds import wake_rounds
from tasks.settings import load_settings
from tasks.triggers import (
    Due,
    examine,
    inputs_of,
    only_one,
    tell_due,
    trained_downstreams,
)


@flow(name="finetune-when-due", flow_run_name="finetune {downstream} when due")
def finetune_when_due(
    downstream: str = "",
    survey: str = "dr10/south",
    config: DownstreamConfig | None = None,
    split: SplitConfig | None = None,
) -> tuple[Due, ...]:
    """Fit a downstream task if new labels or embeddings make it due, and say why if not.

    Parameters
    ----------
    downstream : str
        Empty: every task that has a registered model or labels of its question.
    survey : str
        Its newest snapshot, with embeddings by the newest encoder.
    config, split : optional
        As in `finetune_downstream`.

    Returns
    -------
    tuple of Due
        One a task; the new candidate waits for `promote`, nothing else changes.
    """
    settings = load_settings()
    names = (downstream,) if downstream else trained_downstreams(settings, survey)
    return tuple(_one(name, survey, config, split) for name in names)


def _one(
    downstream: str, survey: str, config: DownstreamConfig | None, split: SplitConfig | None
) -> Due:
    settings = load_settings()
    with only_one(settings, downstream) as alone:
        if alone:
            found = examine(settings, downstream, survey)
        else:
            why = "another run is fitting it; that one has the newest labels or the next will"
            found = Due(downstream=downstream, survey=survey, due=False, why=why)
        tell_due(found)
        if not found.due:
            return found
        encoder, embeddings = inputs_of(settings, survey)
        try:
            evaluation = finetune_downstream(downstream, encoder, embeddings, config, split)
        except NotEnoughLabels as error:
            found = found.model_copy(update={"due": False, "why": str(error)})
            tell_due(found)
            return found
        return found.model_copy(update={"evaluation": evaluation})


@flow(name="wake-label-rounds")
def wake_label_rounds() -> tuple[str, ...]:
    """Resume the label rounds that are suspended and have their labels, or whose time is over.

    Returns
    -------
    tuple of str
        Ids of the flow runs that go on.
    """
    return wake_rounds(load_settings())
