"""One account of an engine: its margin, holdings and orders as they are now, and its actions."""

from __future__ import annotations

from datetime import datetime
from math import inf
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..boundary import RiskDataError, as_text, natural
from ..kernels import activity as kernels
from ..kernels.margin import BELOW_AUTO_CLOSE, DOUBT, LIQUIDATING, SAFE
from ..margin import folded, model_of
from ..market import Prices
from ..state import Accounts, average_prices
from ..venue import Venue
from .read import entry_price
from .result import ActivityResult

STATUS = {SAFE: "safe", LIQUIDATING: "liquidating", BELOW_AUTO_CLOSE: "below auto-close"}
"""Text of each status of an account."""

Time = str | int | datetime | np.datetime64 | None


class Margin(NamedTuple):
    """Margin of one account at the prices of the last tick, settle units.

    Attributes
    ----------
    equity, exposure, initial_margin, maintenance_margin : float
        Net equity, exposure, and the margins that are required.
    imr, mmr : float
        Initial and maintenance margin over net equity; 0 without exposure, +inf with exposure and no equity above 0.
    status : str
        "safe", "liquidating" or "below auto-close".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> engine = rc.Engine(accounts, venue)
    >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}))
    >>> margin = engine.margin(1)
    >>> margin.equity, margin.status
    (30.0, 'safe')
    """

    equity: float
    exposure: float
    initial_margin: float
    maintenance_margin: float
    imr: float
    mmr: float
    status: str


class Fill(NamedTuple):
    """What a fill of an account did.

    Attributes
    ----------
    realized_pnl : float
        Against the entry price, without the fee; units of the market's settle asset.
    entry_price : float
        Of the position after it, NaN without one.
    quantity : float
        Of the position after it, signed.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> rc.Engine(accounts, venue).account(1).fill("SOL_USDC_PERP", -2.0, 203.0, check="off")
    Fill(realized_pnl=6.0, entry_price=200.0, quantity=8.0)
    """

    realized_pnl: float
    entry_price: float
    quantity: float


class Position(NamedTuple):
    """A position of an account.

    Attributes
    ----------
    quantity : float
        Signed.
    entry_price, mark_price : float
        Quote units; the mark is that of the last tick, NaN before one.
    unrealized_pnl : float
        Value at the mark less what the position cost, units of the market's settle asset.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> engine = rc.Engine(accounts, venue)
    >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}))
    >>> engine.account(1).positions["SOL_USDC_PERP"]
    Position(quantity=10.0, entry_price=200.0, mark_price=195.0, unrealized_pnl=-50.0)
    """

    quantity: float
    entry_price: float
    mark_price: float
    unrealized_pnl: float


class Balance(NamedTuple):
    """A balance of an account.

    Attributes
    ----------
    quantity : float
        Free; negative is borrowed.
    lent : float
        Lent, which counts as collateral.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> rc.Engine(accounts, venue).account(1).balances
    {'USDC': Balance(quantity=80.0, lent=0.0)}
    """

    quantity: float
    lent: float


class Order(NamedTuple):
    """An open order of an account.

    Attributes
    ----------
    market, side : str
        Symbol, and "bid" or "ask".
    price, quantity : float
        Limit price, and what is still open.
    reduce_only : bool
        Whether it can only reduce a position.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> account = rc.Engine(accounts, venue).account(2)
    >>> order = account.place("SOL_USDC_PERP", "bid", 1.0, 190.0, check="off")
    >>> account.orders[order]
    Order(market='SOL_USDC_PERP', side='bid', price=190.0, quantity=1.0, reduce_only=False)
    """

    market: str
    side: str
    price: float
    quantity: float
    reduce_only: bool


class Host(Protocol):
    """What an account asks of its engine."""

    @property
    def accounts(self) -> Accounts:
        """The state."""

    @property
    def venue(self) -> Venue:
        """The rules."""

    @property
    def prices(self) -> Prices | None:
        """Prices of the last tick."""

    def margin(self, account: int | str) -> Margin:
        """Margin of an account."""

    @property
    def quick_fills(self) -> Quick:
        """The way of single fills."""

    def apply(self, activity: Any, *, check: str = "on") -> ActivityResult:
        """Carry out activity."""


class Quick(Protocol):
    """Single fills without the table."""

    def fill(self, row: int, symbol: str, quantity: float, price: float, fee: float, is_checked: bool) -> Fill | None:
        """Carry out a fill of an account row; None where the table has to decide."""


class Account:
    """One account of an engine: what it has now, and what it does between two ticks.

    Every property is read from the engine when it is asked for; every method is a row of `Engine.apply`.

    Parameters
    ----------
    engine : Engine
        The engine.
    id : int or str
        Id of the account.

    Notes
    -----
    The methods take ``check`` ("on", or "off": the venue checks nothing, as the host has decided already) and ``time``
    (by default that of the last tick or action). They raise a `RiskDataError` if the action is refused, which then has
    changed nothing. The rules: docs/one_tick.md, "Activity between ticks".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> engine = rc.Engine(accounts, venue)
    >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}))
    >>> ann = engine.open(9)
    >>> ann.deposit("USDC", 100.0)
    >>> ann.fill("SOL_USDC_PERP", 5.0, 195.0, fee=0.5)
    Fill(realized_pnl=0.0, entry_price=195.0, quantity=5.0)
    >>> ann
    Account(9: equity 99.50 USDC, IMR 19.6 %, MMR 13.2 %, safe)
    >>> ann.withdraw("USDC", 90.0)
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: activity.quantity, row 0, value 90.0: must leave the account an initial...
    """

    __slots__ = ("_engine", "_id", "_row")

    def __init__(self, engine: Host, id: int | str) -> None:
        self._engine, self._id, self._row = engine, id, engine.accounts.row_of(id)

    @property
    def id(self) -> int | str:
        """Id of the account."""
        return self._id

    @property
    def owner(self) -> int | str:
        """Id of its owner."""
        owner: int | str = self._engine.accounts.owners[self._row]
        return owner

    def __repr__(self) -> str:
        """One line: equity, ratios and status."""
        equity, *_, imr, mmr, status = self._engine.margin(self._id)
        asset = self._engine.venue.settle_asset
        return f"Account({self._id}: equity {equity:,.2f} {asset}, IMR {imr:.1%}, MMR {mmr:.1%}, {status})".replace(
            "%", " %"
        )

    @property
    def margin(self) -> Margin:
        """Margin at the prices of the last tick."""
        return self._engine.margin(self._id)

    @property
    def equity(self) -> float:
        """Net equity, settle units."""
        return self.margin.equity

    @property
    def exposure(self) -> float:
        """Exposure, settle units."""
        return self.margin.exposure

    @property
    def initial_margin(self) -> float:
        """Initial margin that is required, settle units."""
        return self.margin.initial_margin

    @property
    def maintenance_margin(self) -> float:
        """Maintenance margin that is required, settle units."""
        return self.margin.maintenance_margin

    @property
    def imr(self) -> float:
        """Initial margin ratio."""
        return self.margin.imr

    @property
    def mmr(self) -> float:
        """Maintenance margin ratio; the account is liquidated at 1 or more."""
        return self.margin.mmr

    @property
    def status(self) -> str:
        """``safe``, ``liquidating`` or ``below auto-close``."""
        return self.margin.status

    @property
    def leverage_limit(self) -> float | None:
        """Largest exposure over net equity that it allows itself; None: no limit."""
        limit = float(self._engine.accounts.leverage_limit[self._row])
        return None if np.isinf(limit) else limit

    @property
    def positions(self) -> dict[str, Position]:
        """Positions by market."""
        accounts, venue, prices = self._engine.accounts, self._engine.venue, self._engine.prices
        columns = accounts.columns
        rows = np.array([row for row in accounts.positions_of(self._row) if columns.lots[row]], np.int64)
        market, lots, entry = columns.market[rows].astype(np.int64), columns.lots[rows], columns.entry[rows]
        mark = np.full(len(rows), np.nan) if prices is None else prices.mark[market]
        quantum = venue.assets.quantum_size[venue.markets.settle[market]]
        profit = lots * venue.markets.lot_values(mark, market) - entry * quantum
        entry_price = average_prices(venue.units, entry, lots, market)
        columns_of = venue.markets.quantity(lots, market), entry_price, mark, profit
        symbols = [venue.markets.symbol[m] for m in market.tolist()]
        values = zip(*(column.tolist() for column in columns_of), strict=True)
        return {symbol: Position(*value) for symbol, value in zip(symbols, values, strict=True)}

    @property
    def balances(self) -> dict[str, Balance]:
        """Balances by asset."""
        accounts, venue = self._engine.accounts, self._engine.venue
        columns, assets = accounts.columns, venue.assets
        rows = np.array([*accounts.balances_of(self._row)], np.int64)
        rows = rows[(columns.free[rows] != 0) | (columns.lent[rows] != 0)]
        asset = columns.asset[rows].astype(np.int64)
        free, lent = (natural(column[rows], assets.quantum, asset) for column in (columns.free, columns.lent))
        values = zip(free.tolist(), lent.tolist(), strict=True)
        return {assets.symbol[k]: Balance(*value) for k, value in zip(asset.tolist(), values, strict=True)}

    @property
    def orders(self) -> dict[str, Order]:
        """Open orders by id."""
        accounts, markets = self._engine.accounts, self._engine.venue.markets
        orders = accounts.orders
        number = np.sort(orders.open_of(self._row))
        market = orders.market[number]
        price = natural(orders.price[number], markets.tick, market)
        columns = price, markets.quantity(orders.lots[number], market), orders.reduce_only[number]
        values = zip(*(column.tolist() for column in columns), strict=True)
        return {
            orders.id_of(n): Order(markets.symbol[m], "bid" if side > 0 else "ask", *value)
            for n, m, side, value in zip(
                number.tolist(), market.tolist(), orders.side[number].tolist(), values, strict=True
            )
        }

    def _act(self, action: str, check: str, time: Time, **values: Any) -> ActivityResult:
        return self._engine.apply({"action": action, "account": self._id, "time": time, **values}, check=check)

    def fill(
        self,
        market: str,
        quantity: float,
        price: float,
        fee: float = 0.0,
        order: str | int | None = None,
        *,
        check: str = "on",
        time: Time = None,
    ) -> Fill:
        """Trade with the market.

        Parameters
        ----------
        market : str
            Symbol.
        quantity : float
            Bought, or, negative, sold; whole lots.
        price : float
            Quote units.
        fee : float
            Paid, or, negative, received; units of the market's settle asset.
        order : str or int, optional
            Id of the order that is filled.
        check, time
            As of the class.

        Returns
        -------
        Fill
            Realised profit and loss, and the position after it.

        Raises
        ------
        RiskDataError
            The fill is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Engine(accounts, venue).account(2).fill("SOL_USDC_PERP", 6.0, 200.0, check="off")
        Fill(realized_pnl=0.0, entry_price=200.0, quantity=1.0)
        """
        if order is None and time is None and check in ("on", "off"):
            done = self._engine.quick_fills.fill(self._row, market, quantity, price, fee, check == "on")
            if done is not None:
                return done
        return self._filled(
            self._act("fill", check, time, market=market, quantity=quantity, price=price, fee=fee, order=order)
        )

    def place(
        self,
        market: str,
        side: str,
        quantity: float,
        price: float,
        reduce_only: bool = False,
        order: str | int | None = None,
        *,
        check: str = "on",
        time: Time = None,
    ) -> str:
        """Place a limit order.

        Parameters
        ----------
        market : str
            Symbol.
        side : str
            "bid" or "ask".
        quantity, price : float
            Whole lots, and whole ticks.
        reduce_only : bool
            Whether it can only reduce a position.
        order : str or int, optional
            Id of the order; by default its number.
        check, time
            As of the class.

        Returns
        -------
        str
            Id of the order.

        Raises
        ------
        RiskDataError
            The order is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Engine(accounts, venue).account(2).place("SOL_USDC_PERP", "bid", 1.0, 190.0, order="dip", check="off")
        'dip'
        """
        done = self._act(
            "place", check, time, market=market, side=side, quantity=quantity, price=price,
            reduce_only=bool(reduce_only), order=order,
        ).done  # fmt: skip
        return self._engine.accounts.orders.id_of(int(done.actions.matrix[0, kernels.ORDER]))

    def change(
        self,
        order: str | int,
        quantity: float | None = None,
        price: float | None = None,
        *,
        check: str = "on",
        time: Time = None,
    ) -> None:
        """Change what is open of an order, its limit price, or both.

        Parameters
        ----------
        order : str or int
            Id of the order.
        quantity, price : float, optional
            New open quantity and limit price; one of them at least.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The change is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(2)
        >>> order = account.place("SOL_USDC_PERP", "bid", 1.0, 190.0, check="off")
        >>> account.change(order, quantity=2.0, check="off")
        >>> account.orders[order].quantity
        2.0
        """
        self._act("change", check, time, order=order, quantity=quantity, price=price)

    def cancel(self, order: str | int, *, check: str = "on", time: Time = None) -> None:
        """Cancel an order.

        Parameters
        ----------
        order : str or int
            Id of the order.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The account has no such open order.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(2)
        >>> account.cancel(account.place("SOL_USDC_PERP", "bid", 1.0, 190.0, check="off"))
        >>> account.orders
        {}
        """
        self._act("cancel", check, time, order=order)

    def deposit(self, asset: str, quantity: float, *, check: str = "on", time: Time = None) -> None:
        """Pay an asset in from outside the run.

        Parameters
        ----------
        asset : str
            Symbol.
        quantity : float
            Above 0.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(1)
        >>> account.deposit("USDC", 20.0)
        >>> account.balances["USDC"].quantity
        100.0
        """
        self._act("deposit", check, time, asset=asset, quantity=quantity)

    def withdraw(self, asset: str, quantity: float, *, check: str = "on", time: Time = None) -> None:
        """Pay an asset out of the run.

        Parameters
        ----------
        asset : str
            Symbol.
        quantity : float
            Above 0, at most what is free.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(1)
        >>> account.withdraw("USDC", 20.0, check="off")
        >>> account.balances["USDC"].quantity
        60.0
        """
        self._act("withdraw", check, time, asset=asset, quantity=quantity)

    def transfer(
        self, to: Account | int | str, asset: str, quantity: float, *, check: str = "on", time: Time = None
    ) -> None:
        """Give an asset to another account of the same owner.

        Parameters
        ----------
        to : Account, int or str
            The other account, or its id.
        asset : str
            Symbol.
        quantity : float
            Above 0, at most what is free.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> engine = rc.Engine(accounts, venue)
        >>> other = engine.open(9, owner=2)
        >>> engine.account(2).transfer(other, "USDC", 20.0, check="off")
        >>> other.balances["USDC"].quantity
        20.0
        """
        to = to.id if isinstance(to, Account) else to
        self._act("transfer", check, time, to_account=to, asset=asset, quantity=quantity)

    def borrow(self, asset: str, quantity: float, *, check: str = "on", time: Time = None) -> None:
        """Borrow an asset, which leaves the run; the account must have nothing free of it.

        Parameters
        ----------
        asset : str
            Symbol.
        quantity : float
            Above 0.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(1)
        >>> account.borrow("SOL", 0.5, check="off")
        >>> account.balances["SOL"].quantity
        -0.5
        """
        self._act("borrow", check, time, asset=asset, quantity=quantity)

    def repay(self, asset: str, quantity: float, *, check: str = "on", time: Time = None) -> None:
        """Repay a debt from outside the run.

        Parameters
        ----------
        asset : str
            Symbol.
        quantity : float
            Above 0, at most the debt.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(1)
        >>> account.borrow("SOL", 0.5, check="off")
        >>> account.repay("SOL", 0.25)
        >>> account.balances["SOL"].quantity
        -0.25
        """
        self._act("repay", check, time, asset=asset, quantity=quantity)

    def lend(self, asset: str, quantity: float, *, check: str = "on", time: Time = None) -> None:
        """Lend an asset to its pool.

        Parameters
        ----------
        asset : str
            Symbol.
        quantity : float
            Above 0, at most what is free.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(1)
        >>> account.lend("USDC", 30.0, check="off")
        >>> account.balances["USDC"]
        Balance(quantity=50.0, lent=30.0)
        """
        self._act("lend", check, time, asset=asset, quantity=quantity)

    def redeem(self, asset: str, quantity: float, *, check: str = "on", time: Time = None) -> None:
        """Take a lend back.

        Parameters
        ----------
        asset : str
            Symbol.
        quantity : float
            Above 0, at most what is lent and what the pool has.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(1)
        >>> account.lend("USDC", 30.0, check="off")
        >>> account.redeem("USDC", 10.0)
        >>> account.balances["USDC"]
        Balance(quantity=60.0, lent=20.0)
        """
        self._act("redeem", check, time, asset=asset, quantity=quantity)

    def set_leverage_limit(self, limit: float | None, *, check: str = "on", time: Time = None) -> None:
        """Set the largest exposure over net equity that the account allows itself.

        Parameters
        ----------
        limit : float or None
            The limit; None: none.
        check, time
            As of the class.

        Raises
        ------
        RiskDataError
            The action is refused.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> account = rc.Engine(accounts, venue).account(1)
        >>> account.set_leverage_limit(5.0, check="off")
        >>> account.leverage_limit
        5.0
        """
        self._act("leverage", check, time, leverage_limit=limit)

    def confirm(
        self,
        market: str,
        quantity: float,
        price: float,
        fee: float | None = None,
        *,
        check: str = "on",
        time: Time = None,
    ) -> Fill:
        """Confirm that the host has filled a part of a slice that the engine proposed.

        Parameters
        ----------
        market : str
            Symbol.
        quantity : float
            Filled, signed as the slice.
        price : float
            No worse than the slice's limit price.
        fee : float, optional
            Units of the market's settle asset; by default the slice's fee rate times the value.
        check, time
            As of the class.

        Returns
        -------
        Fill
            Realised profit and loss, and the position after it.

        Raises
        ------
        RiskDataError
            There is no such proposal, or the fill does not fit it.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Engine(accounts, venue).account(1).confirm("SOL_USDC_PERP", -1.0, 190.0)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: activity.market, row 0, value 'SOL_USDC_PERP': must be one in which...
        """
        return self._filled(self._act("confirm", check, time, market=market, quantity=quantity, price=price, fee=fee))

    def _filled(self, result: ActivityResult) -> Fill:
        """Return what the one fill of a result did."""
        done = result.done
        venue, asked, written = self._engine.venue, done.actions.matrix[0].tolist(), done.written[0].tolist()
        market, lots = asked[kernels.ITEM], written[kernels.R_HELD]
        quantum, step = venue.assets.quantum[venue.markets.settle[market]], venue.markets.step[market]
        realized = (asked[kernels.FLOW] + written[kernels.R_ENTRY]) * quantum.numerator / quantum.denominator
        entry = entry_price(venue, market, written[kernels.R_HELD_ENTRY], lots) if lots else float("nan")
        return Fill(realized, entry, lots * step.numerator / step.denominator)


def no_prices_of(venue: Venue) -> Prices:
    """Return prices of before the first tick: the venue's settle asset alone has one."""
    markets, assets = np.full(len(venue.markets.symbol), np.nan), np.full(len(venue.assets.symbol), np.nan)
    return Prices.used(venue, markets, markets, markets, assets, np.zeros(len(markets), np.int64))


def margin_of(accounts: Accounts, account: int, prices: Prices) -> Margin:
    """Return the margin of an account at prices.

    Raises
    ------
    RiskDataError
        Something that counts has no price.
    """
    figures, columns = np.empty(5), accounts.columns
    arrays = folded(prices)
    kernels.margin_of(account, columns, arrays, figures)
    equity, exposure, initial, maintenance, status = figures.tolist()
    if status == kernels.UNPRICED:
        rule = "must have a price in the last tick of everything that it holds: step a tick first"
        raise RiskDataError("margin", "account", rule, value=as_text(accounts.ids[account]))
    if status == DOUBT:
        status = model_of(prices.venue).account(accounts, account, prices).status
    if exposure == 0.0:
        imr = mmr = 0.0
    elif equity > 0.0:
        imr, mmr = initial / equity, maintenance / equity
    else:
        imr = mmr = inf
    return Margin(equity, exposure, initial, maintenance, imr, mmr, STATUS[int(status)])
