"""Who auto-deleveraging closes positions against: the policies, each a pure function over arrays, chosen by name.

A queue's function gives scores: the highest is closed first, ties in the order of the rows. A shared policy's gives
weights: all are closed together, in proportion, none beyond its room. Both take the same `Counterparties`; a user's own
is added with `register` and named in a venue's ``adl_policy`` like those of the house.
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
    """Positions on the other side of what is closed, one row each, in the order of their accounts' ids (N rows).

    Money is in settle units, all as at the tick's sweep.

    Attributes
    ----------
    lots : ndarray of int64
        Size, > 0.
    value, entry : ndarray of float64
        Signed worth at the mark, and what was paid for it.
    requirement : ndarray of float64
        Maintenance margin of the position.
    equity, exposure, maintenance : ndarray of float64
        Net equity (> 0), exposure and maintenance margin of the account.
    profit : ndarray of float64
        Sum of value less entry over all positions of the account.
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
        """Exposure of the account over its net equity."""
        return self.exposure / self.equity


Rank: TypeAlias = Callable[[Counterparties], Float]


class AdlPolicy(NamedTuple):
    """A policy by name: scores of a queue, or weights of a shared one.

    ``reach`` passes over those whose own zero price does not reach the price of the deal.
    """

    name: str
    rank: Rank
    shared: bool = False
    reach: bool = False


def _by_profit(counterparties: Counterparties, leverage: Float) -> Float:
    """PnL % times leverage, over leverage where it is negative; a profit without cost of its own sign comes first."""
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
    """PnL % times the account's leverage, over it where negative (venue_rules.md section 5, worked example E7)."""
    return _by_profit(counterparties, counterparties.leverage)


def bitmex(counterparties: Counterparties) -> Float:
    """PnL % times effective leverage: value over what it is worth more than at the position's own zero price."""
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


def in_turn(counterparties: Counterparties) -> Float:
    """All alike: in the order of account ids."""
    return np.zeros(len(counterparties))


def pro_rata(counterparties: Counterparties) -> Float:
    """By size of the position."""
    return counterparties.lots.astype(float)


def by_equity(counterparties: Counterparties) -> Float:
    """By net equity of the account; the position is the cap, and what is beyond it goes to the others."""
    return counterparties.equity


def rap_linear(counterparties: Counterparties) -> Float:
    """Risk-aware pro rata: by size times leverage (Chitra et al., arXiv 2512.01112, appendix on RAP)."""
    return counterparties.lots * counterparties.leverage


def rap_power(counterparties: Counterparties) -> Float:
    """Risk-aware pro rata: by size times leverage squared."""
    return counterparties.lots * counterparties.leverage * counterparties.leverage


def rap_tail(counterparties: Counterparties) -> Float:
    """Risk-aware pro rata: by size times what the leverage is above `TAIL_LEVERAGE`."""
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
        AdlPolicy("bankruptcy_price", in_turn, reach=True),
        AdlPolicy("pro_rata", pro_rata, shared=True),
        AdlPolicy("capped_pro_rata", by_equity, shared=True),
        AdlPolicy("rap_linear", rap_linear, shared=True),
        AdlPolicy("rap_power", rap_power, shared=True),
        AdlPolicy("rap_tail", rap_tail, shared=True),
    )
}
"""Every policy that a venue may name."""


def register(name: str, rank: Rank, *, shared: bool = False, replace: bool = False) -> None:
    """Add a policy of one's own under a name that a venue's ``adl_policy`` may then have.

    Parameters
    ----------
    name
        Not one that is taken.
    rank
        Function of `Counterparties` that gives numbers of shape (N,): scores, of which NaN and -inf take no part, or,
        ``shared``, weights, of which NaN and what is below 0 count as 0 (who has 0 is closed after all the others, not
        never). It must depend on its argument alone, and is tried on a few made-up rows here.
    replace
        Take the place of a policy of that name.

    Raises
    ------
    ValueError
        The name is taken, or the function gives something else.
    """
    if name in POLICIES and not replace:
        raise ValueError(f"an ADL policy named {name!r} exists already; pass replace=True to replace it")
    policy = AdlPolicy(name, rank, shared)
    for count in (1, 3):
        one = np.arange(1.0, count + 1)
        ranked(
            policy, Counterparties(one.astype(np.int64), -one, -1.1 * one, one / 100, one, 2 * one, one / 50, one / 10)
        )
    POLICIES[name] = policy


def ranked(policy: AdlPolicy, counterparties: Counterparties) -> Float:
    """Scores or weights of a policy as float64, checked for their shape.

    Raises
    ------
    ValueError
        The policy's function gives something else than one number per counterparty.
    """
    if not len(counterparties):
        return np.empty(0)
    rank = np.asarray(policy.rank(counterparties))
    if rank.shape != (len(counterparties),) or rank.dtype.kind not in "fiub":
        actual = f"{rank.dtype} of shape {rank.shape}"
        raise ValueError(f"ADL policy {policy.name!r} gave {actual}, not a number for each of {len(counterparties)}")
    return rank.astype(np.float64)


def integer_weights(weight: Float) -> Int:
    """Weights as whole numbers below 2**38, from their first 24 bits, so that a split of whole amounts is exact."""
    weight = np.where(weight > 0, np.minimum(weight, np.finfo(float).max), 0.0)
    mantissa, exponent = np.frexp(weight)
    mantissa = np.rint(mantissa * 2.0**_DIGITS)
    highest = exponent + (mantissa == 2.0**_DIGITS)  # rounded up to the next power of two
    top = int(highest[weight > 0].max(initial=-2000))
    whole: Int = np.floor(np.ldexp(mantissa, exponent - _DIGITS + _SCALE - top)).astype(np.int64)
    return whole


def water_fill(total: int, weight: Int, cap: Int) -> Int:
    """Split a whole amount by whole weights, none beyond its cap: `riskcore.kernels.allocation.water_fill`."""
    taken = np.empty(len(cap), np.int64)
    kernels.water_fill(total, weight, cap, taken)
    return taken


def top_of_queue(score: Float, room: Int, need: int) -> Int:
    """Rows of the best scores that together have room for what is needed, the best first, ties in the order of rows.

    The same as the head of a stable sort of all scores, without sorting them: a histogram of the scores' bits finds the
    bucket in which the need is met, and only what lies there or above is sorted.
    """
    chosen, count = np.empty(len(score), np.int64), np.empty(1, np.int64)
    kernels.top_of_queue((score + 0.0).view(np.uint64), room, need, chosen, count)
    rows = chosen[: count[0]]
    rows = rows[np.argsort(-score[rows], kind="stable")]
    head: Int = rows[: int(np.searchsorted(np.cumsum(room[rows]), need)) + 1]
    return head


def allocate(policy: AdlPolicy, counterparties: Counterparties, need: int, room: Int) -> Int:
    """Lots that a policy closes of each counterparty, if nothing but their room limits them.

    Parameters
    ----------
    need
        Lots to be closed.
    room : ndarray of int64, shape (N,)
        Lots that each may lose.

    Returns
    -------
    ndarray of int64, shape (N,); together the need, or all the room there is.
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
