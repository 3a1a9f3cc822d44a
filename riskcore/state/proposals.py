"""Slices that are proposed to the host of a run, whose order books they are for."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple


class Proposal(NamedTuple):
    """What is open of a slice that was proposed to the host.

    Attributes
    ----------
    lots : int
        Change of the position that is open, signed.
    limit : int or None
        Worst price, ticks; None: any.
    fee_num, fee_den : int
        Liquidation fee, a part of the value.
    event : str
        Event of the row of a fill: "book", or "market_close" of the last book.

    Examples
    --------
    >>> from riskcore.state import Proposal
    >>> Proposal(-516, 19_305, 1, 100, "book").rate
    Fraction(1, 100)
    """

    lots: int
    limit: int | None
    fee_num: int
    fee_den: int
    event: str

    @property
    def rate(self) -> Fraction:
        """Liquidation fee as a part of the value."""
        return Fraction(self.fee_num, self.fee_den)


class Proposals(dict[tuple[int, int], Proposal]):
    """Open proposals of the last tick by account row and market row; a position has at most one.

    Examples
    --------
    >>> from fractions import Fraction
    >>> from riskcore.state import Proposal, Proposals
    >>> proposals = Proposals({(0, 2): Proposal(-516, 19_305, 1, 100, "book")})
    >>> proposals.refusal(0, 2, -500, 1_000, Fraction(19_300))
    ('price', 'must be no worse than the limit price of the proposed slice')
    >>> proposals.refusal(0, 2, -500, 1_000, Fraction(19_400)) is None, proposals.fee(0, 2, 97_001_850)
    (True, 970018)
    >>> proposals.take(0, 2, -500)
    >>> proposals[0, 2].lots
    -16
    """

    def open_lots(self, account: int, market: int, held: int) -> int:
        """Return what is open of the proposal of a position.

        Parameters
        ----------
        account, market : int
            Rows.
        held : int
            Lots of the position now, signed; other stages may have taken a part of it since.

        Returns
        -------
        int
            Lots, signed; 0 without a proposal.

        Examples
        --------
        >>> from riskcore.state import Proposal, Proposals
        >>> Proposals({(0, 2): Proposal(-516, None, 1, 100, "book")}).open_lots(0, 2, 300)
        -300
        """
        proposal = self.get((account, market))
        if proposal is None or proposal.lots * held >= 0:
            return 0
        return max(proposal.lots, -held) if held > 0 else min(proposal.lots, -held)

    def refusal(self, account: int, market: int, lots: int, held: int, price: Fraction) -> tuple[str, str] | None:
        """Return why a fill of the host is none of a proposed slice.

        Parameters
        ----------
        account, market : int
            Rows.
        lots : int
            Change of the position, signed.
        held : int
            Lots of the position before, signed.
        price : Fraction
            Price of the fill, ticks.

        Returns
        -------
        tuple of str, or None
            Column of the table `activity`, and the rule that its value breaks.

        Examples
        --------
        >>> from fractions import Fraction
        >>> from riskcore.state import Proposals
        >>> Proposals().refusal(0, 2, -5, 10, Fraction(19_000))
        ('market', 'must be one in which the last tick proposed a slice of the account, of which something is open')
        """
        still = self.open_lots(account, market, held)
        if not still:
            rule = "must be one in which the last tick proposed a slice of the account, of which something is open"
            return "market", rule
        if still * lots < 0:
            return "quantity", f"must be {'above' if still > 0 else 'below'} 0, as the proposed slice"
        if abs(lots) > abs(still):
            return "quantity", "must be at most what is open of the proposed slice"
        limit = self[account, market].limit
        if limit is not None and (price > limit if lots > 0 else price < limit):
            return "price", "must be no worse than the limit price of the proposed slice"
        return None

    def fee(self, account: int, market: int, flow: int) -> int:
        """Return the liquidation fee of a fill of a proposed slice.

        Parameters
        ----------
        account, market : int
            Rows.
        flow : int
            Value of the fill, quanta of the market's settle asset, of either sign.

        Returns
        -------
        int
            Quanta of the settle asset, halves to even.

        Examples
        --------
        >>> from riskcore.state import Proposal, Proposals
        >>> Proposals({(0, 2): Proposal(-516, None, 1, 100, "book")}).fee(0, 2, -1_050)
        10
        """
        return round(abs(flow) * self[account, market].rate)

    def take(self, account: int, market: int, lots: int) -> None:
        """Take filled lots off a proposal, which is forgotten with its last lots.

        Parameters
        ----------
        account, market : int
            Rows.
        lots : int
            Change of the position, signed.

        Examples
        --------
        >>> from riskcore.state import Proposal, Proposals
        >>> proposals = Proposals({(0, 2): Proposal(-516, None, 1, 100, "book")})
        >>> proposals.take(0, 2, -516)
        >>> proposals
        {}
        """
        proposal = self[account, market]
        if proposal.lots == lots:
            del self[account, market]
        else:
            self[account, market] = proposal._replace(lots=proposal.lots - lots)
