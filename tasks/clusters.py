"""Kinds of Dask clusters: this machine, its GPUs, SLURM, Kubernetes. Which one says the setting.

The libraries for the last three are extras, imported when their kind is asked for. How tasks use a
cluster is in `tasks.cluster`.
"""

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from distributed import LocalCluster
from distributed.deploy import Cluster

from tasks.cluster_options import KubernetesOptions, SlurmOptions
from tasks.errors import TaskError
from tasks.settings import Settings

DASHBOARD = ":0"  # any free port: several flows may run on one machine

#: Dask's own work. By its defaults, every scheduler, nanny and worker wakes 50 to 100 times a
#: second: 7 % of two cores for a scheduler with two workers that do nothing. So it is 1.5 %.
HOUSEKEEPING = {
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.worker.profile.interval": "500ms",  # the dashboard's profile
}

HOUSEKEEPING_ENVIRONMENT = {
    f"DASK_{key}".upper().replace(".", "__").replace("-", "_"): value
    for key, value in HOUSEKEEPING.items()
}

#: Of worker processes: freed memory is kept, up to the largest that was in use, for the next unit.
#: Dask's default gives it back at once; to have the pixels of every brick zeroed by the system
#: again took a third of an ingest (decision 0014).
WORKER_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
} | HOUSEKEEPING_ENVIRONMENT


class MissingClusterLibrary(TaskError, ImportError):
    """The library of a kind of cluster is not installed."""


class BadClusterOptions(TaskError, ValueError):
    """An option that a kind of cluster cannot do without is missing."""


def start_cluster(settings: Settings) -> Cluster:
    """Start the cluster of `settings.cluster` and ask for its workers; a context manager.

    Raises
    ------
    MissingClusterLibrary
        If its library is not installed; the message names the extra.
    BadClusterOptions
        If an option that it needs is not set.
    """
    return KINDS[settings.cluster](settings)


def slurm_arguments(options: SlurmOptions, threads: int) -> dict[str, Any]:
    """Return the arguments of `dask_jobqueue.SLURMCluster`.

    One process a job: jobs on one node each see their own GPU only, processes of one job would all
    take the first. `threads` are the units of work that a worker does at a time; the further cores
    of the job are for the threads that read ahead.
    """
    directives = [f"--gres=gpu:{options.gpus}"] if options.gpus else []
    optional = {
        "queue": options.queue,
        "account": options.account,
        "log_directory": options.log_directory,
        "interface": options.interface,
    }
    return {
        "cores": threads,
        "processes": 1,
        "job_cpu": max(options.cores, threads),
        "memory": options.memory,
        "walltime": options.walltime,
        "job_name": "brickyard",
        "job_extra_directives": [*directives, *options.directives],
        "job_script_prologue": [
            *(f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()),
            *options.prologue,
        ],
        "scheduler_options": {"dashboard_address": DASHBOARD},
    } | {name: value for name, value in optional.items() if value is not None}


def kubernetes_manifest(options: KubernetesOptions, workers: int, threads: int) -> dict[str, Any]:
    """Return a DaskCluster resource of the Dask operator (kubernetes.dask.org/v1)."""
    worker = [
        *("dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", str(threads)),
        *("--dashboard", "--dashboard-address", "8788"),
    ]
    resources: dict[str, Any] = {"cpu": options.cores, "memory": options.memory}
    if options.gpus:
        resources["nvidia.com/gpu"] = str(options.gpus)
    scheduler_ports = [("tcp-comm", 8786), ("http-dashboard", 8787)]
    probe = {"httpGet": {"port": "http-dashboard", "path": "/health"}}
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": options.name},
        "spec": {
            "worker": {
                "replicas": workers,
                "spec": _pod(
                    options,
                    {
                        "name": "worker",
                        "args": worker,
                        "env": _environment(WORKER_ENVIRONMENT),
                        "ports": _ports([("http-dashboard", 8788)]),
                        "resources": {"limits": resources, "requests": dict(resources)},
                    },
                ),
            },
            "scheduler": {
                "spec": _pod(
                    options,
                    {
                        "name": "scheduler",
                        "args": ["dask", "scheduler", "--host", "0.0.0.0"],
                        "env": _environment(HOUSEKEEPING_ENVIRONMENT),
                        "ports": _ports(scheduler_ports),
                        "readinessProbe": {**probe, "periodSeconds": 1, "timeoutSeconds": 300},
                        "livenessProbe": {**probe, "initialDelaySeconds": 15, "periodSeconds": 20},
                    },
                ),
                "service": _service(options.name, scheduler_ports),
            },
        },
    }


def _environment(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _local(settings: Settings) -> Cluster:
    return LocalCluster(
        n_workers=settings.workers,
        threads_per_worker=settings.threads_per_worker,
        processes=True,
        dashboard_address=DASHBOARD,
    )


def _cuda(settings: Settings) -> Cluster:
    """Start one worker for every GPU that CUDA_VISIBLE_DEVICES leaves; `workers` is not used."""
    library = _load("dask_cuda", "cuda")
    return library.LocalCUDACluster(
        threads_per_worker=settings.threads_per_worker, dashboard_address=DASHBOARD
    )


def _slurm(settings: Settings) -> Cluster:
    library = _load("dask_jobqueue", "slurm")
    cluster = library.SLURMCluster(**slurm_arguments(settings.slurm, settings.threads_per_worker))
    cluster.scale(jobs=settings.workers)
    return cluster


def _kubernetes(settings: Settings) -> Cluster:
    options = settings.kubernetes
    if not options.image:
        raise BadClusterOptions(
            "workers on Kubernetes need a container image that holds this package: set "
            'BRICKYARD_KUBERNETES=\'{"image": "registry/brickyard:tag", ...}\''
        )
    library = _load("dask_kubernetes.operator", "kubernetes")
    manifest = kubernetes_manifest(options, settings.workers, settings.threads_per_worker)
    return library.KubeCluster(
        namespace=options.namespace, custom_cluster_spec=manifest, quiet=True
    )


KINDS: Mapping[str, Callable[[Settings], Cluster]] = {
    "local": _local,
    "cuda": _cuda,
    "slurm": _slurm,
    "kubernetes": _kubernetes,
}


def _load(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingClusterLibrary(
            f"BRICKYARD_CLUSTER={extra} needs {module.partition('.')[0]}, which cannot be imported "
            f"({error}): pip install 'brickyard[{extra}]'"
        ) from error


def _pod(options: KubernetesOptions, container: dict[str, Any]) -> dict[str, Any]:
    container = {**container, "image": options.image}
    pod: dict[str, Any] = {"containers": [container]}
    if options.node_selector:
        pod["nodeSelector"] = dict(options.node_selector)
    if options.volume_claim:
        container["volumeMounts"] = [{"name": "data", "mountPath": options.mount_path}]
        claim = {"claimName": options.volume_claim}
        pod["volumes"] = [{"name": "data", "persistentVolumeClaim": claim}]
    return pod


def _ports(ports: list[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports]


def _service(name: str, ports: list[tuple[str, int]]) -> dict[str, Any]:
    return {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": name, "dask.org/component": "scheduler"},
        "ports": [
            {"name": port, "protocol": "TCP", "port": number, "targetPort": port}
            for port, number in ports
        ],
    }
