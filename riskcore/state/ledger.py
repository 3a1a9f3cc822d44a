"""The ledger: lots and money of parties that are not accounts, and counters that go from tick to tick."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .._limits import AMOUNT_LIMIT
from .._typing import Bool, Float, Int
from ..venue import Venue
from .proposals import Proposals


@dataclass
class Ledger:
    """Lots and money of parties that are not accounts, in whole numbers, and counters that go from tick to tick.

    Attributes
    ----------
    book_lots : ndarray of int64, shape (M,)
        Lots that the makers on the order books took over.
    book_quanta : ndarray of int64, shape (K,)
        Money of the makers, by asset.
    pool : ndarray of int64, shape (K,)
        Quanta that the pools received: interest of accounts outside the run, and the venue's part.
    fund, shortfall : ndarray of int64, shape (K,)
        Money of the fund, and (negative) the debts of bankrupt accounts to the venue, by asset.
    taken : ndarray of int64, shape (providers, 3)
        Mark notional in settle quanta taken in the running clock minute, hour, and ever.
    premium_sum : ndarray of float64, shape (M,)
    premium_count : ndarray of int64, shape (M,)
        Premiums of the mark over the index since the market's last funding.
    funding_scheduled, delisted : ndarray of bool, shape (M,)
        Whether a market's funding follows the funding table, and whether the market was delisted.
    adl_on : bool
        Whether ADL is on, where it goes by the fund.
    last_slice : dict
        Time of the last fill of a slice by account and market row; kept where the policy has a cooldown.
    sold : dict
        Settle quanta of slices in the running interval by account row; kept where the policy has a cap on accounts.
    proposals : Proposals
        Slices that the last tick proposed to the host, as far as the host has not filled them.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> ledger = rc.Engine(accounts, venue).ledger
    >>> ledger.fund[venue.settle].item(), ledger.shortfall.any().item(), ledger.book_lots.tolist()
    (1000000000, False, [0, 0, 0, 0])
    """

    book_lots: Int
    book_quanta: Int
    pool: Int
    fund: Int
    shortfall: Int
    taken: Int
    premium_sum: Float
    premium_count: Int
    funding_scheduled: Bool
    delisted: Bool
    adl_on: bool = False
    last_slice: dict[tuple[int, int], int] = field(default_factory=dict)
    sold: dict[int, int] = field(default_factory=dict)
    proposals: Proposals = field(default_factory=Proposals)

    def must_fit(self) -> None:
        """Check that no amount is past the range of whole numbers.

        Raises
        ------
        RuntimeError
            An amount is 2**62 or more.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.state import Ledger
        >>> Ledger.opening(rc.load_venue("backpack")).must_fit()
        """
        names = "book_lots", "book_quanta", "pool", "fund", "shortfall", "taken"
        amounts = [getattr(self, name).ravel() for name in names]
        joined = np.concatenate(amounts)
        if joined.max() >= AMOUNT_LIMIT or joined.min() <= -AMOUNT_LIMIT:
            wrong = (
                name
                for name, of in zip(names, amounts, strict=True)
                if np.abs(of.astype(float)).max(initial=0.0) >= AMOUNT_LIMIT
            )
            raise RuntimeError(f"{next(wrong)} of the ledger exceeds 2**62")

    @classmethod
    def opening(cls, venue: Venue) -> Ledger:
        """Return ledgers of nothing but the policy's fund, which is in the venue's settle asset.

        Parameters
        ----------
        venue : Venue
            The rules.

        Returns
        -------
        Ledger
            The ledgers at the start of a run.

        Examples
        --------
        >>> from riskcore.sample import two_accounts
        >>> from riskcore.state import Ledger
        >>> venue, accounts = two_accounts()
        >>> Ledger.opening(venue).fund.tolist()[venue.settle]  # quanta
        1000000000
        """
        markets, assets = len(venue.markets.symbol), len(venue.assets.symbol)
        fund = np.zeros(assets, np.int64)
        fund[venue.settle] = round(venue.policy.fund / venue.settle_quantum)
        return cls(
            book_lots=np.zeros(markets, np.int64),
            book_quanta=np.zeros(assets, np.int64),
            pool=np.zeros(assets, np.int64),
            fund=fund,
            shortfall=np.zeros(assets, np.int64),
            taken=np.zeros((len(venue.backstop), 3), np.int64),
            premium_sum=np.zeros(markets),
            premium_count=np.zeros(markets, np.int64),
            funding_scheduled=np.zeros(markets, bool),
            delisted=np.zeros(markets, bool),
        )
