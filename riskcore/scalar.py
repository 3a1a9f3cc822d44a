"""The rules of one account as functions that an njit loop of the user calls: trades, funding, margin, liquidation.

`small_account` makes the arrays of an account, `small_books` those of its order books; everything else may be called
inside ``numba.njit``, without the GIL, or from Python. Markets and assets are numbers: ``venue.markets.row[symbol]``
and ``venue.assets.row[symbol]``. Quantities are whole lots, and money is whole quanta, as in `riskcore.Accounts`;
margins are float64 in quanta of the venue's settle asset.

Numbers of at most 15 digits count as the decimals that they are written as, as everywhere in riskcore, and amounts of
money that follow from them are rounded exactly, halves to the even quantum. A longer number (an average price, say) is
computed in float64. Where the rounding of float64 may have decided the quantum, ``account.doubts`` counts one more.
The functions check nothing: a market must be one of the account, a price above 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from ._typing import AnyInt, Float, Int
from .boundary import RiskDataError, as_text
from .kernels import small_account as _rules
from .kernels import small_books as _books
from .kernels._jit import allocating_kernel, kernel
from .kernels.layouts import (
    AccountColumns,
    BookColumns,
    OrderColumns,
    SliceQueue,
    SmallAccount,
    SmallBooks,
    UnitColumns,
)
from .kernels.margin import BELOW_AUTO_CLOSE, DOUBT, LIQUIDATING, SAFE, MarginSums, margin_ratio
from .kernels.margin import account_margin as _account_margin
from .kernels.margin import account_status as _account_status
from .kernels.margin_function import ROOT, SLOPE
from .kernels.small_account import NOT_WHOLE, Fill
from .kernels.small_books import Liquidation, Slice
from .liquidation import cap_quanta, slice_rows, slice_rules
from .market import PriceMap, Prices, Tick
from .state import Accounts, Orders, did_you_mean
from .venue import Venue, must_be_perpetual, must_be_venue

__all__ = [
    "BELOW_AUTO_CLOSE", "DOUBT", "LIQUIDATING", "NOT_WHOLE", "SAFE", "Fill", "Liquidation", "MarginSums", "Slice",
    "SmallAccount", "SmallBooks", "account_margin", "account_status", "add_cash", "copy_account", "entry_price",
    "fill_position", "fill_slice", "fill_value", "from_accounts", "liquidate", "liquidation_price", "margin_ratio",
    "part_of", "pay_funding", "position", "renew_account_cap", "set_asset_price", "set_bands", "set_book",
    "set_mark", "set_open_interest", "set_orders", "slice_size", "small_account", "small_books", "to_accounts",
    "value_of", "whole_lots", "whole_quanta", "whole_ticks",
]  # fmt: skip

_ID = "account"


def small_account(
    venue: Venue,
    marks: PriceMap,
    *,
    markets: Iterable[str] | None = None,
    cash: float = 0.0,
    balances: Mapping[str, float] | None = None,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
    leverage_limit: float | None = None,
) -> SmallAccount:
    """Make the arrays of one account without positions.

    Parameters
    ----------
    venue : Venue
        The venue; its margin model is the separable one.
    marks : mapping
        First mark of each market of the account, units of the quote, by symbol.
    markets : iterable of str, optional
        Symbols of the markets that the account may trade in; by default all of the venue.
    cash : float
        Balance of the venue's settle asset, units; negative is borrowed.
    balances : mapping, optional
        Balances of other assets, units by symbol.
    indexes, asset_prices, open_interest : mapping, optional
        Indexes of markets, prices of assets (settle units) and open interest (quantities), by symbol, as of `Tick`.
        An asset without a price follows its market. Without an open interest the lots of the account count.
    leverage_limit : float, optional
        Largest exposure over net equity; none by default.

    Returns
    -------
    SmallAccount
        The account. Its arrays are its own; no other object of riskcore refers to them.

    Raises
    ------
    RiskDataError
        A figure is out of range, a symbol is unknown, or a price of a market or asset of the account is missing.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> account.state.free.tolist(), account.row.tolist()
    ([80000000], [-1, -1, 0, -1])
    """
    must_be_venue(venue)
    alone = venue.replace(backstop=[])
    held = {**({} if balances is None else balances), venue.settle_asset: cash}
    limits = None if leverage_limit is None else pd.DataFrame({"account": [_ID], "leverage_limit": [leverage_limit]})
    accounts = Accounts.from_frames(
        alone,
        pd.DataFrame({"account": [], "market": [], "quantity": [], "entry_price": []}),
        pd.DataFrame({"account": _ID, "asset": list(held), "quantity": list(held.values())}),
        settings=limits,
    )
    chosen = range(len(venue.markets.symbol)) if markets is None else _rows_of(venue, markets)
    return _made(accounts, 0, alone, chosen, (marks, indexes, asset_prices, open_interest))


def from_accounts(
    accounts: Accounts,
    venue: Venue,
    account: int | str,
    marks: PriceMap,
    *,
    markets: Iterable[str] | None = None,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
) -> SmallAccount:
    """Make the arrays of one of many accounts, with its positions and balances.

    Parameters
    ----------
    accounts : Accounts
        The accounts; they do not change.
    venue : Venue
        The venue that they were read with.
    account : int or str
        Id of the account.
    marks : mapping
        As of `small_account`.
    markets : iterable of str, optional
        Markets that the account may trade in beside those it has a row in; by default all of the venue.
    indexes, asset_prices, open_interest : mapping, optional
        As of `small_account`.

    Returns
    -------
    SmallAccount
        The account, with the sums of its open orders; the orders themselves stay behind.

    Raises
    ------
    RiskDataError
        There is no such account, or as of `small_account`.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> account = rc.scalar.from_accounts(accounts, venue, 1, {market: 195.0}, markets=[])
    >>> rc.scalar.position(account, venue.markets.row[market])
    1000
    """
    try:
        row = accounts.row_of(account)
    except KeyError:
        raise RiskDataError("account", None, "must be an account of the accounts", value=as_text(account)) from None
    columns = accounts.columns
    chosen = range(len(venue.markets.symbol)) if markets is None else _rows_of(venue, markets)
    own = columns.market[list(accounts.positions_of(row))].tolist()
    return _made(accounts, row, venue, sorted({*chosen, *own}), (marks, indexes, asset_prices, open_interest))


def to_accounts(account: SmallAccount, venue: Venue, id: int | str = _ID) -> Accounts:
    """Return accounts of this one alone: to print its tables, or to hand it to an `Engine`.

    Parameters
    ----------
    account : SmallAccount
        The account; it does not change.
    venue : Venue
        The venue that it was made with.
    id : int or str
        Id that it gets.

    Returns
    -------
    Accounts
        The account as it is now, with the same whole numbers.

    Raises
    ------
    RiskDataError
        The account has open orders, whose prices it does not know.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> market = venue.markets.row["SOL_USDC_PERP"]
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, market, 1000, 200.0, 0)
    >>> print(rc.scalar.to_accounts(account, venue, "ann").to_frames().positions.to_string(index=False))
    account        market  quantity  entry_price
        ann SOL_USDC_PERP      10.0        200.0
    """
    state = account.state
    if state.open_orders[0]:
        raise RiskDataError("account", "open_orders", "must be 0: a small account does not know the prices of orders")
    leverage_limit = 1.0 / state.leverage_fraction if state.leverage_fraction[0] else np.array([np.inf])
    return _alone(
        venue, np.array([id], np.int64 if isinstance(id, int) else object), state.market, state.lots, state.cost,
        state.entry, state.asset, state.free, state.lent, state.unsettled, leverage_limit,
    ).copy().frozen()  # fmt: skip


def small_books(venue: Venue, account: SmallAccount, levels: int = 50, *, bands: bool = True) -> SmallBooks:
    """Make the arrays of order books and of the policy for the slices of a small account.

    Parameters
    ----------
    venue : Venue
        The venue that the account was made with.
    account : SmallAccount
        The account.
    levels : int
        Most levels of a side; deeper ones of a book are left out.
    bands : bool
        Whether the venue's price-impact and limit-price bands hold. Those around means of the last minutes are none of
        a single book: `set_bands` sets them.

    Returns
    -------
    SmallBooks
        Books without levels. The throttle and the cooldown of the policy are left out: every position sends a slice.

    Raises
    ------
    RiskDataError
        ``levels`` is not from 1 to 10,000, or the policy has the account order "pro_rata".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.small_books(venue, account, levels=20).book.price.shape
    (160,)
    """
    must_be_venue(venue)
    policy, markets = venue.policy, venue.markets
    if not (isinstance(levels, int) and 1 <= levels <= 10_000):
        raise RiskDataError("levels", None, "must be a whole number from 1 to 10000", value=levels)
    if policy.account_order == "pro_rata":
        rule = "must be 'mmr' or 'random': an account alone has nobody to share with"
        raise RiskDataError("venue", "policy.account_order", rule, value=policy.account_order)
    sides, positions = 2 * len(markets.symbol), len(account.state.lots)
    offset = np.arange(sides + 1) * levels
    none = (None,) * len(markets.symbol)
    limit = policy.slippage_limit
    slippage = [None, None] if limit is None else [1 - limit / 10_000, 1 + limit / 10_000]
    impact, limits = (
        _ratios([bound for pair in zip(*of_market, strict=True) for bound in pair])
        for of_market in (
            (markets.min_impact, markets.max_impact) if bands else (none, none),
            (markets.min_multiplier, markets.max_multiplier) if bands else (none, none),
        )
    )
    rounds = policy.slices_per_tick if "book" in policy.stages else 0
    unpriced = Prices.incomplete(venue, Tick(0, {}))
    rules = slice_rules(venue, unpriced, np.zeros(len(venue.listing.symbol), bool))
    cap = cap_quanta(policy.account_cap, venue)
    rows = (2 * rounds + 1) * positions
    return SmallBooks(
        rules=_copied(rules._replace(market_room=np.full(len(markets.symbol), -1))),
        book=BookColumns(
            offset=offset, price=np.zeros(sides * levels, np.int64), lots=np.zeros(sides * levels, np.int64),
            band=np.zeros(sides, np.int64), band_reason=np.zeros(sides, np.int64),
            worst_average=np.zeros(sides, np.int64), inside=np.zeros(sides, np.int64), cursor=offset[1:].copy(),
            taken=np.zeros(sides, np.int64),
        ),
        queue=SliceQueue(
            account=np.zeros(1, np.int64), start=np.array([0, positions]), status=np.zeros(1, np.uint8),
            room=np.array([cap]), equity=np.zeros(1), maintenance=np.zeros(1), ratio=np.zeros(1),
            throttled=np.zeros(positions, np.uint8), order=np.zeros(positions, np.int64), surplus=np.zeros(positions),
            score=np.zeros(positions, np.float32),
        ),
        rows=slice_rows(rows),
        given=np.zeros(sides, np.int64),
        impact_num=impact[0], impact_den=impact[1], limit_num=limits[0], limit_den=limits[1],
        slippage_num=_ratios(slippage)[0], slippage_den=_ratios(slippage)[1],
        least_slice=float(policy.min_slice_notional / venue.settle_quantum),
        market_cap=cap_quanta(policy.market_cap, venue), account_cap=cap, rounds=rounds,
        keeps_shortfall=int(policy.shortfall == "unsettled"),
    )  # fmt: skip


def _rows_of(venue: Venue, markets: Iterable[str]) -> list[int]:
    rows = venue.markets.row
    for symbol in (markets := list(markets)):
        if symbol not in rows:
            rule = f"must be a market of the venue{did_you_mean(symbol, np.array(list(rows), object))}"
            raise RiskDataError("markets", None, rule, value=as_text(symbol))
    return sorted({rows[symbol] for symbol in markets})


def _alone(
    venue: Venue, ids: Any, market: AnyInt, lots: Int, cost: Int, entry: Int, asset: AnyInt, free: Int, lent: Int,
    unsettled: Int, leverage_limit: Float,
) -> Accounts:  # fmt: skip
    """Accounts of one account without open orders."""
    none = np.empty(0, np.int64)
    orders = Orders(OrderColumns(none, none, none, none, none, np.empty(0, bool)))
    owner, holder = np.zeros(len(market), np.int64), np.zeros(len(asset), np.int64)
    positions, balances = (owner, market, lots, cost, entry), (holder, asset, free, lent, unsettled)
    return Accounts.from_rows(venue, ids, positions, balances, orders, leverage_limit)


def _made(
    accounts: Accounts,
    account: int,
    venue: Venue,
    markets: Iterable[int],
    prices: tuple[PriceMap, PriceMap | None, PriceMap | None, PriceMap | None],
) -> SmallAccount:
    """Make a small account of an account row, with rows in these markets."""
    must_be_perpetual(venue, "a small account")
    if venue.policy.margin_model != "separable":
        rule = "must be 'separable': a small account has no other margin model"
        raise RiskDataError("venue", "policy.margin_model", rule, value=venue.policy.margin_model)
    columns, money = accounts.columns, venue.markets.settle
    own, balances = accounts.positions_of(account), accounts.balances_of(account)
    market = np.array(sorted(markets), np.uint16)
    asset = np.union1d(columns.asset[list(balances)], [venue.settle, *money[market].tolist()]).astype(np.uint16)
    at = np.searchsorted(market, columns.market[list(own)])
    of = np.searchsorted(asset, columns.asset[list(balances)])
    position = {name: np.zeros(len(market), np.int64) for name in ("lots", "cost", "entry", "open_bid", "open_ask")}
    balance = {name: np.zeros(len(asset), np.int64) for name in ("free", "lent", "unsettled")}
    for into, rows, places in ((position, own, at), (balance, balances, of)):
        for name, column in into.items():
            column[places] = getattr(columns, name)[list(rows)]
    alone = _alone(
        venue, accounts.ids[[account]], market, position["lots"], position["cost"], position["entry"], asset,
        balance["free"], balance["lent"], balance["unsettled"], accounts.leverage_limit[[account]],
    ).copy()  # fmt: skip
    state: AccountColumns = _copied(alone.columns)
    state = state._replace(
        open_bid=position["open_bid"], open_ask=position["open_ask"], open_orders=columns.open_orders[[account]]
    )
    read = Prices.read(venue, alone, *prices)
    for name, held, price, symbols in (
        ("marks", market, read.mark, venue.markets.symbol), ("asset_prices", asset, read.asset, venue.assets.symbol)
    ):  # fmt: skip
        missing = held[np.isnan(price[held])]
        if missing.size:
            raise RiskDataError(name, symbols[int(missing[0])], "must have a price: the account has a row of it")
    row = np.full(len(money), -1)
    row[market] = np.arange(len(market))
    count = len(money)
    return SmallAccount(
        state=state,
        prices=_copied(read.arrays),
        units=_units(venue),
        row=row,
        mark=read.mark.copy(),
        index_price=read.index.copy(),
        asset=read.asset.copy(),
        own_asset=read.own_asset.copy(),
        interest=read.open_interest.copy(),
        realized=np.zeros(count, np.int64),
        fees=np.zeros(count, np.int64),
        funding=np.zeros(count, np.int64),
        doubts=np.zeros(1, np.int64),
    )


def _units(venue: Venue) -> UnitColumns:
    markets, assets, functions = venue.markets, venue.assets, venue.margin_functions
    pairs = zip(markets.exact_lot_size, markets.settle.tolist(), strict=True)
    lot_num, lot_den = _ratios([size / assets.quantum[settle] for size, settle in pairs])
    quantum_num, quantum_den = _ratios(assets.quantum)
    lots, quanta = venue.settle_quanta
    open_interest = np.full((len(functions.by_quantity), 3), np.nan)
    for f, function in functions.by_open_interest.items():
        open_interest[f] = float(function.base), float(function.lower), float(function.upper)
    return UnitColumns(
        lot_num=lot_num, lot_den=lot_den, lot_value=lots.copy(), inverse=markets.inverse.copy(),
        tick_size=markets.tick_size.copy(), step_size=markets.step_size.copy(), max_price=markets.max_price.copy(),
        base_asset=markets.base_asset.copy(), quote_asset=markets.quote_asset.copy(), quantum_num=quantum_num,
        quantum_den=quantum_den, quantum_size=assets.quantum_size.copy(), quantum_value=quanta.copy(),
        haircut_by_price=int(venue.policy.haircut_size_unit == "notional"), by_quantity=functions.by_quantity.copy(),
        slope=functions.segments[:, SLOPE].copy(), root=functions.segments[:, ROOT].copy(),
        open_interest=open_interest,
    )  # fmt: skip


def _copied(columns: Any) -> Any:
    """Copy named tuples with all their arrays; the copies can be written to."""
    if isinstance(columns, tuple):
        return type(columns)(*map(_copied, columns))
    return np.array(columns, order="C") if isinstance(columns, np.ndarray) else columns


def _ratios(ratios: Iterable[Fraction | None]) -> tuple[Int, Int]:
    """Numerators and denominators; 0 over 1 for None."""
    pairs = [(0, 1) if ratio is None else (ratio.numerator, ratio.denominator) for ratio in ratios]
    num, den = np.array(pairs, np.int64).reshape(-1, 2).T
    return num.copy(), den.copy()


@kernel
def set_mark(account: SmallAccount, market: int, mark: float) -> None:
    """Set the mark of a market, as a tick does; assets without a price of their own follow.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    mark : float
        Units of the quote; where it is not above 0, or NaN, nothing changes.

    Notes
    -----
    The index stays as `set_index` has set it. The folded prices have the bits that a tick of `Engine` gives them, but
    for margin functions by open interest, whose rate is computed in float64. The rule: docs/one_tick.md, "Prices".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.set_mark(account, 2, 195.0)
    >>> account.prices.price_per_lot[2].item(), account.asset.tolist()
    (1950000.0, [1.0, 195.0])
    """
    _rules.move_mark(market, mark, account)


@kernel
def set_index(account: SmallAccount, market: int, index: float) -> None:
    """Set the index of a market: assets without a price of their own follow it, or the mark where there is none.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    index : float
        Units of the quote; NaN: none.

    Notes
    -----
    The rule: docs/one_tick.md, "Prices".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.set_index(account, 2, 199.0)
    >>> account.asset.tolist()
    [1.0, 199.0]
    """
    _rules.move_index(market, index, account)


@kernel
def set_asset_price(account: SmallAccount, asset: int, price: float) -> None:
    """Set the price of an asset of its own.

    Parameters
    ----------
    account : SmallAccount
        The account.
    asset : int
        Row of the asset.
    price : float
        Settle units; NaN: the asset follows its market.

    Notes
    -----
    The rule: docs/one_tick.md, "Prices".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.set_asset_price(account, venue.assets.row["SOL"], 199.5)
    >>> account.asset.tolist()
    [1.0, 199.5]
    """
    account.own_asset[asset] = price
    _rules.fold_assets(account)


@kernel
def set_open_interest(account: SmallAccount, market: int, quantity: float) -> None:
    """Set the open interest of a market; it counts from the next mark of the market on.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    quantity : float
        Base units; NaN: the lots of the account.

    Notes
    -----
    The rule: docs/one_tick.md, "Margin functions".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.set_open_interest(account, 2, 1e6)
    """
    account.interest[market] = quantity


@kernel
def set_orders(account: SmallAccount, market: int, bid_lots: int, ask_lots: int) -> None:
    """Set the sums of the open orders of a market, reduce-only orders left out: they count in the initial margin.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    bid_lots, ask_lots : int
        Lots, >= 0.

    Notes
    -----
    The rule: docs/one_tick.md, "Positions and orders".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.set_orders(account, 2, 1000, 0)
    >>> sums = rc.scalar.account_margin(account)
    >>> sums.initial, sums.maintenance
    (40000000.0, 0.0)
    """
    _rules.rest_orders(market, bid_lots, ask_lots, account)


@kernel
def whole_lots(account: SmallAccount, market: int, quantity: float) -> int:
    """Return a quantity in whole lots.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    quantity : float
        Signed, units of the market's base.

    Returns
    -------
    int
        Lots; `NOT_WHOLE` where the quantity is no whole number of lots, but for rounding errors.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.whole_lots(account, 2, -0.29), rc.scalar.whole_lots(account, 2, 0.295) == rc.scalar.NOT_WHOLE
    (-29, True)
    """
    return _rules.whole_units(quantity, account.units.step_size[market])


@kernel
def whole_ticks(account: SmallAccount, market: int, price: float) -> int:
    """Return a price in whole ticks.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    price : float
        Units of the quote.

    Returns
    -------
    int
        Ticks; `NOT_WHOLE` where the price is no whole number of ticks, but for rounding errors.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.whole_ticks(account, 2, 199.99)
    19999
    """
    return _rules.whole_units(price, account.units.tick_size[market])


@kernel
def whole_quanta(account: SmallAccount, asset: int, quantity: float) -> int:
    """Return an amount of an asset in whole quanta, halves to the even one.

    Parameters
    ----------
    account : SmallAccount
        The account.
    asset : int
        Row of the asset.
    quantity : float
        Units of the asset, signed.

    Returns
    -------
    int
        Quanta.

    Notes
    -----
    The rule: docs/one_tick.md, "Decimals and whole units".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.whole_quanta(account, 0, 0.0000025), rc.scalar.whole_quanta(account, 0, 0.0000035)
    (2, 4)
    """
    units = account.units
    return _rules.scaled_decimal(1, quantity, units.quantum_den[asset], units.quantum_num[asset], False, account.doubts)


@kernel
def value_of(account: SmallAccount, market: int, lots: int, price: float) -> int:
    """Return the value of lots at a price, whole quanta of the market's settle asset without a sign.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    lots : int
        Lots of either sign.
    price : float
        Units of the quote.

    Returns
    -------
    int
        Quanta: the money of a fill of these lots at this price.

    Notes
    -----
    The rule: docs/one_tick.md, "Contracts and settle assets".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.value_of(account, 2, -1000, 199.99)
    1999900000
    """
    return _rules.value_of_lots(abs(lots), price, market, account)


@kernel
def part_of(account: SmallAccount, quanta: int, rate: float) -> int:
    """Return a part of an amount, halves to the even quantum: a fee, say.

    Parameters
    ----------
    account : SmallAccount
        The account.
    quanta : int
        The amount.
    rate : float
        The part, a fraction of either sign.

    Returns
    -------
    int
        Quanta.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.part_of(account, 1_999_900_000, 0.0005)
    999950
    """
    return _rules.scaled_decimal(quanta, rate, 1, 1, False, account.doubts)


@kernel
def fill_position(account: SmallAccount, market: int, lots: int, price: float, fee: int) -> Fill:
    """Fill a trade of the account: its position, its balance and the sums of the account change.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    lots : int
        Lots bought (above 0) or sold; 0: the fee alone is paid.
    price : float
        Units of the quote, > 0. It need not be a whole number of ticks.
    fee : int
        Quanta of the market's settle asset that the account pays; negative: receives.

    Returns
    -------
    Fill
        Profit realised against the entry price without the fee, money received for the lots, and the position after.

    Notes
    -----
    The money of the fill is rounded once, halves to the even quantum. The rule: docs/one_tick.md,
    "Cost, cash and entry".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.fill_position(account, 2, 1000, 200.0, 400_000)
    Fill(realized=0, flow=-2000000000, lots=1000, entry=2000000000)
    >>> rc.scalar.fill_position(account, 2, -250, 202.0, 0).realized
    5000000
    """
    return _rules.fill_at_price(market, lots, price, fee, account)


@kernel
def fill_value(account: SmallAccount, market: int, lots: int, value: int, fee: int) -> Fill:
    """Fill a trade of the account whose money is known exactly: several fills at different prices, say.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    lots : int
        Lots bought (above 0) or sold.
    value : int
        Quanta of the market's settle asset that the lots are worth, without a sign, as of `value_of`.
    fee : int
        As of `fill_position`.

    Returns
    -------
    Fill
        As of `fill_position`.

    Notes
    -----
    The rule: docs/one_tick.md, "Cost, cash and entry".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.fill_value(account, 2, -1000, 2_000_100_000, 0)
    Fill(realized=0, flow=2000100000, lots=-1000, entry=-2000100000)
    """
    return _rules.fill_for_value(market, lots, value, fee, account)


@kernel
def copy_account(source: SmallAccount, target: SmallAccount) -> None:
    """Copy an account into another one: to try something out, and to go back.

    Parameters
    ----------
    source : SmallAccount
        The account to copy.
    target : SmallAccount
        One of the same venue and the same markets and balances, which becomes equal to it.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> one, other = (
    ...     rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=cash)
    ...     for cash in (80.0, 0.0)
    ... )
    >>> rc.scalar.copy_account(one, other)
    >>> other.state.free.tolist()
    [80000000]
    """
    _rules.copy_small(source, target)


@kernel
def pay_funding(account: SmallAccount, market: int, rate: float) -> int:
    """Pay the funding of one instant of a position, at the present mark.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.
    rate : float
        Fraction of the notional; above 0 a long pays.

    Returns
    -------
    int
        Quanta of the market's settle asset received; negative: paid.

    Notes
    -----
    A balance that falls below 0 is a borrow: interest and settlement are an engine's. The rule: docs/one_tick.md,
    "Funding".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> rc.scalar.pay_funding(account, 2, 0.0001)
    -200000
    """
    return _rules.fund_position(market, rate, account)


@kernel
def add_cash(account: SmallAccount, asset: int, quanta: int) -> bool:
    """Add to the balance of an asset, or take from it.

    Parameters
    ----------
    account : SmallAccount
        The account.
    asset : int
        Row of the asset.
    quanta : int
        Quanta; negative: taken.

    Returns
    -------
    bool
        False, and nothing changes, where the account has no row of the asset: `small_account` makes one for the settle
        assets of its markets and for each of its ``balances``.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.add_cash(account, 0, -30_000_000), rc.scalar.add_cash(account, 1, 1), account.state.free.tolist()
    (True, False, [50000000])
    """
    row = _rules.balance_row(asset, account)
    if row < 0:
        return False
    account.state.free[row] += quanta
    return True


@kernel
def position(account: SmallAccount, market: int) -> int:
    """Return the position of a market.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.

    Returns
    -------
    int
        Signed lots.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> rc.scalar.position(account, 2)
    0
    """
    return account.state.lots[account.row[market]]


@kernel
def entry_price(account: SmallAccount, market: int) -> float:
    """Return the average price paid for a position.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.

    Returns
    -------
    float
        Units of the quote, of an inverse contract the harmonic mean; NaN without a position.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 201.0, 0)
    >>> rc.scalar.entry_price(account, 2)
    200.5
    """
    return _rules.average_price(market, account)


@kernel
def account_margin(account: SmallAccount) -> MarginSums:
    """Return the margin of the account at the present prices.

    Parameters
    ----------
    account : SmallAccount
        The account.

    Returns
    -------
    MarginSums
        equity, exposure, initial, maintenance, gross (the scale of the rounding error); float64, quanta of the venue's
        settle asset.

    Notes
    -----
    `margin_ratio` of maintenance, equity and exposure is the MMR, of initial the IMR. The rule: docs/one_tick.md,
    "Float64 margins".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> sums = rc.scalar.account_margin(account)
    >>> sums.equity, rc.scalar.margin_ratio(sums.maintenance, sums.equity, sums.exposure)
    (80000000.0, 0.3375)
    """
    return _account_margin(0, account.state, account.prices)


@kernel
def account_status(account: SmallAccount) -> int:
    """Return the status of the account at the present prices.

    Parameters
    ----------
    account : SmallAccount
        The account.

    Returns
    -------
    int
        `SAFE`, `LIQUIDATING`, `BELOW_AUTO_CLOSE`, or `DOUBT` where the rounding of float64 may have decided.

    Notes
    -----
    The rule: docs/one_tick.md, "Net equity, margins and status".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> rc.scalar.account_status(account) == rc.scalar.SAFE
    True
    >>> rc.scalar.set_mark(account, 2, 194.0)
    >>> rc.scalar.account_status(account) == rc.scalar.LIQUIDATING
    True
    """
    sums, prices = _account_margin(0, account.state, account.prices), account.prices
    return _account_status(
        sums.equity, sums.exposure, sums.maintenance, sums.gross, prices.acmf_divisor, prices.acmf_offset
    )


@kernel
def liquidation_price(account: SmallAccount, market: int) -> float:
    """Return the mark of a market at which the account is liquidated, all else equal.

    Parameters
    ----------
    account : SmallAccount
        The account.
    market : int
        Row of the market.

    Returns
    -------
    float
        Units of the quote, as of `riskcore.liquidation_prices`; NaN where there is none.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> round(rc.scalar.liquidation_price(account, 2), 4)
    194.6275
    """
    return _rules.price_at_liquidation(market, account)


@allocating_kernel
def set_book(
    account: SmallAccount, books: SmallBooks, market: int, bid_ticks: Int, bid_lots: Int, ask_ticks: Int, ask_lots: Int
) -> None:
    """Set the order book of a market, as a tick does, with the venue's bands around its best prices.

    Parameters
    ----------
    account : SmallAccount
        The account.
    books : SmallBooks
        Its books.
    market : int
        Row of the market.
    bid_ticks, bid_lots, ask_ticks, ask_lots : ndarray of int64
        Prices in ticks and sizes in lots of the levels, best first. Levels beyond those of `small_books` are left out;
        a crossed book has none.

    Notes
    -----
    The market's cap of the policy begins anew. The rules: docs/one_tick.md, "Bands" and "Book".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> books = rc.scalar.small_books(venue, account)
    >>> bids, asks = (np.array([19_999, 19_990]), np.array([500, 9_000])), (np.array([20_001]), np.array([500]))
    >>> rc.scalar.set_book(account, books, 2, *bids, *asks)
    >>> books.book.band[4:6].tolist()
    [19800, 20201]
    """
    _books.set_levels(market, bid_ticks, bid_lots, ask_ticks, ask_lots, books)


@kernel
def set_bands(books: SmallBooks, market: int, lowest: int, highest: int) -> None:
    """Bound the prices of slices in a market further: by the venue's bands around means, say.

    Parameters
    ----------
    books : SmallBooks
        The books; `set_book` takes the bounds away again.
    market : int
        Row of the market.
    lowest, highest : int
        Worst price of a sale and of a purchase, ticks.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> books = rc.scalar.small_books(venue, account)
    >>> rc.scalar.set_book(account, books, 2, *np.array([[19_999], [500], [20_001], [500]]))
    >>> rc.scalar.set_bands(books, 2, 19_900, 20_100)
    >>> books.book.band[4:6].tolist()
    [19900, 20100]
    """
    _books.tighten_bands(market, lowest, highest, books)


@allocating_kernel
def slice_size(account: SmallAccount, books: SmallBooks, market: int) -> Slice:
    """Return the slice of a position that the venue's policy sends to the book now; nothing changes.

    Parameters
    ----------
    account : SmallAccount
        The account.
    books : SmallBooks
        Its books; that of the market sizes the slice.
    market : int
        Row of the market.

    Returns
    -------
    Slice
        Lots 0 without a position, of an account that is not liquidating or has no equity, and where a slice would do
        harm.

    Notes
    -----
    The rules: docs/one_tick.md, "3 Book: policy size", "3 Book: do no harm" and "3 Book: restoring size".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> rc.scalar.set_mark(account, 2, 194.0)
    >>> books = rc.scalar.small_books(venue, account)
    >>> rc.scalar.set_book(account, books, 2, *np.array([[19_399], [5000], [19_401], [5000]]))
    >>> found = rc.scalar.slice_size(account, books, 2)
    >>> found.lots, found.limit, found.filled
    (-516, 19206, 516)
    """
    return _books.next_slice(market, account, books)


@allocating_kernel
def fill_slice(account: SmallAccount, books: SmallBooks, market: int, slice_: Slice) -> Fill:
    """Fill what the book fills of a slice: position, balance and book change, and the venue's fee is charged.

    Parameters
    ----------
    account : SmallAccount
        The account.
    books : SmallBooks
        Its books.
    market : int
        Row of the market.
    slice_ : Slice
        The result of `slice_size`, nothing having changed since.

    Returns
    -------
    Fill
        As of `fill_position`.

    Notes
    -----
    The fee takes no more than the equity left. The rule: docs/one_tick.md, "3 Book: fill".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> rc.scalar.set_mark(account, 2, 194.0)
    >>> books = rc.scalar.small_books(venue, account)
    >>> rc.scalar.set_book(account, books, 2, *np.array([[19_399], [5000], [19_401], [5000]]))
    >>> rc.scalar.fill_slice(account, books, 2, rc.scalar.slice_size(account, books, 2)).lots
    484
    """
    return _books.book_slice(market, slice_, account, books)


@allocating_kernel
def liquidate(account: SmallAccount, books: SmallBooks) -> Liquidation:
    """Do what the venue does in a tick with an account that is alone there, if it is liquidating.

    Its open orders are cancelled; its positions send slices in the policy's rounds and order; below auto-close, and
    where a slice would do harm and the policy says so, its positions go to the books at any price inside the bands. An
    account without positions and equity then ends with a balance of 0 and a shortfall.

    Parameters
    ----------
    account : SmallAccount
        The account; a doubt of float64 is decided by float64.
    books : SmallBooks
        Its books. ``rows`` has the result: `riskcore.kernels.layouts.SliceRows`, of which ``rows.written[0]`` are used.

    Returns
    -------
    Liquidation
        rows written, lots that no book took, and the shortfall in settle quanta.

    Notes
    -----
    There are no backstop providers and no counterparties, the fund of the venue is not counted, no collateral is sold
    and no debt repaid. The rule: docs/one_tick.md, "The phases".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> fill = rc.scalar.fill_position(account, 2, 1000, 200.0, 0)
    >>> rc.scalar.set_mark(account, 2, 194.0)
    >>> books = rc.scalar.small_books(venue, account)
    >>> rc.scalar.set_book(account, books, 2, *np.array([[19_399], [5000], [19_401], [5000]]))
    >>> rc.scalar.liquidate(account, books)
    Liquidation(rows=1, open_lots=0, shortfall=0)
    >>> rc.scalar.position(account, 2)
    484
    """
    return _books.liquidate_account(account, books)


@kernel
def renew_account_cap(books: SmallBooks) -> None:
    """Begin a new interval of the policy's cap of an account.

    Parameters
    ----------
    books : SmallBooks
        The books.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack").replace(policy={"account_cap": 500})
    >>> account = rc.scalar.small_account(venue, {"SOL_USDC_PERP": 200.0}, markets=["SOL_USDC_PERP"], cash=80.0)
    >>> books = rc.scalar.small_books(venue, account)
    >>> rc.scalar.renew_account_cap(books)
    >>> books.queue.room.tolist()
    [500000000]
    """
    books.queue.room[0] = books.account_cap
