"""What njit hosts share: the account of a host, and rules as functions that an njit loop calls by address.

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
from ..kernels.layouts import SliceRows, SliceRules
from ..kernels.small_books import MARKET_CLOSE
from ..market import PriceMap
from ..scalar import SmallAccount
from ..venue import Venue

njit: Any = numba.njit  # noqa: TID251  # not a kernel: its arguments are objects of the host, which count references


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


@njit
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


def account_of_markets(
    venue: Venue, markets: Sequence[str], marks: PriceMap, cash: float, count: int
) -> tuple[SmallAccount, Int]:
    """Make the account of a host that trades in some markets, and the rows of these markets.

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
    count : int
        Number of the host's assets.

    Raises
    ------
    RiskDataError
        There are fewer or more markets, one occurs twice, is inverse or settles in another asset than the venue, the
        policy caps an account by the clock, or as of `riskcore.scalar.small_account`.
    """
    if len(markets) != count or len(set(markets)) != count:
        rule = f"must be {count} different markets, one for each asset of the host"
        raise RiskDataError("markets", None, rule, value=list(markets))
    if venue.policy.account_cap is not None:
        raise RiskDataError("venue", "policy.account_cap", "must be null: a host's loop has no interval of it")
    account = scalar.small_account(venue, marks, markets=markets, cash=cash)
    rows = np.array([venue.markets.row[symbol] for symbol in markets])
    for row, symbol in zip(rows, markets, strict=True):
        if venue.markets.inverse[row] or venue.markets.settle[row] != venue.settle:
            raise RiskDataError("markets", symbol, f"must be linear and settle in {venue.settle_asset}")
    return account, rows
