"""The requirement of one portfolio in exact arithmetic, which decides where float64 is in doubt.

An entry of the table of record that needs a function (values and changes of options, discounts by sign, rates of the
roll charge) is the binary value of its float64. Everything else is the decimal that the tick or the model gives: the
change of a linear instrument is its price times the move, exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, TypeAlias

from ..boundary import exact as decimal
from .builder import moved_collateral
from .charges import LINEAR_KINDS, roll_rates
from .instruments import Kind
from .model import SKEWS, Scenario
from .record import probabilities_of
from .scenario_market import NANOSECONDS_PER_HOUR, NANOSECONDS_PER_YEAR
from .table import ScenarioTable

Orders: TypeAlias = Sequence[tuple[int, Fraction, Fraction]]
"""Instrument, signed size and limit of each order."""

_ZERO, _ONE = Fraction(0), Fraction(1)


@dataclass(frozen=True)
class ChargePart:
    """What one row of the model's charges adds to a group, in the numeraire.

    Attributes
    ----------
    kind : str
        Kind of the charge; "haircut" for the haircuts of collateral.
    maintenance, initial : Fraction
        What it adds to the maintenance and to the initial requirement, factors included.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.scenario import ChargePart
    >>> ChargePart("notional", Fraction(360), Fraction(480)).kind
    'notional'
    """

    kind: str
    maintenance: Fraction
    initial: Fraction


@dataclass(frozen=True)
class GroupPart:
    """Requirement of one group of an account, in the numeraire.

    Attributes
    ----------
    group : int
        Number of the group; -1 for the charges on assets that are no underlying.
    changes, initial_changes : tuple of Fraction, length S
        Change in each scenario, and with open orders in each scenario of the initial requirement.
    basis : Fraction or None
        Change by the basis contingency, if the model has one.
    loss, initial_loss : Fraction
        Worst loss, or the delta floor.
    worst : int
        Scenario that sets the worst loss; S for the basis contingency, -1 for no loss.
    charges : tuple of ChargePart
        Charges in the order of the model's rows, then the haircuts; those that are 0 are left out.
    spread : Fraction
        Spread charges less credits.
    minimum : Fraction
        The least requirement.
    maintenance, initial : Fraction
        Requirements of the group.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.scenario import GroupPart
    >>> none, loss = Fraction(0), Fraction(100)
    >>> GroupPart(0, (-loss,), (-loss,), None, loss, loss, 0, (), none, none, loss, loss).worst
    0
    """

    group: int
    changes: tuple[Fraction, ...]
    initial_changes: tuple[Fraction, ...]
    basis: Fraction | None
    loss: Fraction
    initial_loss: Fraction
    worst: int
    charges: tuple[ChargePart, ...]
    spread: Fraction
    minimum: Fraction
    maintenance: Fraction
    initial: Fraction


@dataclass(frozen=True)
class Parts:
    """Requirement of one account and what it is made of, in the numeraire.

    Attributes
    ----------
    maintenance, initial : Fraction
        Requirements.
    worst, group : int
        Worst scenario of the group with the largest requirement, and that group; -1 for none.
    minimum : Fraction
        The least requirement of the account.
    groups : tuple of GroupPart
        The groups.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.scenario import Parts
    >>> Parts(Fraction(0), Fraction(0), -1, -1, Fraction(0), ()).groups
    ()
    """

    maintenance: Fraction
    initial: Fraction
    worst: int
    group: int
    minimum: Fraction
    groups: tuple[GroupPart, ...]


def requirement(table: ScenarioTable, rows: Sequence[int], sizes: Sequence[Fraction]) -> tuple[Fraction, int]:
    """Return the maintenance requirement of a portfolio, exactly.

    Parameters
    ----------
    table : ScenarioTable
        The table of record.
    rows : sequence of int
        Instruments, each once.
    sizes : sequence of Fraction
        Their signed sizes.

    Returns
    -------
    tuple of Fraction and int
        Requirement in the numeraire, and the worst scenario of the group with the largest requirement: the number of
        scenarios for the basis contingency, -1 for no loss.

    Notes
    -----
    The rule: docs/scenario_margin.md, "The requirement".

    Examples
    --------
    >>> from fractions import Fraction
    >>> import pandas as pd
    >>> from riskcore.scenario import Instruments, ScenarioMarket, ScenarioTable, exact, load_scenario_model
    >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
    >>> instruments = Instruments.from_frame(frame)
    >>> market = ScenarioMarket.read(instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 6e4})
    >>> table = ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "-0.18"}]}), instruments, market)
    >>> exact.requirement(table, [0], [Fraction(1, 3)])
    (Fraction(3600, 1), 0)
    """
    found = parts(table, rows, sizes)
    return found.maintenance, found.worst


def parts(table: ScenarioTable, rows: Sequence[int], sizes: Sequence[Fraction], orders: Orders = ()) -> Parts:
    """Return the requirements of a portfolio and what they are made of, exactly.

    Parameters
    ----------
    table : ScenarioTable
        The table of record.
    rows : sequence of int
        Instruments, each once.
    sizes : sequence of Fraction
        Their signed sizes.
    orders : sequence of (int, Fraction, Fraction)
        Instrument, signed size and limit of each open order that is not reduce-only.

    Returns
    -------
    Parts
        The requirements.

    Notes
    -----
    The rule: docs/scenario_margin.md, "The requirement".

    Examples
    --------
    >>> from fractions import Fraction
    >>> import pandas as pd
    >>> from riskcore.scenario import Instruments, ScenarioMarket, ScenarioTable, exact, load_scenario_model
    >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
    >>> instruments = Instruments.from_frame(frame)
    >>> market = ScenarioMarket.read(instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 6e4})
    >>> charge = {"kind": "notional", "rate": "0.015"}
    >>> model = load_scenario_model({"scenarios": [{"move": "-0.18"}], "contingencies": [charge]})
    >>> found = exact.parts(ScenarioTable.of(model, instruments, market), [0], [Fraction(2, 5)])
    >>> found.maintenance, found.groups[0].charges
    (Fraction(4680, 1), (ChargePart(kind='notional', maintenance=Fraction(360, 1), initial=Fraction(360, 1)),))
    """
    return _Portfolio(_exact_table(table), dict(zip(rows, sizes, strict=True)), orders).parts()


@lru_cache(maxsize=4)
def _exact_table(table: ScenarioTable) -> _ExactTable:
    return _ExactTable(table)


class _ExactTable:
    """The table of record in exact numbers, computed where they are asked for."""

    def __init__(self, table: ScenarioTable) -> None:
        self.model, self.instruments, self.market, self.arrays = (
            table.model,
            table.instruments,
            table.market,
            table.arrays,
        )
        self.in_coin = self.model.numeraire in self.instruments.underlyings
        self.rows = self.model.rows
        self.initial_rows = self.model.initial_rows or self.rows
        self.underlying = [int(u) for u in self.arrays.underlying]
        self.moves_long, self.moves_short = moved_collateral(self.model, self.instruments, self.arrays.underlying)
        self.terms = len(self.instruments.term_expiry)
        self.groups = self.model.groups_of(self.instruments.underlyings)
        self._changes: dict[tuple[int, bool], list[Fraction]] = {}

    def index(self, u: int) -> Fraction:
        """Index of an underlying."""
        return decimal(float(self.market.index[u]))

    def price(self, u: int) -> Fraction:
        """Numeraire of a base unit of an underlying at its index."""
        return _ONE if self.in_coin else self.index(u)

    def mark(self, i: int) -> Fraction:
        """Mark of an instrument."""
        return decimal(float(self.market.mark[i]))

    def is_inverse(self, i: int) -> bool:
        """Whether an instrument is an inverse contract."""
        return bool(self.instruments.inverse[i]) and self.kind(i) != Kind.OPTION

    def kind(self, i: int) -> int:
        """Kind of an instrument."""
        return int(self.instruments.kind[i])

    def base(self, i: int) -> Fraction:
        """Price that turns quote units of an inverse contract into base units."""
        return self.index(self.underlying[i]) if self.model.inverse_base == "index" else self.mark(i)

    def units(self, i: int) -> Fraction:
        """Base units of a unit of size."""
        return 1 / self.base(i) if self.is_inverse(i) else _ONE

    def delta(self, i: int) -> Fraction:
        """Delta of record of a unit of size."""
        if self.kind(i) == Kind.OPTION:
            return Fraction(float(self.arrays.delta[i]))
        if self.model.forward_source == "spot" and not self.is_inverse(i):
            return self.mark(i) / self.index(self.underlying[i])
        return self.units(i)

    def value(self, i: int) -> Fraction:
        """Value of record of a unit of size."""
        kind = self.kind(i)
        if kind == Kind.OPTION:
            return Fraction(float(self.arrays.value[i]))
        if kind == Kind.SPOT and self.in_coin:
            name, coin = self.instruments.symbol[i], self.model.numeraire
            return _ONE if name == coin else self.mark(i) / self.index(self.instruments.underlyings.index(coin))
        if self.is_inverse(i):
            return -self.price(self.underlying[i]) / self.mark(i)
        return self.mark(i)

    def own_price(self, i: int) -> Fraction:
        """Notional of a unit of size at the instrument's own price."""
        return _ONE if self.is_inverse(i) and not self.in_coin else abs(self.value(i))

    def changes(self, i: int, initial: bool) -> list[Fraction]:
        """Change of an instrument in each scenario; the shocked value of an option where the model discounts."""
        initial = initial and self.model.initial_rows is not None
        if (i, initial) not in self._changes:
            rows = self.initial_rows if initial else self.rows
            if self.kind(i) == Kind.OPTION:
                first = self.arrays.initial_first if initial else 0
                found = [Fraction(float(x)) for x in self.arrays.row[i, first : first + len(rows)]]
            else:
                found = [self._linear_change(i, row) for row in rows]
            self._changes[i, initial] = found
        return self._changes[i, initial]

    def _linear_change(self, i: int, row: Scenario) -> Fraction:
        u = self.underlying[i]
        if self.kind(i) == Kind.SPOT and (self.in_coin or self.underlying[i] < 0):
            return _ZERO
        move, shift = self.moves(row, u)
        if self.kind(i) == Kind.SPOT:
            return self.value(i) * (move + shift / self.index(u))
        if not self.is_inverse(i):
            return self.mark(i) * move + shift
        base = self.base(i)
        relative = move + shift / base
        return relative / (1 + relative) / base if self.in_coin else self.index(u) * relative / base

    def moves(self, row: Scenario, u: int) -> tuple[Fraction, Fraction]:
        """Relative and absolute move of an underlying in a scenario."""
        name = self.instruments.underlyings[u]
        return row.move_of(name) or _ZERO, row.shift_of(name) or _ZERO

    def weight(self, row: Scenario, u: int) -> Fraction:
        """Weight of a scenario."""
        if not (self.in_coin and row.coin_tail):
            return row.weight
        return row.weight * (1 + self.moves(row, u)[0]) / (1 + row.edge)

    def dampener(self, row: Scenario, u: int) -> Fraction:
        """Dampener of a scenario, in the numeraire."""
        return row.dampener / ((1 + row.edge) * self.index(u)) if self.in_coin else row.dampener

    def time_left(self, term: int) -> int:
        """Nanoseconds to the expiry of a term; 0 for the terms of perpetuals."""
        return max(int(self.instruments.term_expiry[term]) - self.market.time, 0) if term < self.terms else 0


class _Portfolio:
    """The requirement of one portfolio."""

    def __init__(self, table: _ExactTable, sizes: dict[int, Fraction], orders: Orders) -> None:
        self.table, self.model, self.orders = table, table.model, orders
        rank = table.instruments.rank
        self.sizes = {i: sizes[i] for i in sorted(sizes, key=lambda i: int(rank[i])) if sizes[i]}
        named = [table.underlying[i] for i in (*self.sizes, *(order[0] for order in orders))]
        self.underlyings = list(dict.fromkeys(u for u in named if u >= 0))
        depeg = sum(
            (
                max(_ZERO, row.threshold - decimal(table.market.stable)) * row.factor
                for row in self.model.charges("depeg")
            ),
            _ZERO,
        )
        self.im_factor = self.model.im_factor + depeg

    def of(self, u: int, *kinds: int) -> list[int]:
        """Instruments of an underlying that are held."""
        table = self.table
        return [i for i in self.sizes if table.underlying[i] == u and (not kinds or table.kind(i) in kinds)]

    def parts(self) -> Parts:
        """Return the requirements and their parts."""
        model, spread = self.model, self.spreads()
        groups = []
        for number, group in enumerate(self.table.groups):
            members = [u for u in self.underlyings if u in group.members]
            if members:
                groups.append(self.group(number, members, sum((spread[u] for u in members), _ZERO)))
        others = self.charges([-1])
        if others:
            amounts = sum((c.maintenance for c in others), _ZERO), sum((c.initial for c in others), _ZERO)
            groups.append(GroupPart(-1, (), (), None, _ZERO, _ZERO, -1, tuple(others), _ZERO, _ZERO, *amounts))
        maintenance, initial = (
            sum((getattr(each, name) for each in groups), _ZERO) for name in ("maintenance", "initial")
        )
        least = _ZERO
        if model.minimum is not None and model.minimum.level == "account":
            least = self.minimum(list(self.sizes))
            maintenance, initial = max(maintenance, least), max(initial, least)
        initial = max(_rounded(initial * model.im_multiplier, model.round_initial), maintenance)
        largest = max((each for each in groups if each.group >= 0), key=lambda each: each.maintenance, default=None)
        binding = (-1, -1) if largest is None else (largest.worst, largest.group)
        return Parts(maintenance, initial, *binding, least, tuple(groups))

    def group(self, number: int, members: list[int], spread: Fraction) -> GroupPart:
        """Requirement of a group."""
        model, table = self.model, self.table
        changes, basis = self.changes(members, False), self.basis(members)
        scan, worst = self.measured(table.rows, changes, basis)
        loss = _rounded(max(scan, self.floor(members, ())), model.round_worst)
        wide = self.changes(members, True)
        initial_loss = max(self.measured(table.initial_rows, wide, basis)[0], self.floor(members, self.orders))
        initial_loss = _rounded(initial_loss, model.round_worst)
        charges = self.charges(members)
        maintenance = model.mm_factor * loss + sum((each.maintenance for each in charges), _ZERO) + spread
        initial = self.im_factor * initial_loss + sum((each.initial for each in charges), _ZERO) + spread
        least = sum((self.short_minimum(u) for u in members), _ZERO)
        if model.minimum is not None and model.minimum.level == "group":
            least = max(least, self.minimum([i for i in self.sizes if table.underlying[i] in members]))
        maintenance, initial = max(maintenance, least), max(initial, least)
        return GroupPart(
            number, tuple(changes), tuple(wide), basis, loss, initial_loss, worst, tuple(charges), spread, least,
            maintenance, initial,
        )  # fmt: skip

    def changes(self, members: list[int], initial: bool) -> list[Fraction]:
        """Changes of a group by scenario: steps 1 to 7."""
        rows = self.table.initial_rows if initial else self.table.rows
        total = [_ZERO] * len(rows)
        for u in members:
            group = next(each for each in self.table.groups if u in each.members)
            for s, change in enumerate(self.underlying_changes(u, initial)):
                change *= self.table.weight(rows[s], u)
                size = max(_ZERO, abs(change) - self.table.dampener(rows[s], u))
                change = size if change >= 0 else -size
                if change > 0:
                    change *= group.alpha
                    if group.cap is not None:
                        change = min(change, group.cap / self.table.index(u) if self.table.in_coin else group.cap)
                total[s] += change
        return total

    def underlying_changes(self, u: int, initial: bool) -> list[Fraction]:
        """Changes of an underlying by scenario: steps 1 to 3, and open orders in those of the initial requirement."""
        table = self.table
        rows = table.initial_rows if initial else table.rows
        total = [_ZERO] * len(rows)
        for i in self.of(u, Kind.SPOT, Kind.PERPETUAL, Kind.FUTURE):
            moves = table.moves_long if self.sizes[i] > 0 else table.moves_short
            if table.kind(i) == Kind.SPOT and not moves[i]:
                continue
            for s, change in enumerate(table.changes(i, initial)):
                total[s] += self.sizes[i] * change
        options = self.of(u, Kind.OPTION)
        for term in sorted({int(table.arrays.term[i]) for i in options}):
            held = [i for i in options if int(table.arrays.term[i]) == term]
            value = sum((self.sizes[i] * table.value(i) for i in held), _ZERO)
            gain, loss = (Fraction(float(x)) for x in table.arrays.discount[term])
            for s, row in enumerate(rows):
                change = sum((self.sizes[i] * table.changes(i, initial)[s] for i in held), _ZERO)
                if table.arrays.is_discounted:
                    change = change * (gain if change >= 0 else loss) - value
                total[s] += -abs(change) if row.vol in SKEWS else change
        if initial:
            for i, size, limit in self.orders:
                if table.underlying[i] == u:
                    for s, row in enumerate(rows):
                        total[s] += min(_ZERO, size * self.gain(i, s, row, limit))
        return total

    def gain(self, i: int, s: int, row: Scenario, limit: Fraction) -> Fraction:
        """What a unit bought at a limit gains in a scenario."""
        table, u = self.table, self.table.underlying[i]
        change = table.changes(i, True)[s]
        if table.is_inverse(i):
            move, shift = table.moves(row, u)
            coin = _ONE if table.in_coin else table.index(u) * (1 + move) + shift
            return change + coin * (1 / limit - 1 / table.mark(i))
        is_shocked = table.kind(i) == Kind.OPTION and table.arrays.is_discounted
        if table.kind(i) == Kind.OPTION and table.instruments.inverse[i] and not table.in_coin:
            limit *= table.index(u)
        return change - limit if is_shocked else change + table.value(i) - limit

    def basis(self, members: list[int]) -> Fraction | None:
        """Change of a group by the basis contingency: step 8."""
        table, rows = self.table, self.model.charges("basis")
        if not rows:
            return None
        total = _ZERO
        for u in members:
            options = self.of(u, Kind.OPTION)
            for term in {int(table.arrays.term[i]) for i in options}:
                held = [i for i in options if int(table.arrays.term[i]) == term]
                both = [
                    sum((self.sizes[i] * Fraction(float(table.arrays.basis[i, side])) for i in held), _ZERO)
                    for side in (0, 1)
                ]
                share = rows[0].add + rows[0].mult * Fraction(table.time_left(term), NANOSECONDS_PER_YEAR)
                if rows[0].concerns(table.instruments.underlyings[u]):
                    total += min(*both, _ZERO) * share
        return total

    def measured(
        self, rows: Sequence[Scenario], changes: list[Fraction], basis: Fraction | None
    ) -> tuple[Fraction, int]:
        """Loss of a group by the model's measure, and the scenario that sets it: step 9."""
        measure, start = self.model.measure, len(changes) if basis is not None else -1
        basis = basis or _ZERO
        if measure.kind == "worst" or measure.alpha is None:
            lowest, worst = basis, start
            for s, change in enumerate(changes):
                if change < lowest:
                    lowest, worst = change, s
            return -lowest * (1 + measure.buffer), worst
        loss, worst = self.tail(rows, changes, False)
        if measure.stressed_share and any(row.stress for row in rows):
            loss = (1 - measure.stressed_share) * loss
            loss += measure.stressed_share * self.tail(rows, changes, True)[0]
        if not loss > -basis:
            loss, worst = -basis, start
        return loss * (1 + measure.buffer), worst

    def tail(self, rows: Sequence[Scenario], changes: list[Fraction], is_stress: bool) -> tuple[Fraction, int]:
        """Value at risk or expected shortfall over one set of scenarios, and the scenario at its edge."""
        probability = probabilities_of(rows)
        order = sorted((s for s, row in enumerate(rows) if row.stress == is_stress), key=lambda s: (changes[s], s))
        tail = 1 - (self.model.measure.alpha or _ZERO)
        left, passed, total, edge = tail, _ZERO, _ZERO, -1
        for s in order:
            passed += probability[s]
            total -= changes[s] * min(left, probability[s])
            left, edge = max(left - probability[s], _ZERO), s
            if self.model.measure.kind == "var" and passed > tail:
                return -changes[s], s
            if self.model.measure.kind == "es" and not left:
                break
        if edge < 0:
            return _ZERO, edge
        return (-changes[edge], edge) if self.model.measure.kind == "var" else (total / tail, edge)

    def deltas(self, u: int, *kinds: int) -> dict[int, Fraction]:
        """Net delta of each term of an underlying, the perpetual's first, in the order of expiries."""
        found: dict[int, Fraction] = {}
        for i in self.of(u, *kinds):
            term = int(self.table.arrays.term[i])
            found[term] = found.get(term, _ZERO) + self.sizes[i] * self.table.delta(i)
        return dict(sorted(found.items(), key=lambda each: (self.table.time_left(each[0]), -each[0])))

    def floor(self, members: list[int], orders: Orders) -> Fraction:
        """The least loss of a group by its deltas."""
        total, table = _ZERO, self.table
        for row in self.model.charges("delta_floor"):
            for u in members:
                if row.concerns(table.instruments.underlyings[u]):
                    held = [self.sizes[i] * table.delta(i) for i in self.of(u) if table.kind(i) != Kind.SPOT]
                    placed = [size * table.delta(i) for i, size, _ in orders if table.underlying[i] == u]
                    long, short = _sides(held)
                    new_long, new_short = _sides([*held, *placed])
                    unhedged = max(new_long - short, new_short - long, _ZERO)
                    hedged = max(max(new_long, new_short) - unhedged, _ZERO)
                    total += (row.unhedged * unhedged + row.hedged * hedged) * table.price(u)
        return total

    def minimum(self, held: list[int]) -> Fraction:
        """The least requirement of some positions."""
        rule, table, raw = self.model.minimum, self.table, _ZERO
        assert rule is not None
        for i in held:
            counts = table.kind(i) != Kind.SPOT
            if rule.per == "short_option":
                counts = table.kind(i) == Kind.OPTION and self.sizes[i] < 0
            if counts:
                raw += rule.rate * abs(self.sizes[i]) / decimal(float(table.instruments.contract[i]))
        if not rule.brackets:
            return raw
        total = start = _ZERO
        for top, multiplier in rule.brackets:
            end = raw if top is None else min(raw, top)
            total += max(_ZERO, end - start) * multiplier
            start = max(start, end)
        return total

    def short_minimum(self, u: int) -> Fraction:
        """The least requirement of the short options of an underlying."""
        spreads, table = self.model.spreads, self.table
        if spreads is None:
            return _ZERO
        both = [_ZERO, _ZERO]
        for i in self.of(u, Kind.OPTION):
            contracts = max(_ZERO, -self.sizes[i]) / decimal(float(table.instruments.contract[i]))
            both[int(table.instruments.is_call[i])] += contracts
        return spreads.short_option_minimum * (max(both) if spreads.som_count == "larger" else sum(both, _ZERO))

    def charges(self, members: list[int]) -> list[ChargePart]:
        """Charges on some underlyings; -1 stands for assets that are no underlying."""
        model, table, found = self.model, self.table, []
        names = table.instruments.underlyings
        for row in model.contingencies:
            if row.kind in _CHARGES:
                concerned = [u for u in members if (row.concerns(names[u]) if u >= 0 else row.underlyings is None)]
                amount, placed = _CHARGES[row.kind](self, row, concerned)
                maintenance, initial = (model.mm_factor, self.im_factor) if row.scaled else (_ONE, _ONE)
                counted = amount * maintenance if row.enters == "mm" else _ZERO
                found.append(ChargePart(row.kind, counted, (amount + placed) * initial))
        held = [i for u in members for i in self.of(u, Kind.SPOT) if table.instruments.symbol[i] in model.haircuts]
        rates = [
            (model.haircuts[table.instruments.symbol[i]], max(_ZERO, self.sizes[i] * table.value(i))) for i in held
        ]
        maintenance = sum((rate.mm * value for rate, value in rates), _ZERO)
        extra = sum((rate.im * value for rate, value in rates), _ZERO)
        found.append(ChargePart("haircut", maintenance, maintenance + extra))
        return [each for each in found if each.maintenance or each.initial]

    def notional(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge on the notional of positions."""
        table, total = self.table, _ZERO
        for u in members:
            for i in self.of(u, *(LINEAR_KINDS[name] for name in row.of)):
                at_own = row.at == "mark" or table.kind(i) == Kind.SPOT
                total += abs(self.sizes[i]) * (table.own_price(i) if at_own else table.units(i) * table.price(u))
        return row.rate * total, _ZERO

    def option_short(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge on short options, those of a strike and expiry netted."""
        table, total = self.table, _ZERO
        for u in members:
            strikes: dict[int, Fraction] = {}
            for i in self.of(u, Kind.OPTION):
                left = int(table.instruments.expiry[i]) - table.market.time
                if row.kind == "option_short" or left < row.hours * NANOSECONDS_PER_HOUR:
                    strike = int(table.arrays.strike[i])
                    strikes[strike] = strikes.get(strike, _ZERO) + self.sizes[i]
            total += sum((max(_ZERO, -net) for net in strikes.values()), _ZERO) * table.price(u)
        return row.rate * total, _ZERO

    def confidence(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge on amounts whose feeds have a low confidence."""
        table, market, total = self.table, self.table.market, _ZERO
        for u in members:
            spot = decimal(float(market.confidence[u])) if u >= 0 else _ONE
            perpetual = decimal(float(market.perpetual_confidence[u])) if u >= 0 else _ONE
            has_perpetual = bool(self.of(u, Kind.PERPETUAL))
            for i in self.of(u, Kind.PERPETUAL, Kind.OPTION, Kind.SPOT):
                kind, term = table.kind(i), int(table.instruments.term[i])
                if kind == Kind.PERPETUAL:
                    least, amount = min(spot, perpetual), table.units(i) * table.price(u)
                elif kind == Kind.SPOT:
                    least, amount = min(spot, decimal(float(market.own_confidence[i]))), table.value(i)
                else:
                    feeds = market.forward_confidence, market.rate_confidence, market.volatility_confidence
                    least = min(spot, *(decimal(float(each[term])) for each in feeds))
                    least, amount = min(least, perpetual) if has_perpetual else least, table.price(u)
                if least < row.threshold:
                    total += (1 - least) * row.factor * abs(self.sizes[i]) * amount
        return total, _ZERO

    def roll(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge on the net delta of each term."""
        table, total = self.table, _ZERO
        rates = roll_rates(row, table.market.years(table.instruments))
        for u in members:
            for term, delta in self.deltas(u, Kind.PERPETUAL, Kind.FUTURE, Kind.OPTION).items():
                rate = Fraction(float(rates[term])) if term < table.terms else row.rate
                total += abs(delta) * rate * table.price(u)
        return total, _ZERO

    def spread_delta(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge on deltas that offset between terms, the earliest with the earliest."""
        table, total = self.table, _ZERO
        for u in members:
            left = self.deltas(u, Kind.PERPETUAL, Kind.FUTURE)
            while True:
                long = next((term for term, delta in left.items() if delta > 0), None)
                short = next((term for term, delta in left.items() if delta < 0), None)
                if long is None or short is None:
                    break
                matched = min(left[long], -left[short])
                left[long], left[short] = left[long] - matched, left[short] + matched
                apart = abs(table.time_left(long) - table.time_left(short)) if row.annual else NANOSECONDS_PER_YEAR
                total += matched * Fraction(apart, NANOSECONDS_PER_YEAR) * table.price(u)
        return row.rate * total, _ZERO

    def delta_shock(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge on a large net delta."""
        total = _ZERO
        for u in members:
            net = abs(sum(self.deltas(u, Kind.PERPETUAL, Kind.FUTURE, Kind.OPTION).values(), _ZERO))
            excess = max(_ZERO, net - row.threshold / self.table.index(u))
            total += min(row.max, row.increment * excess) * net * self.table.price(u)
        return total, _ZERO

    def theta(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge on what options lose as time passes."""
        held = [i for u in members for i in self.of(u, Kind.OPTION)]
        gain = sum((self.sizes[i] * Fraction(float(self.table.arrays.decay[i])) for i in held), _ZERO)
        return max(_ZERO, -gain), _ZERO

    def funding(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge of the next funding payments."""
        held = [i for u in members for i in self.of(u, Kind.PERPETUAL)]
        paid = sum((self.sizes[i] * decimal(float(self.table.market.funding[i])) for i in held), _ZERO)
        return max(_ZERO, paid), _ZERO

    def fee(self, row: Any, members: list[int]) -> tuple[Fraction, Fraction]:
        """Charge of closing positions, and of open orders in the initial requirement."""
        table = self.table

        def fee(i: int) -> Fraction:
            if table.kind(i) != Kind.OPTION:
                return Fraction(row.rate * table.own_price(i))
            return Fraction(min(row.rate * table.price(table.underlying[i]), row.cap * table.value(i)))

        held = [i for u in members for i in self.of(u, Kind.PERPETUAL, Kind.FUTURE, Kind.OPTION)]
        placed = [(i, size) for i, size, _ in self.orders if table.underlying[i] in members]
        closing = sum((fee(i) * abs(self.sizes[i]) for i in held), _ZERO)
        return closing, sum((fee(i) * abs(size) for i, size in placed if table.kind(i) != Kind.SPOT), _ZERO)

    def spreads(self) -> dict[int, Fraction]:
        """Spread charges less credits of each underlying."""
        amounts = dict.fromkeys(self.underlyings, _ZERO)
        spreads, table = self.model.spreads, self.table
        if spreads is None:
            return amounts
        net: dict[int, Fraction] = {}
        risk: dict[int, Fraction] = {}
        for group in table.groups:
            members = [u for u in self.underlyings if u in group.members]
            changes = self.changes(members, False)
            risk |= {u: self.price_risk(u, changes) for u in members}
        for u in self.underlyings:
            deltas = self.deltas(u, Kind.PERPETUAL, Kind.FUTURE, Kind.OPTION)
            net[u] = sum(deltas.values(), _ZERO)
            amounts[u] = self.tier_charges(u, deltas)
        left, names = dict(net), table.instruments.underlyings
        for row in spreads.inter:
            legs = [(names.index(leg.underlying) if leg.underlying in names else -1, leg) for leg in row.legs]
            along = {(left.get(u, _ZERO) > 0) == (leg.side == "A") for u, leg in legs}
            if len(along) == 1 and all(left.get(u) for u, _ in legs):
                count = min(abs(left[u]) / leg.delta for u, leg in legs)
                for u, leg in legs:
                    amounts[u] -= count * leg.delta * risk[u] / abs(net[u]) * row.rate
                    left[u] -= count * leg.delta * (1 if left[u] > 0 else -1)
        return amounts

    def price_risk(self, u: int, changes: list[Fraction]) -> Fraction:
        """What a group loses by the price move of its worst scenario alone."""
        lowest = min(changes)
        if lowest >= 0:
            return _ZERO
        moves = [self.table.moves(row, u) for row in self.table.rows]

        def mean(move: tuple[Fraction, Fraction]) -> Fraction:
            alike = [-change for change, each in zip(changes, moves, strict=True) if each == move]
            return sum(alike, _ZERO) / len(alike) if alike else _ZERO

        return max(_ZERO, mean(moves[changes.index(lowest)]) - mean((_ZERO, _ZERO)))

    def tier_charges(self, u: int, deltas: dict[int, Fraction]) -> Fraction:
        """Charges of spreads between tiers."""
        table, total = self.table, _ZERO
        tiers: dict[int, Fraction] = {}
        for term, delta in deltas.items():
            tier = int(table.arrays.tier[term])
            tiers[tier] = tiers.get(tier, _ZERO) + delta
        for k, underlying in enumerate(table.arrays.intra_underlying):
            near, far = (int(tier) for tier in table.arrays.intra_tier[k])
            each = [decimal(float(delta)) for delta in table.arrays.intra_delta[k]]
            held = tiers.get(near, _ZERO), tiers.get(far, _ZERO)
            if underlying == u and held[0] * held[1] < 0:
                count = min(abs(held[0]) / each[0], abs(held[1]) / each[1])
                total += count * decimal(float(table.arrays.intra_charge[k]))
                for tier, delta in zip((near, far), each, strict=True):
                    tiers[tier] -= count * delta * (1 if tiers[tier] > 0 else -1)
        return total


_CHARGES = {
    "notional": _Portfolio.notional,
    "option_short": _Portfolio.option_short,
    "gamma": _Portfolio.option_short,
    "confidence": _Portfolio.confidence,
    "roll": _Portfolio.roll,
    "spread_delta": _Portfolio.spread_delta,
    "delta_shock": _Portfolio.delta_shock,
    "theta": _Portfolio.theta,
    "funding": _Portfolio.funding,
    "fee": _Portfolio.fee,
}


def _sides(deltas: Sequence[Fraction]) -> tuple[Fraction, Fraction]:
    """Sum of the long deltas, and of the short ones."""
    long = sum((delta for delta in deltas if delta > 0), _ZERO)
    return long, long - sum(deltas, _ZERO)


def _rounded(amount: Fraction, decimals: int | None) -> Fraction:
    """An amount to a number of decimals, half to even."""
    return amount if decimals is None else Fraction(round(amount * 10**decimals), 10**decimals)
