"""What a run costs: MLflow's system metrics while it goes on, and the sum at its end."""

import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SAMPLE_SECONDS = 10.0
# The place where the monitor of MLflow says that it starts and stops, in every run.
_MONITOR_LOG = "mlflow.system_metrics.system_metrics_monitor"


@contextmanager
def watched(
    run_id: str, tracking_uri: str, log: Callable[[Mapping[str, float]], None]
) -> Iterator[None]:
    """Track the load of the machine during the block, and its cost after it.

    `log` gets `wall_seconds`, `cpu_seconds` (all threads, and child processes that have ended) and
    `peak_memory_gib` (of the process since it began).
    """
    logging.getLogger(_MONITOR_LOG).setLevel(logging.WARNING)
    monitor = SystemMetricsMonitor(
        run_id, sampling_interval=SAMPLE_SECONDS, tracking_uri=tracking_uri
    )
    wall, cpu = time.monotonic(), _cpu_seconds()
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
        _last_sample(monitor)
        log(
            {
                "wall_seconds": time.monotonic() - wall,
                "cpu_seconds": _cpu_seconds() - cpu,
                "peak_memory_gib": _peak_memory_gib(),
            }
        )


def _last_sample(monitor: SystemMetricsMonitor) -> None:
    """Publish how the run ended: a run shorter than a sample would show nothing."""
    monitor.collect_metrics()
    monitor.publish_metrics(monitor.aggregate_metrics())
    monitor.mlflow_logger.flush()


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak_memory_gib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 2**30
