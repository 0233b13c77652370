"""What SLURM and Kubernetes must be told to start workers; parts of `tasks.settings.Settings`.

Whatever the place, a worker needs this package, the folder of the store and that of the encoders
under the same paths as the flow: a shared file system, or a volume.
"""

from pydantic import BaseModel, ConfigDict, Field


class SlurmOptions(BaseModel):
    """One job a worker; with GPUs, one job a GPU, so that no two workers share one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    queue: str | None = Field(default=None, description="partition (sbatch -p)")
    account: str | None = Field(default=None, description="account to charge (sbatch -A)")
    walltime: str = Field(default="04:00:00", description="of a job; lost work is done again")
    cores: int = Field(
        default=2, ge=1, description="cores of a job: one computes, the others read ahead"
    )
    memory: str = Field(default="16GB", description="memory of a job")
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs of a job (sbatch --gres)")
    directives: tuple[str, ...] = Field(default=(), description="further #SBATCH options")
    prologue: tuple[str, ...] = Field(
        default=(), description="shell lines before the worker starts, such as `module load cuda`"
    )
    log_directory: str | None = Field(default=None, description="folder for the logs of jobs")
    interface: str | None = Field(default=None, description="network interface, such as ib0")


class KubernetesOptions(BaseModel):
    """Pods of a DaskCluster resource; the Dask operator must run in the Kubernetes cluster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = Field(default="", description="container image with this package; required")
    namespace: str | None = Field(default=None, description="None: that of the current context")
    name: str = Field(default="brickyard", description="of the DaskCluster resource")
    cores: str = Field(default="2", description="CPUs of a worker")
    memory: str = Field(default="16Gi", description="memory of a worker")
    gpus: int = Field(default=0, ge=0, le=1, description="GPUs of a worker")
    volume_claim: str = Field(
        default="", description="PersistentVolumeClaim that holds store and encoders"
    )
    mount_path: str = Field(
        default="/data", description="where it is mounted: the same path as where the flow runs"
    )
    node_selector: dict[str, str] = Field(default_factory=dict)
