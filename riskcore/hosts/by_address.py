"""What njit hosts share: fields of their accounts, and rules as functions that an njit loop calls by address.

Numba links what a function calls into it, and optimises all of it again at every level of the calls. The rules are
long: each function of a host, and of its user above it, would compile for many seconds more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from .. import scalar
from .._typing import Int
from ..boundary import RiskDataError
from ..kernels import host_rules
from ..kernels._jit import host_function
from ..kernels.layouts import SliceRows, SliceRules
from ..kernels.margin import SAFE, float_status
from ..kernels.small_books import MARKET_CLOSE
from ..market import PriceMap
from ..venue import Venue

FILLED, UNFILLED, SHORTFALL = range(3)
"""Totals of an account: lots filled, lots that no book took, shortfall in quanta of the settle asset."""


class ByAddress(numba.types.WrapperAddressProtocol):
    """A compiled function for the types of some arguments; a field of a named tuple in an njit loop."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        types = tuple(map(numba.typeof, arguments))
        function.compile(types)
        self._function, self._compiled = function, function.overloads[types]
        name = self._compiled.fndesc.llvm_cfunc_wrapper_name
        self._address = self._compiled.library.get_pointer_to_function(name)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function from Python."""
        return self._function(*arguments)

    def __wrapper_address__(self) -> int:
        """Address of the compiled function, for Numba."""
        return int(self._address)

    def signature(self) -> Any:
        """Types of the arguments and of the result, for Numba."""
        return self._compiled.signature


@host_function
def fee_rate(row: int, rows: SliceRows, rules: SliceRules) -> float:
    """Return the fee of a proposed slice, as a part of the value for which the host fills it.

    Parameters
    ----------
    row : int
        Row of a dry run that fills lots.
    rows, rules : SliceRows, SliceRules
        Of the books.

    Notes
    -----
    The rule: docs/one_tick.md, "Host mode". The last book charges the policy's fee, and none of an account without
    equity; a slice has the fee of its row, which a waived fee lowers.
    """
    if rows.event[row] == MARKET_CLOSE:
        return rules.fee_num / rules.fee_den if rows.before[row] < np.inf else 0.0
    return rows.fee[row] / abs(rows.flow[row])


@host_function
def asset_of(market: int, markets: Int) -> int:
    """Return the host's asset that is traded in a market; ``markets`` are the markets of its assets."""
    asset = 0
    while markets[asset] != market:
        asset += 1
    return asset


@host_function
def must_liquidate(host: Any) -> bool:
    """Return whether the maintenance margin ratio of a host's account is 100 % or above at the present marks."""
    sums, prices = host.margin(host.account), host.account.prices
    return float_status(sums.equity, sums.exposure, sums.maintenance, prices.acmf_divisor, prices.acmf_offset) != SAFE


def shared_fields(
    venue: Venue, markets: Sequence[str], marks: PriceMap, cash: float, assets: int, levels: int, *, fill_at_host: bool
) -> dict[str, Any]:
    """Make the account of a host that trades in some markets: the fields that every host has.

    Parameters
    ----------
    venue : Venue
        The venue whose rules hold.
    markets : sequence of str
        Symbols, one for each of the host's assets.
    marks : mapping
        First mark of each market, units of the quote.
    cash : float
        Balance of the venue's settle asset, units.
    assets : int
        Number of the host's assets.
    levels : int
        Most levels of a side of the books.
    fill_at_host : bool
        Whether the host fills the slices: a round of them at a time.

    Returns
    -------
    dict
        Fields of the host's named tuple, by name.

    Raises
    ------
    RiskDataError
        There are fewer or more markets, one occurs twice, is inverse or settles in another asset than the venue, the
        policy caps an account by the clock, or as of `riskcore.scalar.small_account` and `riskcore.scalar.small_books`.
    """
    if len(markets) != assets or len(set(markets)) != assets:
        rule = f"must be {assets} different markets, one for each asset of the host"
        raise RiskDataError("markets", None, rule, value=list(markets))
    if venue.policy.account_cap is not None:
        raise RiskDataError("venue", "policy.account_cap", "must be null: a host's loop has no interval of it")
    account, spare = (scalar.small_account(venue, marks, markets=markets, cash=cash) for _ in range(2))
    rows = np.array([venue.markets.row[symbol] for symbol in markets])
    for row, symbol in zip(rows, markets, strict=True):
        if venue.markets.inverse[row] or venue.markets.settle[row] != venue.settle:
            raise RiskDataError("markets", symbol, f"must be linear and settle in {venue.settle_asset}")
    books, side = scalar.small_books(venue, account, levels), np.zeros(1, np.int64)
    if fill_at_host:
        books = books._replace(rounds=min(books.rounds, 1))
    return {
        "account": account,
        "spare": spare,
        "books": books,
        "market": rows,
        "tick_size": venue.markets.tick_size[rows],
        "lot_size": venue.markets.step_size[rows],
        "quantum": float(account.prices.settle_quantum),
        "fill_at_host": fill_at_host,
        "totals": np.zeros(3, np.int64),
        "mark": ByAddress(scalar.set_mark, account, 0, 0.0),
        "margin": ByAddress(scalar.account_margin, account),
        "takes": ByAddress(host_rules.takes_order, 0, 0, 0, 0, account),
        "set_book": ByAddress(scalar.set_book, account, books, 0, side, side, side, side),
        "liquidate": ByAddress(host_rules.liquidate_for_host, True, account, books, spare),
    }
