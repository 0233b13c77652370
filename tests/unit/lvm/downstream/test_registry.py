import subprocess
import sys

import pytest

from lvm.downstream import DOWNSTREAM_TASKS, DownstreamTask, Metric, create_task, register
from lvm.testing import ConformanceError, TinyEncoder, check_downstream_task


@pytest.mark.parametrize("name", sorted(DOWNSTREAM_TASKS))
def test_every_registered_task_keeps_the_contract(name):
    check_downstream_task(DOWNSTREAM_TASKS[name](), TinyEncoder())


@pytest.mark.parametrize("name", sorted(DOWNSTREAM_TASKS))
def test_every_registered_task_says_what_it_is(name):
    task = DOWNSTREAM_TASKS[name]
    assert task.name == name
    assert isinstance(task.headline, Metric)
    assert task.needs
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
