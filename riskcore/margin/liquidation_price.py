"""Liquidation prices: the mark of each market at which an account's maintenance margin ratio reaches 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Float
from ..boundary.threads import in_chunks
from ..kernels import liquidation_price as kernels
from ..kernels.margin_model import account_margins
from ..market import PriceMap, Prices, Tick
from ..state import Accounts
from ..venue import Venue
from .model import model_of
from .sweep import ACCOUNTS_PER_THREAD
from .underlying_moves import nearest_moves


@dataclass(frozen=True)
class LiquidationPrices:
    """Liquidation price of every position; arrays of shape (N,), by account id, then by market as the venue lists them.

    Attributes
    ----------
    account, market : ndarray
        The user's account ids, and symbols.
    quantity, mark_price : ndarray of float64
        Signed position (units of the market's base), and the mark that everything else is taken at (settle units).
    liquidation_price : ndarray of float64
        Settle units; NaN where there is none.
    liquidation_price_below, liquidation_price_above : ndarray of float64, or None
        The nearest ones below and above the mark, of which ``liquidation_price`` is the nearer; NaN where there is
        none. None with a margin model that does not revalue positions, where there is one price.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> prices = rc.liquidation_prices(accounts, venue, {market: 195.0})
    >>> prices.account.tolist(), prices.quantity.tolist(), prices.liquidation_price.round(4).tolist()
    ([1, 2], [10.0, -5.0], [194.6275, 276.2704])
    """

    account: npt.NDArray[Any]
    market: npt.NDArray[Any]
    quantity: Float
    mark_price: Float
    liquidation_price: Float
    liquidation_price_below: Float | None = None
    liquidation_price_above: Float | None = None

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a frame, with the column distance.

        Returns
        -------
        DataFrame
            account, market, quantity, mark_price, liquidation_price, with a margin model that revalues positions
            liquidation_price_below and liquidation_price_above, and distance (the relative move of the mark to the
            liquidation price: -0.1 is ten percent down).

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> rc.liquidation_prices(accounts, venue, {market: 195.0}).to_frame()["distance"].round(4).tolist()
        [-0.0019, 0.4168]
        """
        frame = pd.DataFrame({name: column for name, column in vars(self).items() if column is not None})
        return frame.assign(distance=self.liquidation_price / self.mark_price - 1.0)


def liquidation_prices(
    accounts: Accounts,
    venue: Venue,
    prices: PriceMap | Tick,
    *,
    indexes: PriceMap | None = None,
    asset_prices: PriceMap | None = None,
    open_interest: PriceMap | None = None,
    threads: int | None = None,
) -> LiquidationPrices:
    """Compute the mark of each position at which its account's maintenance margin ratio reaches 1 with all else equal.

    All else: the other marks, the prices of assets (also of the market's own base asset) and the open interest in
    settle units. The maintenance margin moves with the mark, by the market's own function: the result is a root of
    equity less requirement, not a step along today's slope. A short position is liquidated above it. A long one is
    liquidated below it; but where its requirement can outgrow its equity in a rise (a square root at great size) and
    the market's maxPrice lets the mark get there, above it, if it has no lower one or is beyond the upper one now. Of
    an inverse contract this holds for a short position in a fall. For an account that is liquidatable it is the mark at
    which it would no longer be.

    With a margin model that revalues positions in scenarios the whole underlying moves: its index, the marks and
    forwards of all its contracts, and the asset that it is, by one factor; options are valued again at their own
    volatilities. There can be several such prices. The nearest below and above the present one are found: the first
    change of sign on a grid of one percent, refined by bisection. Two roots inside one step of the grid are not seen.
    The grid ends at a thousand times the present price, or where a mark reaches its market's maxPrice. In the row of an
    option, prices are those of the forward of its expiry.

    Parameters
    ----------
    accounts, venue, prices, indexes, asset_prices, open_interest, threads
        As of `sweep`, with a single vector of prices.

    Returns
    -------
    LiquidationPrices
        One row for each position that is not flat.

    Raises
    ------
    RiskDataError
        A price is missing, not finite or not > 0.

    Notes
    -----
    The rule that is solved for the mark: docs/one_tick.md, "Net equity, margins and status".

    Examples
    --------
    Account 1 has 80 in cash and is long 10 from 200: 80 + 10 (p - 200) = 0.0135 x 10 p at p = 1920 / 9.865.

    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> prices = rc.liquidation_prices(accounts, venue, {market: 195.0}).liquidation_price
    >>> float(prices[0].round(6)), round(1920 / 9.865, 6)
    (194.627471, 194.627471)
    """
    read = Prices.read(venue, accounts, prices, indexes, asset_prices, open_interest)
    columns = accounts.columns
    row = np.flatnonzero(columns.lots)
    market = columns.market[row]
    mark, below, above = read.mark[market], None, None
    if model_of(venue).revalues:
        mark = _levels(read)[market]
        below, above = (moves[row] * mark for moves in nearest_moves(accounts, read, threads))
        is_below = np.isnan(above) | (mark - below <= above - mark)
        found = np.where(is_below, below, above)
    else:
        found = _parts_of_mark(accounts, read, threads)[row] * mark
    return LiquidationPrices(
        account=accounts.ids[accounts.position_accounts()[row]],
        market=np.array(venue.markets.symbol, object)[market],
        quantity=venue.markets.quantity(columns.lots[row], market),
        mark_price=mark,
        liquidation_price=found,
        liquidation_price_below=below,
        liquidation_price_above=above,
    )


def _levels(prices: Prices) -> Float:
    """Mark of each market, of an option the forward of its expiry."""
    instruments, levels = prices.venue.instruments, prices.mark.copy()
    option = np.flatnonzero(prices.venue.markets.is_option)
    if prices.scenario is not None:
        levels[option] = prices.scenario.forward[instruments.term[option]]
    return levels


def _parts_of_mark(accounts: Accounts, prices: Prices, threads: int | None) -> Float:
    """Liquidation price of each position, in units of the present mark."""
    venue, columns = prices.venue, accounts.columns
    part_of_mark = np.empty(len(columns.lots))
    highest = venue.markets.max_price / prices.mark
    if venue.markets.inverse.any():  # whose notional is largest at one tick
        highest = np.where(venue.markets.inverse, prices.mark / venue.markets.tick_size, highest)

    def chunk(first: int, last: int) -> None:
        if model_of(venue).packed:
            kernels.liquidation_marks(
                first, last, columns, prices.arrays, venue.margin_functions.by_quantity, highest, part_of_mark
            )
        else:
            for account in range(first, last):
                for row in accounts.positions_of(account):
                    if columns.lots[row]:
                        part_of_mark[row] = _bisected(accounts, account, row, prices, highest)

    in_chunks(chunk, len(accounts), threads, ACCOUNTS_PER_THREAD)
    return part_of_mark


_LEAST, _MOST = 1e-12, 1e12  # parts of the notional between which a root is sought
_STEPS = 100


def _bisected(accounts: Accounts, account: int, row: int, prices: Prices, highest: Float) -> float:
    """Return the mark at which a position's account reaches 100 %, in units of the present mark, by any margin model.

    Net equity less maintenance margin is concave in the notional: it is positive between two roots, or nowhere.
    """
    columns, model = accounts.columns, model_of(prices.venue)
    m = int(columns.market[row])
    inverse = bool(prices.venue.markets.inverse[m])
    long = bool(columns.lots[row] > 0) != inverse  # in the notional
    index, (equity, exposure, initial, maintenance) = np.array([account]), np.empty((4, 1))
    status = np.empty(1, np.uint8)
    open_notional = float(prices.open_notional(m))

    def surplus(part: float) -> float:
        mark, interest = prices.mark.copy(), prices.open_interest.copy()
        mark[m] = mark[m] / part if inverse else mark[m] * part
        interest[m] = open_notional / mark[m]
        moved = replace(prices, mark=mark, open_interest=interest)
        account_margins(index, columns, model.fold(moved), equity, exposure, initial, maintenance, status)
        return float(equity[0] - maintenance[0])

    def root(positive: float, other: float) -> float:
        if surplus(other) > 0.0:
            return np.nan
        for _ in range(_STEPS):
            middle = (positive * other) ** 0.5
            positive, other = (middle, other) if surplus(middle) > 0.0 else (positive, middle)
        return other

    most = float(min(highest[m], _MOST)) if long else _MOST
    inside, low, high = 1.0, _LEAST, most
    for _ in range(_STEPS):
        if surplus(inside) > 0.0:
            break
        left, right = low ** (2 / 3) * high ** (1 / 3), low ** (1 / 3) * high ** (2 / 3)
        at_left, at_right = surplus(left), surplus(right)
        low, high, inside = (low, right, left) if at_left > at_right else (left, high, right)
    else:
        return np.nan
    lower, upper = root(inside, _LEAST), root(inside, most)
    if long:
        part = upper if np.isnan(lower) or upper < 1.0 else lower
    else:
        part = lower if np.isnan(upper) or lower > 1.0 else upper
    return 1.0 / part if inverse else part
