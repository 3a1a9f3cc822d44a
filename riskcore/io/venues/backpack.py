"""Backpack: saved replies of its API as a venue, and an account of it as a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any, Literal

import msgspec

from ...boundary import Payload, RiskDataError, json_input
from ...venue import Sqrt, Venue, shipped
from ...venue import load_venue as venue_of
from ..books import book_of
from .parameters import at_face_value
from .replies import DIGITS, CamelRow, check_total, perpetuals
from .snapshot import Figure, Snapshot, snapshot

_ROUNDING = Decimal("1e-7")  # of the amounts of a total, and of a dollar: figures are sent with 6 decimals and more
_MOVE = Decimal("0.02")  # of a notional, between replies of different moments
_GAP = Decimal("0.05")  # of the exposure: largest part that may be missing in the replies


class _Asset(CamelRow):
    symbol: str


class _Balance(CamelRow):
    available: Decimal
    locked: Decimal
    staked: Decimal


class _Collateral(CamelRow):
    symbol: str
    asset_mark_price: Decimal
    total_quantity: Decimal
    lend_quantity: Decimal
    balance_notional: Decimal | None = None
    collateral_weight: Decimal | None = None
    collateral_value: Decimal | None = None


class _Margin(CamelRow):
    collateral: list[_Collateral]
    net_equity: Decimal
    unsettled_equity: Decimal
    imf: Decimal
    mmf: Decimal
    margin_fraction: Decimal | None = None
    assets_value: Decimal | None = None
    borrow_liability: Decimal | None = None
    liabilities_value: Decimal | None = None
    pnl_unrealized: Decimal | None = None
    net_equity_available: Decimal | None = None
    net_equity_locked: Decimal | None = None


class _Position(CamelRow):
    symbol: str
    net_quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    pnl_unrealized: Decimal
    est_liquidation_price: Decimal | None = None
    imf_function: Sqrt | None = None
    mmf_function: Sqrt | None = None


class _BorrowLend(CamelRow):
    symbol: str
    net_quantity: Decimal
    mark_price: Decimal
    imf_function: Sqrt | None = None
    mmf_function: Sqrt | None = None


class _Order(CamelRow):
    symbol: str
    side: Literal["Bid", "Ask"]
    price: Decimal | None = None
    quantity: Decimal | None = None
    executed_quantity: Decimal | None = None
    reduce_only: bool | None = None
    status: str | None = None


class _Account(CamelRow):
    leverage_limit: Decimal


class _MarkPrice(CamelRow):
    symbol: str
    mark_price: Decimal


class _Depth(CamelRow):
    bids: list[tuple[Any, Any]]
    asks: list[tuple[Any, Any]]
    timestamp: int | None = None


def preset() -> dict[str, Any]:
    """Return published parameters for `load_venue`, each row with its ``source`` and ``date``.

    The keys are ``markets`` and ``collateral``: a few of the venue's markets and assets, no account data. For work on
    a live account, save the replies of the API of that moment instead.

    Returns
    -------
    dict
        Rows of ``markets`` and ``collateral``.

    Examples
    --------
    >>> from riskcore.io import backpack
    >>> [row["symbol"] for row in backpack.preset()["collateral"]]
    ['USDC', 'SOL']
    """
    content = shipped("backpack")
    return {name: content[name] for name in ("markets", "collateral")}


def load_venue(
    markets: Payload,
    collateral: Payload,
    *,
    settle_asset: str = "USDC",
    borrow_lend: Payload | None = None,
    policy: Mapping[str, Any] | None = None,
    backstop: Sequence[Mapping[str, Any]] | None = None,
) -> Venue:
    """Build a venue from saved replies, files or their parsed content.

    Parameters
    ----------
    markets : str, Path, dict or list
        Of GET /api/v1/markets, or of /api/v1/market. Rows with ``marketType`` PERP become markets; rows of contracts
        that expire, which the reply describes in no terms that riskcore reads, are left out.
    collateral : str, Path or list
        Of GET /api/v1/collateral.
    settle_asset : str
        Symbol of the asset that PnL is settled in.
    borrow_lend : str, Path or list, optional
        Of GET /api/v1/borrowLend/markets; rows of assets that are no collateral are left out. ``lentQuantity`` and
        ``borrowedQuantity`` are taken as those of accounts outside the run, as everywhere in riskcore: where the run's
        own accounts are a large part of the pool, subtract them first.
    policy, backstop : mapping and sequence of mapping, optional
        As `riskcore.load_venue` takes them; the API does not say them.

    Returns
    -------
    Venue
        The venue.

    Raises
    ------
    RiskDataError
        A reply cannot be read, or something is missing, of another type or out of range; the message holds its path.

    Examples
    --------
    >>> from riskcore.io import backpack
    >>> backpack.load_venue(**backpack.preset())
    Venue(4 markets: BTC_USDC_PERP, ETH_USDC_PERP, SOL_USDC_PERP, ...; 2 assets, settles in USDC, fund 0)
    """
    rows = json_input.raw(markets, "markets")
    source = {
        "settle_asset": settle_asset,
        "markets": [rows] if isinstance(rows, dict) else [row for row in rows if not _expires(row)],
        "collateral": json_input.raw(collateral, "collateral"),
        "policy": policy or {},
        "backstop": backstop or [],
    }
    if borrow_lend is not None:
        assets = {row.symbol for row in json_input.read(source["collateral"], list[_Asset], "collateral")} | {
            settle_asset
        }
        pools = json_input.raw(borrow_lend, "borrow_lend")
        named = json_input.read(pools, list[_Asset], "borrow_lend")
        source["borrow_lend"] = [pool for pool, row in zip(pools, named, strict=True) if row.symbol in assets]
    return venue_of(source)


def _expires(row: Any) -> bool:
    return isinstance(row, dict) and row.get("marketType") in ("DATED", "IDATED", "OPTION")


def read_book(depth: Payload) -> dict[str, Any]:
    """Read the order book in a saved reply, a file or its parsed content.

    Parameters
    ----------
    depth : str, Path or dict
        Of GET /api/v1/depth: its bids ascend, the best comes last. Its ``timestamp`` is in microseconds.

    Returns
    -------
    dict
        bids and asks, (price, quantity) with the best level first, as `riskcore.Tick` takes the book of a market; and
        time, nanoseconds since the epoch, for its ``book_times``, None where it is not known.

    Raises
    ------
    RiskDataError
        It cannot be read, something is missing or of another type, or a side is not sorted; the message holds the path.

    Examples
    --------
    >>> from riskcore.io import backpack
    >>> backpack.read_book({"bids": [["99.8", "2"], ["99.9", "1"]], "asks": [["100.1", "3"]]})
    {'bids': [(99.9, 1.0), (99.8, 2.0)], 'asks': [(100.1, 3.0)], 'time': None}
    """
    book = json_input.read(depth, _Depth, "depth")
    time = None if book.timestamp is None else book.timestamp * 1000
    return book_of("depth", {"$.bids": book.bids, "$.asks": book.asks}, time, ascending_bids=True)


def load_account(
    venue: Venue,
    *,
    capital: Payload,
    positions: Payload | None = None,
    borrow_lend: Payload | None = None,
    orders: Payload | None = None,
    summary: Payload | None = None,
    mark_prices: Payload | None = None,
    asset_prices: Mapping[str, Any] | None = None,
    account: int | str = "account",
) -> Snapshot:
    """Build a snapshot of one account from saved replies, files or their parsed content.

    An account may hold and borrow an asset at once, here a balance is one signed number: such an account gets the
    debt as its balance and everything it holds as lent, which has the same margin (but in an `Engine` lends bear
    interest and count in their pool). The settle asset is worth 1.

    Parameters
    ----------
    venue : Venue
        Of `load_venue`. Its backstop providers are left out. Margin functions that stand in the account's own positions
        and borrows are taken before the venue's: they are those in force for this account at that moment.
    capital : str, Path or dict
        Of GET /api/v1/capital/collateral; or of /api/v1/capital, whose balances have no prices and whose lends stand in
        ``borrow_lend`` alone. Of the latter, assets that are no collateral are left out and staked amounts count.
    positions : str, Path or list, optional
        Of GET /api/v1/position. The PnL since the last realisation is the reported one. Needed where ``capital`` says
        PnL, as ``borrow_lend`` is where it says a borrow; between these replies prices may move by 2 %.
    borrow_lend : str, Path or list, optional
        Of GET /api/v1/borrowLend/positions.
    orders : str, Path or list, optional
        Of GET /api/v1/orders. Orders of spot markets and orders that wait for a trigger are left out.
    summary : str, Path or dict, optional
        Of GET /api/v1/account, for the leverage limit.
    mark_prices : str, Path or list, optional
        Of GET /api/v1/markPrices: for markets in which the account has an order and no position.
    asset_prices : mapping of str to float, optional
        By symbol, before those of the replies.
    account : int or str
        Id of the account.

    Returns
    -------
    Snapshot
        The account, the prices of the replies, and the figures that the venue reports.

    Raises
    ------
    RiskDataError
        A reply cannot be read, something is missing, of another type or out of range, or names a market or an asset
        that is not the venue's; a total differs from the sum of its rows, or implies positions or borrows that are not
        in the replies. The message holds the path.

    Examples
    --------
    >>> from riskcore.io import backpack
    >>> venue = backpack.load_venue(**backpack.preset())
    >>> usdc = {"symbol": "USDC", "assetMarkPrice": "1", "totalQuantity": "500", "lendQuantity": "0"}
    >>> equity = {"netEquity": "450", "unsettledEquity": "0", "imf": "0.05", "mmf": "0.03", "pnlUnrealized": "-50"}
    >>> prices = {"entryPrice": "200", "markPrice": "195", "pnlUnrealized": "-50"}
    >>> positions = [{"symbol": "SOL_USDC_PERP", "netQuantity": "10"} | prices]
    >>> snapshot = backpack.load_account(venue, capital={"collateral": [usdc]} | equity, positions=positions)
    >>> snapshot.compare()[["figure", "value", "riskcore"]].round(6).to_dict("records")
    [{'figure': 'net_equity', 'value': 450.0, 'riskcore': 450.0}]
    """
    with localcontext(prec=DIGITS):
        limit = None if summary is None else json_input.read(summary, _Account, "summary").leverage_limit
        margin, balances, prices = _holdings(venue, capital)
        assets: dict[str, dict[str, Any]] = {row["symbol"]: dict(row) for row in venue.source["collateral"]}
        assets.setdefault(venue.settle_asset, at_face_value(venue.settle_asset))
        debts = _read(borrow_lend, list[_BorrowLend], "borrow_lend")
        _lend_and_borrow(assets, balances, debts, counted=margin is not None)
        prices = {row.symbol: row.mark_price for row in debts} | prices
        usable = {a: price for a, price in prices.items() if price > 0 and a in assets and a != venue.settle_asset}
        markets = perpetuals(venue)
        marks = {row.symbol: row.mark_price for row in _read(mark_prices, list[_MarkPrice], "mark_prices")}
        futures = _read(positions, list[_Position], "positions")
        marks |= {row.symbol: row.mark_price for row in futures}
        rows = [{"account": account} | row for row in _positions(markets, futures)]
        resting = _orders(markets, marks, orders)
        if margin is not None:
            _check_margin(margin)
            _check_beside(margin, futures, debts, resting, marks)
        settings = {"account": account, "unsettled": margin.unsettled_equity if margin else Decimal(0)}
        if limit is not None:
            settings["leverage_limit"] = limit
        return snapshot(
            dict(venue.source)
            | {"markets": list(markets.values()), "collateral": list(assets.values()), "backstop": []},
            rows,
            [
                {"account": account, "asset": symbol, "quantity": free, "lent": lent}
                for symbol, (free, lent) in balances.items()
            ],
            {symbol: mark for symbol, mark in marks.items() if symbol in markets and mark > 0},
            _reported(account, margin, futures),
            asset_prices=usable | dict(asset_prices or {}),
            orders=[{"account": account} | row for row in resting],
            settings=[settings],
        )


def _read(source: Payload | None, shape: type[json_input.T], name: str) -> json_input.T:
    return json_input.read([] if source is None else source, shape, name)


def _holdings(
    venue: Venue, capital: Payload
) -> tuple[_Margin | None, dict[str, tuple[Decimal, Decimal]], dict[str, Decimal]]:
    """Read the margin summary if the reply has it, free and lent quantity of each asset, and the prices in it."""
    content = json_input.raw(capital, "capital")
    known = venue.assets.symbol
    amounts = {venue.settle_asset: (Decimal(0), Decimal(0))}
    if isinstance(content, dict) and (not content or any(isinstance(value, dict) for value in content.values())):
        balances = json_input.keyed(content, _Balance, "capital", "$")
        for symbol, row in balances.items():
            if symbol in known:
                amounts[symbol] = (row.available + row.locked + row.staked, Decimal(0))
        return None, amounts, {}
    margin = json_input.read(content, _Margin, "capital")
    prices: dict[str, Decimal] = {}
    for n, asset in enumerate(margin.collateral):
        path = f"$.collateral[{n}]"
        if not 0 <= asset.lend_quantity <= asset.total_quantity:
            rule = "must be from 0 to totalQuantity"
            raise RiskDataError("capital", f"{path}.lendQuantity", rule, value=str(asset.lend_quantity))
        if asset.symbol in prices:
            raise RiskDataError("capital", f"{path}.symbol", "must not appear twice", value=asset.symbol)
        if asset.total_quantity and asset.symbol not in known:
            rule = "must be a collateral asset of the venue"
            raise RiskDataError("capital", f"{path}.symbol", rule, value=asset.symbol)
        prices[asset.symbol] = asset.asset_mark_price
        if asset.symbol in known:
            amounts[asset.symbol] = (asset.total_quantity - asset.lend_quantity, asset.lend_quantity)
    return margin, amounts, prices


def _check_margin(margin: _Margin) -> None:
    """Hold the totals of the margin summary against its own rows.

    Raises
    ------
    RiskDataError
        A total differs from the sum of its rows.
    """

    def check(path: str, total: Decimal | None, parts: Sequence[Decimal | None], what: str) -> None:
        present = [part for part in parts if part is not None]
        if len(present) == len(parts):
            slack = _ROUNDING * (1 + sum(map(abs, present), Decimal(0)))
            check_total("capital", path, total, sum(present, Decimal(0)), slack, what)

    for n, row in enumerate(margin.collateral):
        path = f"$.collateral[{n}]"
        notional = row.total_quantity * row.asset_mark_price
        check(f"{path}.balanceNotional", row.balance_notional, [notional], "totalQuantity * assetMarkPrice")
        if row.collateral_weight is not None:
            value = notional * row.collateral_weight
            check(f"{path}.collateralValue", row.collateral_value, [value], "balanceNotional * collateralWeight")
    values = [row.collateral_value for row in margin.collateral]
    check("$.assetsValue", margin.assets_value, values, "the sum of collateralValue; an asset is missing")
    gains = [margin.assets_value, margin.pnl_unrealized, margin.unsettled_equity]
    what = "assetsValue + pnlUnrealized + unsettledEquity - borrowLiability"
    owed = [debt for debt in (margin.borrow_liability, margin.liabilities_value) if debt is not None]
    if None not in gains and owed:  # whether other liabilities hold the borrows is not published
        before = sum((gain for gain in gains if gain is not None), Decimal(0))
        debt = min(owed, key=lambda debt: abs(before - debt - margin.net_equity))
        check("$.netEquity", margin.net_equity, [*gains, -debt], what)
    free = [margin.net_equity, None if margin.net_equity_locked is None else -margin.net_equity_locked]
    if None not in free and margin.net_equity_available:  # nothing less than 0 is available
        check("$.netEquityAvailable", margin.net_equity_available, free, "netEquity - netEquityLocked")


def _check_beside(
    margin: _Margin,
    futures: Sequence[_Position],
    debts: Sequence[_BorrowLend],
    orders: Sequence[Mapping[str, Any]],
    marks: Mapping[str, Decimal],
) -> None:
    """Hold the margin summary against the positions, borrows and orders of the other replies.

    Raises
    ------
    RiskDataError
        They are further apart than prices move between two replies.
    """
    notional = sum((abs(row.net_quantity) * row.mark_price for row in futures), Decimal(0))
    profit = sum((row.pnl_unrealized for row in futures), Decimal(0))
    what = "the sum of pnlUnrealized in positions; that reply is missing, or of another moment or account"
    check_total("capital", "$.pnlUnrealized", margin.pnl_unrealized, profit, _MOVE * notional + _ROUNDING, what)
    owed = sum((-row.net_quantity * row.mark_price for row in debts if row.net_quantity < 0), Decimal(0))
    what = "the value of the borrows in borrow_lend; that reply is missing, or of another moment or account"
    check_total("capital", "$.borrowLiability", margin.borrow_liability, owed, _MOVE * owed + _ROUNDING, what)
    if margin.margin_fraction:
        exposure = margin.net_equity / margin.margin_fraction
        order_notional = sum((order["quantity"] * marks[order["market"]] for order in orders), Decimal(0))
        if notional + owed + order_notional < (1 - _GAP) * exposure:
            rule = f"is that of an exposure of {exposure:f}, and positions, borrows and orders make"
            rule += f" {notional + owed + order_notional:f}: one of these replies is missing"
            value = f"{margin.margin_fraction:f}"
            raise RiskDataError("capital", "$.marginFraction", rule, value=value)


def _lend_and_borrow(
    assets: Mapping[str, dict[str, Any]],
    balances: dict[str, tuple[Decimal, Decimal]],
    debts: list[_BorrowLend],
    *,
    counted: bool,
) -> None:
    """Put debts into the balances, and lends unless the balances have them already (``counted``)."""
    seen: set[str] = set()
    for n, row in enumerate(debts):
        path = f"$[{n}]"
        if row.symbol in seen:
            raise RiskDataError("borrow_lend", f"{path}.symbol", "must not appear twice", value=row.symbol)
        seen.add(row.symbol)
        free, lent = balances.get(row.symbol, (Decimal(0), Decimal(0)))
        if row.net_quantity < 0:
            if row.symbol not in assets:
                rule = "must be a collateral asset of the venue"
                raise RiskDataError("borrow_lend", f"{path}.symbol", rule, value=row.symbol)
            _in_force(assets[row.symbol], row)
            balances[row.symbol] = (row.net_quantity, free + lent)
        elif not counted and row.symbol in assets:
            balances[row.symbol] = (free, row.net_quantity)


def _in_force(row: dict[str, Any], sent: _Position | _BorrowLend) -> None:
    """Give a market or asset the margin functions that the venue says are in force for this account."""
    for name, function in (("imfFunction", sent.imf_function), ("mmfFunction", sent.mmf_function)):
        if function is not None:
            row[name] = msgspec.to_builtins(function)


def _positions(markets: Mapping[str, dict[str, Any]], futures: list[_Position]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for n, row in enumerate(futures):
        path = f"$[{n}]"
        if row.net_quantity == 0:
            continue
        if row.symbol not in markets:
            raise RiskDataError(
                "positions", f"{path}.symbol", "must be a perpetual market of the venue", value=row.symbol
            )
        _in_force(markets[row.symbol], row)
        rows.append(
            {
                "market": row.symbol,
                "quantity": row.net_quantity,
                "entry_price": row.entry_price,
                "settle_price": row.mark_price - row.pnl_unrealized / row.net_quantity,
            }
        )
    return rows


def _orders(
    markets: Mapping[str, Mapping[str, Any]], marks: Mapping[str, Decimal], orders: Payload | None
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for n, row in enumerate(_read(orders, list[_Order], "orders")):
        path = f"$[{n}]"
        open_quantity = (row.quantity or Decimal(0)) - (row.executed_quantity or Decimal(0))
        if open_quantity <= 0 or row.status == "TriggerPending":
            continue
        if row.symbol not in markets:
            if row.symbol.count("_") > 1:  # spot is BASE_QUOTE
                rule = "must be a perpetual market of the venue"
                raise RiskDataError("orders", f"{path}.symbol", rule, value=row.symbol)
            continue
        if row.symbol not in marks:
            rule = "needs a mark price: the account has no position in this market; pass mark_prices"
            raise RiskDataError("orders", f"{path}.symbol", rule, value=row.symbol)
        if row.price is None:
            raise RiskDataError("orders", f"{path}.price", "must not be missing")
        rows.append(
            {
                "market": row.symbol,
                "side": row.side.lower(),
                "price": row.price,
                "quantity": open_quantity,
                "reduce_only": bool(row.reduce_only),
            }
        )
    return rows


def _reported(account: int | str, margin: _Margin | None, futures: list[_Position]) -> list[Figure]:
    figures: list[Figure] = []
    if margin is not None:
        figures.append((account, None, "net_equity", margin.net_equity))
        if margin.margin_fraction:
            exposure = margin.net_equity / margin.margin_fraction
            figures.append((account, None, "exposure", exposure))
            figures.append((account, None, "initial_margin", margin.imf * exposure))
            figures.append((account, None, "maintenance_margin", margin.mmf * exposure))
    rows = [row for row in futures if row.net_quantity and row.est_liquidation_price and row.est_liquidation_price > 0]
    return figures + [(account, row.symbol, "liquidation_price", row.est_liquidation_price) for row in rows]
