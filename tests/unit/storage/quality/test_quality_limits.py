import pytest

from storage.errors import SchemaMismatch
from storage.quality.limits import BandLimit, Limit, QualityLimits
from storage.quality.results import Level, graded, share


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (0.0, Level.PASS),
        (0.1, Level.PASS),
        (0.11, Level.WARN),
        (0.2, Level.WARN),
        (0.21, Level.FAIL),
        (float("nan"), Level.NOT_MEASURED),
    ],
)
def test_limits_are_the_largest_values_that_pass(value, level):
    assert graded(value, Limit(0.1, 0.2)) is level


@pytest.mark.parametrize(("warn", "fail"), [(0.2, 0.1), (-0.1, 0.1), (float("nan"), 1.0)])
def test_limits_out_of_order_are_refused(warn, fail):
    with pytest.raises(SchemaMismatch, match="warn <= fail"):
        Limit(warn, fail)


def test_bands_without_a_limit_have_none():
    assert BandLimit(g=24.0).of("g") == 24.0
    assert BandLimit(g=24.0).of("z") is None
    assert BandLimit(g=24.0).of("W1") is None


def test_a_separation_of_nothing_is_refused():
    with pytest.raises(SchemaMismatch, match="positive"):
        QualityLimits(separation_arcsec=0.0)


def test_counts_are_written_for_people():
    assert share(1200, 4800) == "1,200 of 4,800 (25.00%)"
    assert share(0, 7) == "none of 7"
