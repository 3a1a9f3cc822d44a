"""What holds after every tick: lots and money are conserved by equality, and every number that is used is a number.

The checks cost what the tick's rows cost, whatever the number of accounts: nobody is looked at whom no row names.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from .._typing import Bool, Int
from ..kernels import journal as kernels
from ..kernels.layouts import JournalColumns, LedgerArrays
from ..state import Accounts, Ledger
from ..venue import Venue
from .events import EVENT_KINDS, EVENTS, PAYING, REASON, ROW, UNRATED, Rows

_SHOWN = 3  # rows in the message
_USES = np.array(
    [
        kind.is_priced * kernels.USES_PRICE
        + (name in PAYING) * kernels.USES_MONEY
        for name, kind in EVENT_KINDS.items()
    ],
    np.uint8,
)  # fmt: skip
_UNRATED_REASONS = np.isin(list(REASON), UNRATED)
_LARGEST_DECODED = 2**44  # another column explains a difference by less than that with a chance of 2**-19


class InvariantError(RuntimeError):
    """A tick broke what holds after every tick; the engine that raises this error has stopped.

    Parameters
    ----------
    equation
        The equation that does not hold, and by how much.
    rows
        Rows of the tick that show it.
    numbers
        Their numbers within the rows of the instant.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.record import InvariantError, Journal
    >>> journal = Journal(0, 0)
    >>> journal.add("fund", "bankrupt", 0, 1.0, 1.0, settle=0, cash=5)
    >>> InvariantError("the money of a row is 5, not 0", journal.rows(), np.array([0])).rows["cash"].tolist()
    [5]
    """

    def __init__(self, equation: str, rows: Rows, numbers: Int) -> None:
        self.equation, self.rows, self.numbers = equation, rows, numbers
        shown = "; ".join(
            f"row {number}: {_as_text(row)}" for number, row in zip(numbers[:_SHOWN].tolist(), rows, strict=False)
        )
        more = f"; {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        super().__init__(f"{equation}; {shown or 'no row of the tick'}{more}")


class Invariants:
    """Checks of the rows of a tick, and of the state against them, by equality of whole numbers.

    Every row conserves money and has somebody on the other side of what it moves; the ledgers, and every account that
    a row names, are what they were before plus the rows. Lots of each market and money of each asset are then
    conserved over all who can hold them. An account is compared by a fingerprint of 8 bytes
    (`riskcore.kernels.journal.apply_rows`), so that no second state is kept.

    Parameters
    ----------
    accounts
        The state, to look at.
    venue
        The rules.
    ledger
        The ledgers of that moment.

    Examples
    --------
    >>> from riskcore.record import Invariants, Journal
    >>> from riskcore.sample import two_accounts
    >>> from riskcore.state import Ledger
    >>> venue, accounts = two_accounts()
    >>> ledger = Ledger.opening(venue)
    >>> journal = Journal(0, 0)
    >>> journal.add("trigger", "mmr", 0, 1.2, 1.2)
    >>> Invariants(accounts, venue, ledger).check(journal.rows(), ledger)
    """

    def __init__(self, accounts: Accounts, venue: Venue, ledger: Ledger) -> None:
        self._accounts, self._venue = accounts, venue
        draw = np.random.default_rng(0)
        markets, assets = len(venue.markets.symbol), len(venue.assets.symbol)
        self._position: Int = draw.integers(-(2**63), 2**63, (3, markets), np.int64) | 1
        self._balance: Int = draw.integers(-(2**63), 2**63, (3, assets), np.int64) | 1
        self._fingerprint = self._room = self._fingerprints(np.arange(len(accounts)))
        self._count = len(accounts)
        self._entries = _flat(ledger)
        self._ledger = LedgerArrays(*np.split(self._entries, np.cumsum([markets, *[assets] * 3])))

    def opened(self) -> None:
        """Take in accounts that were opened, and have nothing yet.

        Examples
        --------
        >>> from riskcore.record import Invariants
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Ledger
        >>> venue, accounts = two_accounts()
        >>> Invariants(accounts, venue, Ledger.opening(venue)).opened()
        """
        more = np.zeros(len(self._accounts) - self._count, np.int64)
        if self._count + len(more) > len(self._room):
            self._room = np.concatenate([self._fingerprint, np.zeros(len(more) + self._count // 8 + 1024, np.int64)])
        self._count += len(more)
        self._fingerprint = self._room[: self._count]

    def check(self, rows: Rows, ledger: Ledger) -> None:
        """Check an instant, or activity, that wrote rows.

        Parameters
        ----------
        rows
            Of the instant, applied.
        ledger
            The ledgers after it.

        Raises
        ------
        InvariantError
            Something does not hold.

        Examples
        --------
        >>> from riskcore.record import Invariants, Journal
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Ledger
        >>> venue, accounts = two_accounts()
        >>> ledger = Ledger.opening(venue)
        >>> journal = Journal(0, 0)
        >>> journal.add("trigger", "mmr", 0, 1.2, 1.2)
        >>> Invariants(accounts, venue, ledger).check(journal.rows(), ledger)
        """
        columns, bad = JournalColumns(*(rows[name] for name in JournalColumns._fields)), np.empty(2, np.int64)
        kernels.apply_rows(
            columns, _USES, _UNRATED_REASONS, self._venue.markets.settle, self._position, self._balance,
            self._accounts.columns, self._ledger, self._fingerprint, bad,
        )  # fmt: skip
        number, status = bad.tolist()
        if status == kernels.OTHER_ACCOUNT:
            self._refuse_account(rows, int(columns.account[number]))
        elif status == kernels.OTHER_COUNTERPARTY:
            self._refuse_account(rows, int(columns.counterparty[number]))
        elif status != kernels.SOUND:
            self._refuse_row(rows, columns, number, status)
        self._check_ledger(rows, ledger)

    def _fingerprints(self, accounts: Int) -> Int:
        result = np.empty(len(accounts), np.int64)
        kernels.fingerprints(accounts, self._accounts.columns, self._position, self._balance, result)
        return result

    def _refuse_row(self, rows: Rows, columns: JournalColumns, number: int, status: int) -> None:
        row = rows[number]
        equation = {
            kernels.UNKNOWN_ROW: "a row names an account, market, asset or counterparty that there is not",
            kernels.OTHER_MONEY: "a row's money is of another asset than its market's, or of none",
            kernels.ONE_SIDED: "a row moves an amount that nobody gives or takes",
            kernels.NO_PRICE: f"the price of a row is {row['price']}",
            kernels.NO_RATIO: f"the margin ratios of a row are {row['mmr_before']} and {row['mmr_after']}",
        }.get(status)
        if equation is None:
            left = int(kernels.money_left(number, columns))
            equation = f"cash - cost + counter_cash - counter_cost + fund + unsettled of a row is {left}, not 0"
        raise InvariantError(equation, rows[[number]], np.array([number]))

    def _check_ledger(self, rows: Rows, ledger: Ledger) -> None:
        """Compare the ledgers with what they were before plus the rows."""
        now = _flat(ledger)
        if now.tobytes() != self._entries.tobytes():  # array_equal takes ten times as long
            self._refuse_entry(rows, now)
        if not isfinite(ledger.premium_sum.sum()):
            market = int(np.flatnonzero(~np.isfinite(ledger.premium_sum))[0])
            equation = f"premium_sum of {self._venue.markets.symbol[market]} is {ledger.premium_sum[market]}"
            raise InvariantError(equation, rows[:0], np.empty(0, np.int64))

    def _refuse_entry(self, rows: Rows, now: Int) -> None:
        venue, at = self._venue, int(np.flatnonzero(now != self._entries)[0])
        markets, assets = venue.markets.symbol, venue.assets.symbol
        names = [("book_lots", m) for m in range(len(markets))]
        names += [(name, k) for name in ("book_quanta", "pool", "fund", "shortfall") for k in range(len(assets))]
        name, item = names[at]
        of = markets[item] if name == "book_lots" else assets[item]
        more = int(now[at]) - int(self._entries[at])
        numbers = np.flatnonzero(_rows_of_ledger(rows, name, item))
        equation = f"{name} of {of} in the ledger is {_more(more)} than before the tick and its rows"
        raise InvariantError(equation, rows[numbers], numbers)

    def _refuse_account(self, rows: Rows, account: int) -> None:
        numbers = np.flatnonzero((rows["account"] == account) | (rows["counterparty"] == account))
        difference = int(self._fingerprints(np.array([account]))[0]) - int(self._fingerprint[account])
        of = f"of account {self._accounts.ids[account]}"
        amount, what = self._decoded(account, difference)
        if amount:
            equation = f"{what} {of} is {_more(amount)} than before the tick and its rows"
        else:
            equation = f"more than one amount {of} is not what it was before the tick plus its rows"
        raise InvariantError(equation, rows[numbers], numbers)

    def _decoded(self, account: int, difference: int) -> tuple[int, str]:
        """Return the one amount of an account whose change explains a difference of fingerprints, and its name."""
        columns, venue = self._accounts.columns, self._venue
        terms = []
        for row in self._accounts.positions_of(account):
            m = int(columns.market[row])
            terms += [(int(self._position[n, m]), f"{name} in {venue.markets.symbol[m]}")
                      for n, name in enumerate(("lots", "cost", "entry"))]  # fmt: skip
        for row in self._accounts.balances_of(account):
            k = int(columns.asset[row])
            terms += [(int(self._balance[n, k]), f"{name} quanta of {venue.assets.symbol[k]}")
                      for n, name in enumerate(("free", "lent", "unsettled"))]  # fmt: skip
        amounts = [((difference * pow(factor, -1, 2**64) + 2**63) % 2**64 - 2**63, name) for factor, name in terms]
        amount, name = min(amounts, key=lambda known: abs(known[0]))
        return (amount, name) if abs(amount) < _LARGEST_DECODED else (0, "")


def _rows_of_ledger(rows: Rows, name: str, item: int) -> Bool:
    """Whether rows change an entry of the ledgers."""
    paid = rows["settle"] == item
    match name:
        case "book_lots":
            chosen = (rows["counterparty"] == kernels.BOOK) & (rows["market"] == item) & (rows["lots"] != 0)
        case "book_quanta":
            chosen = rows["counterparty"] == kernels.BOOK
            chosen &= (rows["asset"] == item) | ((rows["counter_cash"] != 0) & paid)
        case "pool":
            chosen = (rows["counterparty"] == kernels.POOL) & (rows["asset"] == item)
        case "fund":
            chosen = paid & ((rows["fund"] != 0) | (rows["fee"] != 0))
        case _:
            chosen = paid & (rows["counterparty"] == kernels.SHORTFALL)
    return np.asarray(chosen)


def _flat(ledger: Ledger) -> Int:
    """Copy the conserved part of the ledgers, one behind the other in the order of `LedgerArrays`."""
    return np.concatenate([getattr(ledger, name) for name in LedgerArrays._fields])


def _more(amount: int) -> str:
    return f"{amount} more" if amount > 0 else f"{-amount} less"


def _as_text(row: Any) -> str:
    """Return what a row says, without zeros; event and reason by their codes' names."""
    values = dict(zip(ROW.names or (), row.tolist(), strict=True))
    values |= {"event": EVENTS[values["event"]], "reason": _REASON_NAMES[values["reason"]]}
    return str({name: value for name, value in values.items() if value})


_REASON_NAMES = list(REASON)
