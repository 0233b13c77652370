"""Where things are: read from the environment (prefix `BRICKYARD_`), never from code.

What an algorithm is stands beside it in a frozen dataclass; what a run does stands in
`flows/parameters.py`. Only places, addresses and sizes of this machine belong here.
"""

import getpass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.cluster_options import KubernetesOptions, SlurmOptions


class Settings(BaseSettings):
    """Places and addresses of one installation.

    Every field can be set by an environment variable, e.g. `BRICKYARD_HOME=/data/brickyard`.
    """

    model_config = SettingsConfigDict(env_prefix="BRICKYARD_", extra="forbid", frozen=True)

    home: Path = Field(
        default=Path("brickyard-home"),
        description="folder of the embedded default: store, labels, MLflow database, catalogues",
    )
    store: str = Field(default="", description="store URL or folder; empty: <home>/store")
    staging: Path | None = Field(
        default=None, description="folder for fetched files; unset: <home>/staging"
    )
    tracking_uri: str = Field(
        default="", description="MLflow tracking URI; empty: SQLite in <home>"
    )
    user: str = Field(
        default_factory=getpass.getuser,
        description="who has models trained here: recorded with each, for the gate's rules",
    )
    mlflow_url: str = Field(
        default="", description="where people find MLflow's pages, for links; set by `brickyard up`"
    )
    scheduler: str = Field(
        default="", description="address of a Dask scheduler; empty: a local cluster is started"
    )
    workers: int = Field(default=2, ge=1, description="worker processes of the local cluster")
    threads_per_worker: int = Field(default=1, ge=1)
    connect_timeout: float = Field(
        default=10.0, gt=0, description="seconds to wait for an answer of the scheduler"
    )
    cluster: Literal["local", "cuda", "slurm", "kubernetes"] = Field(
        default="local",
        description="where workers are started when no scheduler is named; the address of a "
        "scheduler is taken as `scheduler`",
    )
    worker_timeout: float = Field(
        default=3600.0, gt=0, description="seconds to wait for the first worker, as in a job queue"
    )
    slurm: SlurmOptions = SlurmOptions()
    kubernetes: KubernetesOptions = KubernetesOptions()

    @model_validator(mode="before")
    @classmethod
    def _take_address(cls, values: Any) -> Any:
        """Take an address given as the cluster for what it is."""
        if isinstance(values, dict) and "://" in str(values.get("cluster", "")):
            values = dict(values)
            address = values.pop("cluster")
            if values.setdefault("scheduler", address) != address:
                raise ValueError(
                    f"cluster names the scheduler {address!r}, but scheduler is "
                    f"{values['scheduler']!r}: set one of the two"
                )
        return values

    @property
    def store_path(self) -> str:
        """Return the folder or URL that holds the repositories `survey` and `embeddings`."""
        return self.store or str(self.home.resolve() / "store")

    @property
    def labels_path(self) -> Path:
        """Return the SQLite file of the label ledger."""
        return self.home.resolve() / "labels.sqlite"

    @property
    def mlflow_uri(self) -> str:
        """Return the MLflow tracking URI."""
        return self.tracking_uri or f"sqlite:///{self.home.resolve() / 'mlflow.db'}"

    @property
    def artifact_path(self) -> Path:
        """Return the folder of MLflow artifacts when the embedded default is used."""
        return self.home.resolve() / "mlartifacts"

    @property
    def encoder_path(self) -> Path:
        """Return the folder of pre-trained encoders, one sub-folder a digest."""
        return self.home.resolve() / "encoders"

    @property
    def receipts_path(self) -> Path:
        """Return the folder of the logs of ingest runs, one line a brick."""
        return self.home.resolve() / "receipts"

    @property
    def staging_path(self) -> Path:
        """Return the folder for files fetched from a remote source, until they are committed."""
        return self.staging or self.home.resolve() / "staging"

    @property
    def predictions_path(self) -> Path:
        """Return the folder of what models predicted of bricks; can be made again."""
        return self.home.resolve() / "predictions"

    @property
    def catalogue_path(self) -> Path:
        """Return the folder of published catalogues."""
        return self.home.resolve() / "catalogues"


def load_settings() -> Settings:
    """Read the settings from the environment of this process."""
    return Settings()
