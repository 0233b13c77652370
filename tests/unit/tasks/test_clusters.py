"""Kinds of clusters. Where its library is absent, a kind is held to the library's own signature.

The signatures are those of dask-jobqueue 0.9, dask-kubernetes 2024.5 and dask-cuda 24.
"""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import dask
import pytest
from pydantic import ValidationError

from tasks.cluster_options import KubernetesOptions, SlurmOptions
from tasks.clusters import (
    HOUSEKEEPING,
    HOUSEKEEPING_ENVIRONMENT,
    WORKER_ENVIRONMENT,
    BadClusterOptions,
    MissingClusterLibrary,
    kubernetes_manifest,
    slurm_arguments,
    start_cluster,
)
from tasks.settings import Settings

GPU_JOBS = SlurmOptions(
    queue="gpu",
    account="sky",
    walltime="01:30:00",
    cores=6,
    memory="40GB",
    gpus=1,
    directives=("--constraint=a100",),
    prologue=("module load cuda",),
    log_directory="logs",
    interface="ib0",
)
PODS = KubernetesOptions(
    image="registry/brickyard:1",
    namespace="sky",
    gpus=1,
    volume_claim="survey",
    mount_path="/survey",
    node_selector={"pool": "gpu"},
)


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class SLURMCluster:
    def __init__(
        self,
        *,
        n_workers=0,
        queue=None,
        account=None,
        walltime=None,
        job_cpu=None,
        job_mem=None,
        cores=None,
        memory=None,
        processes=None,
        nanny=True,
        interface=None,
        death_timeout=None,
        local_directory=None,
        worker_extra_args=None,
        job_extra_directives=None,
        job_script_prologue=None,
        job_directives_skip=None,
        log_directory=None,
        job_name=None,
        scheduler_options=None,
    ) -> None:
        self.job_extra_directives = job_extra_directives
        self.jobs = n_workers

    def scale(self, n=None, jobs=0) -> None:
        self.jobs = jobs


class KubeCluster:
    def __init__(
        self, *, name=None, namespace=None, image=None, custom_cluster_spec=None, quiet=False
    ) -> None:
        self.namespace, self.spec = namespace, custom_cluster_spec


class LocalCUDACluster:
    def __init__(
        self,
        CUDA_VISIBLE_DEVICES=None,
        n_workers=None,
        threads_per_worker=1,
        memory_limit="auto",
        dashboard_address=None,
    ) -> None:
        self.n_workers = n_workers


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put modules with the libraries' names and signatures in the place of the libraries."""
    contents = {
        "dask_jobqueue": SLURMCluster,
        "dask_kubernetes.operator": KubeCluster,
        "dask_cuda": LocalCUDACluster,
    }
    for name, cluster in contents.items():
        module = ModuleType(name)
        setattr(module, cluster.__name__, cluster)
        monkeypatch.setitem(sys.modules, name.partition(".")[0], ModuleType(name))
        monkeypatch.setitem(sys.modules, name, module)


def test_dask_reads_the_environment_as_the_same_settings():
    read = dask.config.collect(paths=[], env=HOUSEKEEPING_ENVIRONMENT)
    for key, value in HOUSEKEEPING.items():
        assert dask.config.get(key, config=read) == value
        assert dask.config.get(key) != value  # Dask's own default; a setting that it knows


def test_slurm_gets_as_many_jobs_as_workers(libraries):
    cluster = start_cluster(Settings(cluster="slurm", workers=7, slurm=GPU_JOBS))
    assert cluster.jobs == 7
    assert cluster.job_extra_directives == ["--gres=gpu:1", "--constraint=a100"]


def test_a_job_is_one_process_with_its_own_gpu():
    arguments = slurm_arguments(GPU_JOBS, threads=1)
    exports = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    assert arguments["job_script_prologue"] == [*exports, "module load cuda"]
    assert (arguments["processes"], arguments["cores"], arguments["job_cpu"]) == (1, 1, 6)
    assert slurm_arguments(SlurmOptions(cores=1), threads=4)["job_cpu"] == 4
    assert not {"queue", "account", "interface"} & set(slurm_arguments(SlurmOptions(), threads=1))


@pytest.mark.skipif(not has("dask_jobqueue"), reason="dask-jobqueue is not installed")
def test_the_job_script_asks_for_what_was_configured(tmp_path):
    from dask_jobqueue.slurm import SLURMJob

    options = GPU_JOBS.model_copy(update={"log_directory": str(tmp_path / "logs")})
    arguments = slurm_arguments(options, threads=1)
    del arguments["scheduler_options"]
    script = SLURMJob("tcp://here:1", name="worker", **arguments).job_script()
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A sky",
        "#SBATCH --cpus-per-task=6",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --constraint=a100",
        "#SBATCH -t 01:30:00",
        "module load cuda",
        "export MALLOC_ARENA_MAX=1",
    ):
        assert line in script.splitlines()
    assert "--nthreads 1" in script
    assert "--interface ib0" in script


def test_kubernetes_gets_the_manifest(libraries):
    cluster = start_cluster(Settings(cluster="kubernetes", workers=3, kubernetes=PODS))
    assert cluster.namespace == "sky"
    assert cluster.spec == kubernetes_manifest(PODS, 3, 1)


def test_the_manifest_has_workers_with_their_gpu_and_the_volume():
    manifest = kubernetes_manifest(PODS, workers=3, threads=2)
    worker = manifest["spec"]["worker"]
    pod = worker["spec"]
    [container] = pod["containers"]
    assert worker["replicas"] == 3
    assert " ".join(container["args"][:6]) == "dask worker --name $(DASK_WORKER_NAME) --nthreads 2"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["volumeMounts"] == [{"name": "data", "mountPath": "/survey"}]
    assert pod["volumes"][0]["persistentVolumeClaim"] == {"claimName": "survey"}
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert {item["name"]: item["value"] for item in container["env"]} == WORKER_ENVIRONMENT


def test_the_service_finds_the_scheduler_and_its_ports():
    manifest = kubernetes_manifest(PODS, workers=1, threads=1)
    scheduler = manifest["spec"]["scheduler"]
    [container] = scheduler["spec"]["containers"]
    offered = {port["name"]: port["containerPort"] for port in container["ports"]}
    asked = {port["targetPort"]: port["port"] for port in scheduler["service"]["ports"]}
    assert offered == asked == {"tcp-comm": 8786, "http-dashboard": 8787}
    selector = scheduler["service"]["selector"]
    assert selector["dask.org/cluster-name"] == manifest["metadata"]["name"]
    assert {item["name"]: item["value"] for item in container["env"]} == HOUSEKEEPING_ENVIRONMENT
    assert "resources" not in container  # a GPU of the scheduler would be one worker less


@pytest.mark.skipif(not has("dask_kubernetes"), reason="dask-kubernetes is not installed")
def test_the_manifest_has_the_form_of_the_library_s_own():
    from dask_kubernetes.operator import make_cluster_spec

    theirs = make_cluster_spec(name="brickyard", image="i", n_workers=3)
    ours = kubernetes_manifest(PODS, 3, 1)
    assert ours.keys() == theirs.keys()
    assert ours["spec"]["scheduler"]["service"] == theirs["spec"]["scheduler"]["service"]
    for part, keys in theirs["spec"]["worker"]["spec"]["containers"][0].items():
        assert part == "env" or part in ours["spec"]["worker"]["spec"]["containers"][0], keys


def test_no_volume_and_no_gpu_leave_no_trace():
    manifest = kubernetes_manifest(KubernetesOptions(image="i"), workers=1, threads=1)
    pod = manifest["spec"]["worker"]["spec"]
    assert set(pod) == {"containers"}
    assert "nvidia.com/gpu" not in pod["containers"][0]["resources"]["limits"]


def test_kubernetes_without_an_image_is_refused_before_anything_starts(libraries):
    with pytest.raises(BadClusterOptions, match="BRICKYARD_KUBERNETES"):
        start_cluster(Settings(cluster="kubernetes"))


def test_cuda_starts_a_worker_for_every_gpu(libraries):
    assert start_cluster(Settings(cluster="cuda", workers=2)).n_workers is None


@pytest.mark.parametrize(
    ("kind", "module"),
    [("cuda", "dask_cuda"), ("slurm", "dask_jobqueue"), ("kubernetes", "dask_kubernetes.operator")],
)
def test_a_library_that_is_absent_is_named_with_its_extra(kind, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    settings = Settings(cluster=kind, kubernetes=PODS)
    with pytest.raises(MissingClusterLibrary, match=rf"pip install 'brickyard\[{kind}\]'"):
        start_cluster(settings)


def test_the_local_cluster_has_the_workers_of_the_settings(monkeypatch):
    asked = {}
    monkeypatch.setattr(
        "tasks.clusters.LocalCluster", lambda **values: asked.update(values) or SimpleNamespace()
    )
    start_cluster(Settings(workers=3, threads_per_worker=2))
    assert (asked["n_workers"], asked["threads_per_worker"]) == (3, 2)
    assert asked["processes"] is True


def test_the_kind_and_its_options_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("BRICKYARD_CLUSTER", "slurm")
    monkeypatch.setenv("BRICKYARD_SLURM", '{"queue": "gpu", "gpus": 1}')
    settings = Settings()
    assert settings.cluster == "slurm"
    assert settings.slurm == SlurmOptions(queue="gpu", gpus=1)


def test_an_address_as_the_kind_is_the_scheduler(monkeypatch):
    monkeypatch.setenv("BRICKYARD_CLUSTER", "tcp://there:8786")
    assert Settings().scheduler == "tcp://there:8786"
    monkeypatch.setenv("BRICKYARD_SCHEDULER", "tcp://elsewhere:8786")
    with pytest.raises(ValidationError, match="set one of the two"):
        Settings()


@pytest.mark.parametrize(
    "wrong", [{"cluster": "moon"}, {"slurm": {"que": "gpu"}}, {"kubernetes": {"gpus": 2}}]
)
def test_a_misspelt_or_impossible_option_is_an_error(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)
