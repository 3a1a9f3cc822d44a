"""The next journal row of a tick, the accounts before it, and the checks of a row."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from .findings import Findings
from .folder import Row, Run
from .margins import TOLERANCE, Margin, State, Tick, add

DOUBT = 1e-12
"""Relative to the amounts involved: where two float64 ways to the same figure may part. Tests that float64 alone
decides are taken either way there."""


class OffTrack(Exception):
    """The rows depart from the rules: the rows that follow cannot be predicted."""


class Cursor:
    """The rows of a tick, the next one of them, and the accounts before it."""

    def __init__(self, run: Run, out: Findings) -> None:
        self.run, self.out, self.venue = run, out, run.venue
        self.state, self.fund = State(run), run.opening_fund
        policy = run.venue.policy
        self.divisor, self.offset = policy["acmf_divisor"], policy["acmf_offset"]
        self.counterparty_mmr, self.band = policy["counterparty_mmr"], policy["zero_price_band"]

    def begin(self, tick: Tick, rows: list[Row]) -> None:
        """Turn to another tick."""
        self.tick, self.rows, self.index = tick, rows, 0
        self.order: dict[int, int] = {}
        """The selected accounts, and the position of each in the order."""
        self.escalated = set[int]()
        """Accounts that a harmful slice escalated to the backstop."""
        self._margins, self._exact_margins = dict[int, Margin](), dict[int, Margin]()

    # -- findings

    def breach(self, rule: str, what: str, row: Row) -> None:
        """Count a breach at a row."""
        self.out.breach(rule, f"{row.event}: {what}", self.tick.number, row.number, row.account)

    def require(self, rule: str, holds: bool, what: str, row: Row) -> None:
        """Check a rule at a row."""
        self.out.checked[rule] += 1
        if not holds:
            self.breach(rule, what, row)

    def equal(self, rule: str, what: str, row: Row, value: object, expected: object) -> None:
        """Check that a figure of a row is the expected one."""
        self.require(rule, value == expected, f"{what} is {value}, not {expected}", row)

    # -- margins

    def margin(self, account: int) -> Margin:
        """Margin of an account in float64."""
        if account not in self._margins:
            self._margins[account] = self.state.margin(account, self.tick, self.state.floats)
        return self._margins[account]

    def exact_margin(self, account: int) -> Margin:
        """Margin of an account in exact figures."""
        if account not in self._exact_margins:
            self._exact_margins[account] = self.state.margin(account, self.tick, self.state.exact)
        return self._exact_margins[account]

    def deficit(self, margin: Margin) -> Any:
        """Deficit of the net equity to the auto-close requirement."""
        number = float if isinstance(margin.equity, float) else Fraction
        equity, maintenance, exposure = number(margin.equity), number(margin.maintenance), number(margin.exposure)
        divided, lowered = maintenance / number(self.divisor), maintenance - number(self.offset) * exposure
        return max(divided, lowered) - equity

    def liquidating(self, account: int) -> bool:
        """Whether the account is liquidating; exact where float64 leaves doubt."""
        margin = self.margin(account)
        if abs(margin.maintenance - margin.equity) <= TOLERANCE * margin.gross:
            margin = self.exact_margin(account)
        return bool(margin.exposure > 0 and not margin.maintenance < margin.equity)

    def below(self, account: int) -> bool:
        """Whether the account is below auto-close; exact where float64 leaves doubt."""
        margin = self.margin(account)
        if min(abs(self.deficit(margin)), abs(margin.equity)) <= TOLERANCE * margin.gross:
            margin = self.exact_margin(account)
        below = self.deficit(margin) > 0 or margin.equity <= 0
        return bool(below and self.liquidating(account))

    def slicing(self, account: int) -> bool | None:
        """Whether the account is liquidating and not below auto-close by float64 alone; None if it may be or not."""
        margin = self.margin(account)
        if not margin.exposure:
            return False
        doubt = DOUBT * margin.gross
        gaps = margin.maintenance - margin.equity, -self.deficit(margin), margin.equity
        return False if min(gaps) < -doubt else None if min(gaps) <= doubt else True

    def can_absorb(
        self, account: int, *, position: int = -1, lots: int = 0, balance: int = -1, quanta: int = 0, flow: int = 0,
        initial: bool = False,
    ) -> bool:  # fmt: skip
        """Whether the account would be healthy (or have an IMR under 1) after a fill, with no net equity below 0.

        The fill changes a position or a balance for settle quanta received.
        """
        state, cash = self.state, flow
        changes = [(state.free, balance, quanta)] if balance >= 0 else []
        if position >= 0:
            change = cost_change(state.lots[position], state.cost[position], lots, flow)
            cash += change
            changes += [(state.lots, position, lots), (state.cost, position, change)]
        changes.append((state.free, state.settle[account], cash))
        before = [(column, row, column[row]) for column, row, _ in changes]
        for column, row, change in changes:
            add(column, row, change)
        exact = initial and self.venue.steps  # a margin that jumps leaves doubt at any distance
        for kind in (state.exact,) if exact else (state.floats, state.exact):
            margin = state.margin(account, self.tick, kind)
            required = state.initial(account, self.tick, kind) if initial else margin.maintenance
            most = margin.equity if initial else margin.equity * kind.of(self.counterparty_mmr)
            if kind is state.floats and min(abs(most - required), abs(margin.equity)) > TOLERANCE * (
                margin.gross + margin.exposure
            ):
                break
        for column, row, value in before[::-1]:
            column[row] = value
        return bool((not margin.exposure or required < most) and margin.equity >= 0)

    def quantum_value(self, b: int) -> Fraction:
        """Settle quanta of a quantum of a balance's asset."""
        return Fraction(self.tick.unit_value("quantum", int(self.state.asset[b]))) / self.venue.quantum

    def debt_margin(self, b: int) -> Decimal:
        """Maintenance margin of a debt."""
        state = self.state
        margin: Decimal = state.counted(int(state.asset[b]), state.free[b], 0, self.tick, state.exact)[1]
        return margin

    def flow(self, p: int, share: Fraction) -> int:
        """Quanta that closing the whole position brings: its value less a share of the equity.

        The price lies beyond the mark by at most the band.
        """
        value = self.state.lots[p] * Fraction(self.tick.unit_value("lot", int(self.state.market[p])))
        return round((value - max(share, -self.band * abs(value))) / self.venue.quantum)

    # -- rows

    def next(self, *phases: int) -> Row | None:
        """Return the next row, if it is of one of these phases."""
        if self.index < len(self.rows) and self.run.phase[self.rows[self.index].number] in phases:
            return self.rows[self.index]
        return None

    def is_next(self, account: int, events: str, market: int = -1, asset: int = -1) -> bool:
        """Whether the next row is of this account, one of these events and this market or asset."""
        row = self.rows[self.index] if self.index < len(self.rows) else None
        key = account, market, asset
        return row is not None and (row.account, row.market, row.asset) == key and row.event in events.split()

    def recorded_fills(
        self, account: int, event: str, fill: Callable[[Row], tuple[int, int]]
    ) -> Callable[[int], tuple[int, int] | None]:
        """Return the fills of the rows to come, by their number from here on."""

        def of(n: int) -> tuple[int, int] | None:
            row = self.rows[self.index + n] if self.index + n < len(self.rows) else None
            return fill(row) if row is not None and (row.account, row.event) == (account, event) else None

        return of

    def expect(self, rule: str, account: int, events: str, market: int = -1, asset: int = -1) -> Row:
        """Return the next row, which must be of this account, one of these events and this market or asset.

        Another event of the same account and item breaks the rule; a row of another account or item breaks the order.
        """
        self.out.checked[rule] += 1
        self.out.checked["order"] += 1
        if self.is_next(account, events, market, asset):
            return self.rows[self.index]
        follows, number = "no more rows", -1
        if self.index < len(self.rows):
            row = self.rows[self.index]
            follows, number = (
                f"{row.event} of account row {row.account}, market {row.market}, asset {row.asset}",
                row.number,
            )
            if (row.account, row.market, row.asset) != (account, market, asset):
                rule = "order"
        what = f"{' or '.join(events.split())} of market {market}, asset {asset} is missing: there is {follows}"
        self.out.breach(rule, what, self.tick.number, number, account)
        raise OffTrack

    def apply(self, row: Row) -> None:
        """Go past a row: check its ratios, and add its changes."""
        self.index += 1
        self.require("touched", row.account in self.order, "the account was not selected in this tick", row)
        self._ratio("mmr_before", row.mmr_before, row)
        self.state.apply(row)
        if row.settle >= 0:
            self.fund[row.settle] += row.fund + row.fee
            self.require("stages", self.fund[row.settle] >= 0, f"the fund has {self.fund[row.settle]}", row)
        for account in (row.account, row.counterparty):
            self._margins.pop(account, None)
            self._exact_margins.pop(account, None)
        self._ratio("mmr_after", row.mmr_after, row)

    def _ratio(self, name: str, recorded: float, row: Row) -> None:
        margin = self.margin(row.account)
        self.require("ratios", margin.agrees(recorded), f"{name} is {recorded}, not {margin.ratio()}", row)

    def pool_room(self, asset: int) -> int:
        """Quanta of a pool that are not lent out."""
        lent, borrowed = self.state.pool(asset)
        return max(lent - borrowed, 0)

    # -- trades

    def trade(self, row: Row) -> None:
        """Check cost and entry of both sides, the price, and that the position only shrinks."""
        state, p = self.state, row.position
        lots, flow = state.lots[p], row.cash - row.cost
        self.require("cost", lots * row.lots < 0 and abs(row.lots) <= abs(lots), f"{row.lots} of {lots} lots", row)
        self.equal("cost", "cost", row, row.cost, cost_change(lots, state.cost[p], row.lots, flow))
        self.equal("cost", "entry", row, row.entry, cost_change(lots, state.entry[p], row.lots, flow))
        if row.counterparty >= 0:
            p, flow_back = row.counter_position, row.counter_cash - row.counter_cost
            change = cost_change(state.lots[p], state.cost[p], -row.lots, flow_back)
            self.equal("cost", "counter_cost", row, row.counter_cost, change)
            change = cost_change(state.lots[p], state.entry[p], -row.lots, flow_back)
            self.equal("cost", "counter_entry", row, row.counter_entry, change)
        self.lots_price(row, flow if row.lots < 0 else -flow, abs(row.lots))

    def lots_price(self, row: Row, money: int, lots: int) -> None:
        """Check that the price is the one at which lots of the row's market are worth the money."""
        market = self.venue.markets[row.market]
        if not market.inverse:
            self.price(row, money, market.lot * lots, market.settle)
            return
        quantum = float(self.venue.assets[market.settle].quantum)
        size, paid = float(market.lot * lots), abs(money) * quantum
        near = row.price > 0 and abs(size / row.price - paid) <= TOLERANCE * paid + 0.51 * quantum
        if not money:  # no price makes it nothing: the mark stands for it
            near = row.price == float(self.tick.mark[row.market])
        self.require("rows", near, f"price is {row.price}, of {size} for {paid}", row)

    def price(self, row: Row, quanta: float, quantity: Fraction, settle: int | None = None) -> None:
        """Check that the price is the average of quanta of a settle asset, rounded or not yet, for a quantity."""
        quantum = self.venue.quantum if settle is None else self.venue.assets[settle].quantum
        unit = float(quantum / quantity) if quantity else 0.0
        price = quanta * unit
        near = abs(row.price - price) <= TOLERANCE * abs(price) + 0.51 * unit
        self.require("rows", near, f"price is {row.price}, not {price}", row)


def cost_change(lots: int, cost: int, change: int, flow: int) -> int:
    """Change of a position's cost when its lots change for `flow` received."""
    if lots * change >= 0:
        return -flow
    if abs(change) <= abs(lots):
        return -round(Fraction(cost * abs(change), abs(lots)))
    return -cost - round(Fraction(flow * (abs(change) - abs(lots)), abs(change)))
