"""Events of a tick that have a time of their own: funding entries and venue changes, checked before the tick begins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from .._limits import INT64_MIN
from .._typing import Bool, Float, Int
from ..boundary import RiskDataError, moment
from ..kernels.guards import has_price
from ..venue import Venue, VenueChange, changed_venue
from .funding_rates import NO_FUNDING, FundingEntries
from .tick import Tick


class Segment(NamedTuple):
    """A part of a tick in which one venue is in force.

    Attributes
    ----------
    after, until : int
        Its times: after the first and up to the second, nanoseconds; the first is negative at the first tick.
    venue : Venue
        The rules.
    delisted : ndarray of bool, shape (M,)
        Whether each market is delisted.
    delistings : tuple of (int, float)
        Market row and settlement price of the markets that are delisted when it begins, in their order.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import Segment
    >>> Segment(0, 10**9, rc.load_venue("backpack"), np.zeros(4, bool)).delistings
    ()
    """

    after: int
    until: int
    venue: Venue
    delisted: Bool
    delistings: tuple[tuple[int, float], ...] = ()


@dataclass
class Scheduled:
    """Funding entries and venue changes of a tick, in order of their times.

    Attributes
    ----------
    given_entries : FundingEntries
        The entries of the tick as they were given.
    changes : tuple of VenueChange
        The changes of the tick.
    entries : FundingEntries
        The entries that fall due.
    segments : tuple of Segment
        The parts of the time from the tick before to this one, one more than there are instants of changes; at the
        first tick one.
    before : int or None
        Time of the tick before, nanoseconds; None at the first tick.
    funding_scheduled : ndarray of bool, shape (M,)
        Whether the funding of each market is scheduled since an earlier tick.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import read_scheduled
    >>> venue, none = rc.load_venue("backpack"), np.zeros(4, bool)
    >>> rows = [{"time": 5 * 10**9, "market": "SOL_USDC_PERP", "field": "state", "value": "closed"}]
    >>> scheduled = read_scheduled(venue, rc.Tick(9 * 10**9, {}, venue_changes=rows), 0, 9 * 10**9, none, none)
    >>> scheduled.times, [segment.venue.markets.takes_orders[2].item() for segment in scheduled.segments]
    ([5000000000], [True, False])
    """

    given_entries: FundingEntries
    changes: tuple[VenueChange, ...]
    entries: FundingEntries
    segments: tuple[Segment, ...]
    before: int | None
    funding_scheduled: Bool

    @cached_property
    def first_entry(self) -> Int:
        """Time from which on the interval of each market does not count, as its funding is scheduled; shape (M,).

        It is later than the tick where the funding is not scheduled.
        """
        none = self.segments[-1].until + 1
        first_entry = np.where(self.funding_scheduled, -1 if self.before is None else self.before, none)
        if len(self.entries.time):
            np.minimum.at(first_entry, self.entries.market, self.entries.time)
        return first_entry

    @property
    def times(self) -> list[int]:
        """Times of the entries and changes as they were given, ascending, each once."""
        if not (self.changes or len(self.given_entries.time)):
            return []
        return sorted({*self.given_entries.time.tolist(), *(change.time for change in self.changes)})

    @property
    def venue(self) -> Venue:
        """The rules at the end of the tick."""
        return self.segments[-1].venue

    @property
    def delisted(self) -> Bool:
        """Whether each market is delisted at the end of the tick; shape (M,)."""
        return self.segments[-1].delisted

    def intervals_due(self, after: int, until: int) -> list[tuple[Venue, Int]]:
        """Count the instants of the markets' funding intervals in a part of the tick, venue by venue.

        Parameters
        ----------
        after, until : int
            Times after the first and up to the second count, nanoseconds.

        Returns
        -------
        list of (Venue, ndarray of int64, shape (M,))
            The venues in force in which an instant of some interval is due, in order of time, and the instants of each
            market: of one with scheduled funding those before its first entry; none once it is delisted.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import read_scheduled
        >>> venue, none, time = rc.load_venue("backpack"), np.zeros(4, bool), 9 * 3600 * 10**9
        >>> scheduled = read_scheduled(venue, rc.Tick(time, {}), 0, time, none, none)
        >>> [count.tolist() for _, count in scheduled.intervals_due(0, time)]
        [[9, 1, 9, 9]]
        """
        counts = []
        for segment in self.segments:
            first, last = max(after, segment.after), min(until, segment.until)
            if any(last // period > first // period for period in segment.venue.markets.funding_periods):
                interval = segment.venue.markets.funding_interval
                period, end = np.maximum(interval, 1), np.minimum(last, self.first_entry - 1)
                due = np.maximum(end // period - first // period, 0)
                counts.append((segment.venue, np.where((interval > 0) & ~segment.delisted, due, 0)))
        return counts

    def due_entries(self, after: int, until: int) -> FundingEntries:
        """Return the entries that fall due in a part of the tick.

        Parameters
        ----------
        after, until : int
            Times after the first and up to the second count, nanoseconds.

        Returns
        -------
        FundingEntries
            By time, then market.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import read_scheduled
        >>> venue, none = rc.load_venue("backpack"), np.zeros(4, bool)
        >>> rows = [{"time": n, "market": "SOL_USDC_PERP", "rate": 0.001} for n in (3, 5)]
        >>> scheduled = read_scheduled(venue, rc.Tick(9, {}, funding=rows), 0, 9, none, none)
        >>> scheduled.due_entries(3, 9).time.tolist()
        [5]
        """
        if not len(self.entries.time):
            return self.entries
        return self.entries.chosen((self.entries.time > after) & (self.entries.time <= until))

    def must_set_rates(self, funding_rate: Float) -> None:
        """Refuse funding rates of the tick itself for markets whose funding is scheduled.

        Parameters
        ----------
        funding_rate : ndarray of float64, shape (M,)
            Rates of the tick; NaN for none.

        Raises
        ------
        RiskDataError
            A market has both.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.market import read_scheduled
        >>> venue, none = rc.load_venue("backpack"), np.zeros(4, bool)
        >>> rows = [{"time": 5, "market": "SOL_USDC_PERP", "rate": 0.001}]
        >>> scheduled = read_scheduled(venue, rc.Tick(9, {}, funding=rows), 0, 9, none, none)
        >>> scheduled.must_set_rates(np.array([0.1, np.nan, np.nan, np.nan]))
        """
        if not has_price(funding_rate):
            return
        both = ~np.isnan(funding_rate) & (self.first_entry <= self.segments[-1].until)
        if both.any():
            market = int(both.argmax())
            rule = "must be left out: the funding of the market comes from the table funding"
            raise RiskDataError(
                "funding_rates", self.venue.markets.symbol[market], rule, value=float(funding_rate[market])
            )


def read_scheduled(
    venue: Venue, tick: Tick, before: int | None, time: int, funding_scheduled: Bool, delisted: Bool
) -> Scheduled:
    """Read the funding entries and the venue changes of a tick, and check them.

    Parameters
    ----------
    venue : Venue
        The rules after the tick before.
    tick : Tick
        The tick.
    before : int or None
        Time of the tick before, nanoseconds; None at the first tick.
    time : int
        Time of the tick, nanoseconds.
    funding_scheduled, delisted : ndarray of bool, shape (M,)
        Whether each market had an entry in an earlier tick, and whether it is delisted.

    Returns
    -------
    Scheduled
        The events.

    Raises
    ------
    RiskDataError
        A row breaks a rule of its table, its time is not of this tick, a change is about a market that is delisted, or
        the changed venue is not valid.

    Notes
    -----
    The rules: docs/one_tick.md, "Funding" and "Venue changes".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.market import read_scheduled
    >>> venue, none = rc.load_venue("backpack"), np.zeros(4, bool)
    >>> rows = [{"time": 5 * 10**9, "market": "SOL_USDC_PERP", "rate": 0.001}]
    >>> read_scheduled(venue, rc.Tick(4 * 10**9, {}, funding=rows), 0, 4 * 10**9, none, none)
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: funding.time, value '1970-01-01 00:00:05+00:00': must be after the tick b...
    """
    entries, changes = tick.funding_entries(venue, time), tick.changes(venue, time)
    if not (len(entries.time) or changes):
        whole = Segment(-1 if before is None else before, time, venue, delisted)
        return Scheduled(entries, changes, entries, (whole,), before, funding_scheduled.copy())
    _must_be_of_tick("funding", entries.time, before, time)
    if changes:
        _must_be_of_tick("venue_changes", np.array([change.time for change in changes], np.int64), before, time)
    segments = _segments(venue, changes, before, time, delisted)
    due = _due(entries, before, segments)
    return Scheduled(entries, changes, due, segments, before, funding_scheduled.copy())


def _must_be_of_tick(table: str, times: Int, before: int | None, time: int) -> None:
    if not len(times):
        return
    earliest = INT64_MIN if before is None else before
    outside = (times <= earliest) | (times > time)
    if outside.any():
        rule = f"must not be after the tick, {moment(time)}"
        if before is not None:
            rule = f"must be after the tick before, {moment(before)}, and not after the tick, {moment(time)}"
        raise RiskDataError(table, "time", rule, value=moment(int(times[outside.argmax()])))


def _segments(
    venue: Venue, changes: tuple[VenueChange, ...], before: int | None, time: int, delisted: Bool
) -> tuple[Segment, ...]:
    """Parts of a tick with one venue each; the changes of the first tick are one part."""
    segments = [] if before is None and changes else [Segment(-1 if before is None else before, time, venue, delisted)]
    for _, of_instant in groupby(changes, attrgetter("time")):
        group = tuple(of_instant)
        for change in group:
            if change.asset < 0 and change.book < len(delisted) and delisted[change.book]:
                raise change.refusal(venue, "must not be about a market that is delisted")
            if change.delists:
                delisted = delisted.copy()
                delisted[change.book] = True
        venue = changed_venue(venue, group)
        delistings = tuple((change.book, float(change.value)) for change in group if change.delists)
        if before is None:
            delistings = (*(delisting for segment in segments for delisting in segment.delistings), *delistings)
            segments = [Segment(-1, time, venue, delisted, delistings)]
        else:
            segments[-1] = segments[-1]._replace(until=group[0].time - 1)
            segments.append(Segment(group[0].time - 1, time, venue, delisted, delistings))
    return tuple(segments)


def _due(entries: FundingEntries, before: int | None, segments: tuple[Segment, ...]) -> FundingEntries:
    """Entries of markets that are not delisted at their times; none at the first tick."""
    if not len(entries.time):
        return entries
    if before is None:
        return NO_FUNDING
    starts = np.array([segment.after for segment in segments])
    number = np.searchsorted(starts, entries.time) - 1  # the part that each time is after the start of
    return entries.chosen(~np.stack([segment.delisted for segment in segments])[number, entries.market])
