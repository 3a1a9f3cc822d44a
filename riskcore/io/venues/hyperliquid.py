"""Hyperliquid: margin rules, accounts, order books and fills in saved replies of its API."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import groupby
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import pandas as pd

from ...boundary import Payload, RiskDataError, Row, json_input
from ...venue import Venue, shipped
from ..books import book_of
from .parameters import at_most, fraction_of, settle_only
from .replies import DIGITS, CamelRow, check_total, rounding_slack
from .snapshot import Figure, Snapshot, snapshot

_META, _STATE, _SPOT, _ORDERS = "meta", "clearinghouseState", "spotClearinghouseState", "openOrders"
_FILLS = "userFills"

_PRICE_DECIMALS = 6  # together with szDecimals
_HEADROOM = 100  # largest later mark, a multiple of the mark in the reply
_LAST_DIGIT = Decimal("1e-6")  # of an amount in US dollars
_SAME_REPLY = Decimal("1e-3")  # of the notional: largest error of a liquidation price within its own reply
_MOVE = Decimal(
    "0.01"
)  # of the notional: largest difference of replies of different moments, and of tiers of other dates
_SIDES = {"B": "bid", "A": "ask"}

Leverage = Annotated[int, msgspec.Meta(ge=1)]
Decimals = Annotated[int, msgspec.Meta(ge=0, le=12)]


class _Tier(CamelRow):
    lower_bound: Decimal
    max_leverage: Leverage


class _Table(CamelRow):
    margin_tiers: Annotated[list[_Tier], msgspec.Meta(min_length=1)]


class _Asset(CamelRow):
    name: str
    sz_decimals: Decimals
    max_leverage: Leverage
    margin_table_id: int | None = None


class _Meta(CamelRow):
    universe: list[_Asset]
    margin_tables: list[tuple[int, _Table]] = msgspec.field(default_factory=list)
    collateral_token: int | None = None


class _Context(CamelRow):
    mark_px: Decimal | None


class _Cross(CamelRow, tag_field="type", tag="cross"):
    value: Decimal | None = None


class _Isolated(CamelRow, tag_field="type", tag="isolated"):
    raw_usd: Decimal
    value: Decimal | None = None


class _Position(CamelRow):
    coin: str
    szi: Decimal
    leverage: _Cross | _Isolated
    position_value: Decimal
    margin_used: Decimal
    entry_px: Decimal | None = None
    liquidation_px: Decimal | None = None
    max_leverage: Leverage | None = None


class _AssetPosition(CamelRow):
    position: _Position


class _Summary(CamelRow):
    account_value: Decimal
    total_ntl_pos: Decimal
    total_raw_usd: Decimal
    total_margin_used: Decimal | None = None


class _State(CamelRow):
    asset_positions: list[_AssetPosition]
    cross_margin_summary: _Summary
    margin_summary: _Summary | None = None
    cross_maintenance_margin_used: Decimal | None = None


class _Balance(CamelRow):
    coin: str
    token: int
    total: Decimal
    hold: Decimal


class _Available(Row, array_like=True):
    token: int
    amount: Decimal


class _Spot(CamelRow):
    balances: list[_Balance]
    token_to_available_after_maintenance: list[_Available] | None = None
    portfolio_margin_enabled: bool | None = None


class _Order(CamelRow):
    coin: str
    side: Literal["A", "B"]
    limit_px: Decimal
    sz: Decimal
    reduce_only: bool | None = None
    is_trigger: bool | None = None


class _Fill(CamelRow):
    coin: str
    px: Decimal
    sz: Decimal
    side: Literal["A", "B"]
    time: int
    start_position: Decimal
    closed_pnl: Decimal
    fee: Decimal
    fee_token: str = "USDC"

    @property
    def signed(self) -> Decimal:
        """Quantity, negative if sold."""
        return self.sz if self.side == "B" else -self.sz

    @property
    def closed(self) -> Decimal:
        """Part of the quantity that reduces the position, with the sign of the position."""
        start, change = self.start_position, self.signed
        return Decimal(0) if start * change >= 0 else min(abs(start), self.sz).copy_sign(start)


class UserFills(NamedTuple):
    """Fills of one user.

    Attributes
    ----------
    activity : DataFrame
        time, action (fill), account, market, quantity, price, fee: for `riskcore.Engine.apply`.
    positions : DataFrame
        account, market, quantity, entry_price: positions from before the first fill, for `riskcore.Accounts`. The entry
        price is the one that explains the first ``closedPnl``; where no fill closes any of the position, no result
        depends on it and it is the price of the first fill.
    reported : DataFrame
        For each row of ``activity`` what the venue says: start_position, closed_pnl.

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> venue = hyperliquid.load_venue({"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}]})
    >>> fill = {"coin": "BTC", "sz": "0.1", "px": "101000", "side": "A", "time": 2, "startPosition": "0.2"}
    >>> fills = hyperliquid.load_fills(venue, [fill | {"closedPnl": "100", "fee": "4.5"}])
    >>> fills.positions.to_dict("records")
    [{'account': 'account', 'market': 'BTC', 'quantity': 0.2, 'entry_price': 100000.0}]
    """

    activity: pd.DataFrame
    positions: pd.DataFrame
    reported: pd.DataFrame


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

    Returns
    -------
    dict
        Content of a ``meta`` reply.

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> hyperliquid.load_venue(hyperliquid.preset())
    Venue(3 markets: BTC, ETH, SOL; 1 asset, settles in USDC, fund 0)
    """
    return shipped("hyperliquid_meta")


def load_venue(
    meta: Payload,
    *,
    settle_asset: str = "USDC",
    policy: Mapping[str, Any] | None = None,
    backstop: Sequence[Mapping[str, Any]] | None = None,
) -> Venue:
    """Build a venue from a saved reply, a file or its parsed content.

    The maintenance rate of a tier is half of 1 / maxLeverage, with the deductions that leave no step between tiers; the
    initial rate is 1 / maxLeverage of the whole notional (`load_account` knows the leverage that a user chose).

    Parameters
    ----------
    meta : str, Path, dict or list
        Of ``meta`` or ``metaAndAssetCtxs``; for several dexes a list of them, as ``allPerpMetas`` is, or a mapping by
        dex. The markets are those of the dexes with the ``collateralToken`` of the first. A market whose margin table
        is not listed (ids below 50 never are) has one tier, of its ``maxLeverage``.
    settle_asset : str
        Symbol of the asset that PnL is settled in.
    policy, backstop : mapping and sequence of mapping, optional
        As `riskcore.load_venue` takes them; the API does not say them.

    Returns
    -------
    Venue
        The venue.

    Raises
    ------
    RiskDataError
        The reply cannot be read, or something is missing, of another type or out of range; the message holds its path.

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> meta = {"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}], "marginTables": []}
    >>> hyperliquid.load_venue(meta)
    Venue(1 market: BTC; 1 asset, settles in USDC, fund 0)
    """
    markets: dict[str, tuple[int, list[tuple[Decimal, int]]]] = {}
    token = None
    for table, meta_reply, _ in _metas(meta):
        first = meta_reply.collateral_token or 0
        token = first if token is None else token
        if first != token:
            continue
        tiers_of = {
            number: [(t.lower_bound, t.max_leverage) for t in table.margin_tiers]
            for number, table in meta_reply.margin_tables
        }
        for n, asset in enumerate(meta_reply.universe):
            if asset.name in markets:
                raise RiskDataError(table, f"$.universe[{n}].name", "must not appear twice", value=asset.name)
            tiers = tiers_of.get(asset.margin_table_id or 0) or [(Decimal(0), asset.max_leverage)]
            markets[asset.name] = (asset.sz_decimals, tiers)
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
    state : str, Path, dict or list
        Of ``clearinghouseState``, of one dex or of several (`load_account`), with at least one position.
    settle_asset, policy, backstop : str, mapping and sequence of mapping
        As of `load_venue`.

    Returns
    -------
    Venue
        The venue.

    Raises
    ------
    RiskDataError
        The reply cannot be read, or something is missing, of another type or out of range; the message holds its path.

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> leverage, margin = {"type": "cross", "value": 20}, {"marginUsed": "500", "maxLeverage": 40}
    >>> position = {"coin": "BTC", "szi": "0.1", "leverage": leverage, "positionValue": "10000"} | margin
    >>> summary = {"accountValue": "950", "totalNtlPos": "10000", "totalRawUsd": "-9050"}
    >>> state = {"assetPositions": [{"position": position}], "crossMarginSummary": summary}
    >>> hyperliquid.venue_of_state(state)
    Venue(1 market: BTC; 1 asset, settles in USDC, fund 0)
    """
    markets = {}
    for dex in _dexes(state):
        for n, position in dex.positions:
            if position.max_leverage is None:
                rule = "must not be missing without a meta reply"
                raise RiskDataError(dex.table, _path(n, "maxLeverage"), rule)
            decimals = max(0, -int(position.szi.normalize().as_tuple().exponent))
            markets[position.coin] = (decimals, [(Decimal(0), position.max_leverage)])
    return _venue(markets, settle_asset, policy, backstop)


def marks(meta_and_contexts: Payload) -> dict[str, float]:
    """Return the mark prices by symbol in a saved reply, a file or its parsed content.

    Parameters
    ----------
    meta_and_contexts : str, Path, dict or list
        Of ``metaAndAssetCtxs``, of one dex or a list or mapping of several.

    Returns
    -------
    dict of str to float
        Settle units.

    Raises
    ------
    RiskDataError
        The reply cannot be read, or something is missing, of another type or out of range; the message holds its path.

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> meta = {"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}], "marginTables": []}
    >>> hyperliquid.marks([meta, [{"markPx": "100000.0"}]])
    {'BTC': 100000.0}
    """
    prices: dict[str, float] = {}
    for table, meta_reply, contexts in _metas(meta_and_contexts):
        if len(contexts) != len(meta_reply.universe):
            raise RiskDataError(table, "$[1]", "must hold a context for each market", value=len(contexts))
        pairs = zip(meta_reply.universe, contexts, strict=True)
        prices |= {asset.name: float(context.mark_px) for asset, context in pairs if context.mark_px is not None}
    return prices


def read_book(l2_book: Payload) -> dict[str, Any]:
    """Read the order book in a saved reply, a file or its parsed content.

    Parameters
    ----------
    l2_book : str, Path or dict
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

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> levels = [[{"px": "99.9", "sz": "1"}], [{"px": "100.1", "sz": "3"}]]
    >>> hyperliquid.read_book({"levels": levels, "time": 1_760_130_000_000})
    {'bids': [(99.9, 1.0)], 'asks': [(100.1, 3.0)], 'time': 1760130000000000000}
    """
    book = json_input.read(l2_book, _Depth, "l2Book")
    sides = {f"$.levels[{n}]": [(row.px, row.sz) for row in rows] for n, rows in enumerate(book.levels)}
    return book_of("l2Book", sides, None if book.time is None else book.time * 1_000_000)


def load_account(
    venue: Venue,
    state: Payload,
    *,
    spot: Payload | None = None,
    orders: Payload | None = None,
    mark_prices: Mapping[str, Any] | None = None,
    account: int | str = "account",
) -> Snapshot:
    """Build a snapshot of one user's accounts from saved replies, files or their parsed content.

    The cross positions of a dex share one account, ``<account>`` on the first dex and ``<account>:<dex>`` on another;
    each isolated position is an account of its own, ``<account>:<coin>``, with its own margin. In a unified account the
    cross positions of all dexes share ``<account>``, whose equity is the ``total`` of USDC in the spot reply less the
    margin of the isolated positions: that total holds the perpetuals' part and their PnL too. PnL counts as realised at
    the reply's marks (``positionValue / |szi|``), so that no balance is negative while the equity is not: Hyperliquid
    has no borrows. Entry prices stay. The initial margin of the snapshot's markets is at least that of the leverage
    that the user chose in them.

    Every total is held against the rows that make it, to the last digits sent. ``crossMaintenanceMarginUsed`` is cut to
    six decimals by the venue. A reply of 2023, whose positions have no ``maxLeverage``, has none, and liquidation
    prices that leave out how the position's own maintenance margin changes on the way: these are not in ``reported``.

    Parameters
    ----------
    venue : Venue
        Of `load_venue` or `venue_of_state`. Its backstop providers are left out.
    state : str, Path, dict or list
        Of ``clearinghouseState``; for several dexes a list of such replies or of pairs (dex, reply), or a mapping by
        dex (the first dex is "").
    spot : str, Path or dict, optional
        Of ``spotClearinghouseState``: needed of a unified account, which is one whose spot reply has
        ``tokenToAvailableAfterMaintenance``. In other accounts the spot balances are apart, and left out.
    orders : str, Path or list, optional
        Of ``openOrders`` or ``frontendOpenOrders``. Spot orders and those that wait for a trigger are left out. An
        order in the market of an isolated position belongs to its account, any other to the cross account.
    mark_prices : mapping of str to float, optional
        By symbol (`marks`): for markets in which there is an order and no position.
    account : int or str
        Id of the cross account, made text.

    Returns
    -------
    Snapshot
        The accounts, the prices of the replies, and the figures that the venue reports.

    Raises
    ------
    RiskDataError
        A reply cannot be read, something is missing, of another type or out of range, or names a market that is not the
        venue's; a total differs from the sum of its rows; the venue's liquidation prices need money that is not in the
        replies, as those of a unified account do without ``spot``; or the account has portfolio margin. The message
        holds the path.

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> venue = hyperliquid.load_venue({"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}]})
    >>> leverage, margin = {"type": "cross", "value": 20}, {"marginUsed": "500", "maxLeverage": 40}
    >>> prices = {"entryPx": "100500", "liquidationPx": "91645.5696202532"}
    >>> position = {"coin": "BTC", "szi": "0.1", "leverage": leverage, "positionValue": "10000"} | margin | prices
    >>> summary = {"accountValue": "950", "totalNtlPos": "10000", "totalRawUsd": "-9050"}
    >>> state = {"assetPositions": [{"position": position}], "crossMarginSummary": summary}
    >>> table = hyperliquid.load_account(venue, state).compare().round(6)
    >>> table.loc[table["figure"] == "liquidation_price", ["value", "riskcore"]].to_dict("records")
    [{'value': 91645.56962, 'riskcore': 91645.56962}]
    """
    name = str(account)
    with localcontext(prec=DIGITS):
        dexes = _dexes(state)
        _check_rows(venue, dexes)
        several = len(dexes) > 1
        pools = [_pool(venue, dex, f"{name}:{dex.name}" if several and dex.name else name) for dex in dexes]
        total = None if spot is None else _unified(spot, venue.settle_asset, dexes, pools)
        if total is not None:
            pools = [_shared_pool(pools, name, total)]
        for pool in pools:
            _check_liquidation_prices(venue, pool, _SAME_REPLY if total is None else _MOVE)
        alone = [p for dex in dexes for _, p in dex.positions if isinstance(p.leverage, _Isolated)]
        owner = {p.coin: f"{name}:{p.coin}" for p in alone}
        owner |= {p.coin: pool.account for pool in pools for _, p in pool.positions}
        rows: list[dict[str, Any]] = []
        balance = {pool.account: pool.equity for pool in pools}
        for dex in dexes:
            for _, position in dex.positions:
                mark = position.position_value / abs(position.szi)
                entry = mark if position.entry_px is None else position.entry_px
                row = {"account": owner[position.coin], "market": position.coin, "quantity": position.szi}
                rows.append(row | {"entry_price": entry, "settle_price": mark})
                if isinstance(position.leverage, _Isolated):
                    signed = position.position_value.copy_sign(position.szi)
                    balance[owner[position.coin]] = position.leverage.raw_usd + signed
        mark_of = {row["market"]: row["settle_price"] for row in rows}
        resting = _resting(venue, orders, owner, name, balance)
        reported = _reported(dexes, pools, owner, total)
        if any(not order["reduce_only"] for order in resting):  # they are in riskcore's figures, not in the reply's
            reported = [row for row in reported if row[2] not in ("exposure", "initial_margin")]
        fractions = {p.coin: _fraction(p) for dex in dexes for _, p in dex.positions}
        prices = dict(mark_prices or {}) | mark_of
        return snapshot(
            _source(venue, mark_of, fractions),
            rows,
            [{"account": each, "asset": venue.settle_asset, "quantity": free} for each, free in balance.items()],
            {coin: price for coin, price in prices.items() if coin in venue.markets.symbol},
            reported,
            orders=resting,
        )


def load_fills(venue: Venue, user_fills: Payload, *, account: int | str = "account") -> UserFills:
    """Read the fills of a user in a saved reply, in the order in which they happened.

    The reply lists the last fill first. Fills of one time have no order of their own: they are put in the one in which
    each starts from the position that the fill before leaves. Fills of spot markets (``@107``, ``PURR/USDC``) are left
    out.

    Parameters
    ----------
    venue : Venue
        Of `load_venue` or `venue_of_state`.
    user_fills : str, Path or list
        Of ``userFills`` or ``userFillsByTime``.
    account : int or str
        Id of the account.

    Returns
    -------
    UserFills
        The fills, the positions before them, and the profit and loss that the venue reports.

    Raises
    ------
    RiskDataError
        The reply cannot be read, something is missing, of another type or out of range, or names a market that is not
        the venue's; a fee is not paid in the settle asset; or a fill does not start from the position that the fills
        before it leave: some are missing. The message holds the path.

    Notes
    -----
    ``closedPnl`` is against the average entry price, without fees and funding: so is ``realized_pnl`` of
    `riskcore.ActivityResult.fills`.

    Examples
    --------
    >>> from riskcore.io import hyperliquid
    >>> venue = hyperliquid.load_venue({"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 40}]})
    >>> fill = {"coin": "BTC", "sz": "0.1", "fee": "4.5", "feeToken": "USDC"}
    >>> bought = fill | {"px": "100000", "side": "B", "time": 1, "startPosition": "0", "closedPnl": "0"}
    >>> sold = fill | {"px": "101000", "side": "A", "time": 2, "startPosition": "0.1", "closedPnl": "100"}
    >>> fills = hyperliquid.load_fills(venue, [sold, bought])
    >>> fills.activity[["quantity", "price"]].to_numpy().tolist(), fills.reported["closed_pnl"].tolist()
    ([[0.1, 100000.0], [-0.1, 101000.0]], [0.0, 100.0])
    """
    with localcontext(prec=DIGITS):
        reply = json_input.read(user_fills, list[_Fill], _FILLS)
        for n, fill in enumerate(reply):
            is_spot = fill.coin.startswith("@") or "/" in fill.coin
            if not is_spot and fill.coin not in venue.markets.symbol:
                raise RiskDataError(_FILLS, f"$[{n}].coin", "must be a market of the venue", value=fill.coin)
            if not is_spot and fill.fee_token != venue.settle_asset and fill.fee:
                rule = f"must be the settle asset of the venue, {venue.settle_asset}"
                raise RiskDataError(_FILLS, f"$[{n}].feeToken", rule, value=fill.fee_token)
        of_markets = [(n, fill) for n, fill in enumerate(reply) if fill.coin in venue.markets.symbol]
        fills = _in_order(sorted(reversed(of_markets), key=lambda pair: (pair[1].time, pair[1].coin)))
        before = _positions_before(fills)
    activity = pd.DataFrame(
        {
            "time": pd.to_datetime([fill.time for fill in fills], unit="ms", utc=True),
            "action": "fill",
            "account": account,
            "market": [fill.coin for fill in fills],
            "quantity": [float(fill.signed) for fill in fills],
            "price": [float(fill.px) for fill in fills],
            "fee": [float(fill.fee) for fill in fills],
        }
    )
    positions = pd.DataFrame(
        [(account, coin, float(quantity), float(entry)) for coin, (quantity, entry) in before.items()],
        columns=["account", "market", "quantity", "entry_price"],
    )
    reported = {name: [float(getattr(fill, name)) for fill in fills] for name in ("start_position", "closed_pnl")}
    return UserFills(activity, positions, pd.DataFrame(reported))


def _in_order(fills: Sequence[tuple[int, _Fill]]) -> list[_Fill]:
    """Put fills that ascend by time in an order in which each starts where the one before in its market ends.

    Raises
    ------
    RiskDataError
        There is none.
    """
    position: dict[str, Decimal] = {}
    ordered = []
    for (_, coin), group in groupby(fills, key=lambda pair: (pair[1].time, pair[1].coin)):
        now = list(group)
        starts = Counter(fill.start_position for _, fill in now)
        starts.subtract(fill.start_position + fill.signed for _, fill in now)
        first = position.get(coin, next((start for start, n in starts.items() if n > 0), now[0][1].start_position))
        chain = _chain([fill for _, fill in now], first)
        if len(chain) < len(now):
            left = next((n, fill) for n, fill in now if not any(fill is one for one in chain))
            rule = f"must be a position that the fills before leave, which start from {first}: fills are missing"
            raise RiskDataError(_FILLS, f"$[{left[0]}].startPosition", rule, value=str(left[1].start_position))
        ordered += chain
        position[coin] = first + sum((fill.signed for fill in chain), Decimal(0))
    return ordered


def _chain(fills: Sequence[_Fill], first: Decimal) -> list[_Fill]:
    """Find an order that goes from position to position, through every fill if there is one: an Eulerian path."""
    starting: dict[Decimal, list[_Fill]] = {}
    for fill in reversed(fills):
        starting.setdefault(fill.start_position, []).append(fill)
    way: list[tuple[Decimal, _Fill | None]] = [(first, None)]
    chain = []
    while way:
        position, reached_by = way[-1]
        if starting.get(position):
            fill = starting[position].pop()
            way.append((position + fill.signed, fill))
        else:
            way.pop()
            if reached_by is not None:
                chain.append(reached_by)
    return chain[::-1]


def _positions_before(fills: Sequence[_Fill]) -> dict[str, tuple[Decimal, Decimal]]:
    """Quantity and entry price, by market, of the positions from before the first fill."""
    before: dict[str, tuple[Decimal, Decimal]] = {}
    for coin in {fill.coin: None for fill in fills}:
        own = [fill for fill in fills if fill.coin == coin]
        quantity, entry = own[0].start_position, own[0].px
        if not quantity:
            continue
        closing = next((n for n, fill in enumerate(own) if fill.closed), None)
        if closing is not None:
            fill = own[closing]
            average = fill.px - fill.closed_pnl / fill.closed
            added = sum((other.signed * other.px for other in own[:closing]), Decimal(0))
            entry = (average * fill.start_position - added) / quantity
        before[coin] = (quantity, entry)
    return before


def _reported(
    dexes: Sequence[_Dex], pools: Sequence[_Pool], owner: Mapping[str, str], total: Decimal | None
) -> list[Figure]:
    """Figures that the replies report of each account, and of all together."""
    figures: list[Figure] = []
    for pool in pools:
        figures.append((pool.account, None, "net_equity", pool.equity))
        figures.append((pool.account, None, "exposure", sum(p.position_value for _, p in pool.positions)))
        if pool.maintenance is not None:
            figures.append((pool.account, None, "maintenance_margin", pool.maintenance))
        if pool.initial is not None:
            figures.append((pool.account, None, "initial_margin", pool.initial))
    every = [p for dex in dexes for _, p in dex.positions]
    for p in every:
        if isinstance(p.leverage, _Isolated):
            figures.append((owner[p.coin], None, "net_equity", p.margin_used))
            figures.append((owner[p.coin], None, "exposure", p.position_value))
        if p.liquidation_px is not None and p.max_leverage is not None:
            figures.append((owner[p.coin], p.coin, "liquidation_price", p.liquidation_px))
    whole = [dex.state.margin_summary for dex in dexes]
    sums = [summary for summary in whole if summary is not None]
    if len(pools) + sum(isinstance(p.leverage, _Isolated) for p in every) > 1 and len(sums) == len(whole):
        equity = sum(summary.account_value for summary in sums) if total is None else total
        figures.append((None, None, "net_equity", equity))
        figures.append((None, None, "exposure", sum(summary.total_ntl_pos for summary in sums)))
    return figures


def _metas(source: Payload) -> list[tuple[str, _Meta, list[_Context]]]:
    """Rules and contexts of each dex, with the name of the reply."""
    content = json_input.raw(source, _META)
    several: list[tuple[str, Any]] = [("", content)]
    pair = isinstance(content, list) and len(content) == 2 and isinstance(content[0], dict)
    if isinstance(content, list) and not (pair and isinstance(content[1], list)):
        several = [(f"[{n}]", one) for n, one in enumerate(content)]
    elif isinstance(content, dict) and content and not {"universe", "marginTables", "collateralToken"} & set(content):
        several = [(f"[{dex!r}]", one) for dex, one in content.items()]
    replies = []
    for suffix, one in several:
        if isinstance(one, list):
            replies.append((_META + suffix, *json_input.read(one, tuple[_Meta, list[_Context]], _META + suffix)))
        else:
            replies.append((_META + suffix, json_input.read(one, _Meta, _META + suffix), []))
    return replies


@dataclass(frozen=True)
class _Dex:
    """State on one dex, with the name of its reply; the first dex is ""."""

    table: str
    name: str
    state: _State

    @property
    def positions(self) -> list[tuple[int, _Position]]:
        """Positions that are not flat, each with its index in the reply."""
        return [(n, row.position) for n, row in enumerate(self.state.asset_positions) if row.position.szi]


def _dexes(source: Payload) -> list[_Dex]:
    """States by dex.

    Raises
    ------
    RiskDataError
        One cannot be read, or it is not known which dex one of several is of, or two are of one.
    """
    content = json_input.raw(source, _STATE)
    if isinstance(content, dict) and "clearinghouseStates" in content:
        content = content["clearinghouseStates"]
    several: list[tuple[str, str | None, Any]] = [("", None, content)]
    if isinstance(content, list):
        pairs = [one if isinstance(one, list) and len(one) == 2 else (None, one) for one in content]
        several = [(f"[{n}]", dex, one) for n, (dex, one) in enumerate(pairs)]
    elif isinstance(content, dict) and content and not set(_State.__struct_encode_fields__) & set(content):
        several = [(f"[{dex!r}]", dex, one) for dex, one in content.items()]
    dexes: list[_Dex] = []
    for suffix, dex, one in several:
        table = _STATE + suffix
        state = json_input.read(one, _State, table)
        coins = [(n, held.position.coin) for n, held in enumerate(state.asset_positions) if held.position.szi]
        dex_names = {_dex_of(coin) for _, coin in coins} or {"" if dex is None else str(dex)}
        name = dex_names.pop()
        if dex_names or (dex and name and dex != name):
            n, coin = next((n, coin) for n, coin in coins if _dex_of(coin) != (dex or name))
            raise RiskDataError(table, _path(n, "coin"), f"must be of one dex, {dex or name!r}", value=coin)
        if any(other.name == name for other in dexes):
            summary = state.cross_margin_summary
            if dex is None and not coins and not summary.account_value and not summary.total_raw_usd:
                continue  # nothing is there, on whatever dex
            rule = f"must not be of the same dex as another reply, {name!r}: pass a mapping of dex to reply"
            raise RiskDataError(table, None, rule)
        dexes.append(_Dex(table, name, state))
    if not dexes:
        raise RiskDataError(_STATE, None, "must hold at least one reply")
    return dexes


def _dex_of(coin: str) -> str:
    return coin.rpartition(":")[0]


@dataclass(frozen=True)
class _Pool:
    """Collateral pool of the cross positions of a dex, or of all dexes in a unified account; margins as reported."""

    account: str
    equity: Decimal
    isolated: Decimal  # margin of the isolated positions beside it
    initial: Decimal | None
    maintenance: Decimal | None
    positions: tuple[tuple[str, _Position], ...]  # each with table and path of its liquidation price


def _check_rows(venue: Venue, dexes: Sequence[_Dex]) -> None:
    seen: set[str] = set()
    for dex in dexes:
        for n, position in dex.positions:
            coin, notional = position.coin, position.position_value
            if coin not in venue.markets.symbol:
                raise RiskDataError(dex.table, _path(n, "coin"), "must be a market of the venue", value=coin)
            if coin in seen:
                raise RiskDataError(dex.table, _path(n, "coin"), "must not appear twice", value=coin)
            if notional <= 0:
                raise RiskDataError(dex.table, _path(n, "positionValue"), "must be > 0", value=str(notional))
            seen.add(coin)
            if isinstance(position.leverage, _Isolated):
                parts = [position.leverage.raw_usd, notional.copy_sign(position.szi)]
                what = "rawUsd and the signed positionValue"
                check_total(
                    dex.table, _path(n, "marginUsed"), position.margin_used, parts[0] + parts[1], _slack(*parts), what
                )


def _fraction(position: _Position) -> Decimal:
    """Initial margin fraction of the leverage that the user chose, by marginUsed if that says another; 0 if unknown."""
    leverage, used, notional = position.leverage.value, position.margin_used, position.position_value
    shared = not isinstance(position.leverage, _Isolated)
    if shared and not (leverage and abs(notional / leverage - used) <= _slack(used)):
        return fraction_of(max(notional / used, Decimal(1))) if used > 0 else Decimal(0)
    return fraction_of(max(leverage, Decimal(1))) if leverage else Decimal(0)


def _slack(*amounts: Decimal) -> Decimal:
    """Difference between a sum of amounts and its total that cutting them to their last digits explains."""
    return rounding_slack(amounts, _LAST_DIGIT, Decimal("1e-9"))


def _pool(venue: Venue, dex: _Dex, account: str) -> _Pool:
    """Cross positions of a dex, once its totals are held against its rows.

    Raises
    ------
    RiskDataError
        A total differs from the sum of its rows.
    """
    state, cross = dex.state, dex.state.cross_margin_summary
    alone = [p for _, p in dex.positions if isinstance(p.leverage, _Isolated)]
    shared = [(n, p) for n, p in dex.positions if not isinstance(p.leverage, _Isolated)]
    notionals = [p.position_value for _, p in shared]
    signed = [p.position_value.copy_sign(p.szi) for _, p in shared]
    used, apart = [p.margin_used for _, p in shared], [p.margin_used for p in alone]
    raw = [p.leverage.raw_usd for p in alone if isinstance(p.leverage, _Isolated)]
    missing = "; positions are missing, or another dex or moment is mixed in"
    parts: list[tuple[str, Decimal | None, list[Decimal], str]] = [
        ("crossMarginSummary.totalNtlPos", cross.total_ntl_pos, notionals, "the sum of the cross positions"),
        (
            "crossMarginSummary.accountValue",
            cross.account_value,
            [cross.total_raw_usd, *signed],
            "totalRawUsd plus the cross positions",
        ),
        ("crossMarginSummary.totalMarginUsed", cross.total_margin_used, used, "the sum of the cross positions"),
    ]
    whole = state.margin_summary
    if whole is not None:
        every = [*notionals, *(p.position_value for p in alone)]
        beside = "crossMarginSummary and the isolated positions"
        parts += [
            ("marginSummary.totalNtlPos", whole.total_ntl_pos, every, "the sum of the positions"),
            ("marginSummary.accountValue", whole.account_value, [cross.account_value, *apart], beside),
            ("marginSummary.totalRawUsd", whole.total_raw_usd, [cross.total_raw_usd, *raw], beside),
            ("marginSummary.totalMarginUsed", whole.total_margin_used, [*used, *apart], "the sum of the positions"),
        ]
    for path, total, amounts, what in parts:
        check_total(dex.table, f"$.{path}", total, sum(amounts, Decimal(0)), _slack(*amounts), what + missing)
    required = [_requirement(venue, p, p.position_value) for _, p in shared]
    what = "by the margin tables of the venue; they are of another date, or lack the tiers (pass load_venue the meta)"
    slack = _slack(*required) + sum(required, Decimal(0)) * Decimal("1e-5")
    path = "$.crossMaintenanceMarginUsed"
    check_total(dex.table, path, state.cross_maintenance_margin_used, sum(required, Decimal(0)), slack, what)
    paths = tuple((f"{dex.table}.{_path(n, 'liquidationPx')}", p) for n, p in shared)
    maintenance = state.cross_maintenance_margin_used
    return _Pool(
        account=account,
        equity=cross.account_value,
        isolated=sum(apart, Decimal(0)),
        initial=cross.total_margin_used,
        maintenance=maintenance,
        positions=paths,
    )


def _requirement(venue: Venue, position: _Position, notional: Decimal) -> Decimal:
    """Maintenance margin of a notional in the position's market."""
    function = next(row["mmfFunction"] for row in venue.source["markets"] if row["symbol"] == position.coin)
    if function["type"] != "tiers":
        rule = "must have maintenance margin in tiers, as load_venue of riskcore.io.hyperliquid makes it"
        raise RiskDataError("venue", position.coin, rule, value=function["type"])
    edges = [(Decimal(str(b["from"])), Decimal(str(b["rate"]))) for b in function["brackets"]]
    ends = [lower for lower, _ in edges[1:]] + [notional]
    return sum(
        (max(min(notional, end) - low, Decimal(0)) * rate for (low, rate), end in zip(edges, ends, strict=True)),
        Decimal(0),
    )


def _shared_pool(pools: Sequence[_Pool], account: str, total: Decimal) -> _Pool:
    """Cross positions of all dexes of a unified account with this balance."""
    apart = sum((pool.isolated for pool in pools), Decimal(0))
    initial = [pool.initial for pool in pools if pool.initial is not None]
    maintenance = [pool.maintenance for pool in pools if pool.maintenance is not None]
    return _Pool(
        account=account,
        equity=total - apart,
        isolated=apart,
        initial=sum(initial, Decimal(0)) if len(initial) == len(pools) else None,
        maintenance=sum(maintenance, Decimal(0)) if len(maintenance) == len(pools) else None,
        positions=tuple(position for pool in pools for position in pool.positions),
    )


def _check_liquidation_prices(venue: Venue, pool: _Pool, slack: Decimal) -> None:
    """Refuse a pool whose equity contradicts the venue's own liquidation prices.

    A reply of 2023 has other liquidation prices, and a short without one may be of any size.

    Raises
    ------
    RiskDataError
        The equity of the replies is further from it than ``slack`` of the notional.
    """
    required = sum((_requirement(venue, p, p.position_value) for _, p in pool.positions), Decimal(0))
    room = slack * sum((p.position_value for _, p in pool.positions), Decimal(0)) + _LAST_DIGIT
    for location, position in pool.positions:
        size, notional = abs(position.szi), position.position_value
        if position.max_leverage is None or (position.liquidation_px is None and position.szi < 0):
            continue
        price = position.liquidation_px or Decimal(0)
        required_then = required - _requirement(venue, position, notional) + _requirement(venue, position, size * price)
        needed = required_then - position.szi * price + notional.copy_sign(position.szi)
        if pool.equity < needed - room or (pool.equity > needed + room and position.liquidation_px is not None):
            table, _, path = location.partition(".")
            rule = (
                f"is that of an account with {needed:.6f} of equity, not {pool.equity:.6f}: the money of a unified or"
            )
            rule += " portfolio margin account is in spotClearinghouseState (spot=), or a dex is missing"
            raise RiskDataError(table, path, rule, value=str(position.liquidation_px))


def _unified(spot: Payload, settle_asset: str, dexes: Sequence[_Dex], pools: Sequence[_Pool]) -> Decimal | None:
    """Balance of a unified account; None where the spot balances are apart.

    Raises
    ------
    RiskDataError
        The account has portfolio margin, or the reply is not one of the same account and about the same moment.
    """
    reply = json_input.read(spot, _Spot, _SPOT)
    if reply.portfolio_margin_enabled:
        rule = "must not be true: loans against other assets, as in portfolio margin, are not modelled"
        raise RiskDataError(_SPOT, "$.portfolioMarginEnabled", rule)
    available = {row.token: row.amount for row in reply.token_to_available_after_maintenance or ()}
    if not available:
        return None
    row = next((row for row in reply.balances if row.coin == settle_asset), None)
    if row is None or row.token not in available:
        raise RiskDataError(_SPOT, "$.balances", "must hold the settle asset of the venue", value=settle_asset)
    parts = [row.total, *(-pool.isolated for pool in pools), *(-(pool.maintenance or Decimal(0)) for pool in pools)]
    # the total and the available amount are of one moment, the margins of another: the balance itself cancels out
    alone = [p.position_value for dex in dexes for _, p in dex.positions if isinstance(p.leverage, _Isolated)]
    maintenance = [pool.maintenance or Decimal(0) for pool in pools]
    slack = _slack(*parts) + _MOVE * sum([*alone, *maintenance], Decimal(0))
    what = f"total of {settle_asset} less the maintenance margin and the isolated margins; a dex is missing, or the"
    path, sent = "$.tokenToAvailableAfterMaintenance", available[row.token]
    check_total(_SPOT, path, sent, sum(parts, Decimal(0)), slack, f"{what} replies are of different moments or users")
    return row.total


def _path(n: int, name: str) -> str:
    return f"$.assetPositions[{n}].position.{name}"


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
    # hyperliquid-docs/trading/liquidations and auto-deleveraging: the book, the liquidator vault, then ADL
    stages = {"stages": ["book", "backstop", "adl"], "adl_when": "backstop_exhausted"}
    return settle_only(rows, settle_asset, stages, policy, backstop)


def _source(venue: Venue, marks: Mapping[str, Decimal], fractions: Mapping[str, Decimal]) -> dict[str, Any]:
    """Give the markets held the leverage that the user chose, and a maxPrice near their mark.

    The lower a maxPrice is, the larger a position fits 64 bits.
    """
    rows = []
    for row in venue.source["markets"]:
        symbol = row["symbol"]
        if symbol in marks:
            price = row["filters"]["price"] | {"maxPrice": str(_HEADROOM * marks[symbol])}
            row = row | {"filters": row["filters"] | {"price": price}}
        if symbol in fractions:
            row = row | {"imfFunction": at_most(row["imfFunction"], fractions[symbol])}
        rows.append(row)
    return dict(venue.source) | {"markets": rows, "backstop": []}


def _resting(
    venue: Venue, orders: Payload | None, owner: Mapping[str, str], account: str, accounts: Mapping[str, Decimal]
) -> list[dict[str, Any]]:
    rows = []
    for n, order in enumerate(json_input.read([] if orders is None else orders, list[_Order], _ORDERS)):
        spot = order.coin.startswith("@") or "/" in order.coin
        if spot or order.is_trigger or not order.sz:
            continue
        if order.coin not in venue.markets.symbol:
            raise RiskDataError(_ORDERS, f"$[{n}].coin", "must be a market of the venue", value=order.coin)
        of_dex = f"{account}:{_dex_of(order.coin)}"
        rows.append(
            {
                "account": owner.get(order.coin, of_dex if of_dex in accounts else account),
                "market": order.coin,
                "side": _SIDES[order.side],
                "price": order.limit_px,
                "quantity": order.sz,
                "reduce_only": bool(order.reduce_only),
            }
        )
    return rows
