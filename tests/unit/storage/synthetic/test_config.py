import pytest

from storage.synthetic import SyntheticConfig


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"bands": ("g", "q")}, "bands"),
        ({"bands": ()}, "bands"),
        ({"brick_size": 4000}, "brick_size"),
        ({"brick_size": 100}, "brick_size"),
        ({"count": 0}, "count"),
        ({"density": -1.0}, "density"),
        ({"processes": 0}, "processes"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticConfig(**wrong)
