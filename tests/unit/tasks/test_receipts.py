"""The log of a run: every unit, in order, whatever happens to the process that writes it."""

from tasks.receipts import append_units, close_log, new_log, read_units
from tasks.references import Outcome, UnitReceipt
from tasks.settings import Settings


def unit(name: str, outcome: Outcome = Outcome.WRITTEN) -> UnitReceipt:
    return UnitReceipt(name=name, outcome=outcome, objects=2)


def test_units_come_back_in_the_order_of_writing(tmp_path):
    log = new_log(Settings(home=tmp_path), "dr10/south")
    append_units(log, [unit("b"), unit("a", Outcome.FAILED)])
    append_units(log, iter([unit("c")]))
    assert [found.name for found in read_units(log)] == ["b", "a", "c"]
    receipt = close_log(log, "dr10/south", "S", "dr10-south-0001")
    assert (receipt.total, receipt.objects, receipt.tag) == (3, 4, "dr10-south-0001")
    assert receipt.units[0].name == "a"


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    log = new_log(Settings(home=tmp_path), "dr10/south")
    append_units(log, [unit("a"), unit("b")])
    with open(log, "r+", encoding="utf-8") as handle:
        handle.truncate(len(handle.read()) - 5)
    assert [found.name for found in read_units(log)] == ["a"]


def test_two_runs_never_share_a_log_and_one_without_units_has_none(tmp_path):
    settings = Settings(home=tmp_path)
    first, second = new_log(settings, "dr10/south"), new_log(settings, "dr10/south")
    assert first != second
    assert close_log(first, "dr10/south", "S").total == 0
