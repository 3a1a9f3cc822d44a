"""NautilusTrader 1.221.0: a venue's margin and liquidations as a simulation module of its backtest engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pandas as pd
from nautilus_trader.backtest.config import SimulationModuleConfig
from nautilus_trader.backtest.models import FeeModel, MakerTakerFeeModel
from nautilus_trader.backtest.modules import SimulationModule
from nautilus_trader.core.uuid import UUID4
from nautilus_trader.model.currencies import Currency
from nautilus_trader.model.enums import (
    AccountType,
    LiquiditySide,
    OrderSide,
    OrderType,
    PriceType,
    TimeInForce,
)
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId, Symbol, TradeId, VenueOrderId
from nautilus_trader.model.identifiers import Venue as HostVenue
from nautilus_trader.model.instruments import CryptoPerpetual, Instrument
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.model.orders import MarketOrder
from nautilus_trader.model.position import Position

from ..boundary import RiskDataError
from ..engine import Engine, StepResult
from ..market import Tick
from ..state import Accounts
from ..venue import Venue

_TAG = "riskcore"
_LIMIT = {OrderType.LIMIT, OrderType.MARKET_TO_LIMIT}
_TRIGGERED = {OrderType.STOP_LIMIT, OrderType.LIMIT_IF_TOUCHED, OrderType.TRAILING_STOP_LIMIT}
_QUANTA_PER_FILL = 3  # of rounding: cash and cost in the engine, profit and fee at the host


class LiquidationFees(FeeModel):
    """Fee model of an exchange whose liquidations have a fee rate of their own.

    Parameters
    ----------
    fees : FeeModel, optional
        Fees of all other orders; by default the maker and taker fee of the instrument.

    Examples
    --------
    >>> type(LiquidationFees().fees).__name__
    'MakerTakerFeeModel'
    """

    def __init__(self, fees: FeeModel | None = None) -> None:
        self.fees = MakerTakerFeeModel() if fees is None else fees

    def get_commission(self, order: Any, fill_qty: Quantity, fill_px: Price, instrument: Instrument) -> Money:
        """Return the fee of a fill.

        Parameters
        ----------
        order : Order
            The order; one of the module has the fee rate in its tags.
        fill_qty, fill_px
            Quantity and price of the fill.
        instrument : Instrument
            What is traded.

        Returns
        -------
        Money
            In the quote currency.
        """
        if not (order.tags and order.tags[0] == _TAG):
            return self.fees.get_commission(order, fill_qty, fill_px, instrument)
        value = fill_qty.as_decimal() * fill_px.as_decimal() * instrument.multiplier.as_decimal()
        return Money(value * Decimal(order.tags[1]), instrument.quote_currency)


class LiquidationModule(SimulationModule):
    """Margin of a whole account, and its liquidation, in a backtest of NautilusTrader.

    After all data of a timestamp the module brings the host's fills and open orders to an engine, steps it with the
    host's prices and books, carries out at the host what the engine decided, and sets the host's balances to the
    engine's. The account has no counterparties and no backstop providers.

    Parameters
    ----------
    venue : Venue
        The rules. An instrument whose price increment, size increment or multiplier is not that of its market is
        refused.
    book : {"engine", "host"}
        Who fills the slices. "engine": the engine, in its own copy of the host's book; then the host gets the same
        fills. "host": the host's matching engine, as reduce-only orders; then the engine gets the fills confirmed. For
        "host" the fee model of the exchange must be `LiquidationFees`.
    markets : mapping of str to str, optional
        Market by id of the instrument; by default the market of the instrument's symbol, with "-" for "_".
    seed, record
        As of `riskcore.Engine`.

    Attributes
    ----------
    engine : Engine or None
        None before the first data of a run.
    account : str
        Id of the account, in the engine and at the host.
    result : StepResult or None
        Of the last tick.

    Raises
    ------
    RiskDataError
        While the backtest runs: the host cannot be reconciled with the venue, or has a position or money that did not
        come from a fill.

    Notes
    -----
    What is mapped to what: docs/hosts/nautilus.md.

    Examples
    --------
    >>> import riskcore as rc
    >>> from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
    >>> from nautilus_trader.config import LoggingConfig
    >>> from nautilus_trader.model.currencies import USDC
    >>> from nautilus_trader.model.data import QuoteTick
    >>> from nautilus_trader.model.enums import OmsType
    >>> venue = rc.load_venue("backpack")
    >>> bitcoin, module = instrument(venue, "BTC_USDC_PERP", "SIM"), LiquidationModule(venue)
    >>> backtest = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    >>> cash = [Money(1_000, USDC)]
    >>> backtest.add_venue(bitcoin.venue, OmsType.NETTING, AccountType.MARGIN, cash, modules=[module])
    >>> backtest.add_instrument(bitcoin)
    >>> prices, size, time = (bitcoin.make_price(100_000), bitcoin.make_price(100_010)), bitcoin.make_qty(1), 10**18
    >>> backtest.add_data([QuoteTick(bitcoin.id, *prices, size, size, time, time)])
    >>> backtest.run()
    >>> module.margins[["time", "equity", "mmr"]].to_dict("records")
    [{'time': Timestamp('2001-09-09 01:46:40+0000', tz='UTC'), 'equity': 1000.0, 'mmr': 0.0}]
    >>> backtest.dispose()
    """

    def __init__(
        self,
        venue: Venue,
        book: Literal["engine", "host"] = "engine",
        *,
        markets: Mapping[str, str] | None = None,
        seed: int = 0,
        record: bool = True,
    ) -> None:
        super().__init__(SimulationModuleConfig())
        self.venue, self.book, self.seed, self.record = venue, book, seed, record
        self.markets = dict(markets or {})
        self.reset()

    def reset(self) -> None:
        """Forget the run."""
        self.engine: Engine | None = None
        self.account = ""
        self.result: StepResult | None = None
        self._listed: dict[str, Instrument] = {}  # by market
        self._market: dict[InstrumentId, str] = {}
        self._fills: list[dict[str, Any]] = []  # of the strategies, since the last tick
        self._own: dict[ClientOrderId, list[Any]] = {}  # fills of the module's own orders
        self._rounded = 0  # fills since the balances were set last
        self._more = self._due = self._acting = False
        self._sent = 0
        self._margins: list[tuple[Any, ...]] = []

    def log_diagnostics(self, logger: Any) -> None:
        """Log the engine after the run.

        Parameters
        ----------
        logger
            The logger of the backtest engine.
        """
        logger.info(repr(self.engine))

    @property
    def margins(self) -> pd.DataFrame:
        """Margin of the account after each tick.

        Columns: time, equity, exposure, initial_margin, maintenance_margin (settle units), imr, mmr.
        """
        columns = ["time", "equity", "exposure", "initial_margin", "maintenance_margin", "imr", "mmr"]
        frame = pd.DataFrame(self._margins, columns=columns)
        return frame.assign(time=pd.to_datetime(frame["time"], utc=True))

    def pre_process(self, data: Any) -> None:
        """Note that there is data; the tick comes when no more of its timestamp can follow.

        Parameters
        ----------
        data
            What the exchange is about to take in.
        """
        if self.engine is None:
            self._open()
        self._more = self._due = True
        name = f"{_TAG}-{self.exchange.id}"
        if name not in self.clock.timer_names:
            # an alert at the present time fires before the clock goes on; the exchange calls `process` after it
            self.clock.set_time_alert_ns(name, data.ts_init, _nothing)

    def process(self, ts_now: int) -> None:
        """Run a tick after the last data of a timestamp.

        Parameters
        ----------
        ts_now : int
            Time of the exchange, nanoseconds since the epoch.
        """
        if self._more:
            self._more = False
        elif self._due:
            self._due = False
            self._act(ts_now)

    def _open(self) -> None:
        """Begin a run: check that the two worlds fit, and open the account with the host's balances."""
        exchange, venue = self.exchange, self.venue
        if exchange.account_type != AccountType.MARGIN or exchange.is_frozen_account:
            raise _refusal("account_type", exchange.account_type, "must be AccountType.MARGIN, and not frozen")
        if getattr(exchange, "liquidation_enabled", False):
            raise _refusal("liquidation_enabled", True, "the host's own liquidation must be off")
        if self.book == "host" and not isinstance(exchange.fee_model, LiquidationFees):
            rule = "must be LiquidationFees where the host fills the slices"
            raise _refusal("fee_model", type(exchange.fee_model).__name__, rule)
        if self.book == "host" and exchange.fill_model.prob_slippage > 0:
            rule = "prob_slippage must be 0 where the host fills the slices: a slice has a limit price"
            raise _refusal("fill_model", exchange.fill_model.prob_slippage, rule)
        if not exchange.use_message_queue:
            raise _refusal("use_message_queue", False, "must be True: orders wait until a tick has ended")
        if positions := self.cache.positions_open(venue=exchange.id):
            raise _refusal("positions", len(positions), "must be closed at the start")
        market_of = {_symbol(market): market for market in venue.markets.symbol} | self.markets
        for listed in exchange.instruments.values():
            market = market_of.get(listed.id.value) or market_of.get(listed.id.symbol.value)
            if market is None:
                continue
            if market not in venue.markets.row:
                raise _refusal(f"markets.{listed.id}", market, "must be a market of the venue")
            if market in self._listed:
                rule = f"must not be the market of {self._listed[market].id} too"
                raise _refusal(f"markets.{listed.id}", market, rule)
            _must_fit(venue, venue.markets.row[market], listed)
            if exchange.base_currency not in (None, listed.quote_currency):
                rule = f"must be None or {listed.quote_currency}, in which {market} settles"
                raise _refusal("base_currency", exchange.base_currency, rule)
            self._market[listed.id], self._listed[market] = market, listed
        account = exchange.get_account()
        self.account = account.id.value
        balances = account.balances_total()
        for currency in balances:
            _must_be_asset(venue, currency)
        self.engine = Engine(
            Accounts.from_frames(
                venue,
                pd.DataFrame({"account": pd.Series(dtype=object), "market": [], "quantity": [], "entry_price": []}),
                pd.DataFrame(
                    {
                        "account": self.account,
                        "asset": [currency.code for currency in balances],
                        "quantity": [float(money) for money in balances.values()],
                    }
                ),
            ),
            venue,
            self.seed,
            book=self.book,
            record=self.record,
        )
        self.msgbus.subscribe(topic="events.fills.*", handler=self._on_fill)

    def _on_fill(self, fill: Any) -> None:
        if fill.instrument_id.venue != self.exchange.id:
            return
        self._rounded += 1
        if fill.client_order_id in self._own:
            self._own[fill.client_order_id].append(fill)
            return
        market = self._market_of(fill.instrument_id)
        if fill.commission.currency != self.exchange.instruments[fill.instrument_id].quote_currency:
            raise _refusal("commission", fill.commission, "must be in the quote currency of the instrument")
        assert self.engine is not None
        self._fills.append(
            {
                "action": "fill", "time": max(fill.ts_event, self.engine.time or 0), "account": self.account,
                "market": market, "quantity": _signed_quantity(fill), "price": float(fill.last_px),
                "fee": float(fill.commission),
            }
        )  # fmt: skip

    def _market_of(self, instrument_id: InstrumentId) -> str:
        if instrument_id not in self._market:
            raise _refusal("instrument", instrument_id, "must be a market of the venue: name its market in markets")
        return self._market[instrument_id]

    def sync(self) -> None:
        """Bring the host's fills and open orders since the last call to the engine.

        The module does so before every tick; a strategy that asks the engine for its margin between two ticks calls it
        first.

        Raises
        ------
        RiskDataError
            A position or a balance of the host is not the engine's.
        """
        assert self.engine is not None
        if self._acting:  # a strategy that hears of a fill of the tick that runs
            return
        if rows := [*self._fills, *self._order_rows()]:
            self.engine.apply(rows, check="off")
        self._fills = []
        self._must_agree()

    def _order_rows(self) -> Iterator[dict[str, Any]]:
        """Actions that make the engine's orders those that rest at the host."""
        assert self.engine is not None
        resting = {
            order.client_order_id.value: order
            for order in self.exchange.get_open_orders()
            if order.is_open and (order.order_type in _LIMIT or (order.order_type in _TRIGGERED and order.is_triggered))
        }
        for id_, own in self.engine.account(self.account).orders.items():
            row = {"account": self.account, "order": id_}
            if (order := resting.pop(id_, None)) is None:
                yield row | {"action": "cancel"}
            elif (own.quantity, own.price) != (quantity := float(order.leaves_qty), price := float(order.price)):
                yield row | {"action": "change", "quantity": quantity, "price": price}
        for id_, order in resting.items():
            yield {
                "action": "place", "account": self.account, "market": self._market_of(order.instrument_id),
                "side": "bid" if order.side == OrderSide.BUY else "ask", "quantity": float(order.leaves_qty),
                "price": float(order.price), "reduce_only": order.is_reduce_only, "order": id_,
            }  # fmt: skip

    def _act(self, time: int) -> None:
        """Run a tick: the host's activity, the step, what it decided, the balances."""
        assert self.engine is not None
        self.sync()
        self._acting = True
        if self.engine.time is not None:  # data of another venue came between data of one timestamp
            time = max(time, self.engine.time + 1)
        result = self.result = self.engine.step(self._tick(time))
        if result.selected.size:
            for order in self.exchange.get_open_orders():
                self.exchange.get_matching_engine(order.instrument_id).cancel_order(order)
            for close in result.fills.itertuples():
                self._fill(close)
            if confirmed := [row for piece in result.slices.itertuples() for row in self._send(piece)]:
                self.engine.apply(confirmed, check="off")
        self._set_balances()
        self._margins.append((time, *self.engine.margin(self.account)[:6]))
        self._acting = False

    def _tick(self, time: int) -> Tick:
        """Prices and books of the host."""
        marks, indexes, books = {}, {}, {}
        for market, listed in self._listed.items():
            book = self.exchange.get_book(listed.id)
            bids, asks = (
                [(level.price.as_decimal(), level.size()) for level in side] for side in (book.bids(), book.asks())
            )
            if (mark := self.cache.mark_price(listed.id)) is not None:
                marks[market] = mark.value.as_double()
            elif bids and asks:
                marks[market] = float((bids[0][0] + asks[0][0]) / 2)
            if (index := self.cache.index_price(listed.id)) is not None:
                indexes[market] = index.value.as_double()
            if bids and asks and bids[0][0] == asks[0][0]:  # a book of bars or trades has one price
                asks = [(price + listed.price_increment.as_decimal(), size) for price, size in asks]
            books[market] = {
                name: [(float(price), size) for price, size in side if size]
                for name, side in (("bids", bids), ("asks", asks))
            }
        return Tick(time, marks, books, indexes, self._asset_prices())

    def _asset_prices(self) -> dict[str, float]:
        """Prices of the other assets of the account, as the host converts them."""
        settle, prices = Currency.from_str(self.venue.settle_asset), {}
        for currency in self.exchange.get_account().currencies():
            if currency != settle:
                price = self.cache.get_xrate(self.exchange.id, currency, settle, PriceType.MID)
                if price:
                    prices[currency.code] = float(price)
        return prices

    # -- what the engine decided, at the host ----------------------------------------------------------

    def _to_close(self, market: str, lots: int) -> Iterator[tuple[Instrument, Position, int]]:
        """Positions of the host that lots (signed) of a market close, with the lots of each, the oldest first."""
        listed, left = self._listed[market], abs(lots)
        positions = self.cache.positions_open(venue=self.exchange.id, instrument_id=listed.id)
        for position in sorted(positions, key=lambda position: position.ts_opened):
            if left and position.is_long == (lots < 0):
                part = min(left, int(position.quantity.as_decimal() / listed.size_increment.as_decimal()))
                left -= part
                yield listed, position, part

    def _fill(self, close: Any) -> None:
        """Give the host a fill of the engine: at two neighbouring ticks, so that its value is the same."""
        row = self.venue.markets.row[close.market]
        lots = round(close.quantity / self.venue.markets.step_size[row])
        ticks, further = divmod(round(close.price / self.venue.markets.tick_size[row] * lots), lots)
        fee, client, now = close.fee, self.exchange.exec_client, self.clock.timestamp_ns()
        for listed, position, part in list(self._to_close(close.market, lots if close.side == "buy" else -lots)):
            order = self._order(listed, position, part, "0")
            at = order.strategy_id, listed.id, order.client_order_id, VenueOrderId(order.client_order_id.value)
            client.generate_order_accepted(*at, now)
            upper = min(part, further)
            further -= upper
            for n, (level, size) in enumerate(((ticks, part - upper), (ticks + 1, upper))):
                if size:
                    client.generate_order_filled(
                        *at, position.id, TradeId(f"{order.client_order_id}-{n}"), order.side, order.order_type,
                        _quantity(listed, size), _price(listed, level), listed.quote_currency,
                        Money(fee, listed.quote_currency), LiquiditySide.TAKER, now,
                    )  # fmt: skip
                    fee = 0.0

    def _send(self, piece: Any) -> Iterator[dict[str, Any]]:
        """Send a slice to the host's matching engine as reduce-only orders; yield what it filled.

        They are market orders of at most what the book has inside the limit price: the matching engine lifts the
        quantity of a reduce-only limit order to that of the position after the first of several fills.
        """
        lots = round(piece.quantity / self.venue.markets.step_size[self.venue.markets.row[piece.market]])
        left = self._lots_inside(piece.market, lots, piece.limit_price)
        for listed, position, part in list(self._to_close(piece.market, int(np.sign(lots)) * min(abs(lots), left))):
            order = self._order(listed, position, part, str(piece.fee_rate))
            self.exchange.get_matching_engine(listed.id).process_order(order, self.exchange.get_account().id)
            for fill in self._own[order.client_order_id]:
                yield {
                    "action": "confirm", "account": self.account, "market": piece.market,
                    "quantity": _signed_quantity(fill), "price": float(fill.last_px), "fee": float(fill.commission),
                }  # fmt: skip

    def _lots_inside(self, market: str, lots: int, limit: float) -> int:
        """Lots that the host's book has for an order at a limit price; NaN: at any price."""
        listed = self._listed[market]
        book = self.exchange.get_book(listed.id)
        levels = book.bids() if lots < 0 else book.asks()
        inside = [level.size() for level in levels if not (limit - level.price.as_double()) * np.sign(lots) < 0]
        return int(Decimal(str(sum(inside))) / listed.size_increment.as_decimal())

    def _order(self, listed: Instrument, position: Position, lots: int, rate: str) -> MarketOrder:
        """Submit an order that closes lots of a position, in the name of its strategy."""
        self._sent += 1
        client, now = self.exchange.exec_client, self.clock.timestamp_ns()
        order = MarketOrder(
            position.trader_id, position.strategy_id, listed.id,
            ClientOrderId(f"{_TAG}-{self.exchange.id}-{self._sent}"),
            OrderSide.SELL if position.is_long else OrderSide.BUY, _quantity(listed, lots),
            init_id=UUID4(), ts_init=now, time_in_force=TimeInForce.IOC, reduce_only=True, tags=[_TAG, rate],
        )  # fmt: skip
        self._own[order.client_order_id] = []
        self.cache.add_order(order, position.id)
        client.generate_order_submitted(order.strategy_id, listed.id, order.client_order_id, now)
        return order

    # -- money -----------------------------------------------------------------------------------------

    def _differences(self) -> dict[Currency, Fraction]:
        """Cash less the costs of positions, of the engine less that of the host, by currency, in units."""
        engine, exchange = self.engine, self.exchange
        assert engine is not None
        costs: dict[Currency, Fraction] = {}
        for position in self.cache.positions_open(venue=exchange.id):
            size = position.signed_decimal_qty() * position.multiplier.as_decimal()
            cost = Fraction(size) * Fraction(position.avg_px_open)
            costs[position.settlement_currency] = costs.get(position.settlement_currency, Fraction(0)) + cost
        columns, assets = engine.accounts.columns, self.venue.assets
        own = {
            assets.symbol[columns.asset[row]]: assets.quantum[columns.asset[row]]
            * int(columns.free[row] + columns.lent[row] + columns.unsettled[row] - columns.balance_cost[row])
            for row in engine.accounts.balances_of(0)
        }
        return {
            currency: own[currency.code] - Fraction(money.as_decimal()) + costs.get(currency, Fraction(0))
            for currency, money in exchange.get_account().balances_total().items()
        }

    def _must_agree(self) -> None:
        """Refuse that the engine and the host differ, before the engine decides anything."""
        assert self.engine is not None
        sizes: dict[str, Fraction] = {}
        for position in self.cache.positions_open(venue=self.exchange.id):
            market = self._market_of(position.instrument_id)
            sizes[market] = sizes.get(market, Fraction(0)) + Fraction(position.signed_decimal_qty())
        columns, markets = self.engine.accounts.columns, self.venue.markets
        for row in self.engine.accounts.positions_of(0):
            own = int(columns.lots[row]) * markets.step[columns.market[row]]
            market = markets.symbol[columns.market[row]]
            if own != (size := sizes.get(market, Fraction(0))):
                rule = f"must be that of the engine, {_decimal(own)}"
                raise _refusal(f"position in {market}", _decimal(size), rule)
        for currency, difference in self._differences().items():
            quantum = self.venue.assets.quantum[self.venue.assets.row[currency.code]]
            if abs(difference) > quantum * (1 + _QUANTA_PER_FILL * self._rounded):
                rule = "must not change but by fills; it differs from that of the engine by this amount"
                raise _refusal(f"balance of {currency.code}", float(-difference), rule)

    def _set_balances(self) -> None:
        """Set the host's balances to the engine's: funding, interest, conversions, and what rounding left."""
        for currency, difference in self._differences().items():
            money = Money(float(difference), currency)
            if money.raw:
                self.exchange.adjust_account(money)
        self._rounded = 0


def instrument(
    venue: Venue, market: str, host: str, *, maker_fee: Decimal = Decimal(0), taker_fee: Decimal = Decimal(0)
) -> CryptoPerpetual:
    """Return the instrument of a market: its sizes are the venue's.

    Parameters
    ----------
    venue : Venue
        The venue.
    market : str
        Symbol of a linear market.
    host : str
        Name of the venue at the host.
    maker_fee, taker_fee : Decimal
        Fee rates of the strategies' fills.

    Returns
    -------
    CryptoPerpetual
        Without margin rates: the margin is the engine's. Its symbol has "-" for "_".

    Examples
    --------
    >>> import riskcore as rc
    >>> bitcoin = instrument(rc.load_venue("backpack"), "BTC_USDC_PERP", "SIM")
    >>> bitcoin.id, bitcoin.price_increment, bitcoin.size_increment
    (InstrumentId('BTC-USDC-PERP.SIM'), Price(0.1), Quantity(0.00001))
    """
    markets, assets = venue.markets, venue.assets
    row = markets.row[market]
    quote = Currency.from_str(assets.symbol[markets.settle[row]])
    tick, step = (_decimal(size[row]) for size in (markets.tick, markets.step))
    return CryptoPerpetual(
        instrument_id=InstrumentId(Symbol(_symbol(market)), HostVenue(host)), raw_symbol=Symbol(market),
        base_currency=Currency.from_str(venue.source["markets"][row]["baseSymbol"]), quote_currency=quote,
        settlement_currency=quote, is_inverse=False, price_precision=_digits(tick), size_precision=_digits(step),
        price_increment=Price.from_str(f"{tick:f}"), size_increment=Quantity.from_str(f"{step:f}"),
        multiplier=Quantity.from_str(f"{_decimal(markets.multiplier[row]):f}"),
        maker_fee=maker_fee, taker_fee=taker_fee, ts_event=0, ts_init=0,
    )  # fmt: skip


def _symbol(market: str) -> str:
    """Symbol of a market at the host, which takes one with underscores for a spread of several instruments."""
    return market.replace("_", "-")


def _decimal(value: Fraction) -> Decimal:
    return (Decimal(value.numerator) / Decimal(value.denominator)).normalize()


def _digits(value: Decimal) -> int:
    return max(0, -int(value.as_tuple().exponent))


def _nothing(event: object) -> None:
    pass


def _signed_quantity(fill: Any) -> float:
    return float(fill.last_qty) if fill.order_side == OrderSide.BUY else -float(fill.last_qty)


def _quantity(instrument: Instrument, lots: int) -> Quantity:
    return Quantity(lots * instrument.size_increment.as_decimal(), instrument.size_precision)


def _price(instrument: Instrument, ticks: int) -> Price:
    return Price(ticks * instrument.price_increment.as_decimal(), instrument.price_precision)


def _refusal(what: str, value: object, rule: str) -> RiskDataError:
    return RiskDataError("nautilus", what, rule, value=value)


def _must_fit(venue: Venue, row: int, instrument: Instrument) -> None:
    """Refuse an instrument whose sizes, or whose currencies, are not those of its market."""
    markets = venue.markets
    sizes = {
        "price_increment": (instrument.price_increment, markets.tick[row]),
        "size_increment": (instrument.size_increment, markets.step[row]),
        "multiplier": (instrument.multiplier, markets.multiplier[row]),
    }
    for name, (own, size) in sizes.items():
        if Fraction(own.as_decimal()) != size:
            rule = f"must be that of {markets.symbol[row]} at the venue, {_decimal(size):f}"
            raise _refusal(f"{instrument.id}.{name}", own, rule)
    if instrument.is_inverse or markets.inverse[row]:
        raise _refusal(f"{instrument.id}.is_inverse", True, "an inverse contract is not supported")
    settle = venue.assets.symbol[markets.settle[row]]
    for currency in (instrument.quote_currency, instrument.get_settlement_currency()):
        if currency.code != settle:
            raise _refusal(f"{instrument.id}.currency", currency.code, f"must be {settle}, in which the market settles")
    _must_be_asset(venue, instrument.quote_currency)


def _must_be_asset(venue: Venue, currency: Currency) -> None:
    """Refuse a currency that is no asset, or whose smallest amount does not divide the asset's quantum."""
    row = venue.assets.row.get(currency.code)
    if row is None:
        raise _refusal("currency", currency.code, "must be a collateral asset of the venue")
    if (venue.assets.quantum[row] * 10**currency.precision).denominator != 1:
        rule = f"has {currency.precision} digits: the asset's quantum must be a multiple of its smallest amount"
        raise _refusal("currency", currency.code, rule)
