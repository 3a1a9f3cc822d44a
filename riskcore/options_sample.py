"""A generated venue of perpetuals, futures and options, its accounts, and a tick. Nothing here is market data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._typing import Float, Int
from .boundary import RiskDataError, counted
from .io import write_table
from .market import Tick
from .state import Accounts
from .venue import Venue, load_venue

TIME = pd.Timestamp("2026-01-02 08:00", tz="UTC")

# underlying, index, volatility at the money, tickSize, stepSize of linear markets and of options, distance of strikes
_UNDERLYINGS = (
    ("BTC", 60_000.0, 0.50, "0.1", "0.0001", "0.01", 1_000.0),
    ("ETH", 2_500.0, 0.65, "0.01", "0.001", "0.1", 50.0),
)
_DAYS = (7, 28, 84, 175)  # to the expiries; the last two have a future too
_FUTURES = (2, 3)
_STRIKES = (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4)  # of the index
_BASIS = 0.06  # a year: forwards above the index
_RATE = 0.04
_PERPETUAL, _FUTURE, _PUT, _CALL = range(4)

# legs: kind, expiry and strike relative to those that the account has drawn, ratio
_BOOKS: tuple[tuple[str, float, tuple[tuple[int, int, int, float], ...]], ...] = (
    ("perpetual", 0.26, ((_PERPETUAL, 0, 0, 1.0),)),
    ("perpetual against future", 0.10, ((_PERPETUAL, 0, 0, 1.0), (_FUTURE, 0, 0, -1.0))),
    ("long option", 0.10, ((_CALL, 0, 1, 1.0),)),
    ("short strangle", 0.10, ((_PUT, 0, -1, -1.0), (_CALL, 0, 1, -1.0))),
    ("covered call", 0.12, ((_PERPETUAL, 0, 0, 1.0), (_CALL, 0, 1, -1.0))),
    ("protective put", 0.10, ((_PERPETUAL, 0, 0, 1.0), (_PUT, 0, -1, 1.0))),
    ("vertical spread", 0.10, ((_PUT, 0, 0, 1.0), (_PUT, 0, -2, -1.0))),
    ("calendar spread", 0.06, ((_CALL, 0, 0, -1.0), (_CALL, 1, 0, 1.0))),
    ("ratio spread", 0.06, ((_PERPETUAL, 0, 0, 1.2), (_CALL, 0, 0, 1.0), (_CALL, 0, 2, -3.0))),
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class OptionsSample:
    """A generated venue with options as JSON, and tables of its accounts and of one tick, in natural units.

    Attributes
    ----------
    source : dict
        The venue, as `riskcore.load_venue` takes it.
    positions, balances, orders : DataFrame
        Columns as of `riskcore.Accounts.from_frames`.
    marks : DataFrame
        time, market, mark_price, index_price (settle units).
    volatilities : DataFrame
        time, market, volatility (a year) of options.
    terms : DataFrame
        time, underlying, expiry, forward (settle units), rate (a year).
    underlyings : DataFrame
        time, underlying, index (settle units).
    books : ndarray of object, shape (A,)
        What kind of book each account holds.

    Examples
    --------
    >>> from riskcore.sample import options_sample
    >>> options_sample(100)
    OptionsSample(100 accounts, 150 markets)
    """

    source: dict[str, Any]
    positions: pd.DataFrame
    balances: pd.DataFrame
    orders: pd.DataFrame
    marks: pd.DataFrame
    volatilities: pd.DataFrame
    terms: pd.DataFrame
    underlyings: pd.DataFrame
    books: npt.NDArray[Any]

    def __repr__(self) -> str:
        """One line: accounts and markets."""
        return f"OptionsSample({counted(len(self.books), 'account')}, {counted(len(self.marks), 'market')})"

    @cached_property
    def venue(self) -> Venue:
        """The venue.

        Examples
        --------
        >>> from riskcore.sample import options_sample
        >>> len(options_sample(10).venue.markets.symbol)
        150
        """
        return load_venue(self.source)

    @cached_property
    def accounts(self) -> Accounts:
        """The accounts.

        Examples
        --------
        >>> from riskcore.sample import options_sample
        >>> len(options_sample(10).accounts)
        10
        """
        return Accounts.from_frames(self.venue, self.positions, self.balances, self.orders)

    @cached_property
    def tick(self) -> Tick:
        """The tick.

        Examples
        --------
        >>> from riskcore.sample import options_sample
        >>> len(options_sample(10).tick.volatilities)
        144
        """
        marks, volatilities = self.marks.set_index("market"), self.volatilities.set_index("market")
        return Tick(
            TIME,
            marks["mark_price"],
            indexes=marks["index_price"],
            volatilities=volatilities["volatility"],
            terms=self.terms.drop(columns="time"),
            underlyings=self.underlyings.drop(columns="time"),
        )

    def write(self, folder: str | Path) -> dict[str, Path]:
        """Write the venue and the tables as the files that the commands read.

        Parameters
        ----------
        folder : str or Path
            A new or an empty folder.

        Returns
        -------
        dict
            The files by the names of their tables: venue.json, the others CSV.

        Raises
        ------
        RiskDataError
            The folder has files, or a file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from riskcore.sample import options_sample
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sorted(options_sample(10).write(folder))
        ['balances', 'marks', 'orders', 'positions', 'terms', 'underlyings', 'venue', 'volatilities']
        """
        names = "positions", "balances", "orders", "marks", "volatilities", "terms", "underlyings"
        return write_files(self.venue, {name: getattr(self, name) for name in names}, folder)

    @property
    def instruments(self) -> pd.DataFrame:
        """The markets as `riskcore.scenario.Instruments.from_frame` takes them.

        Examples
        --------
        >>> from riskcore.sample import options_sample
        >>> from riskcore.scenario import Instruments
        >>> len(Instruments.from_frame(options_sample(10).instruments))
        150
        """
        names = {"symbol": "market", "marketType": "kind"}
        markets = pd.DataFrame(self.source["markets"]).rename(columns=names)
        strike = pd.to_numeric(markets["strike"])
        return markets[["market", "kind", "underlying", "expiry", "right"]].assign(strike=strike)

    @property
    def sizes(self) -> pd.DataFrame:
        """The positions as `riskcore.scenario.Portfolios.from_frame` takes them.

        Examples
        --------
        >>> from riskcore.sample import options_sample
        >>> options_sample(10).sizes.columns.tolist()
        ['account', 'market', 'size']
        """
        return self.positions[["account", "market", "quantity"]].rename(columns={"quantity": "size"})


def write_files(venue: Venue, tables: Mapping[str, pd.DataFrame], folder: str | Path) -> dict[str, Path]:
    """Write a venue as venue.json, and tables as CSV files of their names.

    Parameters
    ----------
    venue : Venue
        The venue.
    tables : mapping of str to DataFrame
        Tables by name; one without rows gets no file.
    folder : str or Path
        A new or an empty folder.

    Returns
    -------
    dict
        The files by the names of their tables.

    Raises
    ------
    RiskDataError
        The folder has files, or a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.options_sample import write_files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     list(write_files(rc.load_venue("backpack"), {}, folder))
    ['venue']
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RiskDataError("inputs", None, "must be a new or an empty folder", value=str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    files = {"venue": folder / "venue.json"}
    venue.to_json(files["venue"])
    for name, frame in tables.items():
        if len(frame):
            files[name] = folder / f"{name}.csv"
            write_table(frame, files[name])
    return files


def options_sample(accounts: int = 1_000, seed: int = 0) -> OptionsSample:
    """Draw a venue of two underlyings, accounts, and one tick.

    Each underlying has a perpetual, two dated futures, and calls and puts of four expiries and nine strikes. Accounts
    are numbered from 1; each holds a book of one kind: a perpetual alone, a perpetual against a future or an option,
    options alone, or a spread. One account in twelve keeps half of its collateral in BTC, one in twenty has an order.

    Parameters
    ----------
    accounts : int
        Number of accounts A, at least 1.
    seed : int
        Seed of the draws, >= 0.

    Returns
    -------
    OptionsSample
        The venue, the accounts and the tick.

    Examples
    --------
    >>> from riskcore.sample import options_sample
    >>> options_sample(100).positions[["market", "quantity"]].values.tolist()[:2]
    [['BTC_USDC_PERP', 1.0988], ['BTC-27MAR26-57000-C', -1.1]]
    """
    rng = np.random.default_rng(seed)
    markets = _markets()
    book = rng.choice(len(_BOOKS), accounts, p=[share for _, share, _ in _BOOKS])
    underlying = rng.choice(len(_UNDERLYINGS), accounts, p=[0.65, 0.35])
    expiry, strike = rng.integers(0, 3, accounts), rng.integers(2, len(_STRIKES) - 2, accounts)
    notional = np.minimum(rng.lognormal(np.log(30_000.0), 1.4, accounts), 5e6)
    side = np.where(rng.random(accounts) < 0.6, 1.0, -1.0)
    legs = []
    for number, (_, _, parts) in enumerate(_BOOKS):
        who = np.flatnonzero(book == number)
        for kind, later, higher, ratio in parts:
            row = _rows(underlying[who], kind, expiry[who] + later, strike[who] + higher)
            step = markets["step"].to_numpy()[row]
            quantity = np.maximum(np.rint(abs(ratio) * notional[who] / markets["index"].to_numpy()[row] / step), 1)
            legs.append(np.stack([who, row, np.sign(ratio) * side[who] * quantity * step]))
    account, row, quantity = np.concatenate(legs, axis=1)
    order = np.lexsort((row, account))
    account, row, quantity = account[order].astype(np.int64), row[order].astype(np.int64), quantity[order]
    tick, value = markets["tick"].to_numpy()[row], markets["value"].to_numpy()[row]
    entry = np.maximum(np.rint(value * (1 + rng.normal(0, 0.01, len(row))) / tick), 1) * tick
    positions = pd.DataFrame(
        {
            "account": account + 1,
            "market": markets["market"].to_numpy()[row],
            "quantity": np.round(quantity, 10),
            "entry_price": np.round(entry, 10),
        }
    )
    equity = _risk(accounts, account, quantity, markets.iloc[row]) * rng.lognormal(np.log(2.0), 0.6, accounts)
    is_option = (markets["marketType"] == "OPTION").to_numpy()[row]
    worth = np.bincount(account, quantity * (value - np.where(is_option, 0.0, entry)), accounts)
    cash = np.maximum(equity - worth, 0.02 * notional)
    in_coin = np.flatnonzero(rng.random(accounts) < 1 / 12)
    coins = np.round(cash[in_coin] / 2 / _UNDERLYINGS[0][1], 6)
    cash[in_coin] /= 2
    balances = pd.DataFrame(
        {
            "account": np.concatenate([np.arange(accounts), in_coin]) + 1,
            "asset": np.repeat(["USDC", "BTC"], [accounts, len(in_coin)]).astype(object),
            "quantity": np.concatenate([np.round(cash, 6), coins]),
        }
    )
    orders = _orders(positions, markets, rng)
    marks, volatilities, terms, underlyings = _tick_tables(markets)
    books = np.array([name for name, *_ in _BOOKS], object)[book]
    return OptionsSample(_source(markets), positions, balances, orders, marks, volatilities, terms, underlyings, books)


def _per_underlying() -> int:
    """Markets of an underlying: a perpetual, the futures, options by expiry, strike, put before call."""
    return 1 + len(_FUTURES) + 2 * len(_DAYS) * len(_STRIKES)


def _rows(underlying: Int, kind: int, expiry: Int, strike: Int) -> Int:
    """Row of the market of each leg; of a future the next expiry that has one."""
    first = underlying * _per_underlying()
    if kind == _PERPETUAL:
        return first
    if kind == _FUTURE:
        return first + 1 + np.maximum(expiry - _FUTURES[0], 0)
    return first + 1 + len(_FUTURES) + 2 * (expiry * len(_STRIKES) + strike) + (kind == _CALL)


def _markets() -> pd.DataFrame:
    """Markets with the figures that the tables take from them; a premium is the price of Black-76."""
    rows: list[dict[str, Any]] = []
    for base, index, level, tick, step, option_step, distance in _UNDERLYINGS:
        common = {"base": base, "index": index, "tickSize": tick, "tick": float(tick)}
        linear = common | {"stepSize": step, "step": float(step), "delta": 1.0}
        rows.append(linear | {"market": f"{base}_USDC_PERP", "marketType": "PERP", "value": index})
        rows += [
            linear | _expiring(base, days) | {"marketType": "DATED", "value": _forward(index, days, float(tick))}
            for days in [_DAYS[number] for number in _FUTURES]
        ]
        for days in _DAYS:
            forward, years = _forward(index, days, float(tick)), days / 365
            for strike in np.rint(index * np.array(_STRIKES) / distance) * distance:
                deviation = np.log(strike / forward) / np.sqrt(years)
                volatility = round(level * float(1 + 0.12 * years**0.5 - 0.06 * deviation + 0.09 * deviation**2), 4)
                for right in "PC":
                    value, delta = _black(forward, float(strike), volatility, years, right)
                    value = round(max(round(value / float(tick)), 1) * float(tick), 10)
                    name = _expiring(base, days, f"-{strike:.0f}-{right}")
                    rows.append(
                        common | name
                        | {
                            "marketType": "OPTION", "strike": f"{strike:.0f}", "right": right, "value": value,
                            "delta": delta, "volatility": volatility, "stepSize": option_step,
                            "step": float(option_step),
                        }
                    )  # fmt: skip
    return pd.DataFrame(rows)


def _expiring(base: str, days: int, suffix: str = "") -> dict[str, Any]:
    expiry = TIME + pd.Timedelta(days=days)
    return {"market": f"{base}-{expiry:%d%b%y}{suffix}".upper(), "expiry": f"{expiry:%Y-%m-%dT%H:%MZ}", "days": days}


def _forward(index: float, days: int, tick: float) -> float:
    return round(round(index * (1 + _BASIS * days / 365) / tick) * tick, 10)


def _black(forward: float, strike: float, volatility: float, years: float, right: str) -> tuple[float, float]:
    """Price of Black-76 and its delta."""
    discount, deviation, normal = float(np.exp(-_RATE * years)), volatility * years**0.5, NormalDist()
    first = float(np.log(forward / strike)) / deviation + deviation / 2
    in_forward, in_strike = normal.cdf(first), normal.cdf(first - deviation)
    call = discount * (forward * in_forward - strike * in_strike)
    is_put = right == "P"
    return call - is_put * discount * (forward - strike), discount * (in_forward - is_put)


def _risk(accounts: int, account: Int, quantity: Float, held: pd.DataFrame) -> Float:
    """A guess at what the worst scenario takes from each account: net delta, short options and premiums paid."""
    index, value, is_option = (held["index"].to_numpy(), held["value"].to_numpy(), held["right"].notna().to_numpy())
    delta = np.bincount(account, quantity * held["delta"].to_numpy() * index, accounts)
    short = np.bincount(account, np.maximum(-quantity, 0) * is_option * index, accounts)
    paid = np.bincount(account, np.maximum(quantity, 0) * is_option * value, accounts)
    gross = np.bincount(account, abs(quantity) * index, accounts)
    risk: Float = 0.16 * abs(delta) + 0.08 * short + 0.6 * paid + 0.03 * gross
    return risk


def _orders(positions: pd.DataFrame, markets: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Orders that add to a position in a perpetual, away from its mark."""
    perpetual = positions[positions["market"].str.endswith("_PERP")]
    working = perpetual[rng.random(len(perpetual)) < 0.1]
    of = markets.set_index("market").loc[working["market"]]
    side = np.sign(working["quantity"].to_numpy())
    tick, step = of["tick"].to_numpy(), of["step"].to_numpy()
    lots = np.maximum(np.rint(abs(working["quantity"].to_numpy()) / 4 / step), 1)
    return pd.DataFrame(
        {
            "account": working["account"].to_numpy(),
            "market": working["market"].to_numpy(),
            "side": np.where(side > 0, "bid", "ask"),
            "price": np.round(np.rint(of["value"].to_numpy() * (1 - 0.03 * side) / tick) * tick, 10),
            "quantity": np.round(lots * step, 10),
            "reduce_only": False,
        }
    )


def _tick_tables(markets: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """Marks, volatilities, terms and underlyings of the tick."""
    is_option = markets["marketType"] == "OPTION"
    names = {"value": "mark_price", "index": "index_price"}
    forwards = [
        (base, TIME + pd.Timedelta(days=days), _forward(index, days, float(tick)), _RATE)
        for base, index, _, tick, *_ in _UNDERLYINGS
        for days in _DAYS
    ]
    tables = (
        markets[["market", *names]].rename(columns=names),
        markets.loc[is_option, ["market", "volatility"]],
        pd.DataFrame(forwards, columns=["underlying", "expiry", "forward", "rate"]),
        pd.DataFrame([row[:2] for row in _UNDERLYINGS], columns=["underlying", "index"]),
    )
    return tuple(
        pd.concat([pd.Series(TIME, table.index, name="time"), table], axis=1).reset_index(drop=True) for table in tables
    )


def _source(markets: pd.DataFrame) -> dict[str, Any]:
    listed = []
    for row in markets.to_dict("records"):
        market = {
            "symbol": row["market"], "baseSymbol": row["base"], "quoteSymbol": "USDC", "marketType": row["marketType"],
            "underlying": row["base"],
            "filters": {
                "price": {"tickSize": row["tickSize"], "maxPrice": "1000000"},
                "quantity": {"stepSize": row["stepSize"], "minQuantity": row["stepSize"]},
            },
        }  # fmt: skip
        listed.append(
            market | {name: row[name] for name in ("expiry", "strike", "right") if isinstance(row[name], str)}
        )
    return {
        "settle_asset": "USDC",
        "markets": listed,
        "collateral": [
            {"symbol": "USDC", "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}},
            {
                "symbol": "BTC", "quantum": "0.00000001",
                "haircutFunction": {"weight": "0.95", "kind": {"type": "identity"}},
            },
        ],
        "policy": {"margin_model": "scenario"},
        "scenario_model": "derive",
    }  # fmt: skip
