import numpy as np
import pytest

from lvm.galaxy_parameters import asinh_magnitude, catalogue_parameters, parameters_asked


def columns(**changed):
    """Return a catalogue of one galaxy."""
    plain = {
        "flux_r": 10.0,
        "shape_r": 1.0,
        "shape_e1": 0.3,
        "shape_e2": 0.0,
        "sersic": 2.0,
        "z_spec": 0.1,
    }
    return {name: np.array([value]) for name, value in {**plain, **changed}.items()}


def named(redshift="", **changed):
    values = catalogue_parameters(columns(**changed), ("r",), redshift)
    names = [parameter.name for parameter in parameters_asked(("r",), bool(redshift))]
    assert values.shape == (1, len(names))
    return dict(zip(names, values[0].tolist(), strict=True))


def test_a_galaxy_in_numbers():
    found = named(redshift="z_spec")
    assert found["mag_r"] == pytest.approx(20.0, abs=1e-3)
    assert found["log_radius"] == 0.0
    assert found["axis_ratio"] == pytest.approx(0.7 / 1.3)
    assert found["log_sersic"] == pytest.approx(np.log10(2.0))
    assert found["redshift"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changed", "unknown"),
    [
        ({"flux_r": 0.0}, {"mag_r"}),
        ({"shape_r": 0.0}, {"log_radius"}),
        ({"shape_e1": 0.0}, {"axis_ratio", "e1", "e2"}),
        ({"sersic": 1.0}, {"log_sersic"}),
        ({"sersic": 4.0}, {"log_sersic"}),
        ({"sersic": 0.0}, {"log_sersic"}),
        ({"sersic": np.nan}, {"log_sersic"}),
        ({"z_spec": -99.0}, {"redshift"}),
    ],
)
def test_what_a_catalogue_did_not_measure_is_not_known(changed, unknown):
    found = named(redshift="z_spec", **changed)
    assert {name for name, value in found.items() if np.isnan(value)} == unknown


def test_a_negative_flux_is_a_faint_galaxy_and_not_an_unknown_one():
    magnitude = asinh_magnitude(np.array([-0.05, 0.02, 0.05, 100.0]))
    assert (np.diff(magnitude) < 0).all()
    assert magnitude[-1] == pytest.approx(17.5, abs=1e-4)


def test_a_column_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="flux_i"):
        catalogue_parameters(columns(), ("r", "i"))
