"""The instants of a tick: when the venue acts between two ticks, and when something falls due (The clock)."""

from __future__ import annotations

from .numbers import HOUR, MILLISECOND, MINUTE, SECOND, whole
from .venue import Venue


def due_periods(venue: Venue) -> list[int]:
    """The periods of what falls due, in ns: interest of pools, funding of the markets, realisation."""
    markets = venue.markets.values()
    periods = [HOUR] if venue.pools else []
    periods += [market.funding_interval * MILLISECOND for market in markets if market.funding_interval]
    realised = venue.policy["realize_interval"]
    return periods if realised is None else [*periods, whole(realised) * SECOND]


def instants_between(venue: Venue, since: int, time_ns: int) -> list[int]:
    """The instants after the tick before and before this tick, ascending; none without a clock."""
    interval = venue.policy["liquidation_interval"]
    if interval is None:
        return []
    times: set[int] = set()
    for period in {whole(interval) * SECOND, *due_periods(venue)}:
        times.update(range((since // period + 1) * period, time_ns, period))
    return sorted(times)


def new_intervals(venue: Venue, since: int, time_ns: int) -> bool:
    """Whether a clock minute or an interval of `account_cap_interval` begins in `(since, time]`."""
    interval = whole(venue.policy["account_cap_interval"]) * SECOND
    return any(begins(period, since, time_ns) for period in (MINUTE, interval))


def begins(period: int, since: int, time_ns: int) -> int:
    """How many multiples of a period are in `(since, time]`."""
    return time_ns // period - since // period
