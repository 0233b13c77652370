import numpy as np
import pytest
import torch

from lvm.downstream import DownstreamModel, create_task
from lvm.downstream.parameters import Parameters, ParametersConfig
from lvm.ellipticity import components
from lvm.quantiles import INTERVALS, LEVELS, MIDDLE
from lvm.tensors import to_tensors
from lvm.testing import TinyEncoder, check_downstream_task, galaxies

NAMES = ["mag_g", "mag_r", "mag_z", "log_radius", "axis_ratio", "e1", "e2", "log_sersic"]


def answers(count=400, noise=0.1, sigma=0.1, seed=0):
    """Return quantiles of Gaussians about noisy values, and the batch that they answer."""
    task = Parameters()
    generator = torch.Generator().manual_seed(seed)
    batch = task.example(count, TinyEncoder().spec, generator)
    middle = batch["target"].nan_to_num(0.0)
    middle = middle + noise * torch.randn(middle.shape, generator=generator)
    normal = torch.distributions.Normal(0.0, sigma).icdf(torch.tensor(LEVELS))
    return task, middle[..., None] + normal, batch


@pytest.mark.parametrize(
    "config",
    [
        ParametersConfig(),
        ParametersConfig(bands=("g", "r", "i", "z"), redshift="z_spec"),
        ParametersConfig(hidden=0, dropout=0.0, turns=False, channels=2),
    ],
)
def test_every_option_of_parameters_keeps_the_contract(config):
    check_downstream_task(Parameters(config), TinyEncoder())


def test_what_it_needs_follows_the_options():
    assert Parameters().needs == Parameters.needs
    task = create_task("parameters", {"bands": ["r"], "redshift": "z_spec"})
    assert task.needs == ("flux_r", "shape_r", "shape_e1", "shape_e2", "sersic", "z_spec")
    assert [parameter.name for parameter in task.parameters][-1] == "redshift"
    assert Parameters().needs == Parameters.needs


def test_the_target_is_made_of_the_columns_it_needs():
    columns = {name: np.array([1.0, 2.0]) for name in Parameters.needs}
    columns |= {"shape_e1": np.array([0.2, 0.0]), "shape_e2": np.array([0.1, 0.0])}
    target = Parameters().target(columns)
    assert target.shape == (2, len(NAMES))
    assert target.dtype == np.float32
    assert np.isnan(target[1, NAMES.index("e1")])
    assert target[1, NAMES.index("mag_g")] == pytest.approx(22.5 - 2.5 * np.log10(2.0), abs=2e-3)


def elongated(angle, size=25):
    """Return an image of a galaxy with this position angle [deg], north up, east left."""
    y, x = np.mgrid[:size, :size] - size // 2
    phi = np.deg2rad(angle)
    along, across = np.cos(phi) * y - np.sin(phi) * x, np.cos(phi) * x + np.sin(phi) * y
    return np.exp(-0.5 * ((along / 5) ** 2 + (across / 2) ** 2))


def angle_of(image):
    """Return the position angle [deg] of an image by its second moments."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] - image.shape[0] // 2
    plus, cross = (image * (y * y - x * x)).sum(), (image * (-2 * x * y)).sum()
    return np.rad2deg(np.arctan2(cross, plus)) / 2 % 180.0


def test_the_angle_turns_with_the_galaxy():
    task, count = Parameters(), 40
    e1, e2 = components(np.full(count, 0.4), np.full(count, 20.0))
    target = torch.zeros(count, len(NAMES))
    target[:, NAMES.index("e1")] = torch.from_numpy(e1)
    target[:, NAMES.index("e2")] = torch.from_numpy(e2)
    image = torch.from_numpy(elongated(20.0)).float().expand(count, 3, -1, -1)
    batch = {"image": image, "invvar": image, "target": target}
    posed = task.pose(batch, torch.Generator().manual_seed(0))
    assert torch.equal(posed["invvar"], posed["image"])
    perfect = task.present(task.perfect(posed))
    found = {round(float(angle)) for angle in perfect["angle"]}
    assert found == {20, 160, 70, 110}
    for picture, angle in zip(posed["image"][:, 0].numpy(), perfect["angle"], strict=True):
        assert angle_of(picture) == pytest.approx(angle, abs=0.5)


def test_without_turns_or_without_pixels_the_question_is_left_as_it_is():
    batch = to_tensors(galaxies(4, np.random.default_rng(0)))
    batch["target"] = torch.zeros(4, len(NAMES))
    still = Parameters(ParametersConfig(turns=False))
    assert still.pose(batch, torch.Generator()) is batch
    embedded = {"target": batch["target"]}
    assert Parameters().pose(embedded, torch.Generator()) is embedded


def test_measures_tell_what_each_parameter_is_off_by():
    task, output, batch = answers(4000)
    found = task.metrics(output, batch)
    for name in NAMES:
        assert found[f"nmad_{name}"] == pytest.approx(0.1, rel=0.1)
        assert abs(found[f"bias_{name}"]) < 0.01
        assert found[f"coverage_68_{name}"] == pytest.approx(0.68, abs=0.03)
        assert found[f"coverage_95_{name}"] == pytest.approx(0.95, abs=0.02)
    assert found["coverage_68"] == pytest.approx(0.68, abs=0.01)
    blurred = task.metrics(answers(4000, noise=0.3)[1], batch)
    assert blurred["crps"] > 2 * found["crps"]
    assert blurred["coverage_68"] < 0.4


def test_angles_are_given_where_they_are_known_and_their_errors_hold():
    task, output, batch = answers(4000, noise=0.01, sigma=0.01)
    sharp = task.metrics(output, batch)
    assert sharp["coverage_68_angle"] == pytest.approx(0.68, abs=0.04)
    assert sharp["given_angle"] == 1.0
    unsure = task.metrics(answers(4000, noise=0.1, sigma=0.3)[1], batch)
    assert unsure["given_angle"] < 0.2


def test_a_parameter_that_nobody_knows_does_not_spoil_the_others():
    task, output, batch = answers()
    batch["target"][:, NAMES.index("log_sersic")] = torch.nan
    found = task.metrics(output, batch)
    assert np.isnan(found["nmad_log_sersic"])
    assert np.isfinite([found["crps"], found["coverage_68"], found["coverage_95"]]).all()


def test_redshifts_are_measured_over_1_plus_z():
    task = Parameters(ParametersConfig(redshift="z_spec"))
    target = torch.zeros(3, len(task.parameters))
    target[:, -1] = 1.0
    output = task.perfect({"target": target}) + 0.2
    assert task.metrics(output, {"target": target})["bias_redshift"] == pytest.approx(0.1)


def test_calibration_makes_the_intervals_of_the_model_hold():
    encoder, task = TinyEncoder(), Parameters()
    model = DownstreamModel(task, encoder).eval()
    batch = to_tensors(galaxies(300, np.random.default_rng(1)))
    generator = torch.Generator().manual_seed(0)
    batch["target"] = task.example(300, encoder.spec, generator)["target"]
    with torch.no_grad():
        said = task.calibrate(model.head, model(batch), batch)
        after = task.metrics(model(batch), batch)
    assert said["calibration_objects"] == 300
    assert said["coverage_68_before"] > 0.8  # the scale of the population is wider than this one
    assert said["coverage_68_after"] == pytest.approx(0.68, abs=0.02)
    assert after["coverage_68"] == pytest.approx(said["coverage_68_after"], abs=0.005)
    assert after["coverage_95"] == pytest.approx(0.95, abs=0.02)


def test_the_head_of_another_task_is_not_calibrated():
    task, output, batch = answers()
    with pytest.raises(TypeError, match="Linear"):
        task.calibrate(torch.nn.Linear(1, 1), output, batch)


def test_what_is_presented_of_parameters():
    task, output, _ = answers(5)
    output[0, NAMES.index("e1")] = 0.5 + 0.001 * torch.arange(len(LEVELS))
    output[0, NAMES.index("e2")] = 0.001 * torch.arange(len(LEVELS))
    output[1, NAMES.index("e1"), MIDDLE] = 0.001
    output[1, NAMES.index("e2"), MIDDLE] = 0.001
    shown = task.present(output)
    assert shown["radius"] == pytest.approx(10.0 ** output[:, 3, MIDDLE].numpy())
    assert (shown["sersic_low"] < shown["sersic_high"]).all()
    assert ((shown["axis_ratio"] >= 0) & (shown["axis_ratio"] <= 1)).all()
    assert shown["angle"][0] == pytest.approx(0.23, abs=0.1)
    assert shown["angle_error"][0] < 1.0
    assert np.isnan(shown["angle"][1])
    assert np.isnan(shown["angle_error"][1])


def test_figures_of_parameters():
    task, output, batch = answers(50)
    batch["target"][:10, 0] = torch.nan
    first, *others = task.figures(output, batch)
    assert first.x.tolist() == list(INTERVALS)
    assert set(first.lines) == set(NAMES)
    assert [figure.name for figure in others] == [f"predicted_{name}" for name in NAMES]
    assert len(others[0].x) == 40
    assert others[0].lines["predicted"] == pytest.approx(output[10:, 0, MIDDLE].numpy())


def test_a_target_of_another_number_of_parameters_is_refused():
    with pytest.raises(ValueError, match="log_radius"):
        Parameters().loss(torch.zeros(2, 3, len(LEVELS)), {"target": torch.zeros(2, 3)})


def test_senseless_options_of_parameters_are_refused():
    with pytest.raises(ValueError, match="different names"):
        ParametersConfig(bands=("g", "g"))
