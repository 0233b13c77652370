"""Sub-commands about models: pretrain, embed, finetune, predict."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from flows.console.downstream import Downstream
from flows.console.store import Survey
from flows.console.terminal import (
    console,
    flow_command,
    progress_bars,
    show_receipt,
)
from tasks.references import Evaluation

Encoder = Annotated[
    str,
    typer.Option(
        help="nano-synthetic, a folder, or digits of a digest; default: this home's newest."
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; single options below replace its values."),
]


def register(app: typer.Typer) -> None:
    """Add the sub-commands to the application."""
    app.command()(pretrain)
    app.command()(embed)
    app.command()(finetune)
    app.command()(predict)


@flow_command
def pretrain(
    survey: Survey = "dr10/south",
    preset: Annotated[str | None, typer.Option(help="nano, tiny, base, or a timm name.")] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Encoder to go on from: nano-synthetic, a folder, a digest."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            help="measures, masked, reconstruction, restoration, contrast, classification; "
            "several times for several at once."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the cutouts.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, masks and order.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...")] = None,
    config: ConfigFile = None,
) -> None:
    """Train an encoder on cutouts alone; under torchrun, on several devices at once."""
    from flows.model_parameters import PretrainConfig
    from flows.parameters import read_config
    from flows.pretrain import assist_encoder, pretrain_encoder

    overrides = {
        "encoder.name": preset,
        "start": start,
        "objective.names": tuple(objective) if objective else None,
        "train.epochs": epochs,
        "train.seed": seed,
        "train.device": device,
    }
    chosen = read_config(PretrainConfig, config, overrides)
    if assist_encoder(survey, chosen):
        return
    with progress_bars():
        encoder = pretrain_encoder(survey, chosen)
    console.print(f"encoder [bold]{encoder.digest[:16]}[/] in {encoder.path}")


@flow_command
def embed(
    survey: Survey = "dr10/south",
    encoder: Encoder = "",
    batch_size: Annotated[
        int | None, typer.Option(help="Cutouts a forward pass; halved where memory is short.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...")] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16; auto: what the device has.")
    ] = None,
    bricks_per_commit: Annotated[
        int, typer.Option(help="Bricks that a killed run may have to embed again.", min=1)
    ] = 256,
    config: ConfigFile = None,
) -> None:
    """Embed every object that this encoder has not embedded yet.

    The workers are started as BRICKYARD_CLUSTER says: local, cuda, slurm or kubernetes.
    """
    from flows.embed import ForwardConfig, embed_survey
    from flows.parameters import read_config
    from tasks.encoders import find_encoder
    from tasks.settings import load_settings

    overrides = {"batch_size": batch_size, "device": device, "precision": precision}
    forward = read_config(ForwardConfig, config, overrides)
    chosen = find_encoder(load_settings(), encoder)
    with progress_bars():
        embeddings, receipt = embed_survey(
            survey, chosen, bricks_per_commit=bricks_per_commit, forward=forward
        )
    show_receipt(receipt)
    console.print(f"by encoder {embeddings.encoder_digest[:16]}")


@flow_command
def finetune(
    downstream: Downstream,
    survey: Annotated[str, typer.Option(help="Survey in the store.")] = "dr10/south",
    encoder: Encoder = "",
    mode: Annotated[
        str | None, typer.Option(help="head: fit on embeddings; full: train the encoder too.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the full training.")] = None,
    config: ConfigFile = None,
) -> None:
    """Fit a downstream task on all labels, measure it on the test split, register a candidate."""
    from flows.finetune import finetune_downstream
    from flows.model_parameters import DownstreamConfig
    from flows.parameters import read_config
    from tasks.encoders import find_embeddings, find_encoder
    from tasks.settings import load_settings
    from tasks.snapshots import find_snapshot

    overrides = {"fine_tune.mode": mode, "fine_tune.full.epochs": epochs}
    chosen = read_config(DownstreamConfig, config, overrides)
    settings = load_settings()
    snapshot = find_snapshot(settings, survey, None)
    found = find_encoder(settings, encoder)
    embeddings = find_embeddings(snapshot, found)
    with progress_bars():
        evaluation = finetune_downstream(downstream, found, embeddings, chosen)
    show_evaluation(evaluation)
    console.print(f"next: brickyard promote {downstream}")


@flow_command
def predict(
    downstream: Downstream,
    survey: Annotated[str, typer.Option(help="Survey in the store.")] = "dr10/south",
    snapshot: Annotated[str | None, typer.Option(help="Snapshot id; default: newest.")] = None,
) -> None:
    """Apply the approved model to a survey and publish a Parquet catalogue."""
    from flows.predict import publish_catalogue

    with progress_bars():
        catalogue = publish_catalogue(downstream, survey, snapshot)
    console.print(f"{catalogue.rows} rows in [bold]{catalogue.path}[/]")


def show_evaluation(evaluation: Evaluation) -> None:
    """Print what a candidate reaches on the frozen test split, beside the baselines."""
    model, name = evaluation.model, evaluation.headline
    table = Table(
        title=f"{model.downstream} version {model.version}: {name} on "
        f"{evaluation.test_objects} test objects",
        title_justify="left",
    )
    table.add_column("method")
    table.add_column(name)
    table.add_column("95 % interval")
    found = evaluation.metrics[name]
    table.add_row("this model", f"{found.value:.3f}", f"{found.low:.3f} to {found.high:.3f}")
    for baseline, value in evaluation.baselines.items():
        table.add_row(baseline, f"{value:.3f}", "")
    console.print(table)
