"""Every kind of bad input: one line that says where and why, exit code 2, and nothing left behind."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from riskcore import RiskDataError
from riskcore.cli import app
from tests import small_run
from tests.small_run import BTC, ETH

OPTIONAL = ["lent", "reduce_only", "leverage_limit", "unsettled", "index_price"]
TIME = "must be a timestamp, ISO text or whole nanoseconds since the epoch, from 2000 to 2200"
IDS = "must be a whole number in every row or text in every row"
AT = ["2025-10-10 21:00:00+00:00", "2025-10-10 21:00:01+00:00", "2025-10-10 21:00:02+00:00"]


def put(table, column, value, row=1):
    """Spoil one value; the column becomes what pandas makes of such a list."""

    def spoil(frames):
        values = frames[table][column].tolist()
        values[row] = value
        frames[table] = frames[table].assign(**{column: values})

    return spoil


def add(table, column, values):
    """Spoil a table by a column that it may have."""

    def spoil(frames):
        frames[table] = frames[table].assign(**{column: values})

    return spoil


def keep(table, choose):
    """Spoil a table by leaving rows or columns out."""

    def spoil(frames):
        frames[table] = choose(frames[table])

    return spoil


def numbers():
    """NaN, text, infinity and, where the rule forbids them, negative numbers and zero."""
    finite, positive, not_negative = (f"must be a finite number{more}" for more in ("", " > 0", " >= 0"))
    columns = {
        "positions.quantity": finite,
        "positions.entry_price": positive,
        "balances.quantity": finite,
        "balances.lent": not_negative,
        "orders.price": positive,
        "orders.quantity": positive,
        "settings.leverage_limit": "must be from 0.001 to 10**9",
        "settings.unsettled": finite,
        "marks.mark_price": positive,
        "marks.index_price": positive,
        "asset_prices.price": positive,
        "books.level": not_negative,
        "books.price": positive,
        "books.quantity": positive,
    }
    for name, rule in columns.items():
        table, column = name.split(".")
        bad = {"many": "must be a number", np.inf: rule, -np.inf: rule}
        if column not in {
            "leverage_limit",
            "mark_price",
            "index_price",
        }:  # there, a missing one means that there is none
            bad[np.nan] = "must not be missing"
        if rule != finite:
            bad[-1.5] = rule
        if rule == positive:
            bad[0.0] = rule
        for value, broken in bad.items():
            yield put(table, column, value), f"{name}, row 1, value {value!r}: {broken}"


def missing_columns():
    for table, frame in small_run.tables().items():
        for column in frame.columns.difference(OPTIONAL, sort=False):
            there = ", ".join(frame.columns.drop(column))
            line = f"{table}.{column}: the column is missing; the table has {there}"
            yield keep(table, lambda f, c=column: f.drop(columns=c)), line


LOTS = "must be a whole number of lots of the market's stepSize"
TICKS = "must be a whole number of ticks of the market's tickSize"
LARGE = "must be worth less than 2**60 settle quanta at the market's maxPrice"
MARKET, ASSET = "must be a market of the venue", "must be a collateral asset of the venue"
CASES = [
    # names
    *(
        (put(t, "market", "DOGE"), f"{t}.market, row 1, value 'DOGE': {MARKET}")
        for t in ("positions", "orders", "marks", "books")
    ),
    *((put(t, "asset", "EUR"), f"{t}.asset, row 1, value 'EUR': {ASSET}") for t in ("balances", "asset_prices")),
    *(
        (put(t, "account", 2.5), f"{t}.account, row 0, value 1.0: {IDS}")
        for t in ("positions", "balances", "orders", "settings")
    ),
    (put("positions", "account", None), "positions.account, row 1, value nan: must not be missing"),
    (put("positions", "account", 2**63), "positions.account, row 1, value 9223372036854775808: must fit 64 bits"),
    (put("positions", "market", None), "positions.market, row 1, value nan: must not be missing"),
    (put("orders", "side", "buy"), "orders.side, row 1, value 'buy': must be 'bid' or 'ask'"),
    (put("books", "side", None), "books.side, row 1, value nan: must not be missing"),
    (put("orders", "reduce_only", "perhaps"), "orders.reduce_only, row 1, value 'perhaps': must be true or false"),
    # times
    *(
        (put(t, "time", value), f"{t}.time, row 1, value '{value}': {TIME}")
        for t in ("marks", "books", "asset_prices")
        for value in ("soon", "now", "10/11/2025", "3000-01-01")
    ),
    (put("books", "time", AT[2]), f"books.time, row 1, value '{AT[2]}': must be a time of the marks table"),
    (
        put("asset_prices", "time", AT[2]),
        f"asset_prices.time, row 1, value '{AT[2]}': must be a time of the marks table",
    ),
    # lots, ticks and size
    (put("positions", "quantity", 0.00005), f"positions.quantity, row 1, value 5e-05: {LOTS} (0.0001)"),
    (put("orders", "quantity", 0.00015), f"orders.quantity, row 1, value 0.00015: {LOTS} (0.0001)"),
    (put("orders", "price", 4_100.005), f"orders.price, row 1, value 4100.005: {TICKS} (0.01)"),
    (put("books", "quantity", 0.000005), f"books.quantity, row 1, value 5e-06: {LOTS} (0.00001)"),
    (put("books", "price", 99_980.05), f"books.price, row 1, value 99980.05: {TICKS} (0.1)"),
    (
        put("books", "price", 1_000_000.1, row=3),
        "books.price, row 3, value 1000000.1: must be at most the market's maxPrice",
    ),
    (
        put("books", "quantity", 1e12),
        "books.quantity, row 1, value 1000000000000.0: must be less than 2**53 lots",
    ),
    (put("positions", "quantity", -2e6), f"positions.quantity, row 1, value -2000000.0: {LARGE}"),
    (put("orders", "quantity", 2e6), f"orders.quantity, row 1, value 2000000.0: {LARGE}"),
    (put("balances", "quantity", 1e18), "balances.quantity, row 1, value 1e+18: must be less than 2**62 quanta"),
    (put("balances", "lent", 1.7e308), "balances.lent, row 1, value 1.7e+308: must be less than 2**62 quanta"),
    *(
        (
            put(t, "quantity", 1.7e308),
            f"{t}.quantity, row 1, value 1.7e+308: {LOTS} ({step}) and less than 2**62 of them",
        )
        for t, step in (("positions", "0.0001"), ("orders", "0.0001"), ("books", "0.00001"))
    ),
    # a key stands twice
    (
        keep("positions", lambda f: f.iloc[[0, 1, 0]]),
        f"positions.account+market, row 2, value '1, {BTC}': must not appear twice",
    ),
    (
        keep("balances", lambda f: f.iloc[[0, 1, 2, 1]]),
        "balances.account+asset, row 3, value '2, XAU': must not appear twice",
    ),
    (keep("settings", lambda f: f.iloc[[0, 0]]), "settings.account, row 1, value '1': must not appear twice"),
    (
        put("marks", "time", "2025-10-10 23:00:00.000+02:00", row=2),
        f"marks.time+market, row 2, value '{AT[0]}, {BTC}': must not appear twice",
    ),
    (
        keep("asset_prices", lambda f: f.iloc[[0, 1, 1]]),
        f"asset_prices.time+asset, row 2, value '{AT[1]}, XAU': must not appear twice",
    ),
    (
        put("books", "level", 0),
        f"books.time+market+side+level, row 1, value '{AT[0]}, {BTC}, bid, 0': must not appear twice",
    ),
    # books
    *(
        (put("books", "price", price, row), f"books.price, row {row}, value {price}: {rule}")
        for price, row, rule in (
            (99_995.0, 1, "must get worse from level to level (an unsorted book)"),
            (99_990.0, 1, "must get worse from level to level (an unsorted book)"),
            (100_005.0, 3, "must get worse from level to level (an unsorted book)"),
        )
    ),
    *(
        (add("books", "book_time", values), f"books.book_time, row {row}, value '{value}': {rule}")
        for values, row, value, rule in (
            ([AT[0]] * 3 + ["soon"] + [AT[1]] * 4, 3, "soon", TIME),
            ([None] * 7 + ["soon"], 7, "soon", TIME),
            ([None] * 4 + [AT[2]] * 4, 4, AT[2], "must not be later than the tick"),
            ([AT[0]] * 5 + [AT[1]] * 3, 5, AT[1], "must be the same for all levels of a book"),
            ([AT[0]] * 3 + [None] * 5, 3, "none", "must be the same for all levels of a book"),
        )
    ),
    # a price is missing
    (
        keep("marks", lambda f: f.iloc[[0, 2, 3]]),
        f"marks.mark_price, row time {AT[0]}, value '{ETH}': an account holds it: a price is needed",
    ),
    (
        add("marks", "last_price", [1.0, 1.0, 0.0, np.nan]),
        "marks.last_price, row 2, value 0.0: must be a finite number > 0",
    ),
    (
        keep("asset_prices", lambda f: f.iloc[:1]),
        f"asset_prices.price, row time {AT[1]}, value 'XAU': an account holds it: a price is needed",
    ),
    *numbers(),
    *missing_columns(),
]


def message(spoil, frames):
    """Spoil and read tables; return the refusal."""
    spoil(frames)
    with pytest.raises(RiskDataError) as refusal:
        small_run.read(frames)
    return str(refusal.value)


def refusal_of(command, files, folder):
    """Return what a command says of bad files; it must leave nothing behind."""
    before = sorted(folder.rglob("*"))
    out = folder / ("out.csv" if command == "sweep" else "out")
    result = CliRunner().invoke(app, small_run.arguments(command, files, out))
    assert result.exit_code == 2, result.exception
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return result.stderr.removeprefix("riskcore: ").removesuffix("\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, so that a stray file is seen."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tables_are_good_before_they_are_spoilt():
    _, accounts, ticks = small_run.read(small_run.tables())
    assert len(accounts) == 3
    assert len(ticks) == 2


@pytest.mark.parametrize(("spoil", "line"), CASES, ids=[line for _, line in CASES])
def test_tables_are_refused(spoil, line):
    assert message(spoil, small_run.tables()) == line
    # rows are counted, whatever labels the user's frame has
    relabelled = {name: frame.set_axis([7] * len(frame)) for name, frame in small_run.tables().items()}
    assert message(spoil, relabelled) == line


NO_PROVIDER = "venue.backstop[0].account, value '9': must have a row in balances or positions: did you mean '9', text?"
IN_CSV = {
    f"positions.account, row 0, value 1.0: {IDS}": "positions.account, row 0, value '1.0': must be written as in "
    "balances, orders, settings ('1'), if it is the same account",
    "positions.account, row 1, value 9223372036854775808: must fit 64 bits": NO_PROVIDER,
} | {
    f"{table}.account, row 0, value 1.0: {IDS}": f"positions.account, row 0, value '1': must be written as in {table} "
    "('1.0'), if it is the same account"
    for table in ("balances", "orders", "settings")
}  # fmt: skip
"""What is said of ids in a CSV file, which are text unless all are written as whole numbers are."""


@pytest.mark.parametrize(("spoil", "line"), CASES, ids=[line for _, line in CASES])
def test_commands_refuse_tables(spoil, line, folder):
    frames = small_run.tables()
    spoil(frames)
    files = small_run.write(folder, small_run.venue_source(), frames)
    for command in ("replay",) if line.startswith("books") else ("sweep", "replay"):
        assert refusal_of(command, files, folder) == IN_CSV.get(line, line)


@pytest.mark.parametrize("name", ["sweep", "replay"])
def test_parquet_is_refused_as_csv_is(name, folder):
    frames = small_run.tables()
    put("marks", "mark_price", -1.5)(frames)
    files = small_run.write(folder, small_run.venue_source(), frames, "parquet")
    assert refusal_of(name, files, folder) == "marks.mark_price, row 1, value -1.5: must be a finite number > 0"


@pytest.mark.parametrize(
    ("table", "ids", "line", "in_csv"),
    [
        ("positions", [1, "alice"], f"positions.account, row 1, value 'alice': {IDS}", NO_PROVIDER),
        (
            "settings",
            ["alice", 1],
            f"settings.account, row 1, value 1: {IDS}",
            "settings.account, row 0, value 'alice': must have a row in positions or balances",
        ),
        (
            "orders",
            ["alice", "bob"],
            "orders.account, row 0, value 'alice': must be of one kind, whole number or text, in all tables",
            "orders.account, row 0, value 'alice': must have a row in positions or balances",
        ),
    ],
)
def test_ids_of_two_kinds_are_refused(table, ids, line, in_csv, folder):
    frames = small_run.tables()
    frames[table]["account"] = ids
    files = small_run.write(folder, small_run.venue_source(), frames)  # in a CSV file, numbers beside text are text
    assert refusal_of("sweep", files, folder) == in_csv
    assert message(lambda frames: None, frames) == line


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (
            {"account": [1]},
            "positions: must be a pandas DataFrame, not dict: pandas.DataFrame(...) converts it",
        ),
        ([], "positions: must be a pandas DataFrame, not list: pandas.DataFrame(...) converts it"),
        *(
            (
                given,
                f"positions: must be a pandas DataFrame, not {kind}: tables with the Arrow interface "
                "(Polars, pyarrow, DuckDB) are accepted too",
            )
            for given, kind in ((None, "NoneType"), ("x", "str"), (pd.Series([1]), "Series"))
        ),
        (
            small_run.tables()["positions"].set_axis(["account", "market", "quantity", "quantity"], axis=1),
            "positions.quantity: the column appears twice",
        ),
    ],
)
def test_what_is_no_such_frame_is_refused(frame, line):
    assert message(lambda frames: None, small_run.tables() | {"positions": frame}) == line


def test_no_ticks_are_refused():
    assert message(keep("marks", lambda f: f.iloc[:0]), small_run.tables()) == "marks: must have at least one row"


FILES = {
    "header only": ("csv", lambda path: path.write_text("account,market\n"), "must have at least one row"),
    "empty": ("csv", lambda path: path.write_text(""), "must be a CSV file"),
    "binary": ("csv", lambda path: path.write_bytes(b"\xff\xfe\x00"), "must be a CSV file"),
    "long row": ("csv", lambda path: path.write_text("a,b\n1,2\n1,2,3\n"), "must be a CSV file"),
    "long rows": ("csv", lambda path: path.write_text("a,b\n1,2,3\n1,2,3\n"), "must be a CSV file"),
    "no Parquet": ("parquet", lambda path: path.write_text("account,market\n1,2\n"), "must be a Parquet file"),
    "cut Parquet": ("parquet", lambda path: path.write_bytes(path.read_bytes()[:-9]), "must be a Parquet file"),
    "no rows": ("parquet", lambda path: pd.DataFrame({"a": []}).to_parquet(path), "must have at least one row"),
    "nothing": ("csv", lambda path: path.unlink(), "cannot be read: No such file or directory"),
    "folder": ("parquet", lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("table", small_run.tables())
def test_files_are_refused(kind, table, folder):
    suffix, spoil, line = FILES[kind]
    files = small_run.write(folder, small_run.venue_source(), small_run.tables(), suffix)
    spoil(files[table])
    for command in ("replay",) if table == "books" else ("sweep", "replay"):
        assert refusal_of(command, files, folder) == f"{table}, value '{files[table]}': {line}"


PRICE, KIND = "filters.price", "haircutFunction.kind"
M = "markets[0]"
MMF = f"venue.{M}.mmfFunction"
FUNCTIONS = [
    ("markets.0.mmfFunction.factor", None, f"venue: Object missing required field `factor` - at `$.{M}.mmfFunction`"),
    ("markets.0.mmfFunction.unit", "lots", f"venue: Invalid enum value 'lots' - at `$.{M}.mmfFunction.unit`"),
    (
        "markets.0.mmfFunction",
        {"type": "tiers", "brackets": []},
        f"{MMF}.brackets, value '[]': must hold at least one bracket",
    ),
    *(
        (
            "markets.0.mmfFunction",
            {"type": "tiers", "brackets": [{"from": lower, "rate": rate} for lower, rate in brackets]},
            f"{MMF}.{said}",
        )
        for brackets, said in (
            ([("1", "0.1")], "brackets[0].from, value '1': must be 0"),
            ([("0", "0.1"), ("0", "0.2")], "brackets[1].from, value '0': must be above the bracket before"),
            ([("0", "0.2"), ("5", "0.1")], "brackets[1].rate, value '0.1': must not be below the bracket before"),
            ([("0", "1.5")], "brackets[0].rate, value '1.5': must be at most 1"),
            ([("0", "0")], "brackets[0].rate, value '0': must be a number from 1E-18 to 1E+18"),
        )
    ),
    (
        "markets.0.mmfFunction",
        {"type": "tiers", "brackets": [{"from": "0", "rate": "0.1"}], "whole": True},
        f"{MMF}.whole, value 'True': must be false for a maintenance margin, which may have no step",
    ),
    (
        "markets.0.mmfFunction",
        {"type": "open_interest", "base": "0.1", "lower": "5", "upper": "5"},
        f"{MMF}.upper, value '5': must be more than lower",
    ),
    *(
        (
            "markets.0.mmfFunction",
            {"type": "linear", "base": "0.01", "slope": "0.000001"} | {name: value},
            f"{MMF}.{name}, value '{value}': must be {rule}",
        )
        for name, value, rule in (
            ("base", "1.5", "at most 1"),
            ("base", "0", "a number from 1E-18 to 1E+18"),
            ("slope", "-0.1", "a number from 1E-18 to 1E+18"),
            ("minimum", "-1", "a number from 1E-18 to 1E+18"),
        )
    ),
    (
        "collateral.1.imfFunction",
        {"type": "open_interest", "base": "0.1", "lower": "5", "upper": "6"},
        "venue.collateral[1].imfFunction.type, value 'open_interest': must be 'sqrt', 'linear' or 'tiers' for an asset",
    ),
    (
        "collateral.1.imfFunction",
        {"type": "tiers", "brackets": [{"from": "0", "rate": "0.1"}]},
        "venue.collateral[1].mmfFunction: is required beside an imfFunction of another type than sqrt",
    ),
]
SPOT = {
    "symbol": "BTC_USDC", "baseSymbol": "BTC", "quoteSymbol": "USDC", "marketType": "SPOT",
    "filters": {"price": {"tickSize": "0.1"}, "quantity": {"stepSize": "0.0001"}},
}  # fmt: skip
MARKETS = small_run.venue_source()["markets"]
BANDS = [
    *(
        (f"{M}.{PRICE}.{name}", value, f"venue.{M}.{PRICE}.{name}, value '{value}': {rule}")
        for name, value, rule in (
            ("minImpactMultiplier", "1.01", "must be less than maxImpactMultiplier"),
            ("maxImpactMultiplier", "-1", "must be a number from 1E-18 to 1E+18"),
            ("minMultiplier", "0", "must be a number from 1E-18 to 1E+18"),
            ("minPriceUpdateMultiplier", "1.1", "must be at most 1"),
            ("minPriceUpdateMultiplier", "0", "must be a number from 1E-18 to 1E+18"),
            ("maxPriceUpdateMultiplier", "0.9", "must be at least 1"),
        )
    ),
    (
        f"{M}.{PRICE}.meanMarkPriceBand",
        {"minMultiplier": "1.5", "maxMultiplier": "1.1"},
        f"venue.{M}.{PRICE}.meanMarkPriceBand.minMultiplier, value '1.5': must be less than maxMultiplier",
    ),
    (
        f"{M}.{PRICE}.meanPremiumBand",
        {"tolerancePct": "-0.1"},
        f"venue.{M}.{PRICE}.meanPremiumBand.tolerancePct, value '-0.1': must be a number from 1E-18 to 1E+18",
    ),
    (
        f"{M}.{PRICE}.meanPremiumBand",
        {"tolerancePct": "much"},
        f"venue: Invalid decimal string - at `$.{M}.{PRICE}.meanPremiumBand.tolerancePct`",
    ),
]
SPOTS = [
    (
        "markets",
        [*MARKETS, SPOT | {"filters": {"price": {"tickSize": "0.1"}}}],
        "venue: Object missing required field `quantity` - at `$.markets[3].filters`",
    ),
    (
        "markets",
        [SPOT | {"symbol": BTC}, *MARKETS],
        f"venue.markets[1].symbol, value '{BTC}': must not appear twice",
    ),
    (
        "markets",
        [*MARKETS, SPOT | {"filters": SPOT["filters"] | {"quantity": {"stepSize": "0.000000015"}}}],
        "venue.markets[3].filters.quantity.stepSize, value '1.5E-8': "
        "must be a whole number of the asset's quanta, less than 2**62",
    ),
]
POLICY = [
    (f"policy.{name}", value, f"venue.policy.{name}, value '{value}': must be {rule}")
    for name, value, rule in (
        ("slice_probability", 0, "> 0 and <= 1"),
        ("slice_cooldown", 0, "> 0"),
        ("target_mmr", "1.1", "> 0 and <= 1"),
        ("depth_share", 0, "> 0 and <= 1"),
        ("slippage_limit", 0, "> 0 and < 10000"),
        ("slippage_limit", 10_000, "> 0 and < 10000"),
        ("market_cap", -1, "from 0 to 10**12"),
        ("account_cap", "many", "a decimal or a fraction"),
        ("account_cap_interval", 0, "from 1 to 86400 seconds"),
        ("account_order", "size", "'mmr', 'pro_rata' or 'random'"),
        ("position_order", "random", "'relief', 'largest' or 'pro_rata'"),
        ("harmful_slice", "keep", "'waive', 'send' or 'backstop'"),
        ("waived_fee_share", "3/2", ">= 0 and <= 1"),
        ("conversion_slippage", 2, ">= 0 and <= 1"),
        ("conversion_limit", -1, "from 0 to 10**12"),
        ("mark_index_threshold", 1, ">= 0 and < 1"),
        ("stale_after", "1/3000000000", "a ratio of whole numbers below 10**9"),
        ("refill_half_life", 0, "> 0"),
        ("largest_gap", 0, "> 0"),
    )
]
POOLS = [
    (
        "borrow_lend",
        [{"symbol": "DOGE"}],
        "venue.borrow_lend[0].symbol, value 'DOGE': must be a collateral asset of the venue",
    ),
    ("borrow_lend", [{"symbol": "USDC"}] * 2, "venue.borrow_lend[1].symbol, value 'USDC': must not appear twice"),
    *(
        ("borrow_lend", [{"symbol": "USDC", name: value}], f"venue.borrow_lend[0].{name}, value '{value}': {rule}")
        for name, value, rule in (
            ("state", "Ajar", "must be 'Open', 'Closed' or 'RepayOnly'"),
            ("lentQuantity", -1, "must be a number from 1E-18 to 1E+18"),
            ("borrowedQuantity", "1E+13", "must be less than 2**62 quanta"),
            ("fee", "1.1", "must be from 0 to 1"),
            ("optimalUtilization", 0, "must be more than 0 and at most 1"),
            ("maxUtilization", 0, "must be more than 0 and at most 1"),
        )
    ),
]
VENUES = [
    # where, what it becomes (None: left out), what is said
    ("settle_asset", None, "venue: Object missing required field `settle_asset`"),
    ("settle_asset", 7, "venue: Expected `str`, got `int` - at `$.settle_asset`"),
    ("markets", [], "venue.markets: must hold at least one market of marketType PERP, IPERP, DATED, IDATED, OPTION"),
    ("markets.0.marketType", None, "venue: Object missing required field `marketType` - at `$.markets[0]`"),
    ("markets.1.symbol", BTC, "venue.markets[1].symbol, value 'BTC_USDC_PERP': must not appear twice"),
    ("markets.0.mmfFunction", None, "venue.markets[0].mmfFunction: a PERP market needs it"),
    ("markets.0.imfFunction.type", "cubic", "venue: Invalid value 'cubic' - at `$.markets[0].imfFunction.type`"),
    *FUNCTIONS,
    ("markets.0.fundingInterval", 0, f"venue.{M}.fundingInterval, value '0': must be from 1 millisecond to a year"),
    ("markets.0.fundingInterval", "8h", f"venue: Expected `int | null`, got `str` - at `$.{M}.fundingInterval`"),
    (
        "markets.0.fundingRateLowerBound",
        "20000",
        f"venue.{M}.fundingRateLowerBound, value '20000': must be from -10000 to 10000 basis points",
    ),
    (
        "policy.realize_interval",
        0,
        "venue.policy.realize_interval, value '0': must be from 1 to 86400 seconds, or null",
    ),
    ("policy.borrow_rate_jump", 101, "venue.policy.borrow_rate_jump, value '101': must be >= 0 and <= 100"),
    *POOLS,
    *((place.replace("[0]", ".0"), value, line) for place, value, line in BANDS),
    *SPOTS,
    *POLICY,
    (
        f"markets.0.{PRICE}.tickSize",
        "many",
        f"venue: Invalid decimal string - at `$.markets[0].{PRICE}.tickSize`",
    ),
    *(
        (f"markets.0.{name}", value, f"venue.markets[0].{name}, value '{value}': must be a number from 1E-18 to 1E+18")
        for name in (f"{PRICE}.tickSize", f"{PRICE}.maxPrice", "filters.quantity.stepSize", "mmfFunction.base")
        for value in (0, -1)
    ),
    ("collateral.1.symbol", "USDC", "venue.collateral[1].symbol, value 'USDC': must not appear twice"),
    (
        "collateral.1.haircutFunction.weight",
        2,
        "venue.collateral[1].haircutFunction.weight, value '2': must be from 0 to 1",
    ),
    (
        f"collateral.1.{KIND}.base",
        None,
        f"venue.collateral[1].{KIND}, value 'inverseSqrt': needs base and positiveCurvePenalty",
    ),
    ("policy.slice", 1, "venue: Object contains unknown field `slice` - at `$.policy`"),
    ("policy.fund", "1/0", "venue.policy.fund, value '1/0': must be a decimal or a fraction"),
    ("policy.fund", -1, "venue.policy.fund, value '-1': must be from 0 to 10**12"),
    ("policy.acmf_divisor", "0.5", "venue.policy.acmf_divisor, value '0.5': must be >= 1"),
    ("policy.slice_fraction", 0, "venue.policy.slice_fraction, value '0': must be > 0 and <= 1"),
    ("policy.slices_per_tick", 0, "venue.policy.slices_per_tick, value '0': must be from 1 to 3600"),
    ("policy.liquidation_fee", "3/2", "venue.policy.liquidation_fee, value '3/2': must be >= 0 and <= 99/100"),
    (
        "policy.haircut_size_unit",
        "lots",
        "venue.policy.haircut_size_unit, value 'lots': must be 'notional' or 'quantity'",
    ),
    ("backstop.0.account", 5, "venue.backstop[0].account, value '5': must have a row in balances or positions"),
    ("backstop.0.capacity", 5, "venue: Object contains unknown field `capacity` - at `$.backstop[0]`"),
    ("backstop.0.markets", ["DOGE"], "venue.backstop[0].markets, value 'DOGE': must be a market of the venue"),
    (
        "markets.0.filters.quantity.minQuantity",
        "NaN",
        "venue.markets[0].filters.quantity.minQuantity, value 'NaN': must be a number from 1E-18 to 1E+18",
    ),
    (
        "markets.0.filters.price.tickSize",
        "1e300",
        "venue.markets[0].filters.price.tickSize, value '1E+300': must be a number from 1E-18 to 1E+18",
    ),
    ("policy.fund", 1e300, "venue.policy.fund, value '1e+300': must be from 0 to 10**12"),
    ("backstop.0.max_notional", -1, "venue.backstop[0].max_notional, value '-1': must be from 0 to 10**12"),
]


@pytest.mark.parametrize(("place", "value", "line"), VENUES, ids=[f"{place} {line}" for place, _, line in VENUES])
def test_venues_are_refused(place, value, line, folder):
    source = small_run.venue_source()
    *path, last = (int(step) if step.isdigit() else step for step in place.split("."))
    inner = source
    for step in path:
        inner = inner[step]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    files = small_run.write(folder, source, small_run.tables())
    assert refusal_of("sweep", files, folder) == line
    assert refusal_of("replay", files, folder) == line


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (lambda path: path.write_text("{"), "is not JSON: Expecting property name enclosed in double quotes: line 1 "),
        (lambda path: path.write_bytes(b"\xff"), "is not JSON: 'utf-8' codec can't decode byte 0xff"),
        (lambda path: path.unlink(), "cannot be read: No such file or directory"),
    ],
)
def test_what_is_no_venue_file_is_refused(spoil, line, folder):
    files = small_run.write(folder, small_run.venue_source(), small_run.tables())
    spoil(files["venue"])
    assert refusal_of("sweep", files, folder).startswith(f"venue, value '{files['venue']}': {line}")
