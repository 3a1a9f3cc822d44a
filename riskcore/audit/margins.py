"""Margins: the market at a tick, the accounts as they stand, one account's margin and the sweep over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from .folder import CHANGES, WORDS, Array, Columns, Part, Run, is_event
from .venue import MarginFunction, Venue, exact, in_ticks

TOLERANCE = 1e-9
"""Relative: how far two float64 ratios of the same figures may be apart, and where float64 leaves a test in doubt."""
_ORDERING = "place change cancel fill"
"""Events that change the order that a row names."""
_MOST = 2**62
"""Where amounts end, so that no altered figure can wrap: far beyond those of a run."""


class Tick:
    """Prices of one tick; exact figures are made when asked for."""

    def __init__(self, part: Part, row: int) -> None:
        self.number, self.time, self.venue = int(part.number[row]), int(part.time[row]), part.venue
        self.is_tick = bool(part.is_tick[row])
        self.mark, self.index, self.asset = part.mark[row], part.indexes[row], part.asset[row]
        self.own_asset = part.own_asset[row]
        self.given_interest, self.funding_rate = part.open_interest[row], part.funding_rate[row]
        self.open_quantity = dict[int, Fraction]()
        """Open interest of the markets whose margin functions ask for it, in units of the base asset."""
        self.last = part.last_price[row]
        self._cache: dict[tuple[str, int, Any], Any] = {}

    def unit_value(self, kind: str, row: int, of: Callable[[Fraction], Any] = Fraction) -> Any:
        """Settle units of a `unit` or a `quantum` of an asset, or of a `lot` at the mark, in the numbers of `of`.

        A `lot` has its notional, above 0; a `lot value` is signed and in units of the market's settle asset. `tokens`
        are the base units of a lot, of an inverse market the units of the settle asset.
        """
        if (kind, row, of) not in self._cache:
            if kind in ("unit", "quantum"):
                value = self._price(self.asset[row]) * (1 if kind == "unit" else self.venue.assets[row].quantum)
            else:
                market, mark = self.venue.markets[row], self._price(self.mark[row])
                value = market.lot_value(mark) if mark else mark
                if kind == "tokens":
                    value = abs(value) if market.inverse else market.lot
                elif kind == "lot":
                    value = abs(value) * self._price(self.asset[market.settle])
            self._cache[kind, row, of] = of(value)
        return self._cache[kind, row, of]

    @staticmethod
    def _price(price: float) -> Fraction:
        """Exact price, 0 where there is none."""
        return exact(float(price)) if math.isfinite(price) else Fraction(0)

    def count(self, state: State) -> None:
        """Fix the open interest of the markets whose margin functions ask for it."""
        self.count_for(self.venue, state)

    def count_for(self, venue: Venue, state: State) -> None:
        """Fix the open interest of the markets whose margin functions in a later venue ask for it, if it is not yet."""
        for row, market in enumerate(venue.markets):
            asks = "open_interest" in (market.margin_function.kind, market.initial.kind)
            if asks and row not in self.open_quantity:
                quantity = float(self.given_interest[row])
                if math.isfinite(quantity):
                    self.open_quantity[row] = exact(quantity)
                else:
                    lots = state.columns["lots"][state.market == row]
                    sides = total(np.maximum(lots, 0)), total(np.maximum(-lots, 0))
                    self.open_quantity[row] = max(sides) * market.step

    def open_lots(self, market: int) -> int:
        """Open interest of a market that is counted from the positions, in lots; 0 where it is not."""
        if math.isfinite(self.given_interest[market]):
            return 0
        return int(self.open_quantity.get(market, Fraction(0)) / self.venue.markets[market].step)

    def interest(self, market: int, of: Callable[[Fraction], Any]) -> Any:
        """Open interest of a market in settle units, in the numbers of `of`; 0 where no margin function asks for it."""
        if ("interest", market, of) not in self._cache:
            lots = self.open_quantity.get(market, Fraction(0)) / self.venue.markets[market].step
            self._cache["interest", market, of] = of(lots * Fraction(self.unit_value("lot", market)))
        return self._cache["interest", market, of]


def total(amounts: Array) -> int:
    """Sum that does not wrap."""
    return int(amounts.sum()) if np.abs(amounts).sum(dtype=np.float64) < _MOST else sum(amounts.tolist())


def sums(rows: Array, amounts: Array, count: int) -> Array:
    """Sums of float64 amounts by row; NumPy gives whole numbers where there are none."""
    return np.bincount(rows, amounts, count).astype(np.float64, copy=False)


def _requirement(
    margin_function: MarginFunction, of: Callable[[Fraction], Any], root: Callable[[Any], Any]
) -> Callable[[Any, Any, Any], Any]:
    """Return the requirement by notional, token quantity and open interest, in the numbers of `of`."""
    figures = [tuple(map(of, row)) for row in margin_function.figures]
    if margin_function.kind in ("tiers", "steps"):
        first = figures[0][1]
        return lambda notional, tokens, interest: next(
            (notional * rate - less for start, rate, less in figures[::-1] if start < notional), notional * first
        )
    base, *more = figures[0]
    if margin_function.kind in ("linear", "linear_quantity"):
        slope, least = more
        if margin_function.kind == "linear":
            return lambda notional, tokens, interest: (
                max(notional * (base + slope * notional), least) if notional else notional
            )
        return lambda notional, tokens, interest: (
            max(notional * (base + slope * tokens), least) if notional else notional
        )
    if margin_function.kind == "open_interest":
        lower, upper = more
        return lambda notional, tokens, interest: (
            notional * (base + (1 - base) * min(max((interest - lower) / (upper - lower), 0), 1))
        )
    factor = more[0]
    if margin_function.kind == "quantity":
        return lambda notional, tokens, interest: notional * max(base, factor * root(tokens))
    return lambda notional, tokens, interest: notional * max(base, factor * root(notional))


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / value.denominator


def _root(value: Fraction) -> Fraction:
    """Square root, exact where it is a fraction."""
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if (top * top, bottom * bottom) == (value.numerator, value.denominator):
        return Fraction(top, bottom)
    return Fraction(_decimal(value).sqrt())


class _Numbers:
    """The venue's figures for margins, all float64, all Decimal, or all Fraction (quotients by prices are exact)."""

    def __init__(self, venue: Venue, of: Callable[[Fraction], Any], root: Callable[[Any], Any]) -> None:
        self.of, self.root, self.zero = of, root, of(Fraction(0))
        self.markets = [_requirement(market.margin_function, of, root) for market in venue.markets]
        self.assets = [_requirement(asset.margin_function, of, root) for asset in venue.assets]
        self.haircuts = [list(map(of, asset.haircut)) for asset in venue.assets]
        self.quantum = [of(asset.quantum) for asset in venue.assets]


class Margin(NamedTuple):
    """An account in settle units; `gross` is the sum of the absolute amounts in the equity."""

    equity: Any
    maintenance: Any
    exposure: Any
    gross: Any


class State:
    """Accounts as they stand at a row of the journal.

    `columns` hold the whole numbers; `lots`, `cost` and the others are the same memory read as Python integers.
    """

    def __init__(self, run: Run) -> None:
        positions, balances, orders = run.start["positions"], run.start["balances"], run.orders
        accounts = np.arange(len(run.ids) + 1)
        self.position_edges = np.searchsorted(positions["account"], accounts)
        self.balance_edges = np.searchsorted(balances["account"], accounts)
        self.position_offset, self.balance_offset = self.position_edges.tolist(), self.balance_edges.tolist()
        self.owner, self.market = positions["account"], positions["market"]
        self.holder, self.asset = balances["account"], balances["asset"]
        self.settle_row, self.settle = run.settle_row, run.settle_row.tolist()
        self.owners = run.owner
        self.position_balance = run.position_balance
        self._market, self._asset, self._position_balance = (
            rows.tolist() for rows in (self.market, self.asset, run.position_balance)
        )
        self.orders, self.order_position = orders, run.order_position.tolist()
        first = len(run.start["orders"]["lots"])
        self.order_lots = orders["lots"][:first].tolist() + [0] * (len(orders["lots"]) - first)
        self.order_price = orders["price"].tolist()
        order_lots = np.zeros((2, len(self.owner)), np.int64)
        counted = np.flatnonzero(~orders["reduce_only"][:first])
        sides = (orders["side"] < 0)[counted] * 1
        np.add.at(order_lots, (sides, run.order_position[counted]), orders["lots"][counted])
        self.columns = {
            "lots": positions["lots"].copy(), "cost": positions["cost"].copy(), "entry": positions["entry"].copy(),
            "free": balances["quanta"].copy(), "lent": balances["lent"].copy(),
            "unsettled": balances["unsettled"].copy(), "bid": order_lots[0], "ask": order_lots[1],
        }  # fmt: skip
        views = [memoryview(column) for column in self.columns.values()]
        self.lots, self.cost, self.entry, self.free, self.lent, self.unsettled, self.bid, self.ask = views
        self.open: list[set[int]] = [set() for _ in run.ids]
        for order in np.flatnonzero(self.order_lots).tolist():
            self.open[int(orders["account"][order])].add(order)
        limits = run.start["accounts"]["leverage_limit"].tolist()
        self.leverage = [exact(limit) if math.isfinite(limit) else None for limit in limits]
        self.take(run.venue)
        self.pool_rows = {asset: np.flatnonzero(self.asset == asset) for asset in run.venue.pools}
        self.exposed = np.zeros(len(self.open), bool)
        self.changed()

    def take(self, venue: Venue) -> None:
        """Take over the figures of a venue."""
        self.venue = venue
        self.floats = _Numbers(venue, float, math.sqrt)
        self.exact = _Numbers(venue, *((_decimal, Decimal.sqrt) if venue.plain else (Fraction, _root)))

    def changed(self, accounts: Array | None = None) -> None:
        """Find again which of some accounts, or of all, have exposure, and forget totals, after rows were applied."""
        held = self.columns
        positions: Any = slice(None)
        balances: Any = slice(None)
        holders = self.owner, self.holder
        if accounts is not None:
            positions, owner = rows_of(self.position_edges, accounts)
            balances, holder = rows_of(self.balance_edges, accounts)
            holders = accounts[owner], accounts[holder]
        at_risk = (held["lots"][positions] != 0) | (held["bid"][positions] != 0) | (held["ask"][positions] != 0)
        self.exposed[slice(None) if accounts is None else accounts] = False
        self.exposed[holders[0][at_risk]] = True
        self.exposed[holders[1][held["free"][balances] < 0]] = True
        self._borrowed: Array | None = None
        self._pools = dict[int, list[int]]()

    @property
    def borrowed(self) -> Array:
        """Balance rows that are debts."""
        if self._borrowed is None:
            self._borrowed = np.flatnonzero(self.columns["free"] < 0)
        return self._borrowed

    def pool(self, asset: int) -> list[int]:
        """Quanta that a pool was lent, and that are borrowed from it."""
        if asset not in self._pools:
            rows, pool = self.pool_rows[asset], self.venue.pools[asset]
            lent, free = self.columns["lent"][rows], self.columns["free"][rows]
            self._pools[asset] = [pool.lent + total(lent), pool.borrowed + total(np.maximum(-free, 0))]
        return self._pools[asset]

    def margin(self, account: int, tick: Tick, kind: _Numbers) -> Margin:
        """Margin of an account as the page has it."""
        of, own = kind.of, self.settle[account]
        equity = gross = maintenance = exposure = kind.zero
        profit = dict[int, Any]()  # by balance row, in units of its asset
        for p in range(self.position_offset[account], self.position_offset[account + 1]):
            lots, market, b = self.lots[p], self._market[p], self._position_balance[p]
            paid = self.cost[p] * kind.quantum[self._asset[b]]
            profit[b] = profit.get(b, kind.zero) - paid
            gross += abs(paid if b == own else paid * tick.unit_value("unit", self._asset[b], of))
            if lots or self.bid[p] or self.ask[p]:
                notional_of_lot = tick.unit_value("lot", market, of)
                notional = abs(lots) * notional_of_lot
                exposure += max(abs(lots + self.bid[p]), abs(lots - self.ask[p]), abs(lots)) * notional_of_lot
                if lots:
                    tokens, interest = abs(lots) * tick.unit_value("tokens", market, of), tick.interest(market, of)
                    maintenance += kind.markets[market](notional, tokens, interest)
                    profit[b] += lots * tick.unit_value("lot value", market, of)
                    gross += notional
        for b in range(self.balance_offset[account], self.balance_offset[account + 1]):
            asset, gained = self._asset[b], profit.get(b, kind.zero)
            if unsettled := self.unsettled[b]:
                gained += unsettled * kind.quantum[asset]
                gross += abs(unsettled) * tick.unit_value("quantum", asset, of)
            if b == own:
                equity, gained = equity + gained, kind.zero
            counted = self.counted(asset, self.free[b], self.lent[b], tick, kind, gained)
            equity, maintenance = equity + counted[0], maintenance + counted[1]
            exposure, gross = exposure + counted[2], gross + counted[3]
        return Margin(equity, maintenance, exposure, gross)

    def counted(
        self, asset: int, free: Any, lent: Any, tick: Tick, kind: _Numbers, gained: Any = 0
    ) -> tuple[Any, Any, Any, Any]:
        """Net equity, maintenance margin, exposure and gross amount of a balance.

        What positions gained in units of the asset counts like a balance; together below 0, they count in full.
        """
        equity = maintenance = exposure = gross = kind.zero
        tokens = max(free, 0) + lent
        if tokens > 0 or gained:
            quantity = tokens * kind.quantum[asset] + gained
            value = quantity * tick.unit_value("unit", asset, kind.of)
            gross = abs(value)
            if quantity > 0:
                weight, base, penalty = kind.haircuts[asset]
                size = quantity if self.venue.by_quantity else value
                value *= min(weight, base / (1 + penalty * kind.root(size)))
            equity = value
        if free < 0:
            exposure = -free * tick.unit_value("quantum", asset, kind.of)
            maintenance = kind.assets[asset](exposure, -free * kind.quantum[asset], 0)
            equity -= exposure
            gross += exposure
        return equity, maintenance, exposure, gross

    def apply(self, numbers: Array, journal: Columns) -> None:
        """Add the changes of rows, those of the counterparties too, to accounts, orders and limits of leverage."""
        self.add(numbers, journal)
        position, counter = journal["position"][numbers], journal["counter_position"][numbers]
        quanta = journal["quanta"][numbers] + journal["lent"][numbers]
        with_account = journal["counterparty"][numbers] >= 0
        for column, to, change in (
            ("lots", position, journal["lots"][numbers]),
            ("entry", position, journal["entry"][numbers]),
            ("lots", counter, -journal["lots"][numbers]),
            ("cost", counter, journal["counter_cost"][numbers]),
            ("entry", counter, journal["counter_entry"][numbers]),
            ("free", np.where(with_account, journal["counter_money"][numbers], -1), journal["counter_cash"][numbers]),
            ("free", np.where(with_account, journal["counter_balance"][numbers], -1), -quanta),
        ):
            _add(self.columns[column], to, change)
        ordered = (journal["order"][numbers] >= 0) & is_event(journal, _ORDERING)[numbers]
        for number in numbers[ordered].tolist():
            self._change_order(number, journal)
        for number in numbers[is_event(journal, "leverage")[numbers]].tolist():
            limit = float(journal["price"][number])
            self.leverage[int(journal["account"][number])] = exact(limit) if math.isfinite(limit) else None

    def _change_order(self, number: int, journal: Columns) -> None:
        """Change an order by a row that names it."""
        event, order = WORDS["event"][journal["event"][number]], int(journal["order"][number])
        before, lots = self.order_lots[order], 0
        if event in ("place", "change"):
            lots = int(journal["requested"][number])
        elif event == "fill":
            lots = max(before - abs(int(journal["lots"][number])), 0)
        if event == "change":
            self.order_price[order] = in_ticks(
                self.venue, int(self.orders["market"][order]), float(journal["price"][number])
            )
        self.order_lots[order] = lots
        is_open = self.open[int(self.orders["account"][order])]
        (is_open.add if lots else is_open.discard)(order)
        if not self.orders["reduce_only"][order]:
            side, p = self.bid if self.orders["side"][order] > 0 else self.ask, self.order_position[order]
            side[p] = min(max(side[p] + lots - before, 0), _MOST)

    def add(self, numbers: Array, journal: Columns) -> None:
        """Add the changes that rows make to their accounts, lots and entries apart."""
        rows = {name: journal[name][numbers] for name in CHANGES}
        held, position = self.columns, journal["position"][numbers]
        balance, money = journal["balance"][numbers], journal["money"][numbers]
        for column, to, change in (
            ("cost", position, rows["cost"]),
            ("free", balance, rows["quanta"]),
            ("lent", balance, rows["lent"]),
            ("free", money, rows["cash"] - rows["fee"]),
            ("unsettled", money, rows["unsettled"]),
        ):
            _add(held[column], to, change)
        self._borrowed = None
        self._pools.clear()


def _add(column: Array, to: Array, change: Array) -> None:
    """Add changes to the rows of a column that there are; nothing goes beyond where amounts end."""
    rows = to[to >= 0]
    np.add.at(column, rows, change[to >= 0])
    column[rows] = np.clip(column[rows], -_MOST, _MOST)


class Quotes(NamedTuple):
    """Prices of one moment after another: a row each, a column for every market or asset."""

    lot: Array  # signed value of a lot, in units of the market's settle asset; 0 without a mark
    tokens: Array  # base units of a lot, of an inverse market units of its settle asset
    interest: Array  # open interest in settle units, 0 where no margin function asks for it
    asset: Array  # price, 0 where there is none

    @classmethod
    def of(cls, venue: Venue, mark: Array, asset: Array, open_quantity: Sequence[dict[int, Fraction]]) -> Quotes:
        """Marks, prices of assets, and open interest by market, of some moments."""
        markets = venue.markets
        lots = np.array([market.lot for market in markets], np.float64)
        inverse = np.array([market.inverse for market in markets], bool)
        lot, asset = np.nan_to_num(np.where(inverse, -lots / mark, lots * mark)), np.nan_to_num(asset)
        interest = np.zeros(lot.shape)
        for row, quantities in enumerate(open_quantity):
            for market, quantity in quantities.items():
                held = float(quantity / markets[market].step) * abs(lot[row, market])
                interest[row, market] = held * asset[row, markets[market].settle]
        return cls(lot, np.where(inverse, np.abs(lot), lots), interest, asset)

    def from_row(self, row: int) -> Quotes:
        """The prices from a row on."""
        return Quotes(*(values[row:] for values in self))

    def extremes(self) -> tuple[Quotes, Quotes]:
        """The least and the most of every column."""
        if len(self.lot) == 1:
            return self, self
        low, high = (Quotes(*(end(values, axis=0)[None] for values in self)) for end in (np.min, np.max))
        return low, high

    def moved(self, share: float) -> Quotes:
        """The quotes moved up by a share, or down by one below 0."""
        return Quotes(*(values + share * np.abs(values) for values in self))

    def are_between(self, low: Quotes, high: Quotes) -> bool:
        """Whether no column leaves the bounds of two others."""
        ranges = zip(low, self, high, strict=True)
        return all(bool(((least <= values) & (values <= most)).all()) for least, values, most in ranges)


class _Requirements:
    """Requirements of many rows at once; each row has the function of its item."""

    def __init__(self, margin_functions: list[MarginFunction], item: Array) -> None:
        plain = [
            list(map(float, margin_function.figures[0])) if margin_function.kind == "sqrt" else [0.0, 0.0]
            for margin_function in margin_functions
        ]
        self.base, self.factor = np.array(plain).reshape(-1, 2)[item].T
        self.others = [
            (row, function.kind, np.array(function.figures, np.float64), np.flatnonzero(item == row))
            for row, function in enumerate(margin_functions) if function.kind != "sqrt"
        ]  # fmt: skip

    def of(self, size: Array, notional: Array, tokens: Array, interest: Array | None = None) -> Array:
        """Return the requirements of sizes in lots or quanta and of their notionals, moment by moment.

        `tokens` are those of a lot or quantum, and `interest` the open interest in settle units, by moment and item.
        """
        margin: Array = notional * np.maximum(self.base, self.factor * np.sqrt(notional))
        for row, kind, figures, rows in self.others:
            mine, sizes = notional[:, rows], size[rows] * tokens[:, row, None]
            if kind in ("tiers", "steps"):
                start, rate, less = figures.T
                bracket = np.maximum(np.searchsorted(start, mine) - 1, 0)
                margin[:, rows] = mine * rate[bracket] - less[bracket]
            elif kind == "quantity":
                base, factor = figures[0]
                margin[:, rows] = mine * np.maximum(base, factor * np.sqrt(sizes))
            elif kind in ("linear", "linear_quantity"):
                base, slope, least = figures[0]
                sizes = mine if kind == "linear" else sizes
                margin[:, rows] = np.where(mine > 0, np.maximum(mine * (base + slope * sizes), least), 0.0)
            elif interest is not None:
                base, lower, upper = figures[0]
                share = np.clip((interest[:, row, None] - lower) / (upper - lower), 0.0, 1.0)
                margin[:, rows] = mine * (base + (1 - base) * share)
        return margin


class Held(NamedTuple):
    """Rows of some accounts, or of all: of positions and of balances, and which of the accounts has each."""

    accounts: int
    positions: Any  # rows, or all of them as a slice
    balances: Any
    owner: Array  # by position, a number from 0
    holder: Array  # by balance
    market: Array
    asset: Array
    money: Array  # by position: the number of the balance that it is settled in
    settle: Array  # by account: the number of its balance of the venue's settle asset
    required: _Requirements


class Sweep:
    """Margins of many accounts at once."""

    def __init__(self, state: State) -> None:
        self.state, self.venue = state, state.venue
        self.weight, self.haircut_base, self.penalty = np.array(state.floats.haircuts).T
        self.quantum = np.array(state.floats.quantum)
        self.settles = np.array([market.settle for market in self.venue.markets])
        self.functions = [market.margin_function for market in self.venue.markets]
        everything = slice(None)
        self.all = Held(
            len(state.open), everything, everything, state.owner, state.holder, state.market, state.asset,
            state.position_balance, state.settle_row, _Requirements(self.functions, state.market),
        )  # fmt: skip

    def held(self, accounts: Array) -> Held:
        """The rows of some accounts, which ascend."""
        state = self.state
        positions, owner = rows_of(state.position_edges, accounts)
        balances, holder = rows_of(state.balance_edges, accounts)
        market = state.market[positions]
        return Held(
            len(accounts), positions, balances, owner, holder, market, state.asset[balances],
            np.searchsorted(balances, state.position_balance[positions]),
            np.searchsorted(balances, state.settle_row[accounts]), _Requirements(self.functions, market),
        )  # fmt: skip

    def margins(self, tick: Tick) -> tuple[Array, Array, Array]:
        """Net equity, maintenance margin and gross of all accounts."""
        quotes = Quotes.of(self.venue, tick.mark[None], tick.asset[None], [tick.open_quantity])
        equity, maintenance, gross = self.bounds(self.all, quotes, quotes)
        return equity[0], maintenance[0], gross[0]

    def bounds(self, held: Held, low: Quotes, high: Quotes) -> tuple[Array, Array, Array]:
        """Least net equity, and most maintenance margin and gross, of accounts while prices stay between two others.

        A row for every moment; where the two are the same, it is the net equity itself.
        """
        columns, plain = self.state.columns, self.venue.plain
        lots, cost = (columns[name][held.positions] for name in ("lots", "cost"))
        free, lent, unsettled = (columns[name][held.balances] for name in ("free", "lent", "unsettled"))
        is_exact, price, dear = low is high, low.asset[:, held.asset], high.asset[:, held.asset]
        value = lots * low.lot[:, held.market]
        size = np.abs(value)
        if not is_exact:
            other = lots * high.lot[:, held.market]
            value, size = np.minimum(value, other), np.maximum(size, np.abs(other))
        notional = size if plain else size * high.asset[:, self.settles][:, held.market]
        # what positions gained, in units of the asset that they are settled in
        quantum = self.quantum[held.asset]
        paid = cost * (quantum[held.money] if not plain else float(self.venue.quantum))
        gained = _sums(held.money, value - paid, len(free)) + unsettled * quantum
        tokens = (np.maximum(free, 0) + lent) * quantum
        own = np.zeros(len(free), bool)
        own[held.settle] = True
        quantity = tokens + np.where(own, 0.0, gained)
        counted = quantity * np.where(quantity < 0, dear, price) * self._weights(held, quantity, price)
        equity = _sums(held.holder, counted, held.accounts) + gained[:, held.settle]
        paid_gross = np.abs(paid) if plain else np.abs(paid) * dear[:, held.money]
        gross = _sums(held.owner, notional + paid_gross, held.accounts)
        gross += _sums(held.holder, (tokens + np.abs(unsettled) * quantum) * dear, held.accounts)
        maintenance = _sums(
            held.owner, held.required.of(np.abs(lots), notional, high.tokens, high.interest), held.accounts
        )
        of = np.flatnonzero(free < 0)
        if len(of):
            debt = -free[of] * (quantum * dear)[:, of]
            functions = [asset.margin_function for asset in self.venue.assets]
            needed = _Requirements(functions, held.asset[of]).of(-free[of], debt, self.quantum[None])
            owed = _sums(held.holder[of], debt, held.accounts)
            maintenance += _sums(held.holder[of], needed, held.accounts)
            equity, gross = equity - owed, gross + owed
        return equity, maintenance, gross

    def requirements(self, tick: Tick) -> Array:
        """Maintenance margin of every position row, in settle units."""
        quotes = Quotes.of(self.venue, tick.mark[None], tick.asset[None], [tick.open_quantity])
        lots = np.abs(self.state.columns["lots"])
        notional = lots * (np.abs(quotes.lot) * quotes.asset[:, self.settles])[:, self.state.market]
        return np.asarray(self.all.required.of(lots, notional, quotes.tokens, quotes.interest)[0])

    def _weights(self, held: Held, quantity: Array, price: Array) -> Array:
        """Effective weights of quantities, 1 of those below 0."""
        if not self.penalty.any():
            weight: Array = np.minimum(self.weight, self.haircut_base)[held.asset]
        else:
            weight, penalty = self.weight[held.asset], self.penalty[held.asset]
            size = np.maximum(quantity if self.venue.by_quantity else quantity * price, 0.0)
            weight = np.minimum(weight, self.haircut_base[held.asset] / (1 + penalty * np.sqrt(size)))
        return np.where(quantity < 0, 1.0, weight)

    def unpriced(self, mark: Array, asset: Array, delisted: Sequence[int] = ()) -> bool:
        """Whether a held market or asset has no price; the markets that are delisted need no mark."""
        if len(delisted):
            mark = mark.copy()
            mark[list(delisted)] = 1.0
        lots, _, _, free, lent, unsettled, bid, ask = self.state.columns.values()
        no_mark, no_price = np.isnan(mark) | np.isnan(asset[self.settles]), np.isnan(asset)
        if not no_mark.any() and not no_price.any():
            return False
        at_risk, held = (lots != 0) | (bid != 0) | (ask != 0), (free != 0) | (lent != 0) | (unsettled != 0)
        return bool(at_risk[no_mark[self.state.market]].any() or held[no_price[self.state.asset]].any())


def rows_of(edges: Array, accounts: Array) -> tuple[Array, Array]:
    """Rows of some accounts in a table that ascends by account, and which of the accounts has each."""
    first, count = edges[accounts], edges[accounts + 1] - edges[accounts]
    owner = np.repeat(np.arange(len(accounts)), count)
    return np.arange(len(owner)) - np.repeat(np.cumsum(count) - count - first, count), owner


def _sums(rows: Array, amounts: Array, count: int) -> Array:
    """Sums of float64 amounts by row, moment by moment."""
    moments = len(amounts)
    if moments == 1:
        return np.asarray(sums(rows, amounts[0], count)[None])
    keys = rows + np.arange(moments)[:, None] * count
    return np.asarray(sums(keys.ravel(), amounts.ravel(), moments * count).reshape(moments, count))
