"""Labels and cutouts to a candidate of one downstream task, measured on its frozen test split."""

from prefect import flow

from flows.model_parameters import DownstreamConfig
from flows.parameters import SplitConfig
from tasks.datasets import freeze_dataset
from tasks.evaluation import evaluate_model
from tasks.finetuning import fit_candidate
from tasks.open_lineage import HOOKS
from tasks.references import EmbeddingsRef, EncoderRef, Evaluation
from tasks.settings import load_settings
from tasks.snapshots import find_snapshot


@flow(name="finetune-downstream", **HOOKS)
def finetune_downstream(
    downstream: str,
    encoder: EncoderRef,
    embeddings: EmbeddingsRef,
    config: DownstreamConfig | None = None,
    split: SplitConfig | None = None,
) -> Evaluation:
    """Fit one downstream task on all answers that are there, and register the result.

    Parameters
    ----------
    downstream : str
        Name of a registered downstream task, such as "morphology".
    encoder : EncoderRef
        Where the training starts.
    embeddings : EmbeddingsRef
        Embeddings by this encoder; they also name survey and snapshot.
    config : DownstreamConfig, optional
        Head or full training, options of the task.
    split : SplitConfig, optional
        How the sky is divided into train, val and test.

    Returns
    -------
    Evaluation
        Of the new candidate on the test split; `evaluation.model` is the candidate.
    """
    settings, config = load_settings(), config or DownstreamConfig()
    snapshot = find_snapshot(settings, embeddings.survey, embeddings.survey_snapshot_id)
    dataset = freeze_dataset(settings, snapshot, downstream, split, config.options)
    model = fit_candidate(settings, dataset, encoder, embeddings, config)
    return evaluate_model(settings, model, dataset)
