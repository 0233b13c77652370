import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from lvm.downstream import DOWNSTREAM_TASKS, DownstreamTask, Metric, create_task, register
from lvm.figures import Curve
from lvm.testing import ConformanceError, TinyEncoder, check_downstream_task


@pytest.mark.parametrize("name", sorted(DOWNSTREAM_TASKS))
def test_every_registered_task_keeps_the_contract(name):
    check_downstream_task(DOWNSTREAM_TASKS[name](), TinyEncoder())


@pytest.mark.parametrize("name", sorted(DOWNSTREAM_TASKS))
def test_every_registered_task_says_what_it_is(name):
    task = DOWNSTREAM_TASKS[name]
    assert task.name == name
    assert isinstance(task.headline, Metric)
    assert isinstance(task.needs, tuple)
    assert task.__doc__


def test_a_second_task_of_the_same_name_is_refused():
    class Other(DownstreamTask):
        name = "morphology"

    with pytest.raises(ValueError, match="two downstream tasks"):
        register(Other)


def test_an_unknown_task_or_option_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="morphology"):
        create_task("morphologie")
    with pytest.raises(ValueError, match="hidden"):
        create_task("morphology", {"hiden": 3})


def test_the_conformance_test_finds_a_task_that_ignores_its_embedding():
    base = DOWNSTREAM_TASKS["morphology"]

    class Broken(base):
        def loss(self, output, batch):
            return {"loss": super().loss(output, batch)["loss"] * float("nan")}

    with pytest.raises(ConformanceError, match="loss of 8 objects"):
        check_downstream_task(Broken(), TinyEncoder())


def test_the_conformance_test_finds_a_task_that_learns_the_wrong_way():
    base = DOWNSTREAM_TASKS["morphology"]

    class Broken(base):
        def loss(self, output, batch):
            loss = super().loss(output, batch)["loss"]
            return {"loss": 2 * loss.detach() - loss}  # the right value, the gradient reversed

    with pytest.raises(ConformanceError, match="the loss on eight objects"):
        check_downstream_task(Broken(), TinyEncoder())


def test_the_conformance_test_finds_a_measure_that_is_not_optimal():
    base = DOWNSTREAM_TASKS["morphology"]

    class Broken(base):
        def metrics(self, output, batch):
            return {"balanced_accuracy": 0.9}

    with pytest.raises(ConformanceError, match="perfect prediction"):
        check_downstream_task(Broken(), TinyEncoder())


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"pose": lambda self, batch, generator: {**batch, "x": torch.rand(3)}}, "pose.. draws"),
        ({"pose": lambda self, batch, generator: _spoiled(batch)}, "pose.. changes the batch"),
        ({"figures": lambda self, output, batch: [CURVE, CURVE]}, "two figures have one name"),
        ({"figures": lambda self, output, batch: [replace(CURVE, name="a/b")]}, "no file name"),
        ({"figures": lambda self, output, batch: [replace(CURVE, x=np.ones(3))]}, "points"),
        ({"calibrate": lambda self, head, output, batch: {"t": float("inf")}}, "calibrate"),
    ],
)
def test_the_conformance_test_finds_what_else_may_be_broken(broken, message):
    task = type("Broken", (DOWNSTREAM_TASKS["morphology"],), broken)
    with pytest.raises(ConformanceError, match=message):
        check_downstream_task(task(), TinyEncoder())


def _spoiled(batch):
    batch["image"].add_(1.0)
    return batch


CURVE = Curve("loss", np.ones(2), {"a": np.ones(2)}, "x", "y")


@pytest.mark.slow
def test_the_package_imports_with_torch_timm_and_numpy_alone():
    forbidden = (
        "prefect dask distributed mlflow zarr xarray icechunk astropy pydantic pandas storage"
    )
    code = (
        "import sys, lvm, lvm.testing; "
        f"print([n for n in {forbidden.split()!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
