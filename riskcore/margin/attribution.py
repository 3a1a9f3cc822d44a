"""The requirement of accounts by position: what each contributes, what one unit more adds, what each saves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Float, Int
from ..boundary import as_html, counted, frame_as_html
from ..kernels.scenario_accounts import BORROWS
from ..market import Prices, Tick
from ..scenario import Portfolios, saved_by_position
from ..state import Accounts
from ..venue import MMF, Venue
from . import exact
from .model import folded
from .scenario import numeraire_price, table_of
from .scenario_losses import NO_LOSS, group_names, owners_of, portfolios_at, scenario_names, scenario_prices
from .what_if import rows_of

_SHOWN = 10  # rows in a notebook
_STEP = Decimal("1e-15")  # of a borrow, to either side, for the slope of its margin function


@dataclass(frozen=True, repr=False)
class Attribution:
    """The maintenance requirement of A accounts by their N positions, settle units.

    Positions of an account stand together: balances that count in the scenarios first, then markets by underlying,
    perpetuals, futures and options by expiry and strike, then borrows that have a margin function of their own.

    Attributes
    ----------
    row : ndarray of int64, shape (N,)
        Account of each position: the place in ``account``.
    item : ndarray of object, shape (N,)
        Market, or asset of a balance or a borrow.
    quantity : ndarray of float64, shape (N,)
        Signed quantity, units of the market or asset; of a balance times its collateral weight.
    contribution : ndarray of float64, shape (N,)
        Part of the requirement; those of an account sum to it. A hedge has a negative one.
    marginal : ndarray of float64, shape (N,)
        What one unit of quantity more adds to the requirement: the gradient, exact where a single scenario is the
        worst.
    saved : ndarray of float64, shape (N,)
        Requirement without the position less that with it: positive if the position is a hedge.
    alone : ndarray of float64, shape (N,)
        Requirement of the position alone.
    account : ndarray, shape (A,)
        The user's account ids.
    requirement : ndarray of float64, shape (A,)
        Maintenance requirement.
    scenario : ndarray of int64, shape (A,)
        Binding scenario, as of `ScenarioLosses`.
    scenario_name, group : ndarray of object, shape (A,)
        Its name, and the name of the group of underlyings with the largest requirement.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Losses and attribution".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(100)
    >>> rc.attribution(sample.accounts, sample.venue, sample.tick)
    Attribution(100 accounts, 186 positions, hedging saves 47.0% of 1,249,744)
    """

    row: Int
    item: npt.NDArray[Any]
    quantity: Float
    contribution: Float
    marginal: Float
    saved: Float
    alone: Float
    account: npt.NDArray[Any]
    requirement: Float
    scenario: Int
    scenario_name: npt.NDArray[Any]
    group: npt.NDArray[Any]

    def __repr__(self) -> str:
        """One line: accounts, positions, and what hedging saves all accounts."""
        sizes = f"{counted(len(self.account), 'account')}, {counted(len(self.row), 'position')}"
        alone = float(self.alone.sum())
        share = f", hedging saves {self.saved_by_hedging.sum() / alone:.1%} of {alone:,.0f}" if alone > 0 else ""
        return f"Attribution({sizes}{share})"

    def _repr_html_(self) -> str:
        return f"<p>{as_html(repr(self))}</p>{frame_as_html(self.to_frame().iloc[:_SHOWN], _SHOWN)}"

    @property
    def saved_by_hedging(self) -> Float:
        """Requirements of the positions alone less that of the account: ndarray of float64, shape (A,)."""
        return np.bincount(self.row, self.alone, len(self.account)) - self.requirement

    def to_frame(self) -> pd.DataFrame:
        """Return a row per position.

        Returns
        -------
        DataFrame
            account, item, quantity, contribution, marginal (per unit of quantity), saved, alone; settle units.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import options_sample
        >>> sample = options_sample(100)
        >>> frame = rc.attribution(sample.accounts, sample.venue, sample.tick, account=1).to_frame()
        >>> frame[["item", "contribution", "saved", "alone"]].round(2).values.tolist()
        [['BTC_USDC_PERP', 10482.55, 1664.35, 10482.55], ['BTC-27MAR26-57000-C', -2697.53, 2697.53, 9449.38]]
        """
        names = "item", "quantity", "contribution", "marginal", "saved", "alone"
        return pd.DataFrame({"account": self.account[self.row]} | {name: getattr(self, name) for name in names})

    def accounts_frame(self) -> pd.DataFrame:
        """Return a row per account.

        Returns
        -------
        DataFrame
            account, requirement, alone (sum over the positions), saved_by_hedging (settle units), scenario (id),
            scenario_name, group.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import options_sample
        >>> sample = options_sample(100)
        >>> frame = rc.attribution(sample.accounts, sample.venue, sample.tick, account=1).accounts_frame()
        >>> frame[["requirement", "saved_by_hedging", "scenario_name"]].round(2).values.tolist()
        [[7785.02, 12146.9, '-18 % up']]
        """
        return pd.DataFrame(
            {
                "account": self.account,
                "requirement": self.requirement,
                "alone": np.bincount(self.row, self.alone, len(self.account)),
                "saved_by_hedging": self.saved_by_hedging,
                "scenario": self.scenario,
                "scenario_name": self.scenario_name,
                "group": self.group,
            }
        )


def attribution(
    accounts: Accounts,
    venue: Venue,
    tick: Tick,
    *,
    account: Sequence[int | str] | int | str | None = None,
    threads: int | None = None,
) -> Attribution:
    """Split the maintenance requirement of accounts by position.

    Parameters
    ----------
    accounts : Accounts
        The state.
    venue : Venue
        The venue, with the margin model "scenario".
    tick : Tick
        The prices.
    account : int, str or sequence of those, optional
        Account ids; None: all.
    threads : int, optional
        As of `sweep`.

    Returns
    -------
    Attribution
        Contributions, marginal requirements, what each position saves, and the requirement of each alone.

    Raises
    ------
    RiskDataError
        The venue has another margin model, an account is not there, or a price is missing.

    Notes
    -----
    The rule: docs/scenario_margin.md, "Losses and attribution".

    Examples
    --------
    >>> import numpy as np
    >>> import riskcore as rc
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(100)
    >>> split = rc.attribution(sample.accounts, sample.venue, sample.tick)
    >>> sums = np.bincount(split.row, split.contribution)
    >>> np.allclose(sums, split.requirement), bool((split.saved_by_hedging >= -1e-9).all())
    (True, True)
    """
    prices = scenario_prices(accounts, venue, tick)
    rows = rows_of("attribution", accounts, account)
    table, portfolios, unit = table_of(prices), portfolios_at(accounts, rows, prices), float(numeraire_price(prices))
    needed, slopes = (
        table.requirements(portfolios, worst=True, threads=threads),
        table.gradients(portfolios, threads=threads),
    )
    positions = _positions(prices, portfolios) | {
        "contribution": slopes.contribution * unit,
        "marginal": slopes.gradient * unit * table.instruments.contract[portfolios.instrument],
        "saved": saved_by_position(table, portfolios, needed.maintenance, threads=threads) * unit,
        "alone": alone_of(prices, portfolios),
    }
    borrows = _borrows(accounts, rows, prices)
    held = portfolios.size != 0.0  # an instrument with orders alone has a row too
    joined = {name: np.concatenate([positions[name][held], borrows[name]]) for name in positions}
    order = np.argsort(joined["row"], kind="stable")
    return Attribution(
        **{name: column[order] for name, column in joined.items()},
        account=accounts.ids[rows],
        requirement=needed.maintenance * unit + np.bincount(borrows["row"], borrows["alone"], len(rows)),
        scenario=needed.worst,
        scenario_name=np.array([*scenario_names(table)["name"], NO_LOSS], object)[needed.worst],
        group=np.array([*group_names(table), ""], object)[needed.group],
    )


def alone_of(prices: Prices, portfolios: Portfolios) -> Float:
    """Return the requirement of each position of portfolios alone.

    Parameters
    ----------
    prices : Prices
        Complete prices.
    portfolios : Portfolios
        Portfolios of N positions.

    Returns
    -------
    ndarray of float64, shape (N,)
        Settle units.
    """
    alone: Float = folded(prices).alone[portfolios.instrument, (portfolios.size < 0.0).astype(np.int64)]
    return np.abs(portfolios.size) * alone * float(numeraire_price(prices))


class BorrowMargin(NamedTuple):
    """A borrow with a margin function of its own: its account, asset, quantity < 0, margin, and the slope of it."""

    place: int
    asset: int
    quantity: float
    margin: float
    slope: float


def borrow_margins(accounts: Accounts, rows: Int, prices: Prices) -> list[BorrowMargin]:
    """Return the borrows of some accounts that have a margin function of their own: not those of the settle asset.

    Parameters
    ----------
    accounts : Accounts
        The state.
    rows : ndarray of int64, shape (A,)
        Account rows.
    prices : Prices
        Complete prices.

    Returns
    -------
    list of BorrowMargin
        By place of the account in ``rows``; margins in settle units, slopes per unit of the asset.
    """
    counts, markets = folded(prices).layout.spot_counts, len(prices.venue.markets.symbol)
    columns, settle, found = accounts.columns, prices.venue.settle, []
    in_debt = accounts.balance_accounts()[columns.free < 0]
    for place in np.flatnonzero(np.isin(rows, in_debt)).tolist():
        for holding in exact.holdings(accounts, int(rows[place]), prices):
            k = holding.item
            if holding.kind == "borrow" and k != settle and not counts[k] & BORROWS:
                with localcontext(Context(prec=60)):
                    function, step = 2 * (markets + k) + MMF, holding.notional * _STEP
                    margin, more, less = (
                        exact.requirement(prices, function, holding.notional + moved, holding.price)
                        for moved in (Decimal(0), step, -step)
                    )
                    slope = -(more - less) / (2 * step) * holding.price
                found.append(BorrowMargin(place, k, float(holding.quantity), float(margin), float(slope)))
    return found


def _positions(prices: Prices, portfolios: Portfolios) -> dict[str, npt.NDArray[Any]]:
    """Account, name and quantity of each row of portfolios."""
    instruments = prices.venue.instruments
    number = portfolios.instrument
    return {
        "row": owners_of(portfolios),
        "item": np.array(instruments.symbol, object)[number],
        "quantity": portfolios.size / instruments.contract[number],
    }


def _borrows(accounts: Accounts, rows: Int, prices: Prices) -> dict[str, npt.NDArray[Any]]:
    """Columns of the borrows with a margin function."""
    found = borrow_margins(accounts, rows, prices)
    margin = np.array([each.margin for each in found], np.float64)
    return {
        "row": np.array([each.place for each in found], np.int64),
        "item": np.array([prices.venue.assets.symbol[each.asset] for each in found], object),
        "quantity": np.array([each.quantity for each in found], np.float64),
        "contribution": margin,
        "marginal": np.array([each.slope for each in found], np.float64),
        "saved": -margin,
        "alone": margin,
    }
