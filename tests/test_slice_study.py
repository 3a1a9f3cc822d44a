"""On real books the engine's slices cost less and leave more accounts alive than tenths, and tenths than a dump."""

import pandas as pd
import pytest

from tests import slice_study


def assert_ordered(table: pd.DataFrame) -> None:
    dump, tenths, engine = (table.loc[way] for way in ("dump", "tenths", "engine"))
    assert engine["slippage_bp"] < tenths["slippage_bp"] < dump["slippage_bp"]
    assert engine["survivors"] > tenths["survivors"] > dump["survivors"]
    assert engine["equity_lost"] < tenths["equity_lost"] < dump["equity_lost"]
    assert engine["displaced_bp"] < tenths["displaced_bp"] < dump["displaced_bp"]
    assert engine["past_the_book"] <= tenths["past_the_book"]


@pytest.mark.parametrize("refill", [False, True])
@pytest.mark.parametrize("name", ["btcusdt_perp_20240718", "btcusdt_perp_20240808", "ethusdt_perp_20240808"])
def test_engine_before_tenths_before_dump(shared, name, refill):
    """The first minute and a half of each day."""
    folder = shared / "data/l2_binance_perp"
    day = next(day for day in slice_study.days(folder) if day.name == name)
    books = slice_study.books_of(day, 0.00001 if name.startswith("btc") else 0.0001)
    books = dict(list(books.items())[:90])
    ways = ("dump", "tenths", "engine")
    rows = [slice_study.liquidate(day, books, way, refill=refill, seed=1) for way in ways]
    assert_ordered(pd.DataFrame(rows).set_index("way"))


def test_contracts_of_dollars_become_coins(tmp_path):
    """Books in contracts of 100 dollars, without full depth and meta.json."""
    levels = pd.DataFrame(
        {"t_ms": [1_723_075_200_000] * 2, "level": [0, 1], "bid_px": [50_000.0, 49_999.9], "bid_sz": [500.0, 1_000.0],
         "ask_px": [50_000.1, 50_000.2], "ask_sz": [500.0, 1.0]}
    )  # fmt: skip
    levels.to_parquet(tmp_path / "btcusd_coinm_20240808_l2_1s_50.parquet")
    (day,) = slice_study.days(tmp_path)
    (book,) = slice_study.books_of(day, 0.001).values()
    assert book.loc[book["side"] == "bid", "quantity"].tolist() == [1.0, 2.0]
    assert book.loc[book["side"] == "ask", "quantity"].tolist() == [0.999, 0.001]
