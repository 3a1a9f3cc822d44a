"""A plain loop over bars of pandas with the liquidation of an account inside. docs/hosts/pandas.md is the page.

==========================  ==========================================================================================
the loop                    riskcore
==========================  ==========================================================================================
a row of ``close``          tick: marks, and a book of one level on each side
a change of ``targets``     `Account.fill` at the price of the book, with the venue's check of the initial margin
cash and positions          the loop keeps its own; fills, funding, interest and what others pay of a shortfall are
                            carried over from the events of each step
==========================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..boundary import RiskDataError
from ..engine import Engine, StepResult
from ..market import Tick
from ..state import Accounts
from ..venue import Venue

__all__ = ["Backtest", "backtest"]

ACCOUNT = "host"
"""Id of the account."""
_FILLS = ("time", "market", "quantity", "price", "fee", "liquidation")
_REFUSED = ("time", "market", "quantity", "why")
_PAYMENTS = ("funding", "interest", "fund", "shortfall", "socialize")
"""Events that change the cash of a lone account beside its fills."""


@dataclass(frozen=True)
class Backtest:
    """What came of a backtest.

    Attributes
    ----------
    equity : Series of float64
        Cash and unrealised profit at the close of each bar, after its trades; settle units.
    mmr : Series of float64
        Maintenance margin ratio of the account at the same time; NaN without liquidation.
    fills : DataFrame
        time, market, quantity (signed), price, fee, liquidation (whether the venue sent it).
    refused : DataFrame
        Trades that the venue refused: time, market, quantity, why.
    engine : Engine or None
        The engine after the last bar, to save the run; None without liquidation.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.hosts.pandas_loop import backtest
    >>> close = pd.DataFrame({"SOL_USDC_PERP": [200.0, 190.0]}, pd.date_range("2026", periods=2, freq="min", tz="UTC"))
    >>> targets = pd.DataFrame({"SOL_USDC_PERP": [10.0]}, close.index[:1])
    >>> backtest(rc.load_venue("backpack"), close, targets, 500.0).equity.round(2).tolist()
    [499.9, 399.9]
    """

    equity: pd.Series[float]
    mmr: pd.Series[float]
    fills: pd.DataFrame
    refused: pd.DataFrame
    engine: Engine | None


@dataclass
class _Ledger:
    """Cash and positions of the loop itself."""

    cash: float
    positions: dict[str, float]
    fills: list[tuple[Any, ...]] = field(default_factory=list)

    def fill(
        self, time: pd.Timestamp, market: str, quantity: float, price: float, fee: float, *, by_venue: bool
    ) -> None:
        """Take over a fill."""
        self.cash -= quantity * price + fee
        self.positions[market] += quantity
        self.fills.append((time, market, quantity, price, fee, by_venue))

    def equity(self, marks: Mapping[str, float]) -> float:
        """Cash, and the positions at their marks."""
        return self.cash + sum(quantity * marks[market] for market, quantity in self.positions.items())


def backtest(
    venue: Venue,
    close: pd.DataFrame,
    targets: pd.DataFrame,
    cash: float,
    *,
    depth: Mapping[str, float] | None = None,
    half_spread: float = 0.0,
    fee_rate: float = 0.0,
    book: str = "engine",
    liquidation: bool = True,
) -> Backtest:
    """Hold target positions bar by bar, as far as the venue lets the account.

    Parameters
    ----------
    venue : Venue
        The rules. The account is alone: without providers and counterparties only the order book takes its positions.
    close : DataFrame
        Marks: a row for each bar, by time, and a column for each market; quote units.
    targets : DataFrame
        Position that the strategy wants to hold, units of the base, signed; rows and columns among those of ``close``.
        The loop trades at the close of a bar in which a target changes: missing is as before, 0 at first.
    cash : float
        Units of the venue's settle asset.
    depth : mapping of str to float, optional
        Quantity on each side of a market's book in every bar; without limit for the others.
    half_spread : float
        Half of the spread of the books, as a part of the mark; the ask is at least a tick above the bid.
    fee_rate : float
        Part of the value that a trade of the strategy costs.
    book : str
        "engine": the engine fills slices in its copy of the book, all rounds of the policy, and the loop takes the
        fills over. "host": the engine proposes a round of slices in each bar, the loop fills them at its own prices
        where these are no worse than the limit, and confirms.
    liquidation : bool
        False: the same trades without a venue: nothing is refused, and nobody liquidates.

    Returns
    -------
    Backtest
        Equity, fills and refused trades.

    Raises
    ------
    RiskDataError
        A market is unknown, inverse or of another settle asset, times do not ascend, or a value breaks a rule.

    Notes
    -----
    The rules: docs/one_tick.md, "Activity between ticks"; of ``book="host"``, "Host mode".

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.hosts.pandas_loop import backtest
    >>> time = pd.date_range("2026", periods=2, freq="min", tz="UTC")
    >>> close = pd.DataFrame({"SOL_USDC_PERP": [200.0, 192.0]}, time)
    >>> targets = pd.DataFrame({"SOL_USDC_PERP": [10.0]}, time[:1])
    >>> venue = rc.load_venue("backpack").replace(policy={"slice_probability": 1, "liquidation_interval": None})
    >>> backtest(venue, close, targets, 104.0).fills[["quantity", "price", "liquidation"]].to_numpy().tolist()
    [[10.0, 200.01, False], [-5.21, 192.0, True]]
    """
    markets = [str(market) for market in close.columns]
    _must_be_linear(venue, markets)
    wanted = targets.reindex(index=close.index, columns=close.columns).ffill().fillna(0.0)
    ledger, refused = _Ledger(float(cash), dict.fromkeys(markets, 0.0)), list[tuple[Any, ...]]()
    engine = Engine(_alone(venue, cash), venue, book=book) if liquidation else None
    equity, mmr, before = np.empty(len(close)), np.full(len(close), np.nan), dict.fromkeys(markets, 0.0)
    for bar, (time, row) in enumerate(zip(close.index, close.to_numpy(float).tolist(), strict=True)):
        marks = dict(zip(markets, row, strict=True))
        books = {
            market: _level(venue, market, marks[market], half_spread, (depth or {}).get(market)) for market in marks
        }
        if engine is not None:
            _take_over(engine, engine.step(Tick(time, marks, books)), ledger, time, books)
        target = {market: float(wanted[market].iloc[bar]) for market in markets}
        for market in markets:
            if target[market] == before[market]:
                continue
            quantity = target[market] - ledger.positions[market]
            price = books[market]["asks" if quantity > 0 else "bids"][0][0]
            fee = abs(quantity) * price * fee_rate
            try:
                if engine is not None and quantity:
                    engine.account(ACCOUNT).fill(market, quantity, price, fee)
            except RiskDataError as error:
                refused.append((time, market, quantity, error.rule))
            else:
                ledger.fill(time, market, quantity, price, fee, by_venue=False)
        before, equity[bar] = target, ledger.equity(marks)
        if engine is not None:
            mmr[bar] = engine.margin(ACCOUNT).mmr
    return Backtest(
        pd.Series(equity, close.index), pd.Series(mmr, close.index), pd.DataFrame(ledger.fills, columns=_FILLS),
        pd.DataFrame(refused, columns=_REFUSED), engine,
    )  # fmt: skip


def _must_be_linear(venue: Venue, markets: list[str]) -> None:
    for market in markets:
        row = venue.markets.row.get(market)
        if row is None:
            raise RiskDataError("close", None, "must have columns of markets of the venue", value=market)
        if venue.markets.inverse[row] or venue.assets.symbol[venue.markets.settle[row]] != venue.settle_asset:
            rule = f"must be linear and settle in {venue.settle_asset}: the loop has no other cash"
            raise RiskDataError("close", market, rule)


def _alone(venue: Venue, cash: float) -> Accounts:
    """The account at the start."""
    positions = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
    balances = pd.DataFrame({"account": [ACCOUNT], "asset": [venue.settle_asset], "quantity": [cash]})
    return Accounts.from_frames(venue, positions, balances)


def _level(venue: Venue, market: str, mark: float, half_spread: float, depth: float | None) -> dict[str, Any]:
    """A book with one level on each side, at the whole ticks next to the half spread; the ask is above the bid."""
    row = venue.markets.row[market]
    tick, step = float(venue.markets.tick_size[row]), float(venue.markets.step_size[row])
    size = step * 2**40 if depth is None else depth
    bid, ask = (round(mark * (1 + side * half_spread) / tick) for side in (-1, 1))
    levels = (round(ticks * tick, 12) for ticks in (bid, max(ask, bid + 1)))
    return dict(zip(("bids", "asks"), ([(price, size)] for price in levels), strict=True))


def _take_over(
    engine: Engine, result: StepResult, ledger: _Ledger, time: pd.Timestamp, books: Mapping[str, dict[str, Any]]
) -> None:
    """Carry over what a step did to the account, and fill the slices that it proposes."""
    for fill in result.fills.to_dict("records"):
        quantity = fill["quantity"] if fill["side"] == "buy" else -fill["quantity"]
        ledger.fill(time, fill["market"], quantity, fill["price"], fill["fee"], by_venue=True)
    events = result.events
    paid = events[events["event"].isin(_PAYMENTS)]
    ledger.cash += float(np.nansum(paid[["cash_amount", "unsettled_amount"]]))
    ledger.cash += float(np.nansum(paid.loc[paid["event"] == "interest", "amount"]))
    for piece in result.slices.to_dict("records"):
        market, quantity, limit = piece["market"], piece["quantity"], piece["limit_price"]
        price = books[market]["asks" if quantity > 0 else "bids"][0][0]
        if (price - limit) * quantity > 0:
            continue
        done = engine.apply(
            {"action": "confirm", "account": ACCOUNT, "market": market} | {"quantity": quantity, "price": price}
        )
        ledger.fill(time, market, quantity, price, float(done.fills["fee"].iloc[0]), by_venue=True)
