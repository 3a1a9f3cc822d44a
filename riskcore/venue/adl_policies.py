"""Policies that choose the counterparties of auto-deleveraging: pure functions of arrays, chosen by name.

The function of a queue returns scores: the highest is closed first, ties in the order of the rows. The function of a
shared policy returns weights: all are closed together, in proportion, each up to its room. Both take `Counterparties`.
`register` adds a user's own policy, which a venue's ``adl_policy`` then names like a built-in one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np

from .._typing import Float, Int
from ..kernels import allocation as kernels

TAIL_LEVERAGE = 5.0
"""Leverage above which `rap_tail` closes."""

_DIGITS, _SCALE = 24, 38  # significant bits of a weight, and bits of the largest whole weight


@dataclass(frozen=True)
class Counterparties:
    """Positions opposite to the closed one, one row each, in the order of their accounts' ids (N rows).

    Money is in settle units, all as at the tick's sweep.

    Attributes
    ----------
    lots : ndarray of int64
        Size, > 0.
    value, entry : ndarray of float64
        Signed value at the mark, and the amount paid for it.
    requirement : ndarray of float64
        Maintenance margin of the position.
    equity, exposure, maintenance : ndarray of float64
        Net equity (> 0), exposure and maintenance margin of the account.
    profit : ndarray of float64
        Sum of value less entry over all positions of the account.

    Notes
    -----
    The rule: docs/one_tick.md, "5 ADL: counterparties".

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import Counterparties
    >>> amounts = [np.array(column) for column in ([900.0, 400.0], [800.0, 390.0], [12.0, 5.0], [90.0, 200.0])]
    >>> value, entry, requirement, equity = amounts
    >>> others = Counterparties(np.array([9, 4]), value, entry, requirement, equity, value, requirement, value - entry)
    >>> others.leverage.tolist()
    [10.0, 2.0]
    """

    lots: Int
    value: Float
    entry: Float
    requirement: Float
    equity: Float
    exposure: Float
    maintenance: Float
    profit: Float

    def __len__(self) -> int:
        return len(self.lots)

    @property
    def leverage(self) -> Float:
        """Exposure of the account over its net equity, a ratio, shape (N,)."""
        return self.exposure / self.equity


Rank: TypeAlias = Callable[[Counterparties], Float]


class AdlPolicy(NamedTuple):
    """A policy by name: scores of a queue, or weights of a shared one.

    Attributes
    ----------
    name : str
        Name that a venue's ``adl_policy`` may have.
    rank : callable
        Function of `Counterparties` that gives numbers of shape (N,): scores, the highest closed first, or weights.
    shared : bool
        Whether ``rank`` gives weights: all are closed together, in proportion.
    reach : bool
        Whether a counterparty is skipped when the price of the trade is beyond its own bankruptcy price (the venue's
        zero price).

    Notes
    -----
    The policies: docs/one_tick.md, "5 ADL: policies".

    Examples
    --------
    >>> from riskcore.venue import POLICIES
    >>> POLICIES["pro_rata"].shared, POLICIES["bankruptcy_price"].reach
    (True, True)
    """

    name: str
    rank: Rank
    shared: bool = False
    reach: bool = False


def _by_profit(counterparties: Counterparties, leverage: Float) -> Float:
    """PnL % times leverage, over leverage where the PnL is negative; a profit on no entry cost comes first."""
    with np.errstate(divide="ignore", invalid="ignore"):
        pnl = (counterparties.value - counterparties.entry) / np.abs(counterparties.entry)
        score = np.where(pnl > 0, pnl * leverage, pnl / leverage)
    return _first(counterparties, score)


def _first(counterparties: Counterparties, score: Float) -> Float:
    """Scores, +inf for a profit on an entry of 0 or of the other sign."""
    return np.where(
        (counterparties.value > counterparties.entry)
        & (np.sign(counterparties.entry) != np.sign(counterparties.value)),
        np.inf,
        score,
    )


def pnl_leverage(counterparties: Counterparties) -> Float:
    """Score by PnL % times the account's leverage, by PnL % over it where the PnL is negative.

    Parameters
    ----------
    counterparties : Counterparties
        N positions.

    Returns
    -------
    ndarray of float64, shape (N,)
        Scores, pure numbers; +inf for a profit on an entry of 0 or of the other sign.

    Notes
    -----
    The venue's documentation of its auto-deleveraging queue; docs/one_tick.md, "5 ADL: policies".

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import Counterparties, pnl_leverage
    >>> value, entry, equity = np.array([900.0, 400.0]), np.array([800.0, 390.0]), np.array([90.0, 200.0])
    >>> one = np.ones(2)
    >>> others = Counterparties(np.array([9, 4]), value, entry, one, equity, value, one, value - entry)
    >>> pnl_leverage(others).round(4).tolist()
    [1.25, 0.0513]
    """
    return _by_profit(counterparties, counterparties.leverage)


def bitmex(counterparties: Counterparties) -> Float:
    """PnL % times effective leverage: value of the position over its share of the account's equity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(
            counterparties.maintenance > 0,
            counterparties.equity * counterparties.requirement / counterparties.maintenance,
            counterparties.equity,
        )
        return _by_profit(counterparties, np.abs(counterparties.value) / share)


def bybit(counterparties: Counterparties) -> Float:
    """PnL % times leverage, of profitable positions alone: the venue names the two factors, and no formula."""
    score = pnl_leverage(counterparties)
    return np.where(counterparties.value > counterparties.entry, score, -np.inf)


def hyperliquid(counterparties: Counterparties) -> Float:
    """Mark over entry price times notional over account value; of a short entry over mark (the venue is silent)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = np.where(
            counterparties.value > 0,
            counterparties.value / counterparties.entry,
            counterparties.entry / counterparties.value,
        )
        return _first(counterparties, gain * np.abs(counterparties.value) / counterparties.equity)


def binance(counterparties: Counterparties) -> Float:
    """Unrealised profit over wallet balance, at least 1, times the account's margin ratio."""
    wallet = counterparties.equity - counterparties.profit
    return (
        np.maximum(counterparties.value - counterparties.entry, 0.0)
        / np.maximum(wallet, 1.0)
        * counterparties.maintenance
        / counterparties.equity
    )


def size(counterparties: Counterparties) -> Float:
    """Notional of the position."""
    return np.abs(counterparties.value)


def leverage(counterparties: Counterparties) -> Float:
    """Leverage of the account."""
    return counterparties.leverage


def by_account_id(counterparties: Counterparties) -> Float:
    """Equal scores: in the order of account ids."""
    return np.zeros(len(counterparties))


def pro_rata(counterparties: Counterparties) -> Float:
    """By size of the position."""
    return counterparties.lots.astype(float)


def by_equity(counterparties: Counterparties) -> Float:
    """By net equity of the account; the position is the cap, and the excess goes to the others."""
    return counterparties.equity


def rap_linear(counterparties: Counterparties) -> Float:
    """Risk-aware pro rata: by size times leverage (Chitra et al., arXiv 2512.01112, appendix on RAP)."""
    return counterparties.lots * counterparties.leverage


def rap_power(counterparties: Counterparties) -> Float:
    """Risk-aware pro rata: by size times leverage squared."""
    return counterparties.lots * counterparties.leverage * counterparties.leverage


def rap_tail(counterparties: Counterparties) -> Float:
    """Risk-aware pro rata: by size times the leverage in excess of `TAIL_LEVERAGE`."""
    return counterparties.lots.astype(float) * np.maximum(counterparties.leverage - TAIL_LEVERAGE, 0.0)


POLICIES: dict[str, AdlPolicy] = {
    policy.name: policy
    for policy in (
        AdlPolicy("pnl_leverage", pnl_leverage),
        AdlPolicy("bitmex", bitmex),
        AdlPolicy("bybit", bybit),
        AdlPolicy("hyperliquid", hyperliquid),
        AdlPolicy("binance", binance),
        AdlPolicy("size", size),
        AdlPolicy("leverage", leverage),
        AdlPolicy("bankruptcy_price", by_account_id, reach=True),
        AdlPolicy("pro_rata", pro_rata, shared=True),
        AdlPolicy("capped_pro_rata", by_equity, shared=True),
        AdlPolicy("rap_linear", rap_linear, shared=True),
        AdlPolicy("rap_power", rap_power, shared=True),
        AdlPolicy("rap_tail", rap_tail, shared=True),
    )
}
"""Every policy that a venue may name."""


def register(name: str, rank: Rank, *, shared: bool = False, replace: bool = False) -> None:
    """Add a policy under a name that a venue's ``adl_policy`` may then have.

    Parameters
    ----------
    name : str
        A name that is not taken.
    rank : callable
        Function of `Counterparties` that gives numbers of shape (N,): scores, of which NaN and -inf take no part, or,
        ``shared``, weights, of which NaN and those below 0 count as 0 (an account of weight 0 is closed after all the
        others, not never). It must depend on its argument alone, and is called here with a few made-up rows.
    shared : bool
        Whether ``rank`` gives weights.
    replace : bool
        Take the place of a policy of that name.

    Raises
    ------
    ValueError
        The name is taken, or the function gives something else.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import POLICIES, register
    >>> register("largest_loss_first", lambda counterparties: counterparties.entry - counterparties.value)
    >>> rc.load_venue("backpack").replace(policy={"adl_policy": "largest_loss_first"}).policy.adl_policy
    'largest_loss_first'
    >>> del POLICIES["largest_loss_first"]
    """
    if name in POLICIES and not replace:
        raise ValueError(f"an ADL policy named {name!r} exists already; pass replace=True to replace it")
    policy = AdlPolicy(name, rank, shared)
    for count in (1, 3):
        size = np.arange(1.0, count + 1)
        made_up = Counterparties(
            lots=size.astype(np.int64), value=-size, entry=-1.1 * size, requirement=size / 100, equity=size,
            exposure=2 * size, maintenance=size / 50, profit=size / 10,
        )  # fmt: skip
        ranked(policy, made_up)
    POLICIES[name] = policy


def ranked(policy: AdlPolicy, counterparties: Counterparties) -> Float:
    """Return scores or weights of a policy as float64, checked for their shape.

    Parameters
    ----------
    policy : AdlPolicy
        The policy.
    counterparties : Counterparties
        N positions.

    Returns
    -------
    ndarray of float64, shape (N,)
        Scores or weights.

    Raises
    ------
    ValueError
        The policy's function gives something else than one number per counterparty.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import POLICIES, Counterparties, ranked
    >>> one = np.ones(2)
    >>> others = Counterparties(np.array([9, 4]), one, one, one, one, one, one, one)
    >>> ranked(POLICIES["pro_rata"], others).tolist()
    [9.0, 4.0]
    """
    if not len(counterparties):
        return np.empty(0)
    rank = np.asarray(policy.rank(counterparties))
    if rank.shape != (len(counterparties),) or rank.dtype.kind not in "fiub":
        actual = f"{rank.dtype} of shape {rank.shape}"
        raise ValueError(f"ADL policy {policy.name!r} gave {actual}, not a number for each of {len(counterparties)}")
    return rank.astype(np.float64)


def integer_weights(weight: Float) -> Int:
    """Return weights as whole numbers below 2**38, from their first 24 bits, so that a split of whole amounts is exact.

    Parameters
    ----------
    weight : ndarray of float64, shape (N,)
        Weights, pure numbers; NaN and those below 0 count as 0.

    Returns
    -------
    ndarray of int64, shape (N,)
        Whole weights in the same proportions.

    Notes
    -----
    The rule: docs/one_tick.md, "Integer weights".

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import integer_weights
    >>> integer_weights(np.array([3.0, 1.0, -1.0])).tolist() == [3 * 2**36, 2**36, 0]
    True
    """
    weight = np.where(weight > 0, np.minimum(weight, np.finfo(float).max), 0.0)
    mantissa, exponent = np.frexp(weight)
    mantissa = np.rint(mantissa * 2.0**_DIGITS)
    highest = exponent + (mantissa == 2.0**_DIGITS)  # rounded up to the next power of two
    top = int(highest[weight > 0].max(initial=-2000))
    whole: Int = np.floor(np.ldexp(mantissa, exponent - _DIGITS + _SCALE - top)).astype(np.int64)
    return whole


def water_fill(total: int, weight: Int, cap: Int) -> Int:
    """Split a whole amount by whole weights, none beyond its cap.

    Parameters
    ----------
    total : int
        Amount to be split, >= 0.
    weight : ndarray of int64, shape (N,)
        Weights, from 0 to 2**38.
    cap : ndarray of int64, shape (N,)
        Largest share of each, >= 0.

    Returns
    -------
    ndarray of int64, shape (N,)
        Shares; together ``total``, or the sum of the caps where that is less.

    Notes
    -----
    The rule: docs/one_tick.md, "Water-filling"; `riskcore.kernels.allocation.water_fill` computes it.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import water_fill
    >>> water_fill(10, np.array([3, 1, 1]), np.array([4, 9, 9])).tolist()
    [4, 3, 3]
    """
    taken = np.empty(len(cap), np.int64)
    kernels.water_fill(total, weight, cap, taken)
    return taken


def top_of_queue(score: Float, room: Int, need: int) -> Int:
    """Return rows of the best scores that together have room for the need, the best first, ties in the order of rows.

    The same as the head of a stable sort of all scores, without sorting them: a histogram of the scores' bits finds the
    bucket in which the need is met, and only the scores of that bucket and above are sorted.

    Parameters
    ----------
    score : ndarray of float64, shape (N,)
        Scores; NaN and -inf take no part.
    room : ndarray of int64, shape (N,)
        Lots that each may lose, >= 0.
    need : int
        Lots to be closed, > 0.

    Returns
    -------
    ndarray of int64
        Row numbers, the highest score first.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import top_of_queue
    >>> top_of_queue(np.array([1.0, 5.0, 3.0, 5.0]), np.array([9, 2, 9, 2]), 5).tolist()
    [1, 3, 2]
    """
    chosen, count = np.empty(len(score), np.int64), np.empty(1, np.int64)
    kernels.top_of_queue((score + 0.0).view(np.uint64), room, need, chosen, count)
    rows = chosen[: count[0]]
    rows = rows[np.argsort(-score[rows], kind="stable")]
    head: Int = rows[: int(np.searchsorted(np.cumsum(room[rows]), need)) + 1]
    return head


def allocate(policy: AdlPolicy, counterparties: Counterparties, need: int, room: Int) -> Int:
    """Return the lots that a policy closes of each counterparty, if nothing but their room limits them.

    Parameters
    ----------
    policy : AdlPolicy
        The policy.
    counterparties : Counterparties
        N positions.
    need : int
        Lots to be closed, >= 0.
    room : ndarray of int64, shape (N,)
        Lots that each may lose.

    Returns
    -------
    ndarray of int64, shape (N,)
        Lots; together the need, or all the room there is.

    Raises
    ------
    ValueError
        The policy's function gives something else than one number per counterparty.

    Notes
    -----
    The rule: docs/one_tick.md, "5 ADL: policies".

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import POLICIES, Counterparties, allocate
    >>> one = np.ones(2)
    >>> others = Counterparties(np.array([9, 3]), one, one, one, one, one, one, one)
    >>> allocate(POLICIES["pro_rata"], others, 8, others.lots).tolist()
    [6, 2]
    """
    rank = ranked(policy, counterparties)
    if policy.shared:
        return water_fill(need, integer_weights(rank), room)
    lots = np.zeros(len(counterparties), np.int64)
    if need > 0:
        head = top_of_queue(rank, room, need)
        before = np.cumsum(room[head]) - room[head]
        lots[head] = np.minimum(room[head], need - before)
    return lots
