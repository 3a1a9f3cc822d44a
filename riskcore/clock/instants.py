"""The instants of a tick: when the venue acts between two ticks, and which of these instants are left out.

The rules: docs/one_tick.md, "The clock".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._typing import Int
from ..market import Segment
from ..venue import Policy

_SECOND = 1_000_000_000
_MINUTE = 60 * _SECOND


def instants(segments: Sequence[Segment], before: int | None, now: int, more: Sequence[int] = ()) -> Int:
    """Return the instants of a tick, ascending: those between the tick before and this one, and this one.

    Parameters
    ----------
    segments : sequence of Segment
        The venues of the tick.
    before : int or None
        Time of the tick before, nanoseconds; None at the first tick.
    now : int
        Time of this tick, nanoseconds.
    more : sequence of int
        Other times at which something happens, nanoseconds; those outside of ``before`` to ``now`` do not count.

    Returns
    -------
    ndarray of int64
        Nanoseconds; the last is ``now``.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.clock import instants
    >>> from riskcore.market import Segment
    >>> venue = rc.load_venue("backpack").replace(policy={"liquidation_interval": 30})
    >>> second, start = 10**9, 1_760_130_000 * 10**9
    >>> tick = Segment(start, start + 61 * second, venue, np.zeros(4, bool))
    >>> ((instants([tick], start, start + 61 * second) - start) // second).tolist()
    [30, 60, 61]
    """
    interval = segments[0].venue.policy.liquidation_interval
    if before is None or interval is None:
        return np.array([now])
    step = interval * _SECOND
    others = [np.array([time for time in more if before < time < now], np.int64)] if more else []
    others += [
        _multiples(segment.after, min(segment.until + 1, now), period)
        for segment in segments
        for period in segment.venue.due_periods
        if period % step and segment.until // period != segment.after // period
    ]
    if not others and before // step == (now - 1) // step:
        return np.array([now])
    times = _multiples(before, now + step, step)
    times[-1] = now
    return np.unique(np.concatenate([times, *others])) if others else times


def due_instants(segments: Sequence[Segment], before: int | None, times: Int) -> list[int]:
    """Return the numbers of the instants at which something falls due, ascending.

    Parameters
    ----------
    segments : sequence of Segment
        The venues of the tick.
    before : int or None
        Time of the tick before, nanoseconds.
    times : ndarray of int64, shape (n,)
        Instants of a tick.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.clock import due_instants
    >>> from riskcore.market import Segment
    >>> venue = rc.load_venue("backpack").replace(policy={"realize_interval": 10})
    >>> tick = Segment(5 * 10**9, 11 * 10**9, venue, np.zeros(4, bool))
    >>> due_instants([tick], 5 * 10**9, np.array([9, 10, 11]) * 10**9)
    [1]
    """
    if before is None:
        return []
    numbers: set[int] = set()
    for segment in segments:
        for period in segment.venue.due_periods:
            if segment.until // period != segment.after // period:
                numbers.update(np.searchsorted(times, _multiples(segment.after, segment.until + 1, period)).tolist())
    return sorted(numbers)


def _multiples(before: int, now: int, period: int) -> Int:
    """Multiples of a period since the epoch after ``before`` and before ``now``."""
    return np.arange(before // period + 1, -(-now // period), dtype=np.int64) * period


def new_interval(policy: Policy, before: int, times: Int) -> int:
    """Return the first time by which a clock minute or an interval of ``account_cap_interval`` has begun.

    Parameters
    ----------
    policy : Policy
        The policy.
    before : int
        Nanoseconds.
    times : ndarray of int64, shape (n,)
        Ascending times after it, nanoseconds.

    Returns
    -------
    int
        Number of the first time at which one has begun; n if there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.clock import new_interval
    >>> new_interval(rc.load_venue("backpack").policy, 0, np.array([59, 60]) * 10**9)
    1
    """
    spans = (_MINUTE, policy.account_cap_interval * _SECOND)
    return int(np.searchsorted(times, min((before // span + 1) * span for span in spans)))
