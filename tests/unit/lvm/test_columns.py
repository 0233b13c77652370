"""Unit and meaning of catalogue columns."""

from lvm.columns import meaning_of
from lvm.downstream import DOWNSTREAM_TASKS


def test_columns_are_found_by_name_by_beginning_and_by_end():
    parameters = DOWNSTREAM_TASKS["parameters"].columns
    assert meaning_of("radius", parameters) == ("arcsec", "half-light radius")
    assert meaning_of("radius_low", parameters) == (
        "arcsec",
        "lower end of the interval of: half-light radius",
    )
    assert meaning_of("mag_z_high", parameters)[0] == "mag"
    assert meaning_of("p_edge_on", {}) == ("1", "probability of the class edge-on")


def test_a_task_may_say_better_what_a_common_column_means():
    assert "restored" in meaning_of("uncertainty", DOWNSTREAM_TASKS["restoration"].columns)[1]


def test_what_nobody_explains_has_no_meaning():
    assert meaning_of("wonder", {}) == ("", "")
    assert meaning_of("wonder_low", {}) == ("", "")
