import pytest

from flows.model_parameters import DownstreamConfig, PretrainConfig
from flows.parameters import IngestConfig, read_config
from tasks.errors import BadConfiguration


def test_options_replace_values_of_the_file(tmp_path):
    path = tmp_path / "ingest.toml"
    path.write_text('bands = ["g", "r"]\n[selection]\nmax_mag = 18.0\n[cutout]\nsize = 128\n')
    config = read_config(IngestConfig, path, {"selection.max_mag": 17.0, "cutout.edge": None})
    assert config.bands == ("g", "r")
    assert config.selection.max_mag == 17.0
    assert config.cutout.size == 128


@pytest.mark.parametrize(
    ("cls", "values", "name"),
    [
        (IngestConfig, {"selection.max_magg": 19.0}, "max_magg"),
        (IngestConfig, {"band": ("g",)}, "band"),
        (PretrainConfig, {"train.epoch": 3}, "epoch"),
        (PretrainConfig, {"encoder.input": 3}, "input"),
        (DownstreamConfig, {"fine_tune.full.epochz": 3}, "epochz"),
    ],
)
def test_an_unknown_key_is_named(cls, values, name):
    with pytest.raises(BadConfiguration, match=name):
        read_config(cls, None, values)


def test_a_value_that_the_configuration_refuses_is_explained():
    with pytest.raises(BadConfiguration, match="edge"):
        read_config(IngestConfig, None, {"cutout.edge": "stretch"})


def test_a_file_that_is_no_toml_is_named(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("bands = [")
    with pytest.raises(BadConfiguration, match=r"broken\.toml"):
        read_config(IngestConfig, path)


def test_prefect_forms_refuse_unknown_keys_too():
    from flows.ingest import ingest_bricks

    with pytest.raises(Exception, match="max_magg"):
        ingest_bricks.validate_parameters(
            {"source": "x", "config": {"selection": {"max_magg": 19.0}}}
        )
