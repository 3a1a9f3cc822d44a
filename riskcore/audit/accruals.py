"""Accruals between two ticks: interest, funding, realised PnL and their settlement, for all accounts at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from .findings import Findings
from .folder import FUNDING, GUARD, INTEREST, REALISATION, SETTLEMENT, WORDS, Array, Run
from .margins import TOLERANCE, State, Sweep, Tick, total
from .venue import Funding, Pool, Venue, exact
from .venue_changes import Step

_HOUR = 3600 * 10**9
_RATE, _PRICE, _VALUE = 10**15, 10**9, 10**6
"""Denominators of hourly rates, of funding and of values of a lot."""
_MOST = 2**62
_CODE = {name: code for code, name in enumerate(WORDS["event"])}
_COLUMNS = ("event", "asset", "settle", "cash", "fee", "quanta", "lent", "unsettled")
"""Columns of a settlement row that are computed again; the price follows from the asset."""


def share(amounts: Array, part: int, of: int) -> Array:
    """Return rhe(amount * part / of) of whole numbers below 2**62, exact however long the products are."""
    size, most = np.abs(amounts), int(np.abs(amounts).max(initial=0))
    if most * abs(part) >= of << 62:  # no amount of a run: an altered one
        shares = [round(Fraction(amount * part, of)) for amount in amounts.tolist()]
        return np.array([max(min(amount, _MOST), -_MOST) for amount in shares], np.int64)
    whole, rest_part = divmod(abs(part), of)
    # long division: the quotient of one digit of the amount after another, which all products leave room for
    bits = 62 if most * rest_part < _MOST else 62 - of.bit_length()
    quotient, rest = np.zeros_like(size), np.zeros_like(size)
    for digit in range((most.bit_length() - 1) // bits, -1, -1):
        step = (rest << bits) + (size >> digit * bits & (1 << bits) - 1) * rest_part
        quotient = (quotient << bits) + step // of
        rest = step % of
    quotient += size * whole
    quotient += (2 * rest > of) | ((2 * rest == of) & (quotient % 2 == 1))
    return np.sign(amounts) * quotient * (1 if part >= 0 else -1)


def _round_half_even(top: int, bottom: int) -> int:
    whole, rest = divmod(top, bottom)
    return whole + (2 * rest > bottom or (2 * rest == bottom and whole % 2))


def _nearest(values: Array, error: Array, truth: Callable[[int], Fraction]) -> Array:
    """Round float64 values to whole numbers; a value whose error leaves doubt is computed exactly."""
    nearest = np.rint(values)
    for n in np.flatnonzero(~(0.5 - np.abs(values - nearest) > error)).tolist():
        nearest[n] = round(truth(n))
    return nearest.astype(np.int64)


class _Rates:
    """Interest of a pool by the amounts lent and borrowed."""

    def __init__(self, venue: Venue, pool: Pool) -> None:
        self.pool = pool
        self.base, self.slope, self.jump = (venue.policy[f"borrow_rate_{name}"] for name in ("base", "slope", "jump"))

    def yearly(self, used: Fraction) -> Fraction:
        """Rate of a year at a utilisation."""
        optimal = self.pool.optimal
        if used <= optimal:
            return self.base + (self.slope * used / optimal if optimal else 0)
        return self.base + self.slope + self.jump * (used - optimal) / (1 - optimal)

    def paid(self, used: Fraction) -> Fraction:
        """Interest that a borrowed quantum pays for an hour, in parts of `_RATE`."""
        return self.yearly(used) / 8760 * _RATE

    def earned(self, used: Fraction) -> Fraction:
        """Interest that a lent quantum earns in an hour, in parts of `_RATE`."""
        return self.paid(used) * used * (1 - self.pool.fee)

    def paid_at_all(self, lent: Array, borrowed: Array) -> Array:
        """Return rounded `paid` at many moments."""
        optimal = float(self.pool.optimal)
        base, slope, jump = float(self.base), float(self.slope), float(self.jump)
        used = np.where(lent > 0, np.minimum(borrowed / lent, 1.0), borrowed > 0)
        low, high = base + slope * used / optimal, base + slope + jump * (used - optimal) / (1 - optimal)
        yearly = np.where(used <= optimal, low, high)
        steep = max(slope / optimal if optimal else math.inf, jump / (1 - optimal) if optimal < 1 else 0.0)
        error = np.full(len(used), 1e-14 * (base + slope + steep) / 8760 * _RATE)
        return _nearest(yearly / 8760 * _RATE, error, lambda n: self.paid(_utilisation(int(lent[n]), int(borrowed[n]))))


def _utilisation(lent: int, borrowed: int) -> Fraction:
    return min(Fraction(borrowed, lent), Fraction(1)) if lent > 0 else Fraction(borrowed > 0)


class _Bounded:
    """A pool during settlement: the amounts that may still be redeemed and borrowed."""

    def __init__(self, pool: Pool, lent: int, borrowed: int) -> None:
        self.pool, self.lent, self.borrowed = pool, lent, borrowed
        used = _utilisation(lent, borrowed)
        throttled = used + pool.throttle_update * (pool.max_utilization - used)
        self.bound = min(pool.max_utilization, max(pool.threshold, throttled))

    def redeemable(self) -> int:
        """Quanta that lenders may take."""
        if not self.bound:
            return 0 if self.borrowed > 0 else self.lent
        top, bottom = self.bound.numerator, self.bound.denominator
        return max(self.lent + -self.borrowed * bottom // top, 0)

    def borrowable(self) -> int:
        """Quanta that may be borrowed."""
        room = self.bound.numerator * self.lent // self.bound.denominator - self.borrowed
        if self.pool.limit is not None:
            room = min(room, self.pool.limit - self.borrowed)
        return max(room, 0) if self.pool.is_open else 0

    def can_absorb(self, redeemed: int, borrowed: int) -> bool:
        """Whether no limit is reached on the way to so much redeemed and so much more borrowed."""
        lent, owed = self.lent - redeemed, self.borrowed + borrowed
        limited = self.pool.limit is not None and owed > self.pool.limit
        granted = not borrowed or (self.pool.is_open and not limited)
        return granted and lent >= 0 and owed <= self.bound * lent


class _Lack(NamedTuple):
    """An asset that settlement raises, and by balance row of it what is short, owed, and may be borrowed at most."""

    asset: int
    rows: Array
    short: Array
    owed: Array
    credit: Array


class _Due(NamedTuple):
    """Settlement rows that are due: account, which of its rows (from 0), and the columns."""

    account: Array
    ordinal: Array
    columns: dict[str, Array]


class Accruals:
    """Accruals due between two ticks, computed again and compared with the rows."""

    def __init__(self, run: Run, out: Findings, state: State) -> None:
        self.run, self.out, self.state, self.venue = run, out, state, run.venue
        self.time: int | None = None
        """Of the instant before, None at the first tick."""
        self.sweep, self.venues = Sweep(state), [(0, run.venue)]
        """By the times of their changes, the venues since the instant before."""
        count = len(run.venue.markets)
        self.premium, self.premiums = np.zeros(count), np.zeros(count, np.int64)
        self._rows = dict[int, Array]()
        self.scheduled = np.zeros(count, bool)
        """The markets that had an entry of the funding table."""
        self.entries_done = 0
        self._quantum_ratios = -1, dict[tuple[int, int], tuple[int, int]]()
        self.rates = {asset: _Rates(run.venue, pool) for asset, pool in run.venue.pools.items()}
        keys = list(zip(run.funding["time"].tolist(), run.funding["market"].tolist(), strict=True))
        out.equal("prices", "entries of the funding table are in order", keys == sorted(set(keys)), True)

    def take(self, steps: list[Step]) -> None:
        """Take over the venue after changes."""
        self.venue, self.sweep = steps[-1].venue, Sweep(self.state)
        self.venues += [(step.time, step.venue) for step in steps]

    def rows_of(self, market: int) -> Array:
        """The position rows of a market."""
        if market not in self._rows:
            self._rows[market] = np.flatnonzero(self.state.market == market)
        return self._rows[market]

    def follow(self, tick: Tick, first: int, end: int) -> bool:
        """Check the rows of a tick, of those from `first` to `end`, and apply them; whether there were any."""
        last = self.time

        def due(period: int) -> int:
            return 0 if last is None or not period else max(tick.time // period - last // period, 0)

        phase = np.where(self.run.usable[first:end], self.run.phase[first:end], 0)
        rows = {
            number: first + np.flatnonzero(phase == number) for number in (INTEREST, FUNDING, REALISATION, SETTLEMENT)
        }
        entries = self._entries(tick, last)
        begin = {market: time for time, market, _ in reversed(entries)}
        funded = {
            market: self._instants(market, last, begin.get(market, tick.time + 1) - 1)
            for market in range(len(self.venue.markets))
            if last is not None and not self.scheduled[market]
        }
        hours, realised = due(_HOUR) if self.venue.pools else 0, due(self.venue.realize)
        has_rows = bool(((phase < 0) & (phase != GUARD)).any())
        is_due = any(funded.values()) or bool(entries) or hours > 0 or realised > 0
        if is_due or has_rows:
            before = self._debt()
            self._lend(tick, rows[INTEREST], hours)
            self._fund(tick, rows[FUNDING], funded, entries)
            self._realise(tick, rows[REALISATION], realised > 0)
            self._settle(tick, rows[SETTLEMENT], before if is_due else None)
        while len(self.venues) > 1 and self.venues[1][0] <= tick.time:
            del self.venues[0]
        return has_rows

    def note(self, mark: Array, index: Array) -> None:
        """Add the premiums of one instant after another."""
        premium = (mark - index) / index
        priced = ~np.isnan(premium)
        if priced.any():
            added = np.concatenate([self.premium[None], np.where(priced, premium, 0.0)])
            self.premium = np.cumsum(added, axis=0)[-1]
            self.premiums += priced.sum(axis=0)

    def finish(self) -> None:
        """Compare the premiums since the last funding with the last state."""
        state_table = self.run.state["markets"]
        self.out.equal("replay", "state markets.market", state_table["market"].tolist(), list(range(len(self.premium))))
        if self.entries_done < len(self.run.funding["time"]):
            self.out.breach("prices", "an entry of the funding table is later than the last tick")
        for name, column in (
            ("premium_sum", self.premium), ("premium_count", self.premiums), ("funding_scheduled", self.scheduled),
        ):  # fmt: skip
            self.out.equal("replay", f"state markets.{name}", state_table[name].tolist(), column.tolist())

    def _instants(self, market: int, last: int, end: int) -> list[tuple[Funding, int]]:
        """Instants of a market's interval from one time to another, by its funding then; none once it is delisted."""
        found, ends = [], [time - 1 for time, _ in self.venues[1:]] + [end]
        for (time, venue), until in zip(self.venues, ends, strict=True):
            funding, low, high = venue.markets[market].funding, max(time - 1, last), min(until, end)
            if funding is not None and low < high and market not in venue.delisted:
                found.append((funding, high // funding.period - low // funding.period))
        return [(funding, count) for funding, count in found if count]

    def _is_listed(self, market: int, time: int) -> bool:
        """Whether a market is listed at a time."""
        return market not in [venue for since, venue in self.venues if since <= time][-1].delisted

    def _entries(self, tick: Tick, last: int | None) -> list[tuple[int, int, float]]:
        """Time, market and rate of the entries of the funding table that are due."""
        table, start = self.run.funding, self.entries_done
        self.entries_done = max(int(np.searchsorted(table["time"], tick.time, side="right")), start)
        rows = slice(start, self.entries_done)
        self.out.checked["prices"] += self.entries_done - start
        for number in table["tick"][rows][table["tick"][rows] != tick.number].tolist():
            self.out.breach(
                "prices", f"an entry of the funding table is of tick {number}, not of its time", tick.number
            )
        market, rate = table["market"][rows], table["rate"][rows]
        for number in np.flatnonzero((market < 0) | (market >= len(self.scheduled)) | ~(np.abs(rate) <= 1)).tolist():
            what = f"an entry of the funding table has market {market[number]} and rate {rate[number]}"
            self.out.breach("prices", what, tick.number)
        if last is None:
            return []
        entries = zip(table["time"][rows].tolist(), market.tolist(), rate.tolist(), strict=True)
        return [
            entry for entry in entries if 0 <= entry[1] < len(self.scheduled) and self._is_listed(entry[1], entry[0])
        ]

    def _debt(self) -> Array:
        """Debt of every balance row."""
        return np.asarray(np.maximum(-self.state.columns["free"], 0))

    def _lot(self, tick: Tick, market: int) -> Fraction:
        """Signed value of a lot at the mark, quanta of the settle asset of the market."""
        quantum = self.venue.assets[self.venue.markets[market].settle].quantum
        return Fraction(tick.unit_value("lot value", market)) / quantum

    # -- interest, funding, realisation

    def _fund(
        self,
        tick: Tick,
        journal_rows: Array,
        funded: dict[int, list[tuple[Funding, int]]],
        entries: list[tuple[int, int, float]],
    ) -> None:
        """Set funding against its rows: of the intervals, then of the entries of each time."""
        of_interval = self.run.journal["reason"][journal_rows] == WORDS["reason"].index("interval")
        done = int(np.argmin(np.append(of_interval, False)))
        per_lot = {}
        for market, instants in funded.items():
            if instants:
                rates = [(self._premium_rate(market, funding), count) for funding, count in instants]
                if math.isfinite(of_tick := float(tick.funding_rate[market])):  # the rate of the last instant alone
                    rates[-1] = rates[-1][0], rates[-1][1] - 1
                    rates.append((of_tick, 1))
                per_lot[market] = sum(self._of_lot(tick, market, rate) * times for rate, times in rates)
                self.premium[market] = self.premiums[market] = 0
        self._pay(tick, journal_rows[:done], per_lot)
        for time in dict.fromkeys(entry[0] for entry in entries):
            rates_now = {market: rate for at, market, rate in entries if at == time}
            per_lot = {market: self._of_lot(tick, market, rate) for market, rate in rates_now.items()}
            done += self._pay(tick, journal_rows[done:], per_lot, in_blocks=True)
            for market in rates_now:
                self.premium[market] = self.premiums[market] = 0
                self.scheduled[market] = True
        for row in journal_rows[done:].tolist():
            self._breach(tick, "funding is not due", row)
        self._apply(journal_rows[done:])

    def _of_lot(self, tick: Tick, market: int, rate: float | None) -> int:
        """Funding of a lot for one instant, in parts of `_PRICE` of a quantum."""
        return 0 if rate is None else round(exact(rate) * abs(self._lot(tick, market)) * _PRICE)

    def _pay(self, tick: Tick, journal_rows: Array, per_lot: dict[int, int], *, in_blocks: bool = False) -> int:
        """Set one payment of funding against its rows; with ``in_blocks`` more may follow. Return their number."""
        amount = np.zeros(len(self.state.market), np.int64)
        for market, funding in per_lot.items():
            rows = self.rows_of(market)
            amount[rows] = -share(self.state.columns["lots"][rows], funding, _PRICE)
        if in_blocks:
            due = np.flatnonzero(amount)
            journal_rows = journal_rows[: _block(self.run.journal["position"][journal_rows], due)]
        self._compare_positions(tick, journal_rows, amount, ("cash",))
        return len(journal_rows)

    def _premium_rate(self, market: int, funding: Funding) -> float | None:
        """Funding rate of a market by its premiums, None without a premium."""
        if not self.premiums[market]:
            return None
        mean = float(self.premium[market]) / int(self.premiums[market])
        rate = (mean + min(max(0.0001 - mean, -0.0005), 0.0005)) / 8 * funding.hours
        rate = min(max(rate, funding.lower), funding.upper)
        return rate if math.isfinite(rate) else None

    def _lend(self, tick: Tick, journal_rows: Array, hours: int) -> None:
        """Set interest against the rows of hour after hour, pool after pool."""
        state_columns, journal, done = self.state.columns, self.run.journal, 0
        for _ in range(hours):
            first = done
            for asset, rates in self.rates.items():
                rows, used = self.state.pool_rows[asset], _utilisation(*self.state.pool(asset))
                paid = -share(np.maximum(-state_columns["free"][rows], 0), round(rates.paid(used)), _RATE)
                earned = share(state_columns["lent"][rows], round(rates.earned(used)), _RATE)
                due = (paid != 0) | (earned != 0)
                balances = rows[due]
                later_rows = journal_rows[done:]
                of_pool = journal["asset"][later_rows] == asset
                pool_rows = later_rows[: _block(journal["balance"][later_rows], balances, of_pool)]
                done += len(pool_rows)
                columns = {"quanta": paid[due], "lent": earned[due]}
                self._compare(
                    tick, pool_rows, journal["balance"][pool_rows], balances, self.state.holder[balances], columns
                )
                self._apply(pool_rows)
            if done == first:  # nothing changed: the hours to come are like this one
                break
        for row in journal_rows[done:].tolist():
            self._breach(tick, "interest is not due", row)

    def _realise(self, tick: Tick, journal_rows: Array, due: bool) -> None:
        state_columns, gain = self.state.columns, np.zeros(len(self.state.market), np.int64)
        for market in range(len(self.venue.markets)) if due else ():
            rows = self.rows_of(market)
            lots = state_columns["lots"][rows]
            value = share(lots, round(self._lot(tick, market) * _VALUE), _VALUE)
            gain[rows] = np.where(lots != 0, value - state_columns["cost"][rows], 0)
        self._compare_positions(tick, journal_rows, gain, ("cost", "cash"))

    def _compare_positions(self, tick: Tick, journal_rows: Array, amount: Array, columns: tuple[str, ...]) -> None:
        due = np.flatnonzero(amount)
        recorded, marks = self.run.journal["position"][journal_rows], tick.mark[self.state.market[due]]
        expected = dict.fromkeys(columns, amount[due]) | {"price": marks}
        self._compare(tick, journal_rows, recorded, due, self.state.owner[due], expected)
        self._apply(journal_rows)

    # -- settlement

    def _settle(self, tick: Tick, journal_rows: Array, before: Array | None) -> None:
        """Set the settlement of one asset after another against the rows, of the venue's settle asset first."""
        if before is None:
            self._compare_settled(tick, journal_rows, _due([]))
            return
        for asset in self.venue.money:
            due = self._due_of(tick, asset, journal_rows, before)
            count = len(journal_rows) if asset == self.venue.money[-1] else len(due.account)
            self._compare_settled(tick, journal_rows[:count], due)
            journal_rows = journal_rows[count:]

    def _compare_settled(self, tick: Tick, journal_rows: Array, due: _Due) -> None:
        """Compare rows of settlement with those due, and apply them."""
        journal, accounts = self.run.journal, self.run.journal["account"][journal_rows]
        number = _ordinals(accounts)
        wide = 2 + 2 * len(self.venue.assets) + 2
        recorded, keys = accounts * wide + np.minimum(number, wide - 1), due.account * wide + due.ordinal
        self._compare(tick, journal_rows, recorded, keys, due.account, due.columns)
        converts = journal_rows[journal["event"][journal_rows] == _CODE["convert"]]
        for asset in np.unique(journal["settle"][converts]).tolist():
            rows = converts[journal["settle"][converts] == asset]
            prices = tick.asset if asset == self.venue.settle else self._prices_in(tick, asset)
            for row in rows[journal["price"][rows] != prices[journal["asset"][rows]]].tolist():
                self._breach(tick, "price is not that of the asset", row)
        self._apply(journal_rows)

    def _prices_in(self, tick: Tick, settle: int) -> Array:
        """Prices of all assets in units of one of them."""
        units = [Fraction(tick.unit_value("unit", asset)) for asset in range(len(self.venue.assets))]
        return np.array([float(unit / units[settle]) if units[settle] else math.nan for unit in units])

    def _due_of(self, tick: Tick, asset: int, journal_rows: Array, before: Array) -> _Due:
        """Return the rows due of the settlement of an asset; balances had these debts before the accruals."""
        columns = self.state.columns
        rows = self.state.settle_row if asset == self.venue.settle else np.flatnonzero(self.state.asset == asset)
        free, owed = columns["free"][rows], np.maximum(-columns["unsettled"][rows], 0)
        added = np.maximum(np.maximum(-free, 0) - before[rows], 0)
        short = added + np.minimum(np.maximum(owed - np.maximum(free, 0), 0), _MOST - added)
        lack = _Lack(asset, rows, short, owed, self._credit(tick, self.state.holder[rows], added, short))
        pools = self._pools(asset, total(added))
        due = self._settle_all(tick, journal_rows, lack, pools) if self.venue.plain else None
        return due or self._settle_each(tick, lack, pools)

    def _credit(self, tick: Tick, accounts: Array, added: Array, short: Array) -> Array:
        """Largest amount that each of some accounts may borrow: without net equity nothing for an old claim."""
        credit = short.copy()
        if old := np.flatnonzero(short > added).tolist():
            equity, _, gross = self.sweep.margins(tick)
            for n in old:
                account = int(accounts[n])
                net_equity = equity[account]
                if abs(net_equity) <= TOLERANCE * gross[account]:
                    net_equity = self.state.margin(account, tick, self.state.exact).equity
                if net_equity <= 0:
                    credit[n] = added[n]
        return credit

    def _pools(self, settled: int, added: int) -> dict[int, _Bounded]:
        """Pools at the start of an asset's settlement: its debts that the accruals added are not borrowed yet."""
        pools = {}
        for asset, pool in self.venue.pools.items():
            lent, borrowed = self.state.pool(asset)
            pools[asset] = _Bounded(pool, lent, borrowed - (added if asset == settled else 0))
        return pools

    def _settle_all(self, tick: Tick, journal_rows: Array, lack: _Lack, pools: dict[int, _Bounded]) -> _Due | None:
        """Return the rows due if no limit is reached: all is redeemed and borrowed; None if one may be reached.

        The rows of the lack are those of all accounts.
        """
        journal, (settle, rows_held, short, owed, credit) = self.run.journal, lack
        redeemed = np.minimum(short, self.state.columns["lent"][rows_held])
        borrowed = np.minimum(short - redeemed, credit)
        unpaid = short - redeemed - borrowed
        if unpaid.any() and self._sellable()[unpaid > 0].any():
            return None
        entry = np.zeros(len(short), np.int64)
        if settle in self.venue.pools:
            pool, rates = pools[settle], self.rates[settle]
            rows = journal_rows[journal["event"][journal_rows] == _CODE["interest"]]
            np.add.at(entry, journal["account"][rows], -journal["quanta"][rows])
            paid = total(entry)
            if not pool.can_absorb(total(redeemed), total(borrowed) + max(paid, 0)) or (entry < 0).any():
                return None
            # the amount borrowed before an account follows from the recorded interest rows before it
            lent = pool.lent - np.cumsum(redeemed)
            debts = pool.borrowed + np.cumsum(borrowed) + np.cumsum(entry) - entry
            who = np.flatnonzero(borrowed)
            rate, rest_of_hour = rates.paid_at_all(lent[who], debts[who]), _HOUR - tick.time % _HOUR
            amount = borrowed[who]
            values = amount * rate.astype(np.float64) / _RATE * (rest_of_hour / _HOUR)
            entry[:] = 0
            entry[who] = _nearest(
                values, 1e-9 + 1e-14 * values,
                lambda n: Fraction(int(amount[n]) * int(rate[n]) * rest_of_hour, _RATE * _HOUR),
            )  # fmt: skip
        blocks = []
        for event, asset, paid_in, amounts, changes in (
            ("redeem", settle, -1, redeemed, {"quanta": redeemed, "lent": -redeemed}),
            ("interest", settle, -1, entry, {"quanta": -entry}),
            ("unsettle", -1, settle, owed - unpaid, {"cash": unpaid - owed, "unsettled": owed - unpaid}),
        ):
            who = np.flatnonzero(amounts)
            columns = {name: np.zeros(len(who), np.int64) for name in _COLUMNS}
            columns["event"] += _CODE[event]
            columns["asset"] += asset
            columns["settle"] += paid_in
            blocks.append((who, columns | {name: change[who] for name, change in changes.items()}))
        account = np.concatenate([who for who, _ in blocks])
        order = np.argsort(account, kind="stable")
        account = account[order]
        columns_due = {name: np.concatenate([columns[name] for _, columns in blocks])[order] for name in _COLUMNS}
        return _Due(account, _ordinals(account), columns_due)

    def _sellable(self) -> Array:
        """Whether each account has a balance of an asset other than settle."""
        columns, state = self.state.columns, self.state
        sellable = np.zeros(len(state.settle_row), bool)
        has_quanta = (columns["free"] > 0) | (columns["lent"] > 0)
        sellable[state.holder[has_quanta & (state.asset != self.venue.settle)]] = True
        return sellable

    def _settle_each(self, tick: Tick, lack: _Lack, pools: dict[int, _Bounded]) -> _Due:
        """Return the rows due, account by account."""
        (settle, rows, short, owed, credit), state, due = lack, self.state, list[tuple[int, ...]]()
        pool = pools.get(settle)

        def add(event: str, asset: int, cash: int = 0, quanta: int = 0, lent: int = 0, unsettled: int = 0) -> None:
            paid_in = settle if cash or unsettled else -1
            due.append((account, _CODE[event], asset, paid_in, cash, 0, quanta, lent, unsettled))

        for n in np.flatnonzero((short > 0) | (owed > 0)).tolist():
            need, claim, row = int(short[n]), int(owed[n]), int(rows[n])
            account = int(state.holder[row])
            debt = max(claim - state.free[row] - need, 0)
            redeemed = min(need, state.lent[row], pool.redeemable() if pool else need)
            if redeemed:
                add("redeem", settle, quanta=redeemed, lent=-redeemed)
                need -= redeemed
            if pool:
                pool.lent -= redeemed
                borrowed, entry = min(need, pool.borrowable(), int(credit[n])), 0
                need -= borrowed
                pool.borrowed += borrowed
                if borrowed:
                    rate = round(self.rates[settle].paid(_utilisation(pool.lent, pool.borrowed)))
                    entry = _round_half_even(borrowed * rate * (_HOUR - tick.time % _HOUR), _RATE * _HOUR)
                if entry:
                    add("interest", settle, quanta=-entry)
                pool.borrowed += entry
                debt += borrowed + entry
            else:
                need -= min(need, int(credit[n]))
            for asset, redeem, sold, proceeds in self._sell(tick, account, settle, need, pools) if need else ():
                if redeem:
                    add("redeem", asset, quanta=redeem, lent=-redeem)
                due.append((account, _CODE["convert"], asset, settle, proceeds, 0, -sold, 0, 0))
                need -= proceeds
            if need < 0 and pool:  # rounded proceeds pay a little of the debt
                pool.borrowed -= min(-need, debt)
            if (paid := claim - max(need, 0)) != 0:
                add("unsettle", -1, cash=-paid, unsettled=paid)
        return _due(due)

    def _sell(
        self, tick: Tick, account: int, settle: int, need: int, pools: dict[int, _Bounded]
    ) -> list[tuple[int, int, int, int]]:
        """Return the sales that raise the need of an asset: asset, quanta redeemed for it, quanta, proceeds."""
        state, collateral, sales = self.state, [], []
        for b in range(*state.balance_offset[account : account + 2]):
            asset, free, lent = int(state.asset[b]), max(state.free[b], 0), state.lent[b]
            if asset != settle and free + lent > 0:
                collateral.append((asset, free, lent))
        if len(collateral) > 1:
            collateral.sort(key=lambda row: -(row[1] + row[2]) * Fraction(tick.unit_value("quantum", row[0])))
        for asset, free, lent in collateral:
            top, bottom = self._quantum_ratio(tick, asset, settle)
            lent = min(lent, pools[asset].redeemable()) if asset in pools else lent
            sold = min(free + lent, -(-need * bottom // top)) if need > 0 and top else 0
            if sold:
                proceeds, redeemed = _round_half_even(sold * top, bottom), max(sold - free, 0)
                if asset in pools:
                    pools[asset].lent -= redeemed
                sales.append((asset, redeemed, sold, proceeds))
                need -= proceeds
        return sales

    def _quantum_ratio(self, tick: Tick, asset: int, settle: int) -> tuple[int, int]:
        """Quanta of one asset that a quantum of another is worth: numerator and denominator."""
        if self._quantum_ratios[0] != tick.time:
            self._quantum_ratios = tick.time, {}
        if (asset, settle) not in self._quantum_ratios[1]:
            one, other = (Fraction(tick.unit_value("quantum", row)) for row in (asset, settle))
            self._quantum_ratios[1][asset, settle] = (one / other if other else other).as_integer_ratio()
        return self._quantum_ratios[1][asset, settle]

    # -- rows

    def _apply(self, journal_rows: Array) -> None:
        self.state.add(journal_rows, self.run.journal)

    def _breach(self, tick: Tick, what: str, row: int) -> None:
        event = WORDS["event"][self.run.journal["event"][row]]
        self.out.breach("accruals", f"{event}: {what}", tick.number, row, int(self.run.journal["account"][row]))

    def _compare(
        self, tick: Tick, journal_rows: Array, recorded_keys: Array, due: Array, owner: Array, columns: dict[str, Array]
    ) -> None:
        """Compare journal rows and their keys with those due: keys, ascending, accounts and columns."""
        self.out.checked["accruals"] += max(len(recorded_keys), len(due))
        index = np.minimum(np.searchsorted(due, recorded_keys), max(len(due) - 1, 0))
        is_due = due[index] == recorded_keys if len(due) else np.zeros(len(recorded_keys), bool)
        for row in journal_rows[~is_due].tolist():
            self._breach(tick, "is not due", row)
        for row in journal_rows[is_due & (np.diff(recorded_keys, prepend=-1) <= 0)].tolist():
            self._breach(tick, "is out of order", row)
        missing = ~np.isin(due, recorded_keys)
        for account in owner[missing].tolist():
            self.out.breach("accruals", "a row that is due is missing", tick.number, account=account)
        rows, index = journal_rows[is_due], index[is_due]
        for name, values in columns.items():
            recorded, expected = self.run.journal[name][rows], values[index]
            for number in np.flatnonzero(recorded != expected).tolist():
                what = f"{name} is {recorded[number]}, not {expected[number]}"
                self._breach(tick, what, int(rows[number]))


def _block(keys: Array, due: Array, fits: Array | bool = True) -> int:
    """Number of rows, by their keys, that belong together: those due, or as far as keys ascend among those that fit."""
    if np.array_equal(keys[: len(due)], due):
        return len(due)
    ascend = (np.diff(keys, prepend=-1) > 0) & fits
    return len(keys) if ascend.all() else int(np.argmin(ascend))


def _ordinals(accounts_in_order: Array) -> Array:
    """Ordinal of every row, from 0, among those of its account that stand together."""
    starts = np.flatnonzero(np.diff(accounts_in_order, prepend=-1) != 0)
    return np.arange(len(accounts_in_order)) - np.repeat(starts, np.diff(np.append(starts, len(accounts_in_order))))


def _due(rows: list[tuple[int, ...]]) -> _Due:
    """Rows: account and columns, the accounts ascending."""
    account, *columns = np.array(rows, np.int64).reshape(-1, 1 + len(_COLUMNS)).T
    return _Due(account, _ordinals(account), dict(zip(_COLUMNS, columns, strict=True)))
