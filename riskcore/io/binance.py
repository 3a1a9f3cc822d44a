"""Binance USD-M futures: saved replies of its API, or ccxt's form of them, as a venue and as snapshots of accounts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

from .. import payload
from ..errors import RiskDataError
from ..payload import Payload, Row
from ..venue import Venue
from .parameters import settle_only
from .snapshot import Snapshot, snapshot

_DIGITS = 40  # of the arithmetic on a payload's amounts
_RATE_DIGITS = 28  # of 1 / leverage
_CUM_ROUNDING = Decimal("1e-6")  # relative


class _Row(Row, rename="camel"):
    """Part of a reply."""


class _Bracket(_Row):
    notional_floor: Decimal
    notional_cap: Decimal
    maint_margin_ratio: Decimal
    initial_leverage: Decimal
    cum: Decimal | None = None


class _Brackets(_Row):
    symbol: str
    brackets: list[_Bracket]


class _Info(_Row):
    cum: Decimal | None = None


class _Tier(_Row):
    min_notional: Decimal
    max_notional: Decimal
    maintenance_margin_rate: Decimal
    max_leverage: Decimal
    info: _Info | None = None


class _Filter(_Row):
    filter_type: str
    tick_size: Decimal | None = None
    max_price: Decimal | None = None
    step_size: Decimal | None = None
    min_qty: Decimal | None = None


class _Symbol(_Row):
    symbol: str
    base_asset: str
    margin_asset: str
    contract_type: str
    filters: list[_Filter]


class _ExchangeInfo(_Row):
    symbols: list[_Symbol]


class _Wallet(_Row):
    asset: str
    cross_wallet_balance: Decimal
    cross_un_pnl: Decimal


class _Position(_Row):
    symbol: str
    position_amt: Decimal
    unrealized_profit: Decimal
    maint_margin: Decimal
    position_side: str = "BOTH"
    entry_price: Decimal | None = None
    notional: Decimal | None = None
    leverage: Decimal | None = None
    isolated: bool | None = None
    isolated_wallet: Decimal | None = None
    position_initial_margin: Decimal | None = None


class _Account(_Row):
    assets: list[_Wallet]
    positions: list[_Position]
    multi_assets_margin: bool = False


class _Risk(_Row):
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


def leverage_brackets(source: Payload) -> dict[str, dict[str, Any]]:
    """Read leverage brackets into margin functions, as a market's row of `riskcore.load_venue` has them.

    The requirement of a bracket is ``notional * maintMarginRatio - cum``; the amounts ``cum`` that the venue publishes
    are checked, not used. The initial margin is that of a user who chose the highest leverage of each bracket.

    Parameters
    ----------
    source
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
    """
    content = payload.raw(source, "leverage_brackets")
    if isinstance(content, dict) and "brackets" not in content:
        tiers = payload.keyed(content, list[_Tier], "leverage_brackets", "$")
        return {symbol: _functions(f"$[{symbol!r}]", _TIER, map(_of_tier, rows)) for symbol, rows in tiers.items()}
    if isinstance(content, dict):
        one = payload.read(content, _Brackets, "leverage_brackets")
        return {one.symbol: _functions("$.brackets", _BRACKET, one.brackets)}
    found: dict[str, dict[str, Any]] = {}
    for at, row in enumerate(payload.read(content, list[_Brackets], "leverage_brackets")):
        if row.symbol in found:
            raise _wrong(f"$[{at}].symbol", "must not stand twice", row.symbol)
        found[row.symbol] = _functions(f"$[{at}].brackets", _BRACKET, row.brackets)
    return found


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
    with localcontext(prec=_DIGITS):
        for at, row in rows:
            floor_at, ratio_at, leverage_at, cum_at = (f"{path}[{at}].{name}" for name in names)
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
        "imfFunction": _tiers([(row.notional_floor, _fraction(row.initial_leverage)) for _, row in rows], whole=True),
        "mmfFunction": _tiers([(row.notional_floor, row.maint_margin_ratio) for _, row in rows]),
    }


def _tiers(rates: Iterable[tuple[Decimal, Decimal]], *, whole: bool = False) -> dict[str, Any]:
    """Margin function of the kind tiers; a bracket with the rate of the one before is part of it."""
    brackets: list[dict[str, str]] = []
    for lower, rate in rates:
        if not brackets or brackets[-1]["rate"] != format(rate.normalize(), "f"):
            brackets.append({"from": format(lower.normalize(), "f"), "rate": format(rate.normalize(), "f")})
    return {"type": "tiers", "brackets": brackets} | ({"whole": True} if whole else {})


def _fraction(leverage: Decimal) -> Decimal:
    with localcontext(prec=_RATE_DIGITS):
        return 1 / leverage


def _wrong(path: str, rule: str, value: object, table: str = "leverage_brackets") -> RiskDataError:
    return RiskDataError(table, path, rule, value=str(value))


def load_venue(
    brackets: Payload,
    exchange_info: Payload,
    *,
    settle_asset: str = "USDT",
    policy: Mapping[str, Any] | None = None,
    backstop: Sequence[Mapping[str, Any]] | None = None,
) -> Venue:
    """Build a venue from saved replies, files or their parsed content.

    Its markets are the perpetuals margined in the settle asset that stand in both replies, named as in
    ``exchange_info``. No other asset is collateral: this is single-asset mode.

    Parameters
    ----------
    brackets
        As `leverage_brackets` takes them.
    exchange_info
        Of GET /fapi/v1/exchangeInfo.
    settle_asset
        Margin asset of the markets.
    policy, backstop
        As `riskcore.load_venue` takes them; the API does not say them.

    Raises
    ------
    RiskDataError
        A reply cannot be read, or something is missing, of another type or out of range; the message holds its path.
    """
    functions = {_native(symbol): pair for symbol, pair in leverage_brackets(brackets).items()}
    markets = []
    for at, row in enumerate(payload.read(exchange_info, _ExchangeInfo, "exchange_info").symbols):
        perpetual = row.contract_type.endswith("PERPETUAL") and row.margin_asset == settle_asset
        if perpetual and row.symbol in functions:
            filters = _filters(f"$.symbols[{at}].filters", row.filters)
            named = {"symbol": row.symbol, "baseSymbol": row.base_asset, "marketType": "PERP", "filters": filters}
            markets.append(named | functions[row.symbol])
    if not markets:
        rule = f"must hold a perpetual margined in {settle_asset} that has leverage brackets"
        raise RiskDataError("exchange_info", "$.symbols", rule)
    return settle_only(markets, settle_asset, policy, backstop)


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


def load_account(
    venue: Venue, account: Payload, *, position_risk: Payload | None = None, name: int | str = "account"
) -> Snapshot:
    """Build a snapshot of one user's accounts from saved replies, files or their parsed content.

    The cross positions and the cross wallet are the account ``name``, every isolated position with its own wallet is
    the account ``name:symbol`` (``name:symbol:side`` in hedge mode). Only what is margined in the venue's settle asset
    is read. A negative wallet becomes an unsettled amount, as it is no borrow. Open orders are not in these replies.

    Parameters
    ----------
    venue
        Of `load_venue`. Its backstop providers are left out. Where the replies say the leverage that the user chose,
        the initial margin of the snapshot's market is at least that.
    account
        Of GET /fapi/v2/account or /fapi/v3/account.
    position_risk
        Of GET /fapi/v2/positionRisk or /fapi/v3/positionRisk, saved at the same moment: mark, entry and liquidation
        prices. Without it the marks are those that the notionals of the account imply.
    name
        Id of the cross account, made text.

    Raises
    ------
    RiskDataError
        A reply cannot be read, something is missing, of another type or names a market that is not the venue's; the
        account is in multi-assets mode, or holds a market in both directions on one wallet. The message holds the path.
    """
    name = str(name)
    content = payload.read(account, _Account, "account")
    if content.multi_assets_margin:
        raise _wrong("$.multiAssetsMargin", "must be false: riskcore has single-asset mode", True, "account")
    risks = [] if position_risk is None else payload.read(position_risk, list[_Risk], "position_risk")
    risk_of = {(row.symbol, row.position_side): row for row in risks}
    markets = {row["symbol"]: dict(row) for row in venue.source["markets"] if row["marketType"] == "PERP"}
    book = _Book(venue.settle_asset, name)
    with localcontext(prec=_DIGITS):
        for wallet in content.assets:
            if wallet.asset == venue.settle_asset:
                book.fund(name, wallet.cross_wallet_balance)
                equity = wallet.cross_wallet_balance + wallet.cross_un_pnl
                book.reported.append((name, None, "net_equity", equity))
        for at, row in enumerate(content.positions):
            if row.position_amt and _margined(row.symbol, venue.settle_asset, markets):
                if row.symbol not in markets:
                    rule = "must be a perpetual market of the venue"
                    raise _wrong(f"$.positions[{at}].symbol", rule, row.symbol, "account")
                book.add(f"$.positions[{at}]", row, risk_of.get((row.symbol, row.position_side)), markets[row.symbol])
        book.sum_up()
    source = dict(venue.source) | {"markets": list(markets.values()), "backstop": []}
    return snapshot(source, book.positions, book.balances, book.marks, book.reported, settings=book.settings)


def _margined(symbol: str, settle_asset: str, markets: Mapping[str, Any]) -> bool:
    return symbol in markets or symbol.partition("_")[0].endswith(settle_asset)


class _Book:
    """Rows of the input tables, grown position by position."""

    def __init__(self, settle_asset: str, name: str) -> None:
        self.settle_asset, self.name = settle_asset, name
        self.positions: list[dict[str, Any]] = []
        self.balances: list[dict[str, Any]] = []
        self.settings: list[dict[str, Any]] = []
        self.marks: dict[str, Decimal] = {}
        self.reported: list[tuple[int | str, str | None, str, Any]] = []
        self.margin: dict[str, list[tuple[Decimal, Decimal | None]]] = {}

    def fund(self, account: str, amount: Decimal) -> None:
        """Give an account its wallet."""
        balance = {"account": account, "asset": self.settle_asset, "quantity": max(amount, Decimal(0))}
        self.balances.append(balance)
        self.settings.append({"account": account, "unsettled": min(amount, Decimal(0))})

    def add(self, path: str, row: _Position, risk: _Risk | None, market: dict[str, Any]) -> None:
        """Add a position, in an account of its own if it is isolated."""
        quantity, profit = row.position_amt, row.unrealized_profit
        if risk is not None:
            if risk.position_amt != quantity:
                rule = f"must be that of position_risk, {risk.position_amt}: they are of different moments"
                raise _wrong(f"{path}.positionAmt", rule, quantity, "account")
            profit = risk.un_realized_profit
        entry = row.entry_price if risk is None else risk.entry_price
        mark = _mark(path, row, risk)
        account = self._account(path, row, risk, profit)
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
        leverage = row.leverage or (risk.leverage if risk else None)
        if leverage:
            market["imfFunction"] = _at_most(market["imfFunction"], leverage)
        initial = row.position_initial_margin if leverage else None
        self.margin.setdefault(account, []).append((row.maint_margin, initial))
        if risk is not None and risk.liquidation_price > 0:
            self.reported.append((account, row.symbol, "liquidation_price", risk.liquidation_price))

    def _account(self, path: str, row: _Position, risk: _Risk | None, profit: Decimal) -> str:
        wallet = row.isolated_wallet
        if wallet is None and risk is not None:
            wallet = risk.isolated_wallet
        isolated = row.isolated
        if isolated is None:
            isolated = risk.margin_type == "isolated" if risk and risk.margin_type else bool(wallet)
        if not isolated:
            if any(row.symbol == other["market"] and other["account"] == self.name for other in self.positions):
                rule = "must not be held in both directions: riskcore has one position per market"
                raise _wrong(f"{path}.positionSide", rule, row.position_side, "account")
            return self.name
        if wallet is None:
            raise _wrong(f"{path}.isolatedWallet", "is needed of an isolated position, here or in position_risk", None)
        account = f"{self.name}:{row.symbol}" + ("" if row.position_side == "BOTH" else f":{row.position_side}")
        self.fund(account, wallet)
        self.reported.append((account, None, "net_equity", wallet + profit))
        return account

    def sum_up(self) -> None:
        """Report the margins, and give the cross account a balance if the reply has none."""
        for account, rows in self.margin.items():
            self.reported.append((account, None, "maintenance_margin", sum(maintenance for maintenance, _ in rows)))
            initial = [amount for _, amount in rows if amount is not None]
            if len(initial) == len(rows):
                self.reported.append((account, None, "initial_margin", sum(initial)))
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


def _at_most(function: Mapping[str, Any], leverage: Decimal) -> Mapping[str, Any]:
    """Initial margin function of a user who chose a leverage."""
    if function["type"] != "tiers":
        return function
    rates = [(Decimal(str(b["from"])), Decimal(str(b["rate"]))) for b in function["brackets"]]
    return _tiers([(lower, max(rate, _fraction(leverage))) for lower, rate in rates], whole=True)
