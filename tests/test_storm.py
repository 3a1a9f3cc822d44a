"""The storm study runs on any window, and its picture shows the table of docs/studies.md."""

import pandas as pd
import pytest

from tests import storm


def test_a_slower_clock_leaves_more_to_the_backstop(shared):
    """Three hours of the fall, few accounts, one process."""
    base = storm.Storm(hours=3, accounts=300)
    table = storm.study(list(storm.grid(base, [75], [1.0], [10, 60], ["1"])), processes=1)
    for measure in storm.MEASURES:
        shares = table[[f"{measure}, {stage}" for stage in storm.STAGES]]
        assert shares.sum(axis=1).tolist() == pytest.approx([1, 1])
    assert (table["liquidated accounts"] > 0).all()
    assert (table["left open"] == 0).all()
    ten, sixty = table["notional, order book"]
    assert ten > sixty
    page = storm.page(table).splitlines()
    assert len(page) == 4
    assert page[2].startswith("| 75x | 1 | 10 s | 1 |")


def test_less_depth_is_less_of_the_same_books(shared):
    deep, thin = (storm.books_of("2022-01-05", 1, depth) for depth in (1.0, 0.1))
    places = ["time", "side", "price"]
    both = pd.merge(deep, thin, on=places, suffixes=("", "_thin"))
    assert len(both) == len(thin) > 1_000
    assert (both["quantity_thin"] <= both["quantity"] / 10 + 1e-9).all()
    assert (both["quantity_thin"] > both["quantity"] / 10 - 2e-5).all()


def test_a_window_without_bars_is_refused(shared):
    with pytest.raises(SystemExit, match="no bars in the 3 hours from 2022-03-01"):
        storm.marks_of("2022-03-01", 3)
