"""Binance USD-M futures: saved replies of its API, or ccxt's form of them, as a venue and as snapshots of accounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

import msgspec

from ...boundary import Payload, RiskDataError, Row, json_input
from ...venue import Venue
from ..books import book_of
from .parameters import BOOK_THEN_FUND, at_most, fraction_of, settle_only, tiers
from .replies import DIGITS, CamelRow, check_total, perpetuals, rounding_slack
from .snapshot import Figure, Snapshot, snapshot

_CUM_ROUNDING = Decimal("1e-6")  # relative
_LAST_DIGIT = Decimal("1e-8")  # of an amount in an account
_PARITY = Decimal("0.05")  # largest distance from 1 of a stablecoin's rate to the US dollar, haircut included
_DOLLARS = frozenset(
    ["USDT", "USDC", "BUSD", "FDUSD", "TUSD", "USDP", "USD1", "USDE", "RLUSD", "BFUSD", "RWUSD", "LDUSDT", "U", "BNFCR"]
)


class _Bracket(CamelRow):
    notional_floor: Decimal
    notional_cap: Decimal
    maint_margin_ratio: Decimal
    initial_leverage: Decimal
    cum: Decimal | None = None


class _Brackets(CamelRow):
    symbol: str
    brackets: list[_Bracket]


class _Info(CamelRow):
    cum: Decimal | None = None


class _Tier(CamelRow):
    min_notional: Decimal
    max_notional: Decimal
    maintenance_margin_rate: Decimal
    max_leverage: Decimal
    info: _Info | None = None


class _Filter(CamelRow):
    filter_type: str
    tick_size: Decimal | None = None
    max_price: Decimal | None = None
    step_size: Decimal | None = None
    min_qty: Decimal | None = None


class _Symbol(CamelRow):
    symbol: str
    base_asset: str
    margin_asset: str
    contract_type: str
    filters: list[_Filter]


class _ExchangeInfo(CamelRow):
    symbols: list[_Symbol]


class _Wallet(CamelRow):
    asset: str
    cross_wallet_balance: Decimal
    cross_un_pnl: Decimal
    wallet_balance: Decimal | None = None
    unrealized_profit: Decimal | None = None
    margin_balance: Decimal | None = None
    maint_margin: Decimal | None = None
    initial_margin: Decimal | None = None
    position_initial_margin: Decimal | None = None
    open_order_initial_margin: Decimal | None = None


class _Position(CamelRow):
    symbol: str
    position_amt: Decimal
    unrealized_profit: Decimal
    maint_margin: Decimal
    position_side: str = "BOTH"
    initial_margin: Decimal | None = None
    open_order_initial_margin: Decimal | None = None
    entry_price: Decimal | None = None
    notional: Decimal | None = None
    leverage: Decimal | None = None
    isolated: bool | None = None
    isolated_wallet: Decimal | None = None
    position_initial_margin: Decimal | None = None


class _Account(CamelRow):
    assets: list[_Wallet]
    positions: list[_Position]
    multi_assets_margin: bool | None = None
    total_wallet_balance: Decimal | None = None
    total_unrealized_profit: Decimal | None = None
    total_margin_balance: Decimal | None = None
    total_cross_wallet_balance: Decimal | None = None
    total_cross_un_pnl: Decimal | None = None
    total_maint_margin: Decimal | None = None
    total_initial_margin: Decimal | None = None
    total_position_initial_margin: Decimal | None = None
    total_open_order_initial_margin: Decimal | None = None


class _Risk(CamelRow):
    symbol: str
    position_amt: Decimal
    entry_price: Decimal
    mark_price: Decimal
    liquidation_price: Decimal
    un_realized_profit: Decimal
    position_side: str = "BOTH"
    margin_type: str | None = None
    leverage: Decimal | None = None
    isolated_wallet: Decimal | None = None
    position_initial_margin: Decimal | None = None


_TOTALS = {  # field of the account: field of its assets
    "total_wallet_balance": "wallet_balance",
    "total_unrealized_profit": "unrealized_profit",
    "total_margin_balance": "margin_balance",
    "total_cross_wallet_balance": "cross_wallet_balance",
    "total_cross_un_pnl": "cross_un_pnl",
    "total_maint_margin": "maint_margin",
    "total_initial_margin": "initial_margin",
    "total_position_initial_margin": "position_initial_margin",
    "total_open_order_initial_margin": "open_order_initial_margin",
}
_SENT = dict(zip(_Account.__struct_fields__, _Account.__struct_encode_fields__, strict=True))
_SENT |= dict(zip(_Wallet.__struct_fields__, _Wallet.__struct_encode_fields__, strict=True))


class _Depth(Row):
    bids: list[tuple[Any, Any]]
    asks: list[tuple[Any, Any]]
    sent: int | None = msgspec.field(default=None, name="E")
    matched: int | None = msgspec.field(default=None, name="T")


def leverage_brackets(source: Payload) -> dict[str, dict[str, Any]]:
    """Read leverage brackets into margin functions, as a market's row of `riskcore.load_venue` has them.

    The requirement of a bracket is ``notional * maintMarginRatio - cum``; the amounts ``cum`` that the venue publishes
    are checked, not used. The initial margin is that of a user who chose the highest leverage of each bracket.

    Parameters
    ----------
    source : str, Path, dict or list
        Of GET /fapi/v1/leverageBracket, for all symbols or for one; or what ccxt's ``fetch_leverage_tiers`` returns. A
        file or its parsed content. Brackets are those of the account that asked: a ``notionalCoef`` is in them already.

    Returns
    -------
    dict
        imfFunction and mmfFunction by symbol, named as in the source.

    Raises
    ------
    RiskDataError
        Something is missing or of another type; a bracket does not begin where the one before ends, asks less than it,
        or has another ``cum`` than the brackets below it make. The message holds the path.

    Examples
    --------
    >>> from riskcore.io import binance
    >>> low = {"notionalFloor": 0, "notionalCap": 50_000, "maintMarginRatio": 0.004, "initialLeverage": 125}
    >>> functions = binance.leverage_brackets([{"symbol": "BTCUSDT", "brackets": [low]}])
    >>> functions["BTCUSDT"]["mmfFunction"]
    {'type': 'tiers', 'brackets': [{'from': '0', 'rate': '0.004'}]}
    """
    content = json_input.raw(source, "leverage_brackets")
    if isinstance(content, dict) and "brackets" not in content:
        tiers = json_input.keyed(content, list[_Tier], "leverage_brackets", "$")
        return {symbol: _functions(f"$[{symbol!r}]", _TIER, map(_of_tier, rows)) for symbol, rows in tiers.items()}
    if isinstance(content, dict):
        one = json_input.read(content, _Brackets, "leverage_brackets")
        return {one.symbol: _functions("$.brackets", _BRACKET, one.brackets)}
    functions: dict[str, dict[str, Any]] = {}
    for n, row in enumerate(json_input.read(content, list[_Brackets], "leverage_brackets")):
        if row.symbol in functions:
            raise _wrong(f"$[{n}].symbol", "must not appear twice", row.symbol)
        functions[row.symbol] = _functions(f"$[{n}].brackets", _BRACKET, row.brackets)
    return functions


_BRACKET = ("notionalFloor", "maintMarginRatio", "initialLeverage", "cum")
_TIER = ("minNotional", "maintenanceMarginRate", "maxLeverage", "info.cum")


def _of_tier(row: _Tier) -> _Bracket:
    cum = None if row.info is None else row.info.cum
    return _Bracket(row.min_notional, row.max_notional, row.maintenance_margin_rate, row.max_leverage, cum)


def _functions(path: str, names: tuple[str, str, str, str], brackets: Iterable[_Bracket]) -> dict[str, Any]:
    """Margin functions of a symbol; ``names`` are those of floor, ratio, leverage and deduction in the payload."""
    rows = sorted(enumerate(brackets), key=lambda item: item[1].notional_floor)
    if not rows:
        raise _wrong(path, "must hold at least one bracket", "[]")
    end = ratio = deduction = Decimal(0)
    leverage = Decimal("Infinity")
    with localcontext(prec=DIGITS):
        for n, row in rows:
            floor_at, ratio_at, leverage_at, cum_at = (f"{path}[{n}].{name}" for name in names)
            if row.notional_floor != end:
                raise _wrong(floor_at, f"must be where the bracket before ends, {end}", row.notional_floor)
            if not max(ratio, Decimal("1e-18")) <= row.maint_margin_ratio <= 1:
                raise _wrong(ratio_at, f"must be more than 0, at least {ratio} and at most 1", row.maint_margin_ratio)
            if not 1 <= row.initial_leverage <= leverage:
                raise _wrong(leverage_at, f"must be at least 1 and at most {leverage}", row.initial_leverage)
            deduction += row.notional_floor * (row.maint_margin_ratio - ratio)
            if row.cum is not None and abs(row.cum - deduction) > _CUM_ROUNDING * max(deduction, Decimal(1)):
                raise _wrong(cum_at, f"must be {deduction}, by the brackets up to this one", row.cum)
            end, ratio, leverage = row.notional_cap, row.maint_margin_ratio, row.initial_leverage
    return {
        "imfFunction": tiers([(row.notional_floor, fraction_of(row.initial_leverage)) for _, row in rows], whole=True),
        "mmfFunction": tiers([(row.notional_floor, row.maint_margin_ratio) for _, row in rows]),
    }


def _wrong(path: str, rule: str, value: object, table: str = "leverage_brackets") -> RiskDataError:
    return RiskDataError(table, path, rule, value=str(value))


def load_venue(
    brackets: Payload,
    exchange_info: Payload,
    *,
    settle_asset: str = "USDT",
    margin_assets: Sequence[str] = (),
    policy: Mapping[str, Any] | None = None,
    backstop: Sequence[Mapping[str, Any]] | None = None,
) -> Venue:
    """Build a venue from saved replies, files or their parsed content.

    Its markets are the perpetuals margined in the settle asset that stand in both replies, named as in
    ``exchange_info``. Its only collateral is the settle asset (`load_account` says what that is in multi-assets mode).

    Parameters
    ----------
    brackets : str, Path, dict or list
        As `leverage_brackets` takes them.
    exchange_info : str, Path or dict
        Of GET /fapi/v1/exchangeInfo.
    settle_asset : str
        Margin asset of the markets.
    margin_assets : sequence of str
        Further margin assets, whose markets settle at par with the settle asset: for accounts in multi-assets mode that
        hold positions margined in USDC beside those in USDT.
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
    >>> from riskcore.io import binance
    >>> low = {"notionalFloor": 0, "notionalCap": 50_000, "maintMarginRatio": 0.004, "initialLeverage": 125}
    >>> price = {"filterType": "PRICE_FILTER", "tickSize": "0.1", "maxPrice": "1000000"}
    >>> filters = [price, {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001"}]
    >>> market = {"symbol": "BTCUSDT", "baseAsset": "BTC", "marginAsset": "USDT", "contractType": "PERPETUAL"}
    >>> info = {"symbols": [market | {"filters": filters}]}
    >>> binance.load_venue([{"symbol": "BTCUSDT", "brackets": [low]}], info)
    Venue(1 market: BTCUSDT; 1 asset, settles in USDT, fund 0)
    """
    margined = {settle_asset, *margin_assets}
    functions = {_native(symbol): pair for symbol, pair in leverage_brackets(brackets).items()}
    markets = []
    for n, row in enumerate(json_input.read(exchange_info, _ExchangeInfo, "exchange_info").symbols):
        perpetual = row.contract_type.endswith("PERPETUAL") and row.margin_asset in margined
        if perpetual and row.symbol in functions:
            filters = _filters(f"$.symbols[{n}].filters", row.filters)
            named = {"symbol": row.symbol, "baseSymbol": row.base_asset, "marketType": "PERP", "filters": filters}
            markets.append(named | functions[row.symbol])
    if not markets:
        rule = f"must hold a perpetual margined in {settle_asset} that has leverage brackets"
        raise RiskDataError("exchange_info", "$.symbols", rule)
    # binance.com/en/support/faq/360033525471: ADL once the insurance fund cannot take the bankrupt positions
    return settle_only(markets, settle_asset, BOOK_THEN_FUND, policy, backstop)


def _native(symbol: str) -> str:
    """Name of a perpetual in the API: BTCUSDT of ccxt's BTC/USDT:USDT."""
    return symbol.partition(":")[0].replace("/", "") if ":" in symbol and "-" not in symbol else symbol


def _filters(path: str, filters: list[_Filter]) -> dict[str, Any]:
    by_type = {row.filter_type: row for row in filters}
    price, lot = by_type.get("PRICE_FILTER"), by_type.get("LOT_SIZE")
    if price is None or price.tick_size is None:
        raise RiskDataError("exchange_info", path, "must hold a PRICE_FILTER with tickSize")
    if lot is None or lot.step_size is None:
        raise RiskDataError("exchange_info", path, "must hold a LOT_SIZE with stepSize")
    prices = {"tickSize": str(price.tick_size)}
    if price.max_price:  # 0 switches it off
        prices["maxPrice"] = str(price.max_price)
    return {"price": prices, "quantity": {"stepSize": str(lot.step_size), "minQuantity": str(lot.min_qty or 0)}}


def read_book(depth: Payload) -> dict[str, Any]:
    """Read the order book in a saved reply, a file or its parsed content.

    Parameters
    ----------
    depth : str, Path or dict
        Of GET /fapi/v1/depth. Its times, ``T`` (of the matching engine) before ``E``, are in milliseconds.

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
    >>> from riskcore.io import binance
    >>> binance.read_book({"bids": [["99.9", "1"]], "asks": [["100.1", "3"]], "T": 1_760_130_000_000})
    {'bids': [(99.9, 1.0)], 'asks': [(100.1, 3.0)], 'time': 1760130000000000000}
    """
    book = json_input.read(depth, _Depth, "depth")
    time = book.sent if book.matched is None else book.matched
    sides = {"$.bids": book.bids, "$.asks": book.asks}
    return book_of("depth", sides, None if time is None else time * 1_000_000)


def load_account(
    venue: Venue,
    account: Payload,
    *,
    position_risk: Payload | None = None,
    multi_assets: bool | None = None,
    name: int | str = "account",
) -> Snapshot:
    """Build a snapshot of one user's accounts from saved replies, files or their parsed content.

    The cross positions and the cross wallet are the account ``name``, every isolated position with its own wallet is
    the account ``name:symbol`` (``name:symbol:side`` in hedge mode). A negative wallet becomes an unsettled amount, as
    it is no borrow. Open orders are not in these replies.

    In single-asset mode only positions margined in the venue's settle asset are read. In multi-assets mode all assets
    carry all cross positions, and the wallet of the cross account is ``totalCrossWalletBalance``: the US dollars that
    the venue counts for the assets, at the prices and haircuts of the reply, taken at par with the settle asset. They
    do not move with prices, as the reply has neither quantities in other units nor rates.

    Every total is held against the rows that make it, to the last digits sent. Totals in US dollars over several assets
    depend on rates that are not in the reply: there a stablecoin may be up to 5 % away from 1.

    Parameters
    ----------
    venue : Venue
        Of `load_venue`. Its backstop providers are left out. Where the replies say the leverage that the user chose, or
        the initial margin of a position without orders, the initial margin of the snapshot's market is at least that.
    account : str, Path or dict
        Of GET /fapi/v2/account or /fapi/v3/account.
    position_risk : str, Path or list, optional
        Of GET /fapi/v2/positionRisk or /fapi/v3/positionRisk, saved at the same moment: mark, entry and liquidation
        prices. Without it the marks are those that the notionals of the account imply.
    multi_assets : bool, optional
        Whether the account is in multi-assets mode. None: as ``multiAssetsMargin`` says, and without it (version 3) as
        the totals say, which count USDT alone in single-asset mode and all assets in multi-assets mode.
    name : int or str
        Id of the cross account, made text.

    Returns
    -------
    Snapshot
        The accounts, the prices of the replies, and the figures that the venue reports.

    Raises
    ------
    RiskDataError
        A reply cannot be read, something is missing, of another type or names a market that is not the venue's; a total
        is not what the rows make in the account's mode, or a market is held in both directions on one wallet. The
        message holds the path.

    Examples
    --------
    >>> from riskcore.io import binance
    >>> low = {"notionalFloor": 0, "notionalCap": 50_000, "maintMarginRatio": 0.004, "initialLeverage": 125}
    >>> price = {"filterType": "PRICE_FILTER", "tickSize": "0.1", "maxPrice": "1000000"}
    >>> filters = [price, {"filterType": "LOT_SIZE", "stepSize": "0.001", "minQty": "0.001"}]
    >>> market = {"symbol": "BTCUSDT", "baseAsset": "BTC", "marginAsset": "USDT", "contractType": "PERPETUAL"}
    >>> info = {"symbols": [market | {"filters": filters}]}
    >>> venue = binance.load_venue([{"symbol": "BTCUSDT", "brackets": [low]}], info)
    >>> position = {"symbol": "BTCUSDT", "positionAmt": "0.1", "entryPrice": "100500", "notional": "10000"}
    >>> margin = {"unrealizedProfit": "-50", "maintMargin": "40"}
    >>> wallet = {"asset": "USDT", "crossWalletBalance": "1000", "crossUnPnl": "-50"}
    >>> snapshot = binance.load_account(venue, {"assets": [wallet], "positions": [position | margin]})
    >>> snapshot.compare()[["figure", "value", "riskcore"]].round(6).to_dict("records")[1]
    {'figure': 'maintenance_margin', 'value': 40.0, 'riskcore': 40.0}
    """
    name = str(name)
    content = json_input.read(account, _Account, "account")
    risks = [] if position_risk is None else json_input.read(position_risk, list[_Risk], "position_risk")
    risk_of = {(row.symbol, row.position_side): row for row in risks}
    markets = perpetuals(venue)
    tables = _Tables(venue.settle_asset, name)
    with localcontext(prec=DIGITS):
        positions = _positions_of(content, risk_of)
        _check_assets(content, positions)
        several = _multi_assets(content, positions, multi_assets)
        wallet, profit, orders = _cross(content, positions, venue.settle_asset, several)
        if wallet is not None:
            tables.fund(name, wallet)
            tables.reported.append((name, None, "net_equity", wallet + profit))
        for n, one in positions.items():
            row = one.row
            if not row.position_amt or not (several or _margined(row.symbol, venue.settle_asset, markets)):
                continue
            if row.symbol not in markets:
                rule = "must be a perpetual market of the venue"
                if several:
                    rule += ": in multi-assets mode all margin assets count; pass margin_assets to load_venue"
                raise _wrong(f"$.positions[{n}].symbol", rule, row.symbol, "account")
            tables.add(f"$.positions[{n}]", one, markets[row.symbol], ordered=bool(orders))
        for n, risk in enumerate(risks):
            if risk.position_amt and not any(one.risk is risk for one in positions.values()) and risk.symbol in markets:
                rule = "must be a position of the account: the replies are of different moments or users"
                raise _wrong(f"$[{n}].symbol", rule, risk.symbol, "position_risk")
        tables.sum_up(_account_totals(content, venue.settle_asset, several), several=several)
    source = dict(venue.source) | {"markets": list(markets.values()), "backstop": []}
    return snapshot(source, tables.positions, tables.balances, tables.marks, tables.reported, settings=tables.settings)


def _margined(symbol: str, settle_asset: str, markets: Mapping[str, Any]) -> bool:
    return symbol in markets or symbol.partition("_")[0].endswith(settle_asset)


@dataclass(frozen=True)
class _ReportedPosition:
    """A row of the account's positions, with what position_risk adds to it."""

    row: _Position
    risk: _Risk | None
    isolated: bool
    wallet: Decimal | None
    initial_margin: Decimal | None  # of the position alone, without orders


def _positions_of(content: _Account, risk_of: Mapping[tuple[str, str], _Risk]) -> dict[int, _ReportedPosition]:
    """Rows of the account's positions by their index in the reply."""
    positions = {}
    for n, row in enumerate(content.positions):
        risk = risk_of.get((row.symbol, row.position_side))
        wallet = row.isolated_wallet
        if wallet is None and risk is not None:
            wallet = risk.isolated_wallet
        isolated = row.isolated
        if isolated is None:
            isolated = risk.margin_type == "isolated" if risk and risk.margin_type else bool(wallet)
        initial = row.position_initial_margin
        if initial is None and row.initial_margin is not None and row.open_order_initial_margin is not None:
            initial = row.initial_margin - row.open_order_initial_margin
        positions[n] = _ReportedPosition(row, risk, isolated, wallet, initial)
    return positions


def _slack(*amounts: Decimal) -> Decimal:
    """Difference between a sum of amounts and its total that their rounding to the last digit explains."""
    return rounding_slack(amounts, _LAST_DIGIT, Decimal("1e-10"))


def _check_assets(content: _Account, positions: Mapping[int, _ReportedPosition]) -> None:
    """Hold the totals of each asset against the positions margined in it."""
    assets = sorted((wallet.asset for wallet in content.assets), key=len, reverse=True)
    by_asset: dict[str, list[_ReportedPosition]] = {asset: [] for asset in assets}
    for one in positions.values():
        margin_asset = next((a for a in assets if one.row.symbol.partition("_")[0].endswith(a)), None)
        if margin_asset is not None:
            by_asset[margin_asset].append(one)
    expected = "the sum of the positions margined in it; positions are missing, or of another moment"
    for n, row in enumerate(content.assets):

        def check(field: str, amounts: Sequence[Decimal], what: str, *, n: int = n, row: _Wallet = row) -> None:
            path = f"$.assets[{n}].{_SENT[field]}"
            check_total("account", path, getattr(row, field), sum(amounts, Decimal(0)), _slack(*amounts), what)

        if row.asset in (other.asset for other in content.assets[:n]):
            raise _wrong(f"$.assets[{n}].asset", "must not appear twice", row.asset, "account")
        in_asset = by_asset[row.asset]
        cross = [one for one in in_asset if not one.isolated]
        check("cross_un_pnl", [one.row.unrealized_profit for one in cross], f"{expected}, or isolated")
        check("unrealized_profit", [one.row.unrealized_profit for one in in_asset], expected)
        margins = [one.row.maint_margin for one in in_asset]
        if row.maint_margin is not None and abs(sum(margins, Decimal(0)) - row.maint_margin) > _slack(*margins):
            check("maint_margin", [one.row.maint_margin for one in cross], expected)
        for field, initial in (
            ("position_initial_margin", [(one.initial_margin, one.isolated) for one in in_asset]),
            ("initial_margin", [(one.row.initial_margin, one.isolated) for one in in_asset]),
        ):
            every = [amount for amount, _ in initial if amount is not None]
            sent = getattr(row, field)
            if sent is not None and len(every) == len(in_asset) and abs(sum(every, Decimal(0)) - sent) > _slack(*every):
                check(field, [amount for amount, alone in initial if amount is not None and not alone], expected)
        if row.wallet_balance is not None:
            own = [one.wallet for one in in_asset if one.isolated]
            if None not in own:
                parts = [row.cross_wallet_balance, *(wallet for wallet in own if wallet is not None)]
                what = "crossWalletBalance and the wallets of the isolated positions; an isolated position is missing"
                check("wallet_balance", parts, what)
            if row.unrealized_profit is not None:
                check("margin_balance", [row.wallet_balance, row.unrealized_profit], "walletBalance + unrealizedProfit")


def _multi_assets(content: _Account, positions: Mapping[int, _ReportedPosition], multi_assets: bool | None) -> bool:
    """Whether the account is in multi-assets mode: as told, as the reply says, or as its totals say.

    Raises
    ------
    RiskDataError
        The totals are not those of the mode, or of neither.
    """
    sent = content.multi_assets_margin
    if multi_assets is not None and sent is not None and multi_assets != sent:
        raise _wrong(
            "$.multiAssetsMargin", f"must agree with the argument multi_assets, {multi_assets}", sent, "account"
        )
    mode = sent if multi_assets is None else multi_assets
    for total, left, right in (
        ("total_margin_balance", "total_wallet_balance", "total_unrealized_profit"),
        ("total_initial_margin", "total_position_initial_margin", "total_open_order_initial_margin"),
    ):
        parts = [getattr(content, left), getattr(content, right)]
        if None not in parts:
            what = f"{_SENT[left]} + {_SENT[right]}"
            check_total("account", f"$.{_SENT[total]}", getattr(content, total), sum(parts), _slack(*parts), what)
    single, several = _of_usdt(content), _of_all(content)
    if mode is None and single is not None and several is not None:
        (found, sent_total, usdt), (other, beside, low, high) = single, several
        rule = f"must be {usdt:f}, USDT alone, in single-asset mode; and in multi-assets mode {_SENT[other]} {beside:f}"
        rule += f" must be {_span(low, high)}, all assets: an asset is missing, or the mode is another"
        raise _wrong(f"$.{_SENT[found]}", f"{rule} (portfolio margin, credits)", f"{sent_total:f}", "account")
    if mode is None:
        rich = [wallet.asset for wallet in content.assets if wallet.cross_wallet_balance and wallet.asset != "USDT"]
        if single is None and rich and all(getattr(content, total) is None for total in _TOTALS):
            rule = f"the reply has neither multiAssetsMargin nor totals, and holds {rich[0]}: pass multi_assets"
            raise RiskDataError("account", None, rule)
        mode = single is not None
    if not mode and single is not None:
        found, sent_total, usdt = single
        rule = f"must be {usdt:f}, USDT alone, in single-asset mode: an asset is missing, or the mode is multi-assets"
        raise _wrong(f"$.{_SENT[found]}", rule, f"{sent_total:f}", "account")
    if mode and several is not None:
        found, sent_total, low, high = several
        rule = f"must be {_span(low, high)}, all assets in US dollars, in multi-assets mode: an asset or a position is"
        raise _wrong(f"$.{_SENT[found]}", f"{rule} missing, or the mode is another", f"{sent_total:f}", "account")
    if mode:
        alone = [one for one in positions.values() if one.isolated]
        for total, every, apart in (
            ("total_cross_wallet_balance", content.total_wallet_balance, [one.wallet for one in alone]),
            ("total_cross_un_pnl", content.total_unrealized_profit, [one.row.unrealized_profit for one in alone]),
        ):
            parts = [part for part in apart if part is not None]
            if every is not None and len(parts) == len(alone):
                slack = _slack(every, *parts) + _PARITY * sum(map(abs, parts), Decimal(0))
                what = "all but the isolated positions; one is missing, or the totals are of another moment"
                rest = every - sum(parts, Decimal(0))
                check_total("account", f"$.{_SENT[total]}", getattr(content, total), rest, slack, what)
    return mode


def _span(low: Decimal, high: Decimal | None) -> str:
    if high is None:
        return f"at least {low:f}"
    return f"{low:f}" if low == high else f"from {low:f} to {high:f}"


def _of_usdt(content: _Account) -> tuple[str, Decimal, Decimal] | None:
    """First total that is not USDT's, with its value and the value of USDT; None if all are."""
    usdt = next((wallet for wallet in content.assets if wallet.asset == "USDT"), None)
    for total, field in _TOTALS.items():
        sent, amount = getattr(content, total), Decimal(0) if usdt is None else getattr(usdt, field)
        if sent is not None and amount is not None and abs(sent - amount) > _slack(sent, amount):
            return total, sent, amount
    return None


def _of_all(content: _Account) -> tuple[str, Decimal, Decimal, Decimal | None] | None:
    """First total that no sum over all assets gives, with its value and the bounds of that sum; None if there is none.

    A stablecoin counts within 5 % of 1, another asset at any rate of its sign.
    """
    for total, field in _TOTALS.items():
        sent, amounts = getattr(content, total), [(w.asset, getattr(w, field)) for w in content.assets]
        if sent is None or any(amount is None for _, amount in amounts):
            continue
        near = [amount for asset, amount in amounts if asset in _DOLLARS]
        away = [amount for asset, amount in amounts if asset not in _DOLLARS and amount]
        slack = sum(map(abs, near), Decimal(0)) * _PARITY + _slack(*near)
        low, high = sum(near, Decimal(0)) - slack, sum(near, Decimal(0)) + slack
        if (sent < low and not any(a < 0 for a in away)) or (sent > high and not any(a > 0 for a in away)):
            return total, sent, low, None if any(a > 0 for a in away) else high
    return None


def _cross(
    content: _Account, positions: Mapping[int, _ReportedPosition], settle_asset: str, several: bool
) -> tuple[Decimal | None, Decimal, Decimal]:
    """Wallet of the cross account (None without one), its unrealised profit, and the initial margin of open orders."""
    if several:
        wallet, profit = content.total_cross_wallet_balance, content.total_cross_un_pnl
        if wallet is None:
            raise RiskDataError("account", "$.totalCrossWalletBalance", "must not be missing in multi-assets mode")
        if profit is None:
            profit = sum((one.row.unrealized_profit for one in positions.values() if not one.isolated), Decimal(0))
        return wallet, profit, content.total_open_order_initial_margin or Decimal(0)
    for row in content.assets:
        if row.asset == settle_asset:
            return row.cross_wallet_balance, row.cross_un_pnl, row.open_order_initial_margin or Decimal(0)
    return None, Decimal(0), Decimal(0)


def _account_totals(content: _Account, settle_asset: str, several: bool) -> dict[str, Decimal | None]:
    """Totals of all accounts, cross and isolated."""
    if several:
        totals = content.total_margin_balance, content.total_maint_margin, content.total_position_initial_margin
    else:
        row = next((row for row in content.assets if row.asset == settle_asset), None)
        totals = (
            (None, None, None) if row is None else (row.margin_balance, row.maint_margin, row.position_initial_margin)
        )
    return dict(zip(("net_equity", "maintenance_margin", "initial_margin"), totals, strict=True))


class _Tables:
    """Rows of the input tables, grown position by position."""

    def __init__(self, settle_asset: str, name: str) -> None:
        self.settle_asset, self.name = settle_asset, name
        self.positions: list[dict[str, Any]] = []
        self.balances: list[dict[str, Any]] = []
        self.settings: list[dict[str, Any]] = []
        self.marks: dict[str, Decimal] = {}
        self.reported: list[Figure] = []
        self.margin: dict[str, list[tuple[Decimal, Decimal | None]]] = {}

    def fund(self, account: str, amount: Decimal) -> None:
        """Give an account its wallet."""
        balance = {"account": account, "asset": self.settle_asset, "quantity": max(amount, Decimal(0))}
        self.balances.append(balance)
        self.settings.append({"account": account, "unsettled": min(amount, Decimal(0))})

    def add(self, path: str, one: _ReportedPosition, market: dict[str, Any], *, ordered: bool) -> None:
        """Add a position, in an account of its own if it is isolated; ``ordered``: there are open orders."""
        row, risk = one.row, one.risk
        quantity, profit = row.position_amt, row.unrealized_profit
        if risk is not None:
            if risk.position_amt != quantity:
                rule = f"must be that of position_risk, {risk.position_amt}: they are of different moments"
                raise _wrong(f"{path}.positionAmt", rule, quantity, "account")
            profit = risk.un_realized_profit
        for field in ("maint_margin", "initial_margin"):
            if (getattr(row, field) or Decimal(0)) < 0:
                raise _wrong(f"{path}.{_SENT[field]}", "must be >= 0", getattr(row, field), "account")
        entry = row.entry_price if risk is None else risk.entry_price
        mark = _mark(path, row, risk)
        account = self._account(path, one, profit)
        self.marks[row.symbol] = mark
        settled = mark - profit / quantity
        self.positions.append(
            {
                "account": account,
                "market": row.symbol,
                "quantity": quantity,
                "entry_price": entry or settled,
                "settle_price": settled,
            }
        )
        initial = one.initial_margin
        if initial is None and risk is not None:
            initial = risk.position_initial_margin
        if initial is None and not ordered:
            initial = row.initial_margin
        leverage, notional = row.leverage or (risk.leverage if risk else None), abs(row.notional or mark * quantity)
        if leverage:
            market["imfFunction"] = at_most(market["imfFunction"], fraction_of(leverage))
        elif initial and initial <= notional:
            market["imfFunction"] = at_most(market["imfFunction"], fraction_of(notional / initial))
        self.margin.setdefault(account, []).append((row.maint_margin, initial))
        if risk is not None and risk.liquidation_price > 0:
            self.reported.append((account, row.symbol, "liquidation_price", risk.liquidation_price))

    def _account(self, path: str, one: _ReportedPosition, profit: Decimal) -> str:
        row = one.row
        if not one.isolated:
            if any(row.symbol == other["market"] and other["account"] == self.name for other in self.positions):
                rule = "must not be held in both directions: riskcore has one position per market"
                raise _wrong(f"{path}.positionSide", rule, row.position_side, "account")
            return self.name
        if one.wallet is None:
            raise _wrong(f"{path}.isolatedWallet", "is needed for an isolated position, here or in position_risk", None)
        account = f"{self.name}:{row.symbol}" + ("" if row.position_side == "BOTH" else f":{row.position_side}")
        self.fund(account, one.wallet)
        self.reported.append((account, None, "net_equity", one.wallet + profit))
        return account

    def sum_up(self, whole: Mapping[str, Decimal | None], *, several: bool) -> None:
        """Report the margins of each account and of all, and give the cross account a balance if the reply has none."""
        sums: dict[str, list[Decimal]] = {"maintenance_margin": [], "initial_margin": []}
        for account, rows in self.margin.items():
            for figure, amounts in zip(sums, zip(*rows, strict=True), strict=True):
                reported_amounts = [amount for amount in amounts if amount is not None]
                if len(reported_amounts) == len(rows):
                    self.reported.append((account, None, figure, sum(reported_amounts)))
                    sums[figure].append(sum(reported_amounts, Decimal(0)))
        for figure, total in whole.items() if several or len(self.balances) > 1 else ():
            parts = sums.get(figure)
            if total is None or (parts is not None and len(parts) != len(self.margin)):
                continue
            # some totals of margins leave the isolated positions out
            near = parts is None or abs(sum(parts) - total) <= _slack(*parts) + (_PARITY * total if several else 0)
            if near:
                self.reported.append((None, None, figure, total))
        if not any(row["account"] == self.name for row in self.balances):
            self.fund(self.name, Decimal(0))


def _mark(path: str, row: _Position, risk: _Risk | None) -> Decimal:
    if risk is not None:
        return risk.mark_price
    if row.notional:
        return abs(row.notional / row.position_amt)
    if row.entry_price:
        return row.entry_price + row.unrealized_profit / row.position_amt
    raise RiskDataError("account", f"{path}.notional", "must not be missing without position_risk and entryPrice")
