"""The decisions of a tick: the rows that the exact model writes, from selection to close-out, beside those on record.

The exact model sees the accounts that a tick treats, as the journal's rows left them before; where the rows of a tick
depart from its own, the audit goes on from those on record.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import reference
from ..reference import SCORES, WEIGHTS, Account, Figures, Judge, Order, Prices
from .books import Books
from .findings import Findings
from .folder import BOOK, CHANGES, FUND, NAMED, NOBODY, POOL, SHORTFALL, WORDS, Array, Columns, Run, is_event
from .margins import TOLERANCE, State, Tick
from .venue import RunError, Venue, exact

Policy = tuple[Callable[..., Array], bool]
"""A function of the counterparties of a market and side, and whether its figures are weights."""

FLOATS = ("price", "mmr_before", "mmr_after")
PLACE = ("market", "asset")
HUGE = 1e9
"""MMR from which the equity is next to nothing."""
STOPS = {"impact", "mean_mark", "mean_premium", "limit", "conversion"}
RULE_OF = {
    "trigger": "selection", "cancel": "stages", "skip": "throttle", "redeem": "repay", "convert": "repay",
    "harm": "book", "propose": "book", "book": "book", "expire": "book", "backstop": "stages", "adl": "stages",
    "unfilled": "stages", "market_close": "stages",
    "fund": "stages", "socialize": "stages", "shortfall": "stages", "unsettle": "stages",
}  # fmt: skip
"""The rule that asks for a row of an event."""
ALSO = {
    "book": ("bands", "cost"), "propose": ("bands",), "expire": ("bands",), "unfilled": ("bands",),
    "backstop": ("touched", "cost"), "adl": ("touched", "cost"),
    "socialize": ("touched",), "convert": ("bands", "cost"), "market_close": ("bands", "cost"),
}  # fmt: skip
"""The rules that its figures keep besides."""
TAKEN_OVER = ("backstop", "adl", "socialize")


class Decisions:
    """The rows of selection and of the six phases, tick by tick, compared with those of the exact model."""

    def __init__(self, run: Run, out: Findings, books: Books, state: State, policies: dict[str, Policy]) -> None:
        self.run, self.out, self.books, self.state = run, out, books, state
        opened = int(is_event(run.journal, "open").sum())
        if redefined := (SCORES.keys() | WEIGHTS.keys()) & policies.keys():
            raise RunError(f"{' '.join(sorted(redefined))}: docs/one_tick.md defines these policies")
        source = self._numbered(run.source)
        given = {name: (_of_figures(function), shared) for name, (function, shared) in policies.items()}
        self.judge = Judge(source, run.ids.tolist(), run.manifest["seed"], given)
        self.markets, self.assets = list(self.judge.venue.markets), list(self.judge.venue.assets)
        self.market_rows = {symbol: row for row, symbol in enumerate(self.markets)}
        self.asset_rows = {symbol: row for row, symbol in enumerate(self.assets)}
        tradables = [*self.markets, *self.judge.venue.spots]
        self.tradables = {symbol: row for row, symbol in enumerate(tradables)}
        self.codes = {name: {word: code for code, word in enumerate(WORDS[name])} for name in WORDS}
        others = {None: NOBODY, "book": BOOK, "fund": FUND, "shortfall": SHORTFALL, "pool": POOL}
        self.numbers: dict[str, dict[Any, int]] = {
            "counterparty": others, "market": self.market_rows | {None: -1}, "asset": self.asset_rows | {None: -1},
            "settle": self.asset_rows | {None: -1}, "order": {None: -1},
        }  # fmt: skip
        self.orders = {name: column.tolist() for name, column in run.orders.items()}
        self.there = [number < len(run.ids) - opened for number in run.numbers]
        """Of each account whether it has been opened by now."""
        memory = self.judge.memory
        memory.placing, memory.order_count = reference.Asked(self.order), len(run.start["orders"]["lots"])
        memory.book_of_host = run.manifest["book"] == "host"
        self.is_reported = False

    def _numbered(self, source: dict[str, Any]) -> dict[str, Any]:
        """The JSON of a venue with its providers by the numbers of their accounts."""
        numbers = self.run.manifest["providers"]
        entries = zip(source.get("backstop") or [], numbers, strict=True)
        return source | {"backstop": [entry | {"account": number} for entry, number in entries]}

    def take(self, source: dict[str, Any], venue: Venue) -> None:
        """Take over the figures of a venue, and its JSON."""
        self.judge.venue = reference.Venue(self._numbered(source))
        self.judge.memory.delisted = frozenset(self.markets[row] for row in venue.delisted)

    # -- a tick

    def follow(self, tick: Tick, rows: Array, candidates: list[int], fund: list[int], before: Tick | None) -> None:
        """Decide an instant again, and compare the rows of the journal; `candidates` may be liquidating.

        Of an instant in between `before` is the tick before it.
        """
        self.tick, self.rows, self.books_read = tick, rows, dict[str, dict[str, list[Any]]]()
        self.before = before
        judged = self.judge.tick(
            tick.number, tick.time, self.prices(tick), self, dict(zip(self.assets, fund, strict=True))
        )
        judged.last_prices = {
            symbol: exact(price)
            for symbol, price in zip(self.markets, tick.last.tolist(), strict=True)
            if math.isfinite(price)
        }
        decided = judged.decide(candidates)
        self.books.take({self.tradables[symbol]: _consumed(sides) for symbol, sides in self.books_read.items()})
        self._compare(decided)

    def leave_out(self, tick: Tick, rows: Array) -> None:
        """Report rows of an instant that is left out."""
        self.tick, self.rows = tick, rows
        self._compare([])

    def low_first(self, tick: Tick, requirements: Array) -> Array:
        """Whether lows come before highs after a tick, by market, from the requirements of all positions in it."""
        lots, low_first = self.state.columns["lots"], np.ones(len(self.markets), bool)
        quanta, prices = requirements / float(self.run.venue.quantum), self.prices(tick)
        for market, symbol in enumerate(self.markets):
            rows = np.flatnonzero((self.state.market == market) & (lots != 0))
            longs, shorts = (quanta[rows][side].sum() for side in (lots[rows] > 0, lots[rows] < 0))
            if abs(longs - shorts) > len(rows) + TOLERANCE * (longs + shorts):
                low_first[market] = not shorts > longs
            else:  # the sums of whole numbers decide
                low_first[market] = self.judge.low_first(prices, symbol, lots[rows].tolist())
        return low_first

    def prices(self, tick: Tick) -> Prices:
        """The prices of a tick."""

        def known(symbols: list[str], figures: Array) -> dict[str, float]:
            return {symbol: x for symbol, x in zip(symbols, figures.tolist(), strict=True) if math.isfinite(x)}

        prices = Prices(
            known(self.markets, tick.mark), known(self.markets, tick.index), known(self.assets, tick.own_asset)
        )
        prices.open_interest = {self.markets[row]: quantity for row, quantity in tick.open_quantity.items()}
        return prices

    # -- what the exact model asks

    def account(self, number: int) -> Account:
        """A copy of an account."""
        state, markets, assets = self.state, self.markets, self.assets
        first, last = state.position_offset[number], state.position_offset[number + 1]
        positions = {
            markets[market]: [lots, cost, entry]
            for market, lots, cost, entry in zip(
                state.market[first:last].tolist(), state.lots[first:last].tolist(), state.cost[first:last].tolist(),
                state.entry[first:last].tolist(), strict=True,
            )
        }  # fmt: skip
        first, last = state.balance_offset[number], state.balance_offset[number + 1]
        balances = {
            assets[asset]: [free, lent]
            for asset, free, lent in zip(
                state.asset[first:last].tolist(), state.free[first:last].tolist(), state.lent[first:last].tolist(),
                strict=True,
            )
        }  # fmt: skip
        unsettled = dict.fromkeys(self.judge.venue.money, 0)
        for symbol, amount in zip(balances, state.unsettled[first:last].tolist(), strict=True):
            if symbol in unsettled:
                unsettled[symbol] = amount
        orders = [
            self.order(order, state.order_price[order], state.order_lots[order]) for order in sorted(state.open[number])
        ]
        return Account(positions, balances, orders, state.leverage[number], unsettled, int(state.owners[number]))

    def order(self, number: int, ticks: int | None = None, lots: int | None = None) -> Order:
        """An order by its number, as it is or as it is placed; a `LookupError` of none."""
        if not 0 <= number < len(self.orders["lots"]):
            raise LookupError(number)
        table, symbol = self.orders, self.markets[self.orders["market"][number]]
        ticks, lots = (
            table["price"][number] if ticks is None else ticks,
            table["lots"][number] if lots is None else lots,
        )
        price = ticks * self.judge.venue.markets[symbol].tick_size
        side = "bid" if table["side"][number] > 0 else "ask"
        return Order(number, symbol, side, price, lots, table["reduce_only"][number], table["id"][number])

    def is_there(self, number: int) -> bool:
        """Whether an account has been opened by now."""
        return 0 <= number < len(self.there) and self.there[number]

    def holders(self, symbol: str, are_long: bool) -> list[int]:
        """The accounts with a position on a side of a market, ascending."""
        lots, market = self.state.columns["lots"], self.market_rows[symbol]
        on_side = (self.state.market == market) & (lots > 0 if are_long else lots < 0)
        holders: list[int] = self.state.owner[on_side].tolist()
        return holders

    def borrowers(self, asset: str) -> list[int]:
        """The accounts with a debt in an asset, ascending."""
        owing = self.state.borrowed[self.state.asset[self.state.borrowed] == self.asset_rows[asset]]
        borrowers: list[int] = self.state.holder[owing].tolist()
        return borrowers

    def pool_totals(self, asset: str) -> tuple[int, int]:
        """Quanta that a pool was lent, and that are borrowed from it."""
        lent, borrowed = self.state.pool(self.asset_rows[asset])
        return lent, borrowed

    def book(self, symbol: str) -> dict[str, list[Any]]:
        """Levels of both sides of a book."""
        if symbol not in self.books_read:
            sides, moved = self.books.levels(self.tradables[symbol]), self._moved_by(symbol)
            self.books_read[symbol] = {
                side: [
                    [price + moved, lots - gone, [price, lots, gone]] for price, lots, gone in zip(*levels, strict=True)
                ]
                for side, levels in zip(("bids", "asks"), sides, strict=True)
            }  # fmt: skip
        return {
            side: [level for level in levels if level[0] > 0 and level[1] > 0]
            for side, levels in self.books_read[symbol].items()
        }

    def _moved_by(self, symbol: str) -> int:
        """Ticks by which the levels of a perpetual have moved with its mark since the tick before."""
        if self.before is None or symbol not in self.market_rows:
            return 0
        row = self.market_rows[symbol]
        was, now = float(self.before.mark[row]), float(self.tick.mark[row])
        return round((exact(now) - exact(was)) / self.run.venue.markets[row].prices.tick) if was == was else 0

    def select(self) -> None:
        """An account is selected: what was consumed of the books decays."""
        self.books.decay(self.tick.time)

    def means(self, symbol: str) -> tuple[Fraction | None, Fraction | None]:
        """Means of the marks and of the premiums of a market in the window of samples."""
        market, guards = self.market_rows[symbol], self.books.guards
        mark, premium = (guards.mean(self.tick.time, market, kind) for kind in ("marks", "premiums"))
        tick_size = self.judge.venue.markets[symbol].tick_size
        return (
            None if mark is None else Fraction(mark[0], mark[1] * 1000) * tick_size,
            None if premium is None else Fraction(premium[0], premium[1] * 10**12),
        )

    def recorded(self, number: Any, symbol: str) -> list[tuple[int, int]]:
        """Counterparties and lots of the recorded ADL of an account's position, in their order."""
        journal, market = self.run.journal, self.market_rows[symbol]
        if not self.is_reported:
            what = f"adl: the order of counterparties by {self.judge.venue.policy['adl_policy']} cannot be checked:"
            self.out.breach("touched", f"{what} give its function to the audit", self.tick.number, int(self.rows[0]))
            self.is_reported = True
        mine = (journal["account"][self.rows] == number) & (journal["market"][self.rows] == market)
        mine &= journal["event"][self.rows] == self.codes["event"]["adl"]
        rows = self.rows[mine]
        return list(zip(journal["counterparty"][rows].tolist(), np.abs(journal["lots"][rows]).tolist(), strict=True))

    def finish(self, time: int) -> None:
        """Compare what is remembered with the last state, and the ledgers of the providers."""
        self.judge.advance(time)
        memory, state, equal = self.judge.memory, self.run.state, self.out.equal
        if "slices" in state:
            filled = {(one, self.market_rows[symbol]): at for (one, symbol), at in memory.last_slice.items()}
            equal("throttle", "state slices", _rows(state["slices"]), sorted((*leg, at) for leg, at in filled.items()))
        if "sold" in state:
            sold = sorted((account, quanta) for account, quanta in memory.sold.items() if quanta)
            equal("book", "state sold", _rows(state["sold"]), sold)
        if "books" in state:
            equal("book", "state books", _rows(state["books"]), _rows(self.books.state()))
        limits = [(one, limit) for one, limit in enumerate(self.state.leverage) if limit is not None]
        equal("replay", "state limits", sorted(_rows(state["limits"])), [(one, float(x)) for one, x in limits])
        equal("book", "state proposals", sorted(_proposed(state["proposals"])), sorted(self._proposals()))
        names = ("provider_minute", "provider_hour", "provider_total")
        expected = {(name, row): quanta for name in names for row, quanta in getattr(memory, name).items()}
        others = [("book_lots", row) for row in range(len(self.markets))]
        of_assets = ("book_quanta", "pool", "fund", "shortfall")
        others += [(name, row) for name in of_assets for row in range(len(self.assets))]
        expected["adl_on", 0] = int(memory.adl_on)
        entries = sorted(zip(*(state["ledger"][name].tolist() for name in ("ledger", "item")), strict=True))
        equal("replay", "entries of the ledger", entries, sorted([*expected, *others]))
        for entry, quanta in expected.items():
            equal("replay", f"ledger entry {entry}", self.run.ledger[entry], quanta)

    def _proposals(self) -> Iterator[tuple[int, ...]]:
        """The rows of the open proposals; the rate of the fee is in lowest terms."""
        for (account, symbol), proposal in self.judge.memory.proposals.items():
            ticks = 0 if proposal.limit is None else int(proposal.limit / self.judge.venue.markets[symbol].tick_size)
            rate, event = proposal.rate, self.codes["event"][proposal.event]
            if proposal.lots:
                yield account, self.market_rows[symbol], proposal.lots, ticks, rate.numerator, rate.denominator, event

    # -- comparison

    def _compare(self, decided: list[dict[str, Any]]) -> None:
        """Compare the rows of a tick with those on record; the first one that differs is reported.

        Prices may be 1e-9 off, ratios as much and more where the equity is small: it is a difference of large amounts.
        """
        journal, rows, count = self.run.journal, self.rows, min(len(decided), len(self.rows))
        same = np.ones(count, bool)
        for name in ("event", "reason", *NAMED, *CHANGES):
            same &= self._column(decided[:count], name) == journal[name][rows[:count]]
        for name in FLOATS:
            found = journal[name][rows[:count]]
            expected = np.array([row[name] for row in decided[:count]], np.float64)
            size = np.where(np.isfinite(expected), np.abs(expected), 0.0)
            near = np.abs(found - expected) <= TOLERANCE * (size if name == "price" else np.maximum(size, size * size))
            if name != "price":
                near |= (found > HUGE) & (expected > HUGE)
            same &= near | (found == expected) | (np.isnan(found) & np.isnan(expected))
        for event, times in Counter(row["event"] for row in decided).items():
            for rule in ("order", "ratios", RULE_OF[event], *ALSO.get(event, ())):
                self.out.checked[rule] += times
        first = int(np.argmin(same)) if not same.all() else count
        if first < max(len(decided), len(rows)):
            self._report(decided[first] if first < len(decided) else None, first)

    def _column(self, decided: list[dict[str, Any]], name: str) -> Array:
        """A column of the decided rows as the journal has it."""
        known = self.codes.get(name) or self.numbers.get(name)
        values = [row[name] for row in decided]
        if known is not None:
            values = [known.get(value, value) for value in values]
        return np.array(values, np.int64)

    def _report(self, decided: dict[str, Any] | None, place: int) -> None:
        """Report the first row of a tick that differs by the rules that it breaks."""
        journal = self.run.journal
        number = int(self.rows[place]) if place < len(self.rows) else -1
        recorded: dict[str, Any] | None = None
        if number >= 0:
            recorded = {name: WORDS[name][journal[name][number]] for name in WORDS}
            recorded |= {name: journal[name][number].item() for name in (*NAMED, *CHANGES, *FLOATS)}
        if decided is not None:
            plain = {name: int(self._column([decided], name)[0]) for name in (*NAMED, *CHANGES)}
            decided = decided | plain
        for rule, what in _differences(recorded, decided):
            account = (recorded or decided or {})["account"]
            self.out.breach(rule, what, self.tick.number, number, account)


def _of_figures(function: Callable[..., Array]) -> Callable[[list[Figures]], list[float]]:
    """A function of the figures of counterparties in columns, as one of a list of them."""

    def ranks(side: list[Figures]) -> list[float]:
        columns = {
            "lots": [abs(of.lots) for of in side], "requirement": [of.position_margin for of in side],
            "maintenance": [of.margin for of in side], "profit": [of.profits for of in side],
            **{name: [getattr(of, name) for of in side] for name in ("value", "entry", "equity", "exposure")},
        }  # fmt: skip
        rank = np.asarray(function(SimpleNamespace(**{name: np.array(x) for name, x in columns.items()})), np.float64)
        ranked: list[float] = rank.tolist()
        return ranked

    return ranks


def _rule_of(row: dict[str, Any]) -> str:
    """The rule that asks for a row."""
    if row["event"] in ("redeem", "convert"):
        return "repay" if row["reason"] == "debt" else "stages"
    return "repay" if row["event"] in ("expire", "harm") and row["asset"] >= 0 else RULE_OF.get(row["event"], "stages")


def _differences(recorded: dict[str, Any] | None, decided: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """The rules that a row breaks, each with what is wrong in words."""
    if recorded is None or decided is None or any(recorded[n] != decided[n] for n in ("event", "account", *PLACE)):
        here = "no more rows" if recorded is None else _named(recorded)
        what = f"{here}, where {'no such row is due' if decided is None else _named(decided) + ' is due'}"
        same_place = recorded and decided and all(recorded[n] == decided[n] for n in ("account", *PLACE))
        if "trigger" in ((recorded or {}).get("event"), (decided or {}).get("event")):
            yield "selection", what
        elif decided is not None and same_place:
            yield _rule_of(decided), what
        else:
            yield "order", what
        if recorded is not None and recorded["event"] in TAKEN_OVER:
            yield "touched", what
        return
    wrong: dict[str, list[str]] = {}
    for name in ("reason", "counterparty", "settle", "order", *CHANGES):
        if recorded[name] != decided[name]:
            rule = _rule_of_column(name, recorded, decided)
            wrong.setdefault(rule, []).append(f"{name} is {recorded[name]}, not {decided[name]}")
    if recorded["cash"] - recorded["cost"] != decided["cash"] - decided["cost"] and recorded["event"] != "socialize":
        rule = "touched" if recorded["lent"] else _rule_of(decided)
        wrong.setdefault(rule, []).append(
            f"money is {recorded['cash'] - recorded['cost']}, not {decided['cash'] - decided['cost']}"
        )
    if not wrong:
        for name in FLOATS:
            both = recorded[name], decided[name]
            if not math.isclose(*both, rel_tol=TOLERANCE) and not all(map(math.isnan, both)):
                limited = "bands" if recorded["event"] == "propose" else "rows"
                rule = limited if name == "price" else "ratios"
                wrong.setdefault(rule, []).append(f"{name} is {recorded[name]}, not {decided[name]}")
    for rule, parts in wrong.items():
        yield rule, f"{recorded['event']}: {'; '.join(parts)}"


def _rule_of_column(name: str, recorded: dict[str, Any], decided: dict[str, Any]) -> str:
    """The rule that a wrong figure of a row breaks."""
    event, own = recorded["event"], _rule_of(decided)
    if (name == "reason" and {recorded[name], decided[name]} & STOPS) or (
        name == "lots" and decided["reason"] in STOPS
    ):
        return "bands"
    if name == "counterparty" or (event in TAKEN_OVER and name in ("lots", "quanta", "lent")):
        return "touched"
    if name == "cash" and (event == "socialize" or recorded["lent"]):
        return "touched"
    if event == "cancel" and name == "requested":
        return "rows"
    if name in ("cost", "entry", "counter_cost", "counter_cash", "counter_entry"):
        return "cost"
    if name == "fee" and event in ("book", "market_close"):
        return "cost"
    return own


def _named(row: dict[str, Any]) -> str:
    """A row by its event, reason and place."""
    return f"{row['event']} ({row['reason']}) of account {row['account']}, market {row['market']}, asset {row['asset']}"


def _consumed(sides: dict[str, list[Any]]) -> tuple[list[int], list[int]]:
    """Lots consumed of every level of the bids and of the asks."""
    bids, asks = ([level[2][2] for level in sides[side]] for side in ("bids", "asks"))
    return bids, asks


def _rows(columns: Columns) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in columns.values()), strict=True))


def _proposed(columns: Columns) -> list[tuple[int, ...]]:
    """Rows of proposals, the rate of the fee in lowest terms."""
    rates = (
        Fraction(num, max(den, 1))
        for num, den in zip(*(columns[name].tolist() for name in ("fee_num", "fee_den")), strict=True)
    )
    figures = zip(*(columns[name].tolist() for name in ("account", "market", "lots", "price", "event")), strict=True)
    return [(*row[:4], rate.numerator, rate.denominator, row[4]) for row, rate in zip(figures, rates, strict=True)]
