"""Rounds of active learning: choose objects, let people label them, fit, measure, again."""

from prefect import flow
from prefect.runtime import flow_run

from flows.model_parameters import DownstreamConfig, RoundConfig
from flows.parameters import SplitConfig
from lvm.finetuning import FineTuneConfig
from tasks.datasets import NotEnoughLabels, freeze_dataset
from tasks.encoders import find_embeddings, find_encoder
from tasks.evaluation import evaluate_model
from tasks.finetuning import fit_candidate
from tasks.references import EncoderRef
from tasks.round_choice import Ground
from tasks.round_history import Measured, campaign_of, read_history, read_round, record
from tasks.round_holds import Hold, hold_of, wait_for_labels
from tasks.rounds import (
    CampaignOutcome,
    adopted,
    close_round,
    open_round,
    show_campaign,
    why_stop,
)
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot

NOTHING_LEFT = "every object is labelled, or another open round asks about it"


@flow(name="label-round", flow_run_name="label {survey} for {downstream}")
def run_label_round(
    downstream: str,
    survey: str,
    config: RoundConfig | None = None,
    fit: DownstreamConfig | None = None,
    split: SplitConfig | None = None,
    hold: Hold = "poll",
) -> CampaignOutcome:
    """Ask people about chosen objects and learn from them, until there is a reason to stop.

    A run that was killed or suspended goes on where it was; one after the campaign has ended
    changes nothing, unless its limits were raised.

    Parameters
    ----------
    downstream : str
        A task whose question the review desk can ask, such as "morphology".
    survey : str
        Its newest snapshot; embeddings by the newest encoder are needed.
    config : RoundConfig, optional
        How objects are chosen, how long a round waits, and when the campaign ends.
    fit : DownstreamConfig, optional
        By default a head on the embeddings, which takes seconds.
    split : SplitConfig, optional
        How the sky is divided; objects of the test split are not asked about.
    hold : {"poll", "suspend"}
        "poll" waits in this process; "suspend" frees it and needs a deployment.
    """
    settings, config = load_settings(), config or RoundConfig()
    fit = fit or DownstreamConfig(fine_tune=FineTuneConfig(mode="head"))
    campaign = campaign_of(downstream, survey, config.name)
    encoder = find_encoder(settings)
    embeddings = find_embeddings(find_snapshot(settings, survey, None), encoder)
    ground = Ground(settings, downstream, embeddings)
    while True:
        history = read_history(settings, campaign)
        stopped = why_stop(history, config, str(flow_run.id or ""))
        unfinished = bool(history) and history[-1].measured is None
        number = len(history) + (0 if unfinished else 1)
        opened = None if stopped else open_round(ground, campaign, number, config, split)
        if opened is None:
            outcome = CampaignOutcome(
                campaign=campaign, rounds=history, stopped=stopped or NOTHING_LEFT
            )
            show_campaign(outcome)
            return outcome
        if read_round(settings, campaign, number).closed is None:
            waits = hold_of(opened, campaign, number, config.enough, config.more_on_dispute)
            why = wait_for_labels(settings, waits, hold, config.poll_seconds)
            close_round(ground, campaign, number, why)
        _learn(ground, campaign, number, encoder, fit, split)


def _learn(
    ground: Ground,
    campaign: str,
    number: int,
    encoder: EncoderRef,
    fit: DownstreamConfig,
    split: SplitConfig | None,
) -> None:
    """Fit on all labels and measure on the frozen test split; each step once."""
    settings, downstream = ground.settings, ground.downstream
    found = read_round(settings, campaign, number)
    dataset = found.frozen
    if dataset is None:
        try:
            dataset = freeze_dataset(settings, ground.snapshot, downstream, split, fit.options)
        except NotEnoughLabels as error:
            nothing = Measured(evaluation=None, why=str(error))
            record(settings, campaign, number, "measured", nothing)
            return
        record(settings, campaign, number, "frozen", dataset)
    model = found.fitted or adopted(settings, downstream, dataset)
    if model is None:
        model = fit_candidate(settings, dataset, encoder, ground.embeddings, fit)
    record(settings, campaign, number, "fitted", model)
    evaluation = evaluate_model(settings, model, dataset)
    record(settings, campaign, number, "measured", Measured(evaluation=evaluation))
