"""Liquidation of one account inside the njit loop of a backtest of hftbacktest 2.4.4.

A backtest of hftbacktest has a position, a balance and fees for each of its assets, and no collateral and no margin.
`open_account` makes an account of riskcore beside it: the assets of the backtest are markets of a venue, and the
account has cash of its own. Inside the loop `enforce_margin` carries over what was traded, and does at the present
books what the venue does with an account at a maintenance margin ratio of 100 % or above. The page of this module is
docs/hosts/hftbacktest.md.

=====================================  ================================================================================
hftbacktest                            riskcore
=====================================  ================================================================================
``state_values(n).position``           lots of the market, whole
``state_values(n).balance``            money of all trades, a sale above 0, without fees: cash and entry price
``state_values(n).fee``                fees paid out of the cash
middle of the best bid and ask         mark
levels of the local depth              the book that slices fill
``orders(n)`` with a status of open    open orders: they count in the initial margin, a liquidation cancels them
=====================================  ================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hftbacktest.order import BUY, FOK, LIMIT, NEW, NONE, PARTIALLY_FILLED

from .. import scalar
from .._typing import Float, Int
from ..boundary import RiskDataError
from ..kernels import host_rules
from ..kernels._jit import host_function
from ..kernels.host_rules import BALANCE, FEE, LOTS, NOT_LOTS, OTHER_CONTRACT, VALUE, VOLUME
from ..market import PriceMap
from ..scalar import SmallAccount, SmallBooks
from ..venue import Venue
from .by_address import FILLED, SHORTFALL, UNFILLED, ByAddress, asset_of, fee_rate, must_liquidate, shared_fields

__all__ = ["HostAccount", "allows_order", "enforce_margin", "equity", "follow", "mmr", "open_account", "pay_funding"]

_FOREVER = np.int64(2**63 - 1)
_FIRST_ORDER = 1 << 40


class HostAccount(NamedTuple):
    """An account of riskcore beside a backtest of N assets; L levels of a side.

    ==============  ============  ======  ===========================================================================
    account         SmallAccount  ()      the account
    books           SmallBooks    ()      its order books
    market          int64         (N,)    row of the venue's market of each asset
    tick_size       float64       (N,)    of each asset
    lot_size        float64       (N,)    of each asset
    quantum         float64       ()      of the settle asset, units
    fill_at_host    bool          ()      whether the matching of hftbacktest fills the slices
    seen            int64         (N, 3)  lots, quanta of the balance and of the fees that have been carried over
    traded          float64       (N, 2)  volume and value that have been carried over
    levels          int64         (4, L)  ticks and lots of bids and of asks, scratch
    reach           int64         ()      ticks from the best price in which levels are looked for
    next_order      int64         (1,)    id of the next order
    totals          int64         (3,)    lots filled, lots that no book took, shortfall in quanta of the settle asset
    spare           SmallAccount  ()      scratch
    mark, follow, margin, takes, fund, set_book, liquidate  functions  ()  the rules
    ==============  ============  ======  ===========================================================================
    """

    account: SmallAccount
    books: SmallBooks
    market: Int
    tick_size: Float
    lot_size: Float
    quantum: float
    fill_at_host: bool
    seen: Int
    traded: Float
    levels: Int
    reach: int
    next_order: Int
    totals: Int
    spare: SmallAccount
    mark: ByAddress
    follow: ByAddress
    margin: ByAddress
    takes: ByAddress
    fund: ByAddress
    set_book: ByAddress
    liquidate: ByAddress


def open_account(
    hbt: Any,
    venue: Venue,
    markets: Sequence[str],
    marks: PriceMap,
    cash: float,
    *,
    fill_at_host: bool = True,
    levels: int = 50,
    reach: int = 1000,
) -> HostAccount:
    """Make the account of a backtest.

    Parameters
    ----------
    hbt : HashMapMarketDepthBacktest or ROIVectorMarketDepthBacktest
        The backtest; its assets are linear ones with a contract size of 1.
    venue : Venue
        The venue whose rules hold.
    markets : sequence of str
        Market of each asset, in the order of the assets.
    marks : mapping
        First mark of each market, units of the quote: those until the books have two sides.
    cash : float
        Collateral of the account, units of the venue's settle asset.
    fill_at_host : bool
        True: slices go to the matching of hftbacktest, a round of them at a time, as fill-or-kill orders at the best
        price, no larger than its level; what it filled is carried over. False: slices fill in a copy of the local
        depth, level by level, and the fills are written to the state of hftbacktest.
    levels, reach : int
        Most levels of a side that slices fill in the copy, and the ticks from the best price in which they lie.

    Returns
    -------
    HostAccount
        The account, an argument of the loop.

    Raises
    ------
    RiskDataError
        A tick or lot size of an asset is not that of its market, a market is inverse, settles in another asset than the
        venue or occurs twice, the policy has an `account_cap`, or as of `riskcore.scalar.small_account`.
    """
    assets = int(hbt.num_assets)
    fields = shared_fields(
        venue, markets, marks, cash, assets, 1 if fill_at_host else levels, fill_at_host=fill_at_host
    )
    for asset, symbol in enumerate(markets):
        for name in ("tick_size", "lot_size"):
            size, own = getattr(hbt.depth(asset), name), fields[name][asset]
            if abs(size / own - 1.0) > 1e-9:
                raise RiskDataError("hbt", f"asset {asset}, {name}", f"must be {own:g}, that of {symbol}", value=size)
    account, seen, traded = fields["account"], np.zeros((assets, 3), np.int64), np.zeros((assets, 2))
    return HostAccount(
        **fields,
        seen=seen,
        traded=traded,
        levels=np.zeros((4, levels), np.int64),
        reach=reach,
        next_order=np.array([_FIRST_ORDER]),
        follow=ByAddress(host_rules.follow_trades, 0, 0.0, np.zeros(4), account, seen[0], traded[0]),
        fund=ByAddress(scalar.pay_funding, account, 0, 0.0),
    )


@host_function
def equity(host: HostAccount) -> float:
    """Return the equity of the account at the marks of the last call of `follow`, units of the settle asset."""
    return host.margin(host.account).equity * host.quantum


@host_function
def mmr(host: HostAccount) -> float:
    """Return the maintenance margin ratio of the account at the marks of the last call of `follow`."""
    sums = host.margin(host.account)
    return scalar.margin_ratio(sums.maintenance, sums.equity, sums.exposure)


@host_function
def follow(hbt: Any, host: HostAccount) -> None:
    """Carry over what was traded since the last call, and the middles of the books as marks.

    Parameters
    ----------
    hbt : HashMapMarketDepthBacktest or ROIVectorMarketDepthBacktest
        The backtest.
    host : HostAccount
        Its account.

    Raises
    ------
    ValueError
        A position is no whole number of lots, or the value of the trades is not that of a linear asset with a contract
        size of 1.

    Notes
    -----
    Trades in one direction are one fill at their average price. Where an asset was bought and sold, the difference is
    filled at the mark, and what the trades brought beside that is cash: equity and margins are the same.
    """
    account, totals = host.account, np.zeros(4)
    for n in range(host.market.size):
        depth, values = hbt.depth(n), hbt.state_values(n)
        if depth.best_bid > 0.0 and depth.best_ask > 0.0:
            middle = (depth.best_bid_tick + depth.best_ask_tick) / 2
            host.mark(account, host.market[n], host_rules.mark_price(middle, host.tick_size[n]))
        totals[0], totals[1] = values.balance, values.fee
        totals[2], totals[3] = values.trading_volume, values.trading_value
        answer = host.follow(host.market[n], values.position, totals, account, host.seen[n], host.traded[n])
        if answer == NOT_LOTS:
            raise ValueError("a position of hftbacktest is no whole number of lots")
        if answer == OTHER_CONTRACT:
            raise ValueError("a trade of hftbacktest is not of a linear asset with a contract size of 1")


@host_function
def enforce_margin(hbt: Any, host: HostAccount) -> bool:
    """Follow the backtest, and liquidate the account where its maintenance margin ratio is 100 % or above.

    Parameters
    ----------
    hbt : HashMapMarketDepthBacktest or ROIVectorMarketDepthBacktest
        The backtest.
    host : HostAccount
        Its account.

    Returns
    -------
    bool
        Whether the account was liquidating: the strategy then sends no order.

    Raises
    ------
    RuntimeError
        hftbacktest refused an order of a slice, or filled it in parts, which its state forgets.

    Notes
    -----
    Open orders of all assets are cancelled first. The fee of a slice is that of the venue's policy in both ways of
    filling, in place of the taker fee of hftbacktest. A loss beyond the cash of the account is the venue's: the balance
    of the first asset is raised by it, and ``host.totals[2]`` has it in quanta.
    """
    follow(hbt, host)
    if not must_liquidate(host):
        return False
    _cancel_orders(hbt, host.market.size)
    follow(hbt, host)
    if not must_liquidate(host):
        return True
    account, books, rows = host.account, host.books, host.books.rows
    for n in range(host.market.size):
        bids, asks = _read_book(hbt.depth(n), host.lot_size[n], host.reach, books.book.offset[1], host.levels)
        host.set_book(
            account, books, host.market[n],
            host.levels[0][:bids], host.levels[1][:bids], host.levels[2][:asks], host.levels[3][:asks],
        )  # fmt: skip
    done = host.liquidate(host.fill_at_host, account, books, host.spare)
    filled = np.int64(0)
    for row in range(done.rows):
        n = asset_of(rows.market[row], host.market)
        if rows.lots[row] != 0 and host.fill_at_host:
            order = host.next_order[0]
            host.next_order[0] += 1
            rate = fee_rate(row, rows, books.rules)
            if _send_slice(hbt, n, order, rows.lots[row], host.lot_size[n], rate):
                filled += abs(rows.lots[row])
        elif rows.lots[row] != 0:
            money, fee = rows.flow[row] * host.quantum, rows.fee[row] * host.quantum
            _write_trade(hbt, n, rows.lots[row] * host.lot_size[n], money, fee)
            filled += abs(rows.lots[row])
    host.totals[FILLED] += filled
    host.totals[UNFILLED] += done.open_lots
    if host.fill_at_host:
        follow(hbt, host)
        if np.any(account.state.lots):
            return True
        done = host.liquidate(False, account, books, host.spare)  # no position is left: it ends the account
    host.totals[SHORTFALL] += done.shortfall
    hbt.state_values(0).arr[0].balance += done.shortfall * host.quantum
    for n in range(host.market.size):
        _remember(hbt, n, account.state.lots[account.row[host.market[n]]], host.quantum, host.seen, host.traded)
    return True


@host_function
def allows_order(hbt: Any, host: HostAccount, asset: int, quantity: float) -> bool:
    """Return whether the venue takes an order: it raises no exposure, or the initial margin ratio stays below 100 %.

    Parameters
    ----------
    hbt : HashMapMarketDepthBacktest or ROIVectorMarketDepthBacktest
        The backtest.
    host : HostAccount
        Its account.
    asset : int
        Asset of the order.
    quantity : float
        Above 0: a purchase; below 0: a sale.

    Notes
    -----
    The open orders of all assets count as they do at the venue. The rule: docs/one_tick.md.
    """
    follow(hbt, host)
    for other in range(host.market.size):
        if other != asset:
            bid, ask = _open_lots(hbt.orders(other).values(), host.lot_size[other])
            host.takes(host.market[other], bid, ask, np.int64(0), host.account)
    bid, ask = _open_lots(hbt.orders(asset).values(), host.lot_size[asset])
    lots = np.int64(np.rint(quantity / host.lot_size[asset]))
    return host.takes(host.market[asset], bid, ask, lots, host.account)


@host_function
def pay_funding(hbt: Any, host: HostAccount, asset: int, rate: float) -> float:
    """Pay the funding of an asset at the present mark, which hftbacktest does not know.

    Parameters
    ----------
    hbt : HashMapMarketDepthBacktest or ROIVectorMarketDepthBacktest
        The backtest.
    host : HostAccount
        Its account.
    asset : int
        The asset.
    rate : float
        Fraction of the notional; above 0 a long pays.

    Returns
    -------
    float
        Money received; negative: paid. The balance of the asset changes by it.
    """
    follow(hbt, host)
    quanta = host.fund(host.account, host.market[asset], rate)
    hbt.state_values(asset).arr[0].balance += quanta * host.quantum
    host.seen[asset, BALANCE] += quanta
    return quanta * host.quantum


@host_function
def _remember(hbt: Any, n: int, lots: int, quantum: float, seen: Int, traded: Float) -> None:
    """Take the present state of an asset as carried over."""
    values = hbt.state_values(n)
    seen[n, LOTS] = lots
    seen[n, BALANCE] = np.int64(np.rint(values.balance / quantum))
    seen[n, FEE] = np.int64(np.rint(values.fee / quantum))
    traded[n, VOLUME], traded[n, VALUE] = values.trading_volume, values.trading_value


@host_function
def _write_trade(hbt: Any, n: int, quantity: float, money: float, fee: float) -> None:
    """Write a fill of the account to the state of hftbacktest."""
    state = hbt.state_values(n).arr
    state[0].position += quantity
    state[0].balance += money
    state[0].fee += fee
    state[0].num_trades += 1
    state[0].trading_volume += abs(quantity)
    state[0].trading_value += abs(money)


@host_function
def _open_lots(values: Any, lot_size: float) -> Any:
    """Lots of the open purchases and sales of an asset, those on their way to the exchange among them."""
    bid, ask = np.int64(0), np.int64(0)
    while values.has_next():
        order = values.get()
        if order.status == NEW or order.status == PARTIALLY_FILLED or order.req == NEW:
            lots = np.int64(np.rint(order.leaves_qty / lot_size))
            if order.side == BUY:
                bid += lots
            else:
                ask += lots
    return bid, ask


@host_function
def _cancel_orders(hbt: Any, assets: int) -> None:
    """Cancel the open orders of all assets, those on their way to the exchange as soon as they are there."""
    for n in range(assets):
        ids, count = np.zeros(len(hbt.orders(n)), np.uint64), 0
        values = hbt.orders(n).values()
        while values.has_next():
            order = values.get()
            if order.status == NEW or order.status == PARTIALLY_FILLED or order.req != NONE:
                ids[count] = order.order_id
                count += 1
        for i in range(count):
            order = hbt.orders(n).get(ids[i])
            if order is not None and order.req != NONE:
                hbt.wait_order_response(n, ids[i], _FOREVER)
                order = hbt.orders(n).get(ids[i])
            if order is not None and order.cancellable:
                hbt.cancel(n, ids[i], True)


@host_function
def _read_book(depth: Any, lot_size: float, reach: int, most: int, levels: Int) -> Any:
    """Copy the best levels of a local depth; returns the numbers of bids and of asks."""
    bids = asks = 0
    for away in range(reach):
        if depth.best_bid > 0.0 and bids < most:
            tick = depth.best_bid_tick - away
            lots = host_rules.whole_part(depth.bid_qty_at_tick(tick), lot_size)
            if lots > 0:
                levels[0, bids], levels[1, bids], bids = tick, lots, bids + 1
        if depth.best_ask > 0.0 and asks < most:
            tick = depth.best_ask_tick + away
            lots = host_rules.whole_part(depth.ask_qty_at_tick(tick), lot_size)
            if lots > 0:
                levels[2, asks], levels[3, asks], asks = tick, lots, asks + 1
    return bids, asks


@host_function
def _send_slice(hbt: Any, n: int, order: int, lots: int, lot_size: float, fee_rate: float) -> bool:
    """Send a slice to the matching of hftbacktest, and charge the fee of the policy; returns whether it was filled."""
    before = hbt.state_values(n)
    position, balance, fee = before.position, before.balance, before.fee
    if lots < 0:
        answer = hbt.submit_sell_order(n, order, hbt.depth(n).best_bid, -lots * lot_size, FOK, LIMIT, True)
    else:
        answer = hbt.submit_buy_order(n, order, hbt.depth(n).best_ask, lots * lot_size, FOK, LIMIT, True)
    if answer > 1:
        raise RuntimeError("hftbacktest refused an order of a liquidation")
    after = hbt.state_values(n)
    filled = np.rint((after.position - position) / lot_size)
    if filled != 0.0 and filled != lots:
        raise RuntimeError("hftbacktest filled an order in parts, which its state forgets")
    if filled != 0.0:
        after.arr[0].fee = fee + abs(after.balance - balance) * fee_rate
    return filled != 0.0
