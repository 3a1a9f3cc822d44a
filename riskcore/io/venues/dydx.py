"""dYdX v4: margin rules of its chain or its indexer as a venue, and a subaccount of the indexer as a snapshot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Annotated, Any, Literal

import msgspec

from ...boundary import Payload, RiskDataError, Row, json_input
from ...venue import Venue, shipped
from ..books import book_of
from .parameters import BOOK_THEN_FUND, settle_only
from .replies import DIGITS, CamelRow, check_total, exact_price
from .snapshot import Figure, Snapshot, snapshot

_TIERS, _MARKETS, _PAIRS, _SUBACCOUNT = "liquidity_tiers", "markets", "clob_pairs", "subaccount"
_PPM = Decimal(1_000_000)
_QUOTE_DECIMALS = 6  # of a quote quantum
_ROUNDING = Decimal("1e-4")  # of an amount in US dollars
_SAME_REPLY = Decimal("1e-5")  # of a notional: entry prices are sent rounded
_MOVE = Decimal("0.02")  # of a notional, between replies of different moments

_Exponent = Annotated[int, msgspec.Meta(ge=-18, le=18)]


class _Tier(Row):
    id: int
    initial_margin_ppm: Decimal
    maintenance_fraction_ppm: Decimal
    open_interest_lower_cap: Decimal = Decimal(0)
    open_interest_upper_cap: Decimal = Decimal(0)


class _Params(Row):
    ticker: str
    id: int
    atomic_resolution: _Exponent
    liquidity_tier: int


class _Perpetual(Row):
    params: _Params


class _OfPerpetual(Row):
    perpetual_id: int


class _Pair(Row):
    step_base_quantums: Decimal = _PPM
    subticks_per_tick: Decimal = Decimal(100_000)
    quantum_conversion_exponent: _Exponent = -9
    perpetual_clob_metadata: _OfPerpetual | None = None


class _Market(CamelRow):
    initial_margin_fraction: Decimal
    maintenance_margin_fraction: Decimal
    tick_size: Decimal
    step_size: Decimal
    open_interest_lower_cap: Decimal | None = None
    open_interest_upper_cap: Decimal | None = None
    open_interest: Decimal | None = None
    oracle_price: Decimal | None = None


class _Markets(Row):
    markets: dict[str, Any]


class _Position(CamelRow):
    side: Literal["LONG", "SHORT"]
    size: Decimal
    entry_price: Decimal | None = None
    unrealized_pnl: Decimal | None = None


class _Asset(CamelRow):
    side: Literal["LONG", "SHORT"]
    size: Decimal


class _Subaccount(CamelRow):
    equity: Decimal
    open_perpetual_positions: dict[str, Any]
    asset_positions: dict[str, Any]
    free_collateral: Decimal | None = None


class _Wrapped(Row):
    subaccount: _Subaccount


class _Level(Row):
    price: Decimal
    size: Decimal


class _Depth(Row):
    bids: list[_Level]
    asks: list[_Level]


def preset() -> dict[str, Any]:
    """Return published parameters for `load_venue`, with their ``source`` and ``date``.

    The liquidity tiers and perpetuals of the mainnet's genesis; no account data. For work on a live account, save the
    replies of the API of that moment instead.

    Returns
    -------
    dict
        Content of a genesis, as both replies of `load_venue`.

    Examples
    --------
    >>> from riskcore.io import dydx
    >>> genesis = dydx.preset()
    >>> dydx.load_venue(genesis, genesis)
    Venue(33 markets: BTC-USD, ETH-USD, LINK-USD, ...; 1 asset, settles in USDC, fund 0)
    """
    return shipped("dydx_genesis")


def load_venue(
    liquidity_tiers: Payload | None,
    markets: Payload | None = None,
    *,
    clob_pairs: Payload | None = None,
    settle_asset: str = "USDC",
    policy: Mapping[str, Any] | None = None,
    backstop: Sequence[Mapping[str, Any]] | None = None,
) -> Venue:
    """Build a venue from saved replies, files or their parsed content.

    The initial margin fraction of a market with an open interest cap grows to 1 with its open interest; the maintenance
    fraction does not grow.

    Parameters
    ----------
    liquidity_tiers : str, Path, dict, list or None
        Of the chain's perpetuals/liquidity_tiers; or a genesis, which has the perpetuals too; None beside the markets
        of the indexer. Keys of the chain may be in snake or in camel case.
    markets : str, Path, dict or list, optional
        Of the chain's perpetuals/perpetual, or of the indexer's GET /v4/perpetualMarkets.
    clob_pairs : str, Path, dict or list, optional
        Of the chain's clob/clob_pair (or a genesis), for tick and step of the chain's perpetuals. Without, those of a
        pair with 1,000,000 quantums to the step and 100,000 subticks to the tick, as at the genesis.
    settle_asset : str
        Symbol of the asset that PnL is settled in.
    policy, backstop : mapping and sequence of mapping, optional
        As `riskcore.load_venue` takes them.

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
    >>> from riskcore.io import dydx
    >>> margin = {"initialMarginFraction": "0.05", "maintenanceMarginFraction": "0.03"}
    >>> markets = {"markets": {"BTC-USD": margin | {"tickSize": "1", "stepSize": "0.0001"}}}
    >>> dydx.load_venue(None, markets)
    Venue(1 market: BTC-USD; 1 asset, settles in USDC, fund 0)
    """
    with localcontext(prec=DIGITS):
        if liquidity_tiers is None:
            rows = [_of_indexer(ticker, market) for ticker, market in _listed(markets).items()]
        else:
            rows = _of_chain(liquidity_tiers, liquidity_tiers if markets is None else markets, clob_pairs)
    # protocol/x/clob/keeper/deleveraging.go: the book as far as the fund can pay, then deleveraging
    return settle_only(rows, settle_asset, BOOK_THEN_FUND, policy, backstop)


def oracle_prices(markets: Payload) -> dict[str, float]:
    """Return the oracle prices by ticker in a saved reply of the indexer, where it has one.

    Parameters
    ----------
    markets : str, Path or dict
        Of GET /v4/perpetualMarkets.

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
    >>> from riskcore.io import dydx
    >>> margin = {"initialMarginFraction": "0.05", "maintenanceMarginFraction": "0.03"}
    >>> market = margin | {"tickSize": "1", "stepSize": "0.0001", "oraclePrice": "100000"}
    >>> dydx.oracle_prices({"markets": {"BTC-USD": market}})
    {'BTC-USD': 100000.0}
    """
    listed = _listed(markets)
    return {ticker: float(row.oracle_price) for ticker, row in listed.items() if row.oracle_price is not None}


def open_interest(markets: Payload) -> dict[str, float]:
    """Return the open interest by ticker in a saved reply of the indexer, where it has one.

    Parameters
    ----------
    markets : str, Path or dict
        Of GET /v4/perpetualMarkets.

    Returns
    -------
    dict of str to float
        Quantities of the base.

    Raises
    ------
    RiskDataError
        As of `oracle_prices`.

    Examples
    --------
    >>> from riskcore.io import dydx
    >>> margin = {"initialMarginFraction": "0.05", "maintenanceMarginFraction": "0.03"}
    >>> market = margin | {"tickSize": "1", "stepSize": "0.0001", "openInterest": "600"}
    >>> dydx.open_interest({"markets": {"BTC-USD": market}})
    {'BTC-USD': 600.0}
    """
    listed = _listed(markets)
    return {ticker: float(row.open_interest) for ticker, row in listed.items() if row.open_interest is not None}


def read_book(orderbook: Payload) -> dict[str, Any]:
    """Read the order book in a saved reply, a file or its parsed content.

    Parameters
    ----------
    orderbook : str, Path or dict
        Of the indexer's GET /v4/orderbooks/perpetualMarket/{market}; it has no time.

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
    >>> from riskcore.io import dydx
    >>> dydx.read_book({"bids": [{"price": "99.9", "size": "1"}], "asks": [{"price": "100.1", "size": "3"}]})
    {'bids': [(99.9, 1.0)], 'asks': [(100.1, 3.0)], 'time': None}
    """
    book = json_input.read(orderbook, _Depth, "orderbook")
    sides = {f"$.{side}": [(row.price, row.size) for row in getattr(book, side)] for side in ("bids", "asks")}
    return book_of("orderbook", sides, None)


def load_account(
    venue: Venue,
    subaccount: Payload,
    oracle_prices: Mapping[str, Any],
    *,
    open_interest: Mapping[str, Any] | None = None,
    account: int | str = "account",
) -> Snapshot:
    """Build a snapshot of one subaccount from a saved reply, a file or its parsed content.

    The quote balance of dYdX has every position's cost in it. Here PnL counts as realised at the oracle prices, so that
    no balance is negative while the equity is not: dYdX has no borrows. Entry prices stay.

    The equity is held against the rows: at the prices that the reply's own PnL implies, and within 2 % of the notional
    at the oracle prices, which are of another reply.

    Parameters
    ----------
    venue : Venue
        Of `load_venue`. Its backstop providers are left out.
    subaccount : str, Path or dict
        Of the indexer's GET /v4/addresses/{address}/subaccountNumber/{number}.
    oracle_prices : mapping of str to float
        By ticker, as `riskcore.io.dydx.oracle_prices` reads them.
    open_interest : mapping of str to float, optional
        By ticker, as `riskcore.io.dydx.open_interest` reads it, for `Snapshot.compare`: without it the initial margin
        is not compared where it depends on it.
    account : int or str
        Id of the account.

    Returns
    -------
    Snapshot
        The account, the prices, and the figures that the venue reports.

    Raises
    ------
    RiskDataError
        The reply cannot be read, something is missing, of another type or out of range, or is of a market or an asset
        that is not the venue's; or a total differs from the sum of its rows. The message holds its path.

    Examples
    --------
    >>> from riskcore.io import dydx
    >>> margin = {"initialMarginFraction": "0.05", "maintenanceMarginFraction": "0.03"}
    >>> markets = {"markets": {"BTC-USD": margin | {"tickSize": "1", "stepSize": "0.0001"}}}
    >>> venue = dydx.load_venue(None, markets)
    >>> position = {"side": "LONG", "size": "0.1", "entryPrice": "101000", "unrealizedPnl": "-100"}
    >>> reply = {"equity": "900", "freeCollateral": "400", "openPerpetualPositions": {"BTC-USD": position}}
    >>> reply = reply | {"assetPositions": {"USDC": {"side": "SHORT", "size": "9100"}}}
    >>> snapshot = dydx.load_account(venue, {"subaccount": reply}, {"BTC-USD": 100_000})
    >>> snapshot.compare()[["figure", "value", "riskcore"]].round(6).to_dict("records")[1]
    {'figure': 'initial_margin', 'value': 500.0, 'riskcore': 500.0}
    """
    content = json_input.raw(subaccount, _SUBACCOUNT)
    wrapped = isinstance(content, dict) and "subaccount" in content
    if wrapped:
        reply = json_input.read(content, _Wrapped, _SUBACCOUNT).subaccount
    else:
        reply = json_input.read(content, _Subaccount, _SUBACCOUNT)
    top = "$.subaccount" if wrapped else "$"
    with localcontext(prec=DIGITS):
        balance = Decimal(0)
        for symbol, asset in json_input.keyed(
            reply.asset_positions, _Asset, _SUBACCOUNT, f"{top}.assetPositions"
        ).items():
            if symbol != venue.settle_asset:
                path = f"{top}.assetPositions.{symbol}"
                raise RiskDataError(_SUBACCOUNT, path, "must be the settle asset of the venue", value=symbol)
            balance += _signed(asset)
        positions, prices = [], {}
        quote, implied, notional = balance, balance, Decimal(0)
        where = f"{top}.openPerpetualPositions"
        for ticker, position in json_input.keyed(reply.open_perpetual_positions, _Position, _SUBACCOUNT, where).items():
            path = f"{where}.{ticker}"
            if ticker not in venue.markets.symbol:
                raise RiskDataError(_SUBACCOUNT, path, "must be a market of the venue", value=ticker)
            if ticker not in oracle_prices:
                raise RiskDataError(_SUBACCOUNT, path, "must have an oracle price", value=ticker)
            prices[ticker] = price = exact_price("oracle_prices", ticker, oracle_prices[ticker])
            quantity = _signed(position)
            balance += quantity * price
            notional += abs(quantity) * price
            if position.entry_price is None or position.unrealized_pnl is None:
                implied += quantity * price
            else:
                implied += quantity * position.entry_price + position.unrealized_pnl
            entry = price if position.entry_price is None else position.entry_price
            row = {"account": account, "market": ticker, "quantity": quantity, "entry_price": entry}
            positions.append(row | {"settle_price": price})
        reported: list[Figure] = [(account, None, "net_equity", reply.equity)]
        what = f"{quote:f} and the positions at their prices; a position, an asset or another moment's prices are wrong"
        near = min(implied, balance, key=lambda equity: abs(equity - reply.equity))
        check_total(_SUBACCOUNT, f"{top}.equity", reply.equity, near, _ROUNDING + _SAME_REPLY * notional, what)
        check_total(_SUBACCOUNT, f"{top}.equity", reply.equity, balance, _ROUNDING + _MOVE * notional, what)
        if reply.free_collateral is not None:
            used, path = reply.equity - reply.free_collateral, f"{top}.freeCollateral"
            if used < -_ROUNDING or (used > _ROUNDING and not positions):
                rule = f"must be {'at most ' if positions else ''}the equity, {reply.equity:f}; positions are missing"
                raise RiskDataError(_SUBACCOUNT, path, rule, value=f"{reply.free_collateral:f}")
            function_type = {row["symbol"]: row["imfFunction"]["type"] for row in venue.source["markets"]}
            if all(function_type[ticker] != "open_interest" or ticker in (open_interest or {}) for ticker in prices):
                reported.append((account, None, "initial_margin", used))
        return snapshot(
            dict(venue.source) | {"backstop": []},
            positions,
            [{"account": account, "asset": venue.settle_asset, "quantity": balance}],
            prices,
            reported,
            open_interest=open_interest,
        )


def _signed(row: _Asset | _Position) -> Decimal:
    """Size with its sign: the indexer sends it with a position, not with an asset."""
    return abs(row.size) * (1 if row.side == "LONG" else -1)


def _listed(markets: Payload | None) -> dict[str, _Market]:
    rows = json_input.read({} if markets is None else markets, _Markets, _MARKETS).markets
    return json_input.keyed(rows, _Market, _MARKETS, "$.markets")


def _of_indexer(ticker: str, market: _Market) -> dict[str, Any]:
    caps = (market.open_interest_lower_cap or Decimal(0), market.open_interest_upper_cap or Decimal(0))
    fractions = (market.initial_margin_fraction, market.maintenance_margin_fraction)
    return _market_row(ticker, market.tick_size, market.step_size, *fractions, *caps)


def _of_chain(liquidity_tiers: Payload, markets: Payload, clob_pairs: Payload | None) -> list[dict[str, Any]]:
    tiers = {row.id: row for row in _rows(liquidity_tiers, _TIERS, list[_Tier], "perpetuals", "liquidity_tiers")}
    perpetuals = _rows(markets, _MARKETS, list[_Perpetual], "perpetuals", "perpetuals", "perpetual")
    pairs = {}
    for pair in _rows([] if clob_pairs is None else clob_pairs, _PAIRS, list[_Pair], "clob", "clob_pairs", "clob_pair"):
        if pair.perpetual_clob_metadata is not None:
            pairs[pair.perpetual_clob_metadata.perpetual_id] = pair
    rows = []
    for n, perpetual in enumerate(perpetuals):
        row = perpetual.params
        tier = tiers.get(row.liquidity_tier)
        if tier is None:
            path = f"$[{n}].params.liquidity_tier"
            raise RiskDataError(_MARKETS, path, "must be the id of a liquidity tier", value=row.liquidity_tier)
        pair = pairs.get(row.id, _Pair())
        initial = tier.initial_margin_ppm / _PPM
        rows.append(
            _market_row(
                row.ticker,
                pair.subticks_per_tick.scaleb(
                    pair.quantum_conversion_exponent - _QUOTE_DECIMALS - row.atomic_resolution
                ),
                pair.step_base_quantums.scaleb(row.atomic_resolution),
                initial,
                initial * tier.maintenance_fraction_ppm / _PPM,
                tier.open_interest_lower_cap.scaleb(-_QUOTE_DECIMALS),
                tier.open_interest_upper_cap.scaleb(-_QUOTE_DECIMALS),
            )
        )
    return rows


def _rows(source: Payload, name: str, shape: type[json_input.T], *parts: str) -> json_input.T:
    """Read the rows of the chain at the end of these keys, of which any may be missing."""
    content = json_input.raw(source, name)
    if isinstance(content, dict | list):
        content = _snake(content)
    for part in ("app_state", *parts):
        if isinstance(content, dict) and part in content:
            content = content[part]
    if isinstance(content, dict):
        raise RiskDataError(name, f"$.{parts[-1]}", "must not be missing")
    return json_input.read(content, shape, name)


def _snake(content: Any) -> Any:
    if isinstance(content, list):
        return [_snake(item) for item in content]
    if isinstance(content, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in key): _snake(value) for key, value in content.items()
        }
    return content


def _market_row(
    ticker: str,
    tick: Decimal,
    step: Decimal,
    initial: Decimal,
    maintenance: Decimal,
    lower: Decimal,
    upper: Decimal,
) -> dict[str, Any]:
    function = {"type": "sqrt", "base": str(initial), "factor": "0"}
    if upper > 0:
        function = {"type": "open_interest", "base": str(initial), "lower": str(lower), "upper": str(upper)}
    return {
        "symbol": ticker,
        "baseSymbol": ticker.partition("-")[0],
        "marketType": "PERP",
        "filters": {"price": {"tickSize": str(tick)}, "quantity": {"stepSize": str(step)}},
        "imfFunction": function,
        "mmfFunction": {"type": "sqrt", "base": str(maintenance), "factor": "0"},
    }
