"""The module for NautilusTrader, and what it uses of the pinned package: a host that moves breaks a test here."""

import inspect
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
from nautilus_trader.backtest.config import BacktestEngineConfig, SimulationModuleConfig
from nautilus_trader.backtest.engine import BacktestEngine, OrderMatchingEngine, SimulatedExchange
from nautilus_trader.backtest.models import FeeModel, FillModel, MakerTakerFeeModel
from nautilus_trader.backtest.modules import SimulationModule
from nautilus_trader.config import LoggingConfig
from nautilus_trader.execution.client import ExecutionClient
from nautilus_trader.model.currencies import USDC, USDT
from nautilus_trader.model.data import (
    Bar,
    BarType,
    BookOrder,
    IndexPriceUpdate,
    MarkPriceUpdate,
    OrderBookDelta,
    OrderBookDeltas,
    QuoteTick,
)
from nautilus_trader.model.enums import AccountType, BookAction, BookType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol
from nautilus_trader.model.identifiers import Venue as HostVenue
from nautilus_trader.model.objects import Currency, Money, Price, Quantity
from nautilus_trader.trading.config import StrategyConfig
from nautilus_trader.trading.strategy import Strategy

import riskcore as rc
from riskcore.audit import audit
from riskcore.hosts.nautilus import LiquidationFees, LiquidationModule, instrument
from riskcore.record import fills
from tests import pages
from tests.test_docstrings import violations

HOST = HostVenue("SIM")
START, SECOND = 1_760_130_000 * 10**9, 10**9
BTC, ETH, SOL = "BTC_USDC_PERP", "ETH_USDC_PERP", "SOL_USDC_PERP"
VENUE = rc.load_venue("backpack").replace(policy={"liquidation_interval": None, "slice_probability": 1})
FEES = {"maker_fee": Decimal("0.0002"), "taker_fee": Decimal("0.0005")}


def instruments(venue=VENUE):
    return {market: instrument(venue, market, "SIM", **FEES) for market in (BTC, ETH)}


class Plan(Strategy):
    """Does at the quotes of some numbers what a plan says; keeps the events that it hears."""

    def __init__(self, plan, name="000", heard=None):
        super().__init__(StrategyConfig(order_id_tag=name))
        self.plan, self.heard, self.events, self.quotes, self.equity = plan, heard, [], 0, []

    def on_start(self):
        for listed in self.cache.instruments():
            self.subscribe_quote_ticks(listed.id)

    def on_quote_tick(self, quote):
        if (act := self.plan.get(self.quotes)) is not None:
            act(self)
        self.quotes += 1
        unrealized = self.portfolio.unrealized_pnls(HOST).values()
        total = self.portfolio.account(HOST).balance_total(USDC).as_double()
        self.equity.append(total + sum(pnl.as_double() for pnl in unrealized))

    def on_reset(self):
        self.events, self.quotes, self.equity = [], 0, []

    def on_event(self, event):
        self.events.append(event)
        if self.heard is not None and not type(event).__name__.startswith("Time"):
            self.heard(event)

    def market(self, market, quantity):
        listed = self.cache.instrument(instruments()[market].id)
        side = OrderSide.BUY if quantity > 0 else OrderSide.SELL
        self.submit_order(self.order_factory.market(listed.id, side, listed.make_qty(abs(quantity))))

    def limit(self, market, quantity, price, **terms):
        listed = self.cache.instrument(instruments()[market].id)
        side = OrderSide.BUY if quantity > 0 else OrderSide.SELL
        order = self.order_factory.limit(
            listed.id, side, listed.make_qty(abs(quantity)), listed.make_price(price), **terms
        )
        self.submit_order(order)
        return order


def quotes(paths, *, size=None, spread=1e-4, step=60 * SECOND, listed=None):
    """Quotes of all markets at the same times, markets in their order; prices are bids."""
    listed, ticks = listed or instruments(), []
    for t in range(len(next(iter(paths.values())))):
        for market, path in paths.items():
            one = listed[market]
            amount = one.make_qty((size or {}).get(market, 1_000_000 / path[0]))
            bid, ask = one.make_price(path[t]), one.make_price(path[t] * (1 + spread))
            time = START + t * step
            ticks.append(QuoteTick(one.id, bid, ask, amount, amount, time, time))
    return ticks


def walk(seed, count, btc=0.0, eth=0.0, scale=1e-3):
    rng = np.random.default_rng(seed)
    steps = rng.normal([btc, eth], scale, (count, 2))
    prices = np.array([100_000.0, 4_000.0]) * np.exp(np.cumsum(steps, axis=0))
    return {BTC: prices[:, 0], ETH: prices[:, 1]}


def backtest(data, module, strategies, *, cash=1_000, oms=OmsType.NETTING, listed=None, run=True, **options):
    """Run a backtest of one account and return its engine, which the caller need not dispose of."""
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True)))
    options = {"fee_model": LiquidationFees(), "account_type": AccountType.MARGIN, "base_currency": None} | options
    balances = cash if isinstance(cash, list) else [Money(cash, USDC)]
    engine.add_venue(HOST, oms_type=oms, starting_balances=balances, modules=[module] if module else [], **options)
    for one in (listed or instruments()).values():
        engine.add_instrument(one)
    engine.add_data(data)
    for strategy in strategies:
        engine.add_strategy(strategy)
    if run:
        engine.run()
    return engine


def held(engine):
    """Signed quantities at the host by market, and what they cost."""
    rows = []
    for position in engine.cache.positions_open(venue=HOST):
        market = position.instrument_id.symbol.value.replace("-", "_")
        quantity = Fraction(position.signed_decimal_qty())
        rows.append((market, quantity, quantity * Fraction(position.avg_px_open)))
    return {
        market: tuple(sum(row[n] for row in rows if row[0] == market) for n in (1, 2))
        for market in dict.fromkeys(row[0] for row in rows)
    }


def host_equity(engine, marks):
    """Balance and unrealised profit at the host."""
    balance = Fraction(engine.cache.account_for_venue(HOST).balance_total(USDC).as_decimal())
    return balance + sum(quantity * Fraction(marks[market]) - cost for market, (quantity, cost) in held(engine).items())


def host_mmr(engine, marks):
    """Margin ratio of an account that is made of the host's positions and balance, by the rule of the venue."""
    required = 0.0
    for market, (quantity, _) in held(engine).items():
        row = next(row["mmfFunction"] for row in VENUE.source["markets"] if row["symbol"] == market)
        notional = abs(float(quantity)) * marks[market]
        required += notional * max(float(row["base"]), float(row["factor"]) * notional**0.5)
    equity = float(host_equity(engine, marks))
    if not required:  # a loss that the host's fills left is taken over at the next tick
        return 0.0 if equity > -1e-6 else np.inf
    return required / equity


def engine_lots(engine):
    """Positions of an engine's only account by market, in quantities."""
    columns, markets = engine.accounts.columns, engine.venue.markets
    rows = zip(columns.market.tolist(), columns.lots.tolist(), strict=True)
    return {markets.symbol[market]: lots * markets.step[market] for market, lots in rows if lots}


def must_be_equal(host, module, marks):
    """Positions, equity and margin ratio of the two worlds."""
    assert engine_lots(module.engine) == {market: size for market, (size, _) in held(host).items() if size}
    table = rc.sweep(module.engine.accounts, VENUE, marks)
    assert table.net_equity[0] == pytest.approx(float(host_equity(host, marks)), abs=3e-5)
    assert table.mmr[0] == pytest.approx(host_mmr(host, marks), rel=1e-6)


class Checked(LiquidationModule):
    """Compares the two worlds after every tick."""

    def process(self, ts_now):
        before = self.engine.ticks if self.engine else 0
        super().process(ts_now)
        if self.engine and self.engine.ticks > before:
            marks = dict(zip(VENUE.markets.symbol, self.engine.guard_state.price[0].tolist(), strict=True))
            marks = {market: mark for market, mark in marks.items() if mark == mark}
            must_be_equal(self, self, marks)
            _, equity, *_, mmr = self.margins.iloc[-1]
            assert equity == pytest.approx(float(host_equity(self, marks)), abs=3e-5)
            assert mmr == pytest.approx(host_mmr(self, marks), rel=1e-6)


def random_plan(seed, count, size=2_000.0):
    """Market orders, limit orders that rest or fill, and cancellations, of a seed."""
    rng = np.random.default_rng(seed)
    prices = {BTC: 100_000.0, ETH: 4_000.0}

    def act(plan):
        market = [BTC, ETH][rng.integers(2)]
        quantity = size / prices[market] * rng.uniform(0.1, 1) * rng.choice([-1, 1])
        match rng.integers(5):
            case 0 | 1:
                plan.market(market, quantity)
            case 2 | 3:
                side = 1 if quantity < 0 else -1
                plan.limit(market, quantity, prices[market] * (1 + side * rng.uniform(0, 0.002)))
            case 4:
                if orders := plan.cache.orders_open(strategy_id=plan.id):
                    plan.cancel_order(orders[rng.integers(len(orders))])

    return {n: act for n in rng.choice(count, count // 3, replace=False).tolist()}


@pytest.mark.parametrize("oms", [OmsType.NETTING, OmsType.HEDGING])
@pytest.mark.parametrize("seed", range(2))
def test_the_two_worlds_are_equal_after_every_event(seed, oms):
    module, compared = Checked(VENUE), []

    def heard(event):
        if module.engine is not None and not module._acting:
            module.sync()
            must_be_equal(host, module, {BTC: 101_234.5, ETH: 3_876.54})
            compared.append(event)

    plan = Plan(random_plan(seed, 200), heard=heard)
    host = backtest(quotes(walk(seed, 100)), module, [plan], cash=100_000, oms=oms, run=False)
    host.run()
    assert len(compared) > 60
    assert sum(type(event).__name__ == "OrderFilled" for event in compared) > 20
    assert module.engine.ticks == 100


def test_strategies_that_hold_opposite_positions_are_one_account():
    module = Checked(VENUE)
    plans = [Plan({0: lambda p: p.market(BTC, 0.03)}, "001"), Plan({2: lambda p: p.market(BTC, -0.02)}, "002")]
    host = backtest(quotes(walk(1, 20)), module, plans)
    assert len(host.cache.positions_open()) == 2
    assert engine_lots(module.engine) == {BTC: Fraction(1, 100)}


@pytest.mark.parametrize("oms", [OmsType.NETTING, OmsType.HEDGING])
@pytest.mark.parametrize("book", ["engine", "host"])
def test_slices_close_the_positions_on_the_side_of_the_net_one(book, oms):
    module = Checked(VENUE, book)
    long = Plan({0: lambda p: p.market(BTC, 0.2), 1: lambda p: p.market(BTC, 0.1)}, "001")
    short = Plan({0: lambda p: p.market(BTC, -0.04)}, "002")
    fall = np.r_[np.linspace(100_000.0, 95_500.0, 60), np.full(30, 95_500.0)]
    host = backtest(quotes({BTC: fall}), module, [short, long], oms=oms)
    assert of_kind(long, "OrderFilled", slices=True)
    assert not of_kind(short, "OrderFilled", slices=True)
    (kept,) = [position for position in host.cache.positions_open() if position.strategy_id == short.id]
    assert kept.signed_decimal_qty() == Decimal("-0.04")
    assert module.margins["mmr"].iloc[-1] < 1


CRASH = walk(3, 240, btc=-4e-4)


def crash(module, **options):
    """An account, long Bitcoin and short Ether, with an order far away, in a fall of Bitcoin."""
    plan = Plan({
        0: lambda p: p.market(BTC, 0.25),
        1: lambda p: p.market(ETH, -4.0),
        2: lambda p: p.limit(ETH, -1.0, 9_000.0),
    })  # fmt: skip
    return plan, backtest(quotes(CRASH), module, [plan], **options)


def of_kind(plan, kind, *, slices=None):
    """Events of a kind that a strategy heard; of the module's orders, of the others, or of all."""
    events = [event for event in plan.events if type(event).__name__ == kind]
    return [event for event in events if slices is None or event.client_order_id.value.startswith("riskcore") == slices]


def recorded(module, folder):
    """The run of a module's engine, which must pass the audit."""
    module.engine.save(folder)
    report = audit(folder)
    assert report.ok, report.breaches
    return rc.read_run(folder)


@pytest.mark.parametrize("oms", [OmsType.NETTING, OmsType.HEDGING])
@pytest.mark.parametrize("book", ["engine", "host"])
def test_the_fills_of_slices_are_the_same_in_both_worlds(book, oms, tmp_path):
    module = Checked(VENUE, book)
    plan, host = crash(module, oms=oms)
    run = recorded(module, tmp_path / "run")
    journal = fills(run.rows, run.venue, run.accounts)
    assert len(journal) > 5
    for market in (BTC, ETH):
        rows = journal[journal["market"] == market]
        own = of_kind(plan, "OrderFilled", slices=True)
        own = [event for event in own if event.instrument_id.symbol.value == market.replace("_", "-")]
        assert {event.order_side for event in own} == {OrderSide.SELL if market == BTC else OrderSide.BUY}
        assert float(sum(event.last_qty.as_decimal() for event in own)) == pytest.approx(rows["quantity"].sum())
        value = sum(event.last_qty.as_decimal() * event.last_px.as_decimal() for event in own)
        assert float(value) == pytest.approx(rows["notional"].sum(), abs=1e-5)
        fees = sum(event.commission.as_decimal() for event in own)
        assert float(fees) == pytest.approx(rows["fee"].sum(), abs=1e-6 * len(rows))
    assert host.cache.orders_open() == []
    assert len(of_kind(plan, "OrderCanceled", slices=False)) == 1
    assert module.margins["mmr"].max() < 2
    assert module.margins["mmr"].iloc[-1] < 1


def test_liquidations_between_two_ticks_reach_the_host(tmp_path):
    """With the venue's own clock the engine acts between the host's data; the host hears of it at the next data."""
    module = Checked(VENUE.replace(policy={"liquidation_interval": 20}))
    fall = {BTC: np.linspace(100_000.0, 95_000.0, 12)}
    plan = Plan({0: lambda p: p.market(BTC, 0.2)})
    backtest(quotes(fall), module, [plan])
    run = recorded(module, tmp_path / "run")
    journal = fills(run.rows, run.venue, run.accounts)
    between = journal["time"].astype("int64") % (60 * SECOND) != START % (60 * SECOND)
    assert 0 < between.sum() < len(journal)
    assert len({event.client_order_id for event in of_kind(plan, "OrderFilled", slices=True)}) == len(journal)


@pytest.mark.parametrize("book", ["engine", "host"])
def test_a_second_run_after_a_reset_is_the_first(book):
    module = LiquidationModule(VENUE, book)
    _, host = crash(module)
    first = module.margins
    host.reset()
    assert module.engine is None
    host.run()
    pd.testing.assert_frame_equal(module.margins, first)


def test_orders_at_the_host_count_in_the_initial_margin():
    seen = []

    def look(plan):
        module.sync()
        seen.append((module.engine.margin(module.account).imr, dict(module.engine.account(module.account).orders)))

    plan = Plan({
        0: lambda p: p.market(BTC, 0.01),
        2: lambda p: setattr(p, "order", p.limit(BTC, -0.03, 150_000.0)),
        3: lambda p: p.limit(ETH, 1.0, 3_000.0, reduce_only=False),
        4: look,
        5: lambda p: p.modify_order(p.order, p.order.quantity, Price.from_str("160000.0")),
        6: look,
        7: lambda p: p.cancel_order(p.order),
        8: look,
    })  # fmt: skip
    flat = {BTC: np.full(6, 100_000.0), ETH: np.full(6, 4_000.0)}
    module = Checked(VENUE)
    backtest(quotes(flat), module, [plan])
    (both, orders), (_, moved), (one, rest) = seen
    assert [(order.market, order.side, order.quantity, order.price) for order in orders.values()] == [
        (BTC, "ask", 0.03, 150_000.0), (ETH, "bid", 1.0, 3_000.0),
    ]  # fmt: skip
    assert [order.price for order in moved.values()] == [160_000.0, 3_000.0]
    assert [order.market for order in rest.values()] == [ETH]
    assert both > one > 0


def test_a_tick_comes_after_all_data_of_a_timestamp():
    """A hedged account is not judged while one of its two markets has moved and the other has not."""
    fall = np.array([100_000.0, 100_000.0, 90_000.0, 90_000.0])
    module = Checked(VENUE)
    plan = Plan({0: lambda p: p.market(BTC, 0.04), 1: lambda p: p.market(ETH, -1.0)})
    backtest(quotes({BTC: fall, ETH: fall / 25}, spread=0), module, [plan], cash=250)
    assert module.engine.ticks == 4
    assert not of_kind(plan, "OrderFilled", slices=True)
    assert module.margins["time"].diff().dropna().eq(pd.Timedelta("1min")).all()


@pytest.mark.parametrize("book", ["engine", "host"])
def test_bars(book):
    """A book of bars has one price for both sides: the engine's has its asks one tick higher."""
    bars = []
    for market, listed in instruments().items():
        kind = BarType.from_str(f"{listed.id}-1-MINUTE-LAST-EXTERNAL")
        for n, price in enumerate(CRASH[market]):
            price, time = listed.make_price(price), START + n * 60 * SECOND
            bars.append(Bar(kind, price, price, price, price, listed.make_qty(400_000 / float(price)), time, time))
    module = Checked(VENUE, book)
    plan = Plan({})
    sent = []

    def trade(time):
        if not sent:
            sent.append(plan.market(BTC, 0.25))
            plan.market(ETH, -4.0)

    plan.on_bar = trade
    host = backtest(sorted(bars, key=lambda bar: bar.ts_init), module, [plan], run=False)
    plan.on_start = lambda: [plan.subscribe_bars(kind) for kind in dict.fromkeys(bar.bar_type for bar in bars)]
    host.run()
    assert of_kind(plan, "OrderFilled", slices=True)
    assert module.margins["mmr"].iloc[-1] < 1


@pytest.mark.parametrize("book", ["engine", "host"])
def test_slices_take_several_levels_of_a_book(book, tmp_path):
    """The engine's fill has a mean price: the host's fills at two neighbouring ticks have its value."""
    listed, data = instruments()[BTC], []
    for n, price in enumerate(CRASH[BTC]):
        time = START + n * 60 * SECOND
        deltas = [OrderBookDelta.clear(listed.id, 0, time, time)]
        for level in range(20):
            for side, away in ((OrderSide.BUY, -0.3 - 0.7 * level), (OrderSide.SELL, 0.4 + 0.7 * level)):
                order = BookOrder(side, listed.make_price(price + away), listed.make_qty(0.0123), 0)
                deltas.append(OrderBookDelta(listed.id, BookAction.ADD, order, 0, 0, time, time))
        data.append(OrderBookDeltas(listed.id, deltas))
    module, plan = Checked(VENUE, book), Plan({})
    plan.on_start = lambda: plan.subscribe_order_book_deltas(listed.id, BookType.L2_MBP)
    plan.on_order_book_deltas = lambda deltas: module.engine.ticks == 0 and plan.market(BTC, 0.2)
    backtest(data, module, [plan], listed={BTC: listed}, book_type=BookType.L2_MBP)
    run = recorded(module, tmp_path / "run")
    journal = fills(run.rows, run.venue, run.accounts)
    assert (journal["price"] / 0.1 % 1).between(0.01, 0.99).any() == (book == "engine")
    own = of_kind(plan, "OrderFilled", slices=True)
    assert len(own) > len({event.client_order_id for event in own})
    value = sum(event.last_qty.as_decimal() * event.last_px.as_decimal() for event in own)
    assert float(value) == pytest.approx(journal["notional"].sum(), abs=1e-5)


@pytest.mark.parametrize("book", ["engine", "host"])
def test_an_account_without_equity_ends_with_nothing(book):
    """The fund, or else the shortfall, bears what is lost: the host's balance is not left below zero."""
    gap = {BTC: np.array([100_000.0] * 2 + [60_000.0] * 10), ETH: np.full(12, 4_000.0)}
    plan = Plan({0: lambda p: p.market(BTC, 0.1)})
    module = Checked(VENUE, book)
    host = backtest(quotes(gap, size={BTC: 1.0}), module, [plan])
    assert held(host) == {} or not any(size for size, _ in held(host).values())
    assert host.cache.account_for_venue(HOST).balance_total(USDC).as_decimal() == 0


def test_a_lone_account_lives_through_what_it_would_at_a_venue_of_many(tmp_path):
    """Other accounts of the venue that are not liquidated change nothing for it."""
    module = LiquidationModule(VENUE)
    crash(module)
    alone = recorded(module, tmp_path / "alone")
    ids = ["SIM-001", *(f"other {n}" for n in range(30))]
    positions = pd.DataFrame({
        "account": ids[1:], "market": BTC, "quantity": np.where(np.arange(30) % 2, 1.0, -1.0), "entry_price": 100_000.0
    })  # fmt: skip
    balances = pd.DataFrame({"account": ids, "asset": "USDC", "quantity": [1_000.0] + [200_000.0] * 30})
    engine = rc.Engine(rc.Accounts.from_frames(VENUE, positions, balances), VENUE)
    rows = alone.events
    trades = rows[rows["event"].isin(["fill", "place", "cancel"]) & (rows["reason"] == "host")]
    by_tick = {quote.ts_event: {} for quote in quotes(CRASH)}
    for quote in quotes(CRASH):
        by_tick[quote.ts_event][quote.instrument_id.symbol.value.replace("-", "_")] = quote
    events = []
    for n, (time, pair) in enumerate(by_tick.items()):
        for trade in trades[trades["tick"] == n - 1].itertuples():
            if trade.event == "fill":
                fill = {"market": trade.market, "quantity": trade.quantity, "price": trade.price}
                engine.apply({"action": "fill", "account": "SIM-001", "fee": trade.fee_amount, **fill}, check="off")
        books = {
            market: {
                "bids": [(float(quote.bid_price), float(quote.bid_size))],
                "asks": [(float(quote.ask_price), float(quote.ask_size))],
            }
            for market, quote in pair.items()
        }
        marks = {
            market: float((quote.bid_price.as_decimal() + quote.ask_price.as_decimal()) / 2)
            for market, quote in pair.items()
        }
        found = engine.step(rc.Tick(time, marks, books)).events
        events.append(found[found["account"] == "SIM-001"])
    columns = ["time", "event", "reason", "market", "quantity", "price", "fee_amount", "mmr_before", "mmr_after"]
    there = pd.concat(events)
    here = rows[(rows["account"] == "SIM-001") & (rows["reason"] != "host")]
    pd.testing.assert_frame_equal(
        here[here["event"] != "cancel"][columns].reset_index(drop=True),
        there[there["event"] != "cancel"][columns].reset_index(drop=True),
        check_dtype=False,
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"price_increment": Price.from_str("0.5")}, "price_increment, value 0.5: must be that of BTC_USDC_PERP"),
        ({"size_increment": Quantity.from_str("0.00010")}, "size_increment, value 0.00010: must be that of"),
        ({"multiplier": Quantity.from_str("10")}, "multiplier, value 10: must be that of BTC_USDC_PERP"),
        ({"quote_currency": USDT, "settlement_currency": USDT}, "currency, value 'USDT': must be USDC"),
    ],
)
def test_an_instrument_that_is_not_the_market_is_refused(change, what):
    one = instruments()[BTC]
    fields = {name: getattr(one, name) for name in ("price_increment", "size_increment", "multiplier")}
    fields |= {"quote_currency": USDC, "settlement_currency": USDC} | change
    other = type(one)(
        instrument_id=one.id, raw_symbol=one.raw_symbol, base_currency=one.base_currency, is_inverse=False,
        price_precision=fields["price_increment"].precision, size_precision=fields["size_increment"].precision,
        ts_event=0, ts_init=0, **fields,
    )  # fmt: skip
    flat = {BTC: np.full(2, 100_000.0)}
    with pytest.raises(rc.RiskDataError, match=what):
        backtest(quotes(flat, listed={BTC: other}), LiquidationModule(VENUE), [], listed={BTC: other})


@pytest.mark.parametrize(
    ("options", "book", "what"),
    [
        ({"frozen_account": True}, "engine", "account_type"),
        ({"use_message_queue": False}, "engine", "use_message_queue"),
        ({"fee_model": MakerTakerFeeModel()}, "host", "fee_model, value 'MakerTakerFeeModel': must be LiquidationFees"),
        ({"fill_model": FillModel(prob_slippage=0.5)}, "host", "prob_slippage must be 0"),
        ({"cash": [Money(1, USDC), Money(1, USDT)]}, "engine", "currency, value 'USDT': must be a collateral asset"),
    ],
)
def test_a_host_that_cannot_be_reconciled_is_refused(options, book, what):
    flat = {BTC: np.full(2, 100_000.0)}
    module = LiquidationModule(VENUE, book)
    with pytest.raises(rc.RiskDataError, match=what):
        backtest(quotes(flat), module, [], **options)


def test_money_that_does_not_come_from_fills_is_refused():
    module = LiquidationModule(VENUE)
    plan = Plan({3: lambda p: module.exchange.adjust_account(Money(5, USDC))})
    with pytest.raises(rc.RiskDataError, match=r"balance of USDC, value 5\.0: must not change but by fills"):
        backtest(quotes(walk(1, 5)), module, [plan])


def test_an_instrument_without_a_market_may_be_listed_and_not_traded():
    venue = rc.load_venue(VENUE.source | {"markets": [row for row in VENUE.source["markets"] if row["symbol"] == BTC]})
    module = LiquidationModule(venue)
    backtest(quotes(walk(1, 5)), module, [])
    assert module.engine.ticks == 5
    with pytest.raises(rc.RiskDataError, match=r"instrument, value ETH-USDC-PERP\.SIM: must be a market of the venue"):
        backtest(quotes(walk(1, 5)), LiquidationModule(venue), [Plan({1: lambda p: p.market(ETH, 1.0)})])


@pytest.mark.parametrize("book", ["engine", "host"])
def test_collateral_that_the_engine_sells_leaves_the_balance_at_the_host(book, tmp_path):
    """10 SOL are collateral beside 100 USDC; the loss of a position is paid with them in the liquidation."""
    listed = instruments() | {SOL: instrument(VENUE, SOL, "SIM", **FEES)}
    falls = {BTC: np.r_[np.linspace(100_000.0, 90_400.0, 40), np.full(20, 90_400.0)], SOL: np.full(60, 200.0)}
    module = LiquidationModule(VENUE, book)
    plan = Plan({0: lambda p: p.market(BTC, 0.2)})
    cash = [Money(100, USDC), Money(10, Currency.from_str("SOL"))]
    host = backtest(quotes(falls, listed=listed), module, [plan], cash=cash, listed=listed)
    assert module.margins["equity"].iloc[0] == pytest.approx(100 + 0.95 * 2_000, rel=0.02)
    events = recorded(module, tmp_path / "run").events
    sold = events[(events["event"] == "convert") & (events["asset"] == "SOL")]
    assert len(sold)
    account = host.cache.account_for_venue(HOST)
    columns, assets = module.engine.accounts.columns, VENUE.assets
    for row in module.engine.accounts.balances_of(0):
        symbol, quantum = assets.symbol[columns.asset[row]], assets.quantum[columns.asset[row]]
        own = int(columns.free[row] + columns.lent[row] - columns.balance_cost[row]) * quantum
        cost = sum(cost for _, cost in held(host).values()) if symbol == "USDC" else 0
        balance = Fraction(account.balance_total(Currency.from_str(symbol)).as_decimal())
        assert float(balance - cost) == pytest.approx(float(own), abs=1e-7)


def test_data_of_two_venues_may_alternate():
    """The module of a venue hears of the other's data; a tick comes at each change of venue in a timestamp."""
    module, other = Checked(VENUE), HostVenue("OTHER")
    path = {BTC: np.linspace(100_000.0, 99_000.0, 10)}
    host = backtest(quotes(path), module, [Plan({0: lambda p: p.market(BTC, 0.01)})], run=False)
    host.add_venue(other, OmsType.NETTING, AccountType.MARGIN, [Money(1, USDC)])
    away = {BTC: instrument(VENUE, BTC, "OTHER")}
    host.add_instrument(away[BTC])
    host.add_data(quotes(path, listed=away))
    host.run()
    assert module.engine.ticks == 10
    assert engine_lots(module.engine) == {BTC: Fraction(1, 100)}


def test_funding_reaches_the_host(tmp_path):
    """Index prices give a premium: the engine's funding is taken from the host's balance."""
    flat = {BTC: np.full(90, 100_000.0), ETH: np.full(90, 4_000.0)}
    data, listed = quotes(flat), instruments()[BTC]
    for n in range(90):
        time = START + n * 60 * SECOND
        data.append(IndexPriceUpdate(listed.id, listed.make_price(99_900), time, time))
        data.append(MarkPriceUpdate(listed.id, listed.make_price(100_000), time, time))
    data.sort(key=lambda one: (one.ts_init, isinstance(one, QuoteTick)))
    module = Checked(VENUE)
    plan = Plan({0: lambda p: p.market(BTC, 0.1)})
    host = backtest(data, module, [plan], cash=10_000)
    (fill,) = of_kind(plan, "OrderFilled")
    balance = host.cache.account_for_venue(HOST).balance_total(USDC).as_decimal()
    paid = Decimal(10_000) - fill.commission.as_decimal() - balance
    events = recorded(module, tmp_path / "run").events
    funding = events.loc[events["event"] == "funding", "cash_amount"]
    assert len(funding) == 1
    assert float(paid) == pytest.approx(-funding.sum())
    assert paid > 0


class Times(SimulationModule):
    """Writes down how the host calls a module."""

    def __init__(self):
        super().__init__(SimulationModuleConfig())
        self.calls = []

    def pre_process(self, data):
        self.calls.append(("data", data.ts_init))
        if "alert" not in self.clock.timer_names:
            self.clock.set_time_alert_ns(
                "alert", data.ts_init, lambda event: self.calls.append(("alert", event.ts_event))
            )

    def process(self, ts_now):
        self.calls.append(("process", ts_now))

    def log_diagnostics(self, logger):
        pass

    def reset(self):
        pass


def test_the_host_calls_a_module_as_the_module_expects():
    module = Times()
    backtest(quotes({BTC: np.full(2, 100_000.0), ETH: np.full(2, 4_000.0)}, step=SECOND), module, [])
    calls = [(name, (time - START) // SECOND) for name, time in module.calls]
    data = [("data", 0), ("process", 0)] * 2
    assert calls[:8] == [*data, ("alert", 0), ("process", 0), ("data", 1), ("process", 1)]
    assert calls[8:11] == [("data", 1), ("process", 1), ("process", 1)]


def test_the_pinned_package_has_what_the_module_uses():
    assert version("nautilus_trader") == "1.221.0"

    def arguments(function):
        return list(inspect.signature(function).parameters)[1:]

    assert arguments(SimulationModule.pre_process) == ["data"]
    assert arguments(SimulationModule.process) == ["ts_now"]
    assert arguments(FeeModel.get_commission) == ["order", "fill_qty", "fill_px", "instrument"]
    assert arguments(SimulatedExchange.adjust_account) == ["adjustment"]
    assert arguments(SimulatedExchange.get_open_orders) == ["instrument_id"]
    assert arguments(OrderMatchingEngine.process_order) == ["order", "account_id"]
    assert arguments(OrderMatchingEngine.cancel_order)[0] == "order"
    assert arguments(ExecutionClient.generate_order_submitted) == [
        "strategy_id", "instrument_id", "client_order_id", "ts_event",
    ]  # fmt: skip
    assert arguments(ExecutionClient.generate_order_accepted) == [
        "strategy_id", "instrument_id", "client_order_id", "venue_order_id", "ts_event",
    ]  # fmt: skip
    assert arguments(ExecutionClient.generate_order_filled)[:14] == [
        "strategy_id", "instrument_id", "client_order_id", "venue_order_id", "venue_position_id", "trade_id",
        "order_side", "order_type", "last_qty", "last_px", "quote_currency", "commission", "liquidity_side", "ts_event",
    ]  # fmt: skip
    for name in (
        "account_type", "base_currency", "fee_model", "fill_model", "get_account", "get_book", "get_matching_engine",
        "id", "instruments", "is_frozen_account", "use_message_queue",
    ):  # fmt: skip
        assert hasattr(SimulatedExchange, name), name


def test_the_pinned_package_liquidates_nobody_itself():
    """No option of the venue has the word, a margin account may owe, and a margin order is not checked."""
    assert not any("liquidation" in name for name in inspect.signature(BacktestEngine.add_venue).parameters)
    plan = Plan({0: lambda p: p.market(BTC, 5.0)})
    host = backtest(quotes({BTC: np.array([100_000.0, 100_000.0, 50_000.0])}), None, [plan], cash=1)
    assert held(host)[BTC][0] == 5
    assert plan.equity[-1] < -200_000


def test_a_symbol_with_an_underscore_is_a_spread_at_the_host():
    assert InstrumentId(Symbol(BTC), HOST).is_spread()
    assert not instruments()[BTC].id.is_spread()


def test_the_page_runs_as_printed(tmp_path):
    assert pages.run("docs/hosts/nautilus.md", tmp_path) == pages.as_text("docs/hosts/nautilus.md")


def test_the_docstrings_are_whole():
    for value in (LiquidationFees, LiquidationModule, instrument):
        assert list(violations(value)) == [], value
