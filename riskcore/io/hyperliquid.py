"""Hyperliquid: the margin rules in a saved ``meta`` reply, and the account in a saved ``clearinghouseState`` reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Annotated, Any, Literal

import msgspec

from .. import payload
from ..errors import RiskDataError
from ..payload import Payload, Row
from ..venue import Venue
from .books import book_of
from .parameters import settle_only, shipped
from .snapshot import Snapshot, snapshot

_META, _STATE, _ORDERS = "meta", "clearinghouseState", "openOrders"
_DIGITS = 40  # of the arithmetic on a payload's amounts

_PRICE_DECIMALS = 6  # together with szDecimals
_HEADROOM = 100  # what later marks may be of the mark in the reply
_SIDES = {"B": "bid", "A": "ask"}

Leverage = Annotated[int, msgspec.Meta(ge=1)]
Decimals = Annotated[int, msgspec.Meta(ge=0, le=12)]


class _Row(Row, rename="camel"):
    """Part of a reply."""


class _Tier(_Row):
    lower_bound: Decimal
    max_leverage: Leverage


class _Table(_Row):
    margin_tiers: Annotated[list[_Tier], msgspec.Meta(min_length=1)]


class _Asset(_Row):
    name: str
    sz_decimals: Decimals
    max_leverage: Leverage
    margin_table_id: int | None = None


class _Meta(_Row):
    universe: list[_Asset]
    margin_tables: list[tuple[int, _Table]] = msgspec.field(default_factory=list)


class _Context(_Row):
    mark_px: Decimal | None


class _Cross(_Row, tag_field="type", tag="cross"):
    pass


class _Isolated(_Row, tag_field="type", tag="isolated"):
    raw_usd: Decimal


class _Position(_Row):
    coin: str
    szi: Decimal
    leverage: _Cross | _Isolated
    position_value: Decimal
    margin_used: Decimal
    entry_px: Decimal | None = None
    liquidation_px: Decimal | None = None
    max_leverage: Leverage | None = None


class _Held(_Row):
    position: _Position


class _Summary(_Row):
    account_value: Decimal
    total_ntl_pos: Decimal
    total_raw_usd: Decimal


class _State(_Row):
    asset_positions: list[_Held]
    cross_margin_summary: _Summary
    cross_maintenance_margin_used: Decimal | None = None


class _Order(_Row):
    coin: str
    side: Literal["A", "B"]
    limit_px: Decimal
    sz: Decimal
    reduce_only: bool | None = None
    is_trigger: bool | None = None


class _Level(Row):
    px: Decimal
    sz: Decimal


class _Depth(Row):
    levels: tuple[list[_Level], list[_Level]]
    time: int | None = None


def preset() -> dict[str, Any]:
    """Return published parameters for `load_venue`, with their ``source`` and ``date``.

    A few of the venue's markets and their margin tables, in the shape of ``meta``; no account data. For work on a live
    account, save the replies of the API of that moment instead.
    """
    return shipped("hyperliquid")


def load_venue(
    meta: Payload,
    *,
    settle_asset: str = "USDC",
    policy: Mapping[str, Any] | None = None,
    backstop: Sequence[Mapping[str, Any]] | None = None,
) -> Venue:
    """Build a venue from a saved reply, a file or its parsed content.

    The maintenance rate of a tier is half of 1 / maxLeverage, with the deductions that leave no step between tiers; the
    initial rate is 1 / maxLeverage of the whole notional. Leverage that a user chose below that is not modelled.

    Parameters
    ----------
    meta
        Of ``meta`` or ``metaAndAssetCtxs``. A market whose margin table is not listed (ids below 50 never are) has one
        tier, of its ``maxLeverage``.
    settle_asset
        Symbol of the asset that PnL is settled in.
    policy, backstop
        As `riskcore.load_venue` takes them; the API does not say them.

    Raises
    ------
    RiskDataError
        The reply cannot be read, or something is missing, of another type or out of range; the message holds its path.
    """
    found = _meta(meta)[0]
    tables = {
        number: [(t.lower_bound, t.max_leverage) for t in table.margin_tiers] for number, table in found.margin_tables
    }
    for at, asset in enumerate(found.universe):
        if asset.name in (other.name for other in found.universe[:at]):
            raise RiskDataError(_META, f"$.universe[{at}].name", "must not stand twice", value=asset.name)
    markets = {
        asset.name: (asset.sz_decimals, tables.get(asset.margin_table_id or 0) or [(Decimal(0), asset.max_leverage)])
        for asset in found.universe
    }
    return _venue(markets, settle_asset, policy, backstop)


def venue_of_state(
    state: Payload,
    *,
    settle_asset: str = "USDC",
    policy: Mapping[str, Any] | None = None,
    backstop: Sequence[Mapping[str, Any]] | None = None,
) -> Venue:
    """Build a venue from nothing but an account: for a saved ``clearinghouseState`` without its ``meta``.

    It has the markets of the positions, each with one tier, of the position's ``maxLeverage``: right up to the market's
    second tier, too little margin above. A lot is the last digit of the position.

    Parameters
    ----------
    state
        Of ``clearinghouseState``, with at least one position.
    settle_asset, policy, backstop
        As of `load_venue`.

    Raises
    ------
    RiskDataError
        The reply cannot be read, or something is missing, of another type or out of range; the message holds its path.
    """
    markets = {}
    for at, position in _positions(payload.read(state, _State, _STATE)):
        if position.max_leverage is None:
            rule = "must not be missing without a meta reply"
            raise RiskDataError(_STATE, _path(at, "maxLeverage"), rule)
        decimals = max(0, -int(position.szi.normalize().as_tuple().exponent))
        markets[position.coin] = (decimals, [(Decimal(0), position.max_leverage)])
    return _venue(markets, settle_asset, policy, backstop)


def marks(meta_and_contexts: Payload) -> dict[str, float]:
    """Mark prices by symbol in a saved reply, a file or its parsed content.

    Parameters
    ----------
    meta_and_contexts
        Of ``metaAndAssetCtxs``.

    Raises
    ------
    RiskDataError
        The reply cannot be read, or something is missing, of another type or out of range; the message holds its path.
    """
    found, contexts = _meta(meta_and_contexts)
    if len(contexts) != len(found.universe):
        raise RiskDataError(_META, "$[1]", "must hold a context for each market", value=len(contexts))
    pairs = zip(found.universe, contexts, strict=True)
    return {asset.name: float(context.mark_px) for asset, context in pairs if context.mark_px is not None}


def read_book(l2_book: Payload) -> dict[str, Any]:
    """Read the order book in a saved reply, a file or its parsed content.

    Parameters
    ----------
    l2_book
        Of ``l2Book``: bids and then asks. Its ``time`` is in milliseconds.

    Returns
    -------
    dict
        bids and asks, (price, quantity) with the best level first, as `riskcore.Tick` takes the book of a market; and
        time, nanoseconds since the epoch, for its ``book_times``, None where it is not known.

    Raises
    ------
    RiskDataError
        It cannot be read, something is missing or of another type, or a side is not sorted; the message holds the path.
    """
    found = payload.read(l2_book, _Depth, "l2Book")
    sides = {f"$.levels[{at}]": [(row.px, row.sz) for row in rows] for at, rows in enumerate(found.levels)}
    return book_of("l2Book", sides, None if found.time is None else found.time * 1_000_000)


def load_account(
    venue: Venue,
    state: Payload,
    *,
    orders: Payload | None = None,
    mark_prices: Mapping[str, Any] | None = None,
    account: int | str = "account",
) -> Snapshot:
    """Build a snapshot of one account from saved replies, files or their parsed content.

    The cross positions share one account; each isolated position is another, ``<account>:<coin>``, with its own margin.
    PnL counts as realised at the reply's marks (``positionValue / |szi|``), so that no balance is negative while the
    equity is not: Hyperliquid has no borrows. Entry prices stay.

    ``crossMaintenanceMarginUsed`` is cut to six decimals by the venue. A reply of 2023, whose positions have no
    ``maxLeverage``, has none, and liquidation prices that leave out how the position's own maintenance margin changes
    on the way: these are not in ``reported``. The reply of a unified or portfolio margin account does not hold its
    balance.

    Parameters
    ----------
    venue
        Of `load_venue` or `venue_of_state`. Its backstop providers are left out.
    state
        Of ``clearinghouseState``.
    orders
        Of ``openOrders`` or ``frontendOpenOrders``. Spot orders and those that wait for a trigger are left out. An
        order in the market of an isolated position belongs to its account, any other to the cross account.
    mark_prices
        By symbol (`marks`): for markets in which there is an order and no position.
    account
        Id of the cross account, made text.

    Raises
    ------
    RiskDataError
        A reply cannot be read, something is missing, of another type or out of range, or names a market that is not the
        venue's; the message holds its path.
    """
    account = str(account)
    with localcontext(prec=_DIGITS):
        found = payload.read(state, _State, _STATE)
        cross = found.cross_margin_summary
        balance = {account: cross.total_raw_usd}
        reported: list[tuple[int | str, str | None, str, Any]] = [
            (account, None, "net_equity", cross.account_value),
            (account, None, "exposure", cross.total_ntl_pos),
        ]
        if found.cross_maintenance_margin_used is not None:
            reported.append((account, None, "maintenance_margin", found.cross_maintenance_margin_used))
        held: dict[str, dict[str, Any]] = {}
        for at, position in _positions(found):
            coin, worth, owner = position.coin, position.position_value, account
            if coin not in venue.markets.symbol:
                raise RiskDataError(_STATE, _path(at, "coin"), "must be a market of the venue", value=coin)
            if coin in held:
                raise RiskDataError(_STATE, _path(at, "coin"), "must not stand twice", value=coin)
            if worth <= 0:
                raise RiskDataError(_STATE, _path(at, "positionValue"), "must be > 0", value=str(worth))
            if isinstance(position.leverage, _Isolated):
                owner = f"{account}:{coin}"
                balance[owner] = position.leverage.raw_usd
                reported.append((owner, None, "net_equity", position.margin_used))
                reported.append((owner, None, "exposure", worth))
            if position.liquidation_px is not None and position.max_leverage is not None:
                reported.append((owner, coin, "liquidation_price", position.liquidation_px))
            balance[owner] += worth.copy_sign(position.szi)
            mark = worth / abs(position.szi)
            entry = mark if position.entry_px is None else position.entry_px
            row = {"account": owner, "market": coin, "quantity": position.szi, "entry_price": entry}
            held[coin] = row | {"settle_price": mark}
        prices = dict(mark_prices or {}) | {coin: row["settle_price"] for coin, row in held.items()}
        return snapshot(
            _source(venue, {coin: row["settle_price"] for coin, row in held.items()}),
            list(held.values()),
            [{"account": name, "asset": venue.settle_asset, "quantity": free} for name, free in balance.items()],
            {coin: price for coin, price in prices.items() if coin in venue.markets.symbol},
            reported,
            orders=_resting(venue, orders, {coin: row["account"] for coin, row in held.items()}, account),
        )


def _meta(source: Payload) -> tuple[_Meta, list[_Context]]:
    content = payload.raw(source, _META)
    if isinstance(content, list):
        return payload.read(content, tuple[_Meta, list[_Context]], _META)
    return payload.read(content, _Meta, _META), []


def _positions(state: _State) -> list[tuple[int, _Position]]:
    """Positions that are not flat, each with its place in the reply."""
    return [(at, held.position) for at, held in enumerate(state.asset_positions) if held.position.szi]


def _path(at: int, name: str) -> str:
    return f"$.assetPositions[{at}].position.{name}"


def _venue(
    markets: Mapping[str, tuple[int, list[tuple[Decimal, int]]]],
    settle_asset: str,
    policy: Mapping[str, Any] | None,
    backstop: Sequence[Mapping[str, Any]] | None,
) -> Venue:
    rows = []
    for name, (decimals, tiers) in markets.items():
        row: dict[str, Any] = {"symbol": name, "baseSymbol": name, "marketType": "PERP"}
        row["filters"] = {
            "price": {"tickSize": f"1e{min(0, decimals - _PRICE_DECIMALS)}"},
            "quantity": {"stepSize": f"1e-{decimals}"},
        }
        for key, part in (("imfFunction", 1), ("mmfFunction", 2)):
            brackets = [{"from": str(lower), "rate": str(1 / Decimal(part * top))} for lower, top in tiers]
            row[key] = {"type": "tiers", "brackets": brackets, "whole": part == 1}
        rows.append(row)
    return settle_only(rows, settle_asset, policy, backstop)


def _source(venue: Venue, marks: Mapping[str, Decimal]) -> dict[str, Any]:
    """Give the markets held a maxPrice near their mark: the lower it is, the larger a position fits 64 bits."""
    rows = []
    for row in venue.source["markets"]:
        if row["symbol"] in marks:
            price = row["filters"]["price"] | {"maxPrice": str(_HEADROOM * marks[row["symbol"]])}
            row = row | {"filters": row["filters"] | {"price": price}}
        rows.append(row)
    return dict(venue.source) | {"markets": rows, "backstop": []}


def _resting(venue: Venue, orders: Payload | None, owner: Mapping[str, str], account: str) -> list[dict[str, Any]]:
    rows = []
    for at, order in enumerate(payload.read([] if orders is None else orders, list[_Order], _ORDERS)):
        spot = order.coin.startswith("@") or "/" in order.coin
        if spot or order.is_trigger or not order.sz:
            continue
        if order.coin not in venue.markets.symbol:
            raise RiskDataError(_ORDERS, f"$[{at}].coin", "must be a market of the venue", value=order.coin)
        rows.append(
            {
                "account": owner.get(order.coin, account),
                "market": order.coin,
                "side": _SIDES[order.side],
                "price": order.limit_px,
                "quantity": order.sz,
                "reduce_only": bool(order.reduce_only),
            }
        )
    return rows
