"""Accounts as the portfolios of a scenario model: their rows in its order, sizes as float64 or exactly."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from .._typing import Int
from ..kernels import scenario_accounts as kernels
from ..kernels.scenario_accounts import PortfolioLayout
from ..market import Prices
from ..scenario import PortfolioOrders, Portfolios
from ..scenario.screening import taken
from ..state import Accounts
from . import exact

_KEPT = "_portfolios"  # name under which accounts that nobody can change keep their portfolios


def portfolios_of(accounts: Accounts, row: Int, layout: PortfolioLayout, prices: Prices) -> Portfolios:
    """Return the portfolios of some accounts.

    Those of all accounts are kept where nobody can change the accounts and sizes do not depend on prices.

    Parameters
    ----------
    accounts : Accounts
        The state.
    row : ndarray of int64, shape (n,)
        Account rows, in any order.
    layout : PortfolioLayout
        How positions and balances become rows.
    prices : Prices
        Complete prices of one instant.

    Returns
    -------
    Portfolios
        n portfolios, in the order of ``row``. A position of nothing that has open orders has a row of size 0.
    """
    if not len(row) or accounts.may_change or _weights_vary(layout, prices):
        return _made(accounts, row, layout, prices)
    weight = np.where(layout.spot_counts != 0, prices.venue.assets.weight, 0.0)
    key = [array.tobytes() for array in (layout.rank, layout.lot_size, layout.spot_counts, layout.spot_size, weight)]
    known: tuple[list[bytes], Portfolios] | None = vars(accounts).get(_KEPT)
    if known is None or known[0] != key:
        known = key, _made(accounts, np.arange(len(accounts)), layout, prices)
        vars(accounts)[_KEPT] = known
    return _of_rows(known[1], row)


def exact_sizes(
    accounts: Accounts, account: int, layout: PortfolioLayout, prices: Prices
) -> tuple[list[int], list[Fraction]]:
    """Return instruments and sizes of the portfolio of an account, exactly.

    Parameters
    ----------
    accounts : Accounts
        The state.
    account : int
        Account row.
    layout : PortfolioLayout
        How positions and balances become rows.
    prices : Prices
        Complete prices of one instant.

    Returns
    -------
    instruments : list of int
        Ascending by rank.
    sizes : list of Fraction
        Signed sizes, of balances with their collateral weight.
    """
    columns, venue, markets = accounts.columns, prices.venue, len(layout.lot_size)
    sizes: dict[int, Fraction] = {}
    for i in accounts.positions_of(account):
        if columns.lots[i] or columns.open_bid[i] or columns.open_ask[i]:
            m = int(columns.market[i])
            sizes[m] = int(columns.lots[i]) * venue.markets.exact_lot_size[m]
    if layout.spot_counts.any():
        weighted = dict.fromkeys(range(len(layout.spot_counts)), Fraction(0))
        for holding in exact.holdings(accounts, account, prices):
            k, quantity = holding.item, holding.quantity
            if holding.kind == "position":
                k = int(venue.markets.settle[k])
                quantity = holding.value / exact.decimal(prices.asset[k])
            if holding.kind == "borrow":
                counts = layout.spot_counts[k] & kernels.BORROWS
            else:
                counts = layout.spot_counts[k] & kernels.COLLATERAL
                counts = counts and (holding.kind == "collateral" or k in venue.money[1:])
            if counts:
                weighted[k] += Fraction(quantity) * Fraction(holding.weight)
        sizes |= {markets + k: size for k, size in weighted.items() if size}
    order = sorted(sizes, key=lambda instrument: int(layout.rank[instrument]))
    return order, [sizes[instrument] for instrument in order]


def exact_orders(accounts: Accounts, account: int, prices: Prices) -> list[tuple[int, Fraction, Fraction]]:
    """Return the open orders of an account that are not reduce-only, exactly.

    Parameters
    ----------
    accounts : Accounts
        The state.
    account : int
        Account row.
    prices : Prices
        Complete prices of one instant.

    Returns
    -------
    list of tuple
        Instrument, signed size and limit of each order.
    """
    orders, markets = accounts.orders.columns, prices.venue.markets
    if not accounts.columns.open_orders[account]:
        return []
    own = np.flatnonzero((orders.account == account) & (orders.lots > 0) & ~orders.reduce_only)
    return [
        (
            int(orders.market[n]),
            int(orders.side[n]) * int(orders.lots[n]) * markets.exact_lot_size[orders.market[n]],
            int(orders.price[n]) * markets.tick[orders.market[n]],
        )
        for n in own.tolist()
    ]


def with_orders(portfolios: Portfolios, layout: PortfolioLayout, instrument: int) -> tuple[Portfolios, Int]:
    """Return portfolios with one more order in an instrument each, whose size and price are still to be set.

    Parameters
    ----------
    portfolios : Portfolios
        n portfolios.
    layout : PortfolioLayout
        The order of instruments inside an account.
    instrument : int
        Number of the instrument.

    Returns
    -------
    portfolios : Portfolios
        The same positions, a row of size 0 where the instrument had none, and n orders more.
    order : ndarray of int64, shape (n,)
        Numbers of the new orders.
    """
    count, owner = len(portfolios), _owners(portfolios.span)
    without = np.setdiff1d(np.arange(count), owner[portfolios.instrument == instrument])
    rows = np.full(len(without), instrument, np.uint16)
    owner, numbers = np.append(owner, without), np.append(portfolios.instrument, rows)
    order = np.lexsort((layout.rank[numbers], owner))
    size = np.append(portfolios.size, np.zeros(len(without)))[order]
    known = portfolios.orders
    if known is None:
        known = PortfolioOrders(np.zeros(count + 1, np.uint32), numbers[:0], np.empty(0), np.empty(0))
    of_orders = np.append(_owners(known.span), np.arange(count))
    ordered = np.append(known.instrument, np.full(count, instrument, np.uint16))
    place = np.lexsort((np.arange(len(ordered)), layout.rank[ordered], of_orders))
    new = np.empty(len(ordered), np.int64)
    new[place] = np.arange(len(ordered))
    unset = np.zeros(count)
    orders = PortfolioOrders(
        _span(of_orders, count), ordered[place], np.append(known.size, unset)[place],
        np.append(known.price, unset)[place],
    )  # fmt: skip
    return Portfolios(_span(owner, count), numbers[order], size, orders), new[len(ordered) - count :]


def _owners(span: npt.NDArray[np.uint32]) -> Int:
    """Account of each row."""
    ends = span.astype(np.int64)
    return np.repeat(np.arange(len(span) - 1), ends[1:] - ends[:-1])


def _span(owner: Int, count: int) -> npt.NDArray[np.uint32]:
    """First row of each of some accounts, and the number of rows."""
    span = np.zeros(count + 1, np.uint32)
    np.cumsum(np.bincount(owner, minlength=count), out=span[1:])
    return span


def _weights_vary(layout: PortfolioLayout, prices: Prices) -> bool:
    """Whether the weight of an asset in the portfolios depends on prices, or its quantity does by profit and loss."""
    assets = prices.venue.assets
    varies = (assets.haircut_penalty != 0.0) | (assets.haircut_base != np.inf)
    varies[prices.venue.money_rows[1:]] = True
    return bool((varies & (layout.spot_counts != 0)).any())


def _made(accounts: Accounts, row: Int, layout: PortfolioLayout, prices: Prices) -> Portfolios:
    """Portfolios of some accounts, from their columns."""
    columns, arrays, count = accounts.columns, prices.arrays, np.empty(len(row), np.int64)
    kernels.count_rows(row, columns, layout, arrays.money, count)
    span = np.zeros(len(row) + 1, np.uint32)
    np.cumsum(count, out=span[1:])
    instrument, size = np.empty(int(span[-1]), np.uint16), np.empty(int(span[-1]))
    kernels.fill_portfolios(0, len(row), row, columns, layout, arrays, span, instrument, size)
    return Portfolios(span, instrument, size, _orders(accounts, row, layout, prices))


def _orders(accounts: Accounts, row: Int, layout: PortfolioLayout, prices: Prices) -> PortfolioOrders | None:
    """Open orders of some accounts that are not reduce-only; None if there is none."""
    orders, markets = accounts.orders.columns, prices.venue.markets
    open_ = np.flatnonzero((orders.lots > 0) & ~orders.reduce_only)
    if not len(open_):
        return None
    place = np.full(len(accounts), -1, np.int64)
    place[row] = np.arange(len(row))
    open_ = open_[place[orders.account[open_]] >= 0]
    if not len(open_):
        return None
    account, market = place[orders.account[open_]], orders.market[open_]
    order = np.lexsort((layout.rank[market], account))
    open_, market = open_[order], market[order]
    size = orders.side[open_] * orders.lots[open_] * layout.lot_size[market]
    span = _span(account, len(row))
    return PortfolioOrders(span, market.astype(np.uint16), size, orders.price[open_] * markets.tick_size[market])


def _of_rows(portfolios: Portfolios, row: Int) -> Portfolios:
    """Portfolios of some accounts out of those of all."""
    span, orders = portfolios.span, portfolios.orders
    if row[-1] - row[0] == len(row) - 1 and (np.diff(row) == 1).all():  # arrays are shared
        first, last = int(row[0]), int(row[-1]) + 1
        rows, part = slice(span[first], span[last]), span[first : last + 1] - span[first]
        if orders is not None:
            of, numbers = orders.span, slice(orders.span[first], orders.span[last])
            orders = PortfolioOrders(
                of[first : last + 1] - of[first],
                orders.instrument[numbers],
                orders.size[numbers],
                orders.price[numbers],
            )
        return Portfolios(part, portfolios.instrument[rows], portfolios.size[rows], orders)
    if orders is not None:
        sizes = taken(Portfolios(orders.span, orders.instrument, orders.size), row)
        limits = taken(Portfolios(orders.span, orders.instrument, orders.price), row)
        orders = PortfolioOrders(sizes.span, sizes.instrument, sizes.size, limits.size)
    return replace(taken(portfolios, row), orders=orders)
