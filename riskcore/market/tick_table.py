"""The ticks of a whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .._typing import Float, Int
from ..venue import Venue
from .books import Books
from .tick import Tick


@dataclass(frozen=True)
class TickTable:
    """Ticks of a run in time order; T instants, M markets, K assets, NaN where a price is not given.

    Attributes
    ----------
    time : ndarray of int64, shape (T,)
    mark, index, open_interest, funding_rate, last : ndarray of float64, shape (T, M)
    asset : ndarray of float64, shape (T, K)
    books : dict of int64 to Books
        By time; an instant without an entry has no depth.
    """

    venue: Venue
    time: Int
    mark: Float
    index: Float
    open_interest: Float
    funding_rate: Float
    last: Float
    asset: Float
    books: dict[int, Books]

    def __len__(self) -> int:
        return len(self.time)

    def __iter__(self) -> Iterator[Tick]:
        return self.starting_at(0)

    def starting_at(self, first: int) -> Iterator[Tick]:
        """Ticks from number ``first`` on."""
        return (self.tick(t) for t in range(first, len(self)))

    def tick(self, t: int) -> Tick:
        """Tick number ``t``."""
        markets, assets = self.venue.markets.symbol, self.venue.assets.symbol
        time = int(self.time[t])
        return Tick(
            time, _known(self.mark[t], markets), self.books.get(time), _known(self.index[t], markets),
            _known(self.asset[t], assets), _known(self.open_interest[t], markets),
            _known(self.funding_rate[t], markets), _known(self.last[t], markets),
        )  # fmt: skip


def _known(row: Float, names: tuple[str, ...]) -> dict[str, float]:
    return {name: price for name, price in zip(names, row.tolist(), strict=True) if price == price}
