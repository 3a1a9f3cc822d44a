"""Order books as the venues and ccxt send them."""

import copy
import json

import pytest

from riskcore import RiskDataError, Tick, load_venue
from riskcore.io.venues import backpack, binance, ccxt, dydx, hyperliquid

WANTED = {"bids": [(3104.9, 0.5), (3104.2, 2.0), (3101.0, 11.25)], "asks": [(3105.1, 1.5), (3106.0, 0.25)]}
TEXT = {side: [[str(price), str(quantity)] for price, quantity in rows] for side, rows in WANTED.items()}
COUNTED = {side: [[price, quantity, 3] for price, quantity in rows] for side, rows in WANTED.items()}
KEYS = {"symbol": "ETH/USDC:USDC", "timestamp": 1786000000123, "datetime": "2026-08-06T07:06:40.123Z", "nonce": None}
NAMED = [[{"px": price, "sz": size, "n": 2} for price, size in TEXT[side]] for side in ("bids", "asks")]
LISTED = {side: [{"price": price, "size": size} for price, size in rows] for side, rows in TEXT.items()}

MS, NS = 1786000000123, 1786000000123000000
SENT = {
    "backpack": (
        backpack.read_book,
        {"asks": TEXT["asks"], "bids": TEXT["bids"][::-1], "lastUpdateId": "7", "timestamp": 1000 * MS + 7},
        NS + 7000,
    ),
    "binance": (binance.read_book, TEXT | {"lastUpdateId": 7, "E": MS + 9, "T": MS}, NS),
    "hyperliquid": (hyperliquid.read_book, {"coin": "ETH", "time": MS, "levels": NAMED}, NS),
    "dydx": (dydx.read_book, LISTED, None),
    "ccxt": (ccxt.read_book, WANTED | KEYS, NS),
    "ccxt, levels of three": (ccxt.read_book, COUNTED | KEYS | {"timestamp": None}, None),
}


def venue():
    function = {"type": "sqrt", "base": "0.1", "factor": "0"}
    filters = {"price": {"tickSize": "0.1"}, "quantity": {"stepSize": "0.25"}}
    row = {"symbol": "ETH", "baseSymbol": "ETH", "marketType": "PERP", "filters": filters}
    half = function | {"base": "0.05"}
    return load_venue(
        {"settle_asset": "USDC", "collateral": [], "markets": [row | {"imfFunction": function, "mmfFunction": half}]}
    )


@pytest.mark.parametrize("case", SENT)
def test_a_book_as_it_is_sent(case, tmp_path):
    read, sent, time = SENT[case]
    assert read(sent) == WANTED | {"time": time}
    saved = tmp_path / "book.json"
    saved.write_text(json.dumps(sent))
    assert read(saved) == read(sent)
    times = {} if time is None else {"ETH": time}
    books = Tick(2 * NS - NS // 2, {"ETH": 3105.0}, {"ETH": read(sent)}, book_times=times).columnar_books(venue())
    assert books.offset.tolist() == [0, 3, 5]
    assert books.price.tolist() == [31049, 31042, 31010, 31051, 31060]
    assert books.lots.tolist() == [2, 8, 45, 6, 1]
    assert books.time.tolist() == [time or 0]


@pytest.mark.parametrize("book", [WANTED | KEYS, COUNTED | KEYS, TEXT | {"lastUpdateId": 7, "info": {}}])
def test_a_tick_takes_what_ccxt_has_as_it_is(book):
    books = Tick(NS, {"ETH": 3105.0}, {"ETH": book}).columnar_books(venue())
    assert books.lots.tolist() == [2, 8, 45, 6, 1]


@pytest.mark.parametrize(
    "book",
    [
        {"bid": [], "ask": []},
        {"bids": [], "ask": [(1, 2)]},
        WANTED | {"asks_": [(3106.0, 1.0)]},
        WANTED | {"asks": None},
        WANTED | {"asks": [(3106.0,)]},
        WANTED | {"asks": [(3106.0, 1.0, 2, 3)]},
        WANTED | {"asks": [("dear", 1.0)]},
        WANTED | {"asks": [{"price": 1, "size": 2}]},
        WANTED | {"asks": ["12"]},
        {1: 2},
    ],
)
def test_a_tick_refuses_a_side_that_it_cannot_read(book):
    with pytest.raises(RiskDataError, match=r"must be ('bids' or 'asks', each a list|numbers)"):
        Tick(NS, {"ETH": 3105.0}, {"ETH": book}).columnar_books(venue())


def test_bids_that_ascend_are_refused_by_a_tick_and_the_reader_is_named():
    with pytest.raises(RiskDataError, match=r"unsorted book.*riskcore\.io\.backpack\.read_book"):
        Tick(NS, {"ETH": 3105.0}, {"ETH": SENT["backpack"][1]}).columnar_books(venue())


@pytest.mark.parametrize("case", SENT)
def test_a_side_that_is_not_sorted_is_refused(case):
    read, sent, _ = SENT[case]
    sent = copy.deepcopy(sent)
    bids = sent["levels"][0] if "levels" in sent else sent["bids"]
    bids[0], bids[1] = bids[1], bids[0]
    with pytest.raises(RiskDataError, match="the side is not sorted"):
        read(sent)
    bids.reverse()
    with pytest.raises(RiskDataError, match="the side is not sorted"):
        read(sent)


def test_a_level_without_quantity_is_left_out():
    sent = WANTED | {"bids": [(3105.0, 0.0), *WANTED["bids"]]}
    assert ccxt.read_book({side: [list(row) for row in rows] for side, rows in sent.items()})["bids"] == WANTED["bids"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bids": None}, r"\$\.bids"),
        ({"asks": [["x", "1"]]}, r"\$\.asks\[0\], value 'x': must be 0 or a number"),
        ({"asks": [["nan", "1"]]}, r"\$\.asks\[0\], value 'nan'"),
        ({"asks": [["1", "-1"]]}, r"\$\.asks\[0\], value '-1': must be >= 0"),
        ({"asks": [["0", "1"]]}, r"\$\.asks\[0\], value '0': must have a price > 0"),
        ({"asks": [["1", True]]}, r"\$\.asks\[0\], value 'True'"),
        ({"asks": [["1", "1e9999999"]]}, r"\$\.asks\[0\]"),
        ({"asks": [["1"]]}, r"\$\.asks\[0\]"),
        ({"timestamp": 10**20}, r"time.* below 2\*\*63|\$\.timestamp"),
    ],
)
def test_what_is_wrong_in_a_book_is_named_by_its_path(change, message):
    with pytest.raises(RiskDataError, match=message):
        backpack.read_book(SENT["backpack"][1] | change)
    with pytest.raises(RiskDataError, match=message):
        ccxt.read_book(TEXT | KEYS | change)
