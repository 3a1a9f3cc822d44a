"""Guards of collateral: the prices of assets as they may be used, whole columns of a part at once.

As with marks, a price is checked against those that the run recorded before it. The figures are float64 in the order of
docs/one_tick.md; a sum over samples goes from the oldest to the newest.
"""

from __future__ import annotations

import math

import numpy as np

from .findings import Findings
from .folder import Array, Part, Run, all_prices
from .price_updates import SECOND, WINDOW, Last, Refusals, band, capped, clamped, same
from .venue import Venue


class AssetGuards:
    """The given prices of the assets of a run, part after part, and what the guards remember of them."""

    def __init__(self, run: Run, out: Findings) -> None:
        self.run, self.out = run, out
        count = len(run.venue.assets)
        self.last = Last(count)
        self.samples = [_Samples() for _ in range(count)]
        self.own: Array = np.zeros(count, bool)
        """Whether each asset had a price of its own in the last tick."""
        self.time = 0

    def complete(self, part: Part) -> Part:
        """Replace the values of the path of assets in between by the prices that the guards make of them."""
        venue, between = part.venue, ~part.is_tick
        own, moved = part.own_asset.copy(), False
        for asset, listed in enumerate(venue.assets):
            given = between & ~np.isnan(part.given_asset[:, asset])
            if asset == venue.settle or not listed.guard.limits or not given.any():
                continue
            part = part._replace(own_asset=own)
            own[:, asset], moved = self._used(part, asset, given), True
        if not moved:
            return part
        complete = part.asset.copy()
        complete[between] = all_prices(venue, part.mark[between], part.indexes[between], own[between])
        return part._replace(own_asset=own, asset=complete)

    def _used(self, part: Part, asset: int, given: Array) -> Array:
        """Own prices of an asset: on record at the ticks, in between those of the path after their guards."""
        guard, used = part.venue.assets[asset].guard, part.own_asset[:, asset].copy()
        updates = ~np.isnan(part.given_asset[:, asset])
        capped_indexes = index_caps(part)
        index = self._index(part, ~np.isnan(part.given_asset), capped_indexes, asset)
        price, time = float(self.last.value[asset]), int(self.last.time[asset])
        samples = self.samples[asset].copy()
        for row in np.flatnonzero(given | updates | (~part.is_tick & ~np.isnan(used))).tolist():
            now = int(part.time[row])
            if given[row]:
                x = float(part.given_asset[row, asset])
                mean = math.nan if guard.mean_threshold is None else samples.mean(now)
                for share, middle in ((guard.index_threshold, index[row]), (guard.mean_threshold, mean)):
                    if share is not None:
                        x = float(clamped(np.array(x), *band(np.array(middle), share))[0])
                arrays = np.array([[x]]), np.array([[price]]), np.array([now]), np.array([[time]])
                used[row] = capped([guard.update], *arrays)[0][0, 0]
            elif not part.is_tick[row]:
                used[row] = price
                continue
            price, time = float(used[row]), now
            samples.add(np.array([now]), np.array([price]), now)
        return used

    def check(self, part: Part, index_capped: Array) -> Refusals:
        """Check the own prices of a part; return the rows that are due, by reason."""
        venue, refusals = part.venue, Refusals()
        given, used = part.given_asset.copy(), part.own_asset
        given[:, venue.settle] = np.nan
        is_given = ~np.isnan(given)
        previous, since, *_ = self.last.before(np.where(is_given, used, np.nan), part.time)
        self._remember(part, is_given)
        stale = np.array([-1 if (most := asset.guard.stale_after) is None else most for asset in venue.assets])
        between = ~part.is_tick[:, None]
        held = ~is_given & ~np.isnan(previous) & ~between & (part.time[:, None] - since <= stale)
        refusals["mark_held"] = held, None
        price = given
        for reason, threshold, middles in (
            ("index_clamp", "index_threshold", self._indexes(part, is_given, index_capped)),
            ("mean_clamp", "mean_threshold", self._means(part, is_given)),
        ):
            shares = [getattr(asset.guard, threshold) for asset in venue.assets]
            share = np.array([math.nan if one is None else one for one in shares])
            within, off = clamped(price, middles * (1 - share), middles * (1 + share))
            refusals[reason] = off, price
            price = within
        within, off = capped([asset.guard.update for asset in venue.assets], price, previous, part.time, since)
        refusals["update_cap"] = off, price
        expected = np.where(held, previous, np.where(between & ~is_given, used, within))
        expected[:, venue.settle] = used[:, venue.settle]  # a price of the settle asset is not looked at
        self.out.checked["guards"] += expected.size
        for row, asset in np.argwhere(~((expected == used) | (np.isnan(expected) & np.isnan(used)))).tolist():
            what = f"price of {venue.assets[asset].symbol} is {used[row, asset]}, not {expected[row, asset]}"
            self.out.breach("guards", what, int(part.number[row]))
        self.own, self.time = (is_given | held)[-1], int(part.time[-1])
        return refusals

    def _remember(self, part: Part, is_given: Array) -> None:
        """Keep the updates of a part, and of earlier ones as far as the windows to come reach."""
        for asset, samples in enumerate(self.samples):
            rows = np.flatnonzero(is_given[:, asset])
            samples.add(part.time[rows], part.own_asset[rows, asset], int(part.time[0]))

    def _indexes(self, part: Part, is_given: Array, index_capped: Array) -> Array:
        """The index of every asset in settle units by row, of those that are clamped to it."""
        found = np.full(is_given.shape, np.nan)
        for asset, listed in enumerate(part.venue.assets):
            if listed.guard.index_threshold is not None:
                found[:, asset] = self._index(part, is_given, index_capped, asset)
        return found

    def _index(self, part: Part, is_given: Array, index_capped: Array, asset: int) -> Array:
        """The index of an asset in settle units by row: of the first market on it that has one."""
        venue, found = part.venue, np.full(len(part.time), np.nan)
        markets = [row for row, market in enumerate(venue.markets) if market.base == venue.assets[asset].symbol]
        if venue.assets[asset].guard.index_threshold is None or not markets:
            return found
        prices, is_open = _so_far(part, is_given, asset), np.ones(len(part.time), bool)
        for row in markets:
            index, quote = part.indexes[:, row], venue.markets[row].quote
            value = index if quote < 0 else index * prices[:, quote]
            mine = is_open & ~np.isnan(index)
            found[mine] = np.where(index_capped[mine, row], np.nan, value[mine])
            is_open &= ~mine
        return found

    def _means(self, part: Part, is_given: Array) -> Array:
        """The mean of the samples of every asset before each tick with a price of it."""
        found = np.full(is_given.shape, np.nan)
        for asset, listed in enumerate(part.venue.assets):
            if listed.guard.mean_threshold is not None:
                for row in np.flatnonzero(is_given[:, asset]).tolist():
                    found[row, asset] = self.samples[asset].mean(int(part.time[row]))
        return found

    def finish(self) -> None:
        """Compare the state of the guards with the last state."""
        state, equal = self.run.state["assets"], self.out.equal
        count = len(self.samples)
        equal("guards", "state assets.asset", state["asset"].tolist(), list(range(count)))
        for name, expected in (("price", self.last.value), ("time", self.last.time), ("own", self.own)):
            found = state[name].tolist()
            fits = len(found) == count and all(map(same, found, expected.tolist()))
            equal("guards", f"state assets.{name}", None if fits else found, None if fits else expected.tolist())
        samples, last = self.run.state["asset_samples"], self.time // SECOND
        columns = (samples[name].tolist() for name in ("second", "count", "asset", "price"))
        seconds = range(last - WINDOW + 1, last + 1)
        sampled, twice = {}, False
        for first, number, asset, price in zip(*columns, strict=True):
            for second in range(max(first, seconds.start), min(first + number, seconds.stop)):
                twice |= (asset, second) in sampled
                sampled[asset, second] = price
            twice |= number < 1 or first + number > seconds.stop
        due = {
            (asset, second): price
            for asset, one in enumerate(self.samples)
            for second in seconds
            if (price := one.at(second)) is not None
        }
        equal("guards", "state asset_samples", sampled == due and not twice, True)


class _Samples:
    """Prices of an asset by the whole second from which on each counts, without those that count for none."""

    def __init__(self) -> None:
        self.second, self.price = np.zeros(0, np.int64), np.zeros(0)

    def copy(self) -> _Samples:
        """The same samples, to be added to."""
        new = _Samples()
        new.second, new.price = self.second, self.price
        return new

    def add(self, time: Array, price: Array, now: int) -> None:
        """Add prices and their times; forget what no window from a time on reaches."""
        second = np.concatenate([self.second, -(-time // SECOND)])
        price = np.concatenate([self.price, price])
        counts = np.diff(second, append=np.iinfo(np.int64).max) > 0
        second, price = second[counts], price[counts]
        is_new = np.append(True, price[1:] != price[:-1])[: len(price)]
        second, price = second[is_new], price[is_new]
        first = max(int(np.searchsorted(second, now // SECOND - WINDOW, side="right")) - 1, 0)
        self.second, self.price = second[first:], price[first:]

    def mean(self, time: int) -> float:
        """Mean of the prices at the whole seconds in the five minutes before a time; not a number without any."""
        least, end = (time - WINDOW * SECOND) // SECOND + 1, -(-time // SECOND)
        seconds = np.diff(np.clip(np.append(self.second, end), least, end))
        total = np.cumsum(self.price * seconds)
        return float(total[-1] / seconds.sum()) if seconds.any() else math.nan

    def at(self, second: int) -> float | None:
        """Price at a second."""
        row = int(np.searchsorted(self.second, second, side="right")) - 1
        return float(self.price[row]) if row >= 0 else None


def index_caps(part: Part) -> Array:
    """The given indexes of a part that were cut."""
    is_known = ~np.isnan(part.given_index) & ~np.isnan(part.indexes)
    return np.asarray(is_known & (part.given_index != part.indexes))


def _so_far(part: Part, is_given: Array, asset: int) -> Array:
    """Prices of all assets as they are known when it is an asset's turn: no later one has its own price yet.

    An asset whose given price still waits for its turn has no price at all.
    """
    venue: Venue = part.venue
    own, mark, index = part.own_asset.copy(), part.mark.copy(), part.indexes.copy()
    own[:, asset:] = np.nan
    rows = {listed.symbol: row for row, listed in enumerate(venue.assets)}
    for market, listed in enumerate(venue.markets):
        base = rows.get(listed.base, -1)
        if base >= asset:
            waiting = is_given[:, base]
            mark[waiting, market] = index[waiting, market] = np.nan
    return all_prices(venue, mark, index, own)
