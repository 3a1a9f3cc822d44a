"""Margin models: what the sweep, the screen, the phases of a liquidation and hypothetical margins ask of one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..kernels import liquidation_price
from ..kernels import margin_model as kernels
from ..kernels._jit import implement
from ..kernels.margin import DOUBT, SAFE
from ..market import Prices
from ..state import Accounts
from ..venue import Venue, must_be_registered
from .exact import ExactMargin

if TYPE_CHECKING:
    from .._typing import Bool, Float, Int
    from .screen import PriceIntervals


class MarginModel(ABC):
    """A margin model: its functions in exact arithmetic; `register_model` adds those of the kernels.

    In the lots of each position, the equity is concave and both margins are convex, and so in each mark: slices and
    liquidation prices are found by bisection.

    Attributes
    ----------
    name : str
        Name that a venue's ``margin_model`` may have.
    folded : type
        Class of the named tuple that `fold` returns, of no other model. Its fields, among them those that
        `riskcore.kernels.margin_model` lists, are the figures of the kernels.
    packed : bool
        Whether the packed sweep and the kernels of `riskcore.kernels.liquidation_price` compute this model. False:
        `fill` and `liquidatable` do, and liquidation prices are found by bisection.
    revalues : bool
        Whether the model revalues positions in scenarios. True: liquidation prices are those of a move of the
        underlying, and `explain_margin` has a line per scenario that counts.
    bound : callable, optional
        Called with prices and the least and largest values of `riskcore.margin.screen.interval_values`; returns
        intervals with the methods of `PriceIntervals`, which decide accounts at all prices between. None: the screen
        computes every account at every tick.

    Notes
    -----
    docs/extending.md, "A margin model", has the steps.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin import model_of
    >>> model_of(rc.load_venue("backpack")).name
    'separable'
    """

    name: str
    folded: type
    packed: bool = False
    revalues: bool = False
    bound: Callable[[Prices, Float, Float], PriceIntervals] | None = None

    @abstractmethod
    def fold(self, prices: Prices) -> Any:
        """Return the figures of complete prices for the kernels.

        Parameters
        ----------
        prices : Prices
            Complete prices of one instant.

        Returns
        -------
        NamedTuple
            Of the class `folded`, settle quanta.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.margin import model_of
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> model_of(venue).fold(prices).price_per_lot[venue.markets.row["SOL_USDC_PERP"]].item()
        1950000.0
        """

    @abstractmethod
    def account(self, accounts: Accounts, account: int, prices: Prices) -> ExactMargin:
        """Return the margin of an account exactly, and what each position and borrow has of the maintenance margin.

        Parameters
        ----------
        accounts : Accounts
            The state.
        account : int
            Account row.
        prices : Prices
            Complete prices of one instant.

        Returns
        -------
        ExactMargin
            Its ``requirement`` and ``borrowed`` add up to the maintenance margin. Zero prices, the order of the
            backstop and of ADL, and their figures depend on these parts alone.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.margin import model_of
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> float(model_of(venue).account(accounts, 0, prices).maintenance)
        26.325
        """

    @abstractmethod
    def covers_initial_margin(self, accounts: Accounts, account: int, prices: Prices) -> bool:
        """Return whether the initial margin ratio of an account is under 1, and its net equity not below 0; exactly.

        Parameters
        ----------
        accounts : Accounts
            The state.
        account : int
            Account row.
        prices : Prices
            Complete prices of one instant.

        Returns
        -------
        bool
            Whether it is.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.margin import model_of
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> model_of(venue).covers_initial_margin(accounts, 0, prices)
        False
        """

    def estimate(
        self, accounts: Accounts, row: Int, prices: Prices, figures: Float, status: npt.NDArray[np.uint8]
    ) -> None:
        """Fill the margins of some accounts in float64; one by one from their columns, unless overridden.

        Parameters
        ----------
        accounts : Accounts
            The state.
        row : ndarray of int64, shape (n,)
            Account rows, in any order.
        prices : Prices
            Complete prices of one instant.
        figures : ndarray of float64, shape (4, n)
            Net equity, exposure, initial and maintenance margin, settle units; filled.
        status : ndarray of uint8, shape (n,)
            SAFE, LIQUIDATING, BELOW_AUTO_CLOSE, or DOUBT where float64 cannot decide; filled.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.margin import model_of
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> figures, status = np.empty((4, 1)), np.empty(1, np.uint8)
        >>> model_of(venue).estimate(accounts, np.array([1]), prices, figures, status)
        >>> figures[:, 0].tolist()
        [425.0, 975.0, 19.5, 13.1625]
        """
        equity, exposure, initial, maintenance = figures
        arrays, columns = folded(prices), accounts.columns
        kernels.account_margins(row, columns, arrays, equity, exposure, initial, maintenance, status)

    def fill(self, accounts: Accounts, row: Int, prices: Prices, figures: Float, status: npt.NDArray[np.uint8]) -> None:
        """Fill the margins of some accounts, with the exact equity, maintenance margin and status in case of doubt.

        Parameters
        ----------
        accounts, row, prices, figures
            As of `estimate`.
        status : ndarray of uint8, shape (n,)
            SAFE, LIQUIDATING or BELOW_AUTO_CLOSE; filled.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.margin import model_of
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> figures, status = np.empty((4, 1)), np.empty(1, np.uint8)
        >>> model_of(venue).fill(accounts, np.array([0]), prices, figures, status)
        >>> figures[[0, 3], 0].tolist(), status.tolist()
        ([30.0, 26.325], [0])
        """
        self.estimate(accounts, row, prices, figures, status)
        for n in np.flatnonzero(status == DOUBT).tolist():
            margin = self.account(accounts, int(row[n]), prices)
            figures[0, n], figures[3, n], status[n] = margin.equity, margin.maintenance, margin.status

    def liquidatable(self, accounts: Accounts, row: Int, prices: Prices) -> Bool:
        """Return whether the maintenance margin ratio of each of some accounts is 1 or more, decided exactly.

        Parameters
        ----------
        accounts : Accounts
            The state.
        row : ndarray of int64, shape (n,)
            Account rows, in any order.
        prices : Prices
            Complete prices of one instant.

        Returns
        -------
        ndarray of bool, shape (n,)
            Whether it is.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.margin import model_of
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 190.0})
        >>> model_of(venue).liquidatable(accounts, np.array([1, 0]), prices).tolist()
        [False, True]
        """
        figures, status = np.empty((4, len(row))), np.empty(len(row), np.uint8)
        self.fill(accounts, row, prices, figures, status)
        return np.not_equal(status, SAFE)

    def largest_orders(self, accounts: Accounts, row: Int, market: int, prices: Prices) -> Int:
        """Return the largest bid and ask in a market with which the initial margin of each account is below its equity.

        Orders are tried and taken back, by bisection: the initial margin must not fall as an order grows.

        Parameters
        ----------
        accounts : Accounts
            The state.
        row : ndarray of int64, shape (n,)
            Account rows, in any order.
        market : int
            Row of the market.
        prices : Prices
            Complete prices of one instant, with a mark of the market.

        Returns
        -------
        ndarray of int64, shape (n, 2)
            Lots of the bid and of the ask; 0 if there is none.

        Examples
        --------
        >>> import numpy as np
        >>> import riskcore as rc
        >>> from riskcore.margin import model_of
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
        >>> model_of(venue).largest_orders(accounts, np.array([1]), 2, prices).tolist()
        [[11397, 10397]]
        """
        changeable = _with_rows(accounts, prices.venue, row, market).copy()
        positions = np.array([changeable.position_row(a, market) for a in row.tolist()], np.int64)
        lots = np.empty((len(row), 2), np.int64)
        liquidation_price.largest_orders_by_trial(row, positions, changeable.columns, folded(prices), lots)
        return lots


def _with_rows(accounts: Accounts, venue: Venue, rows: Int, market: int) -> Accounts:
    """Return the accounts with a position row of a market for each of some accounts."""
    columns = accounts.columns
    owner = accounts.position_accounts()[columns.market == market]
    missing = accounts.ids[np.setdiff1d(rows, owner)]
    if not len(missing):
        return accounts
    step, tick = venue.markets.step_size[market], venue.markets.tick_size[market]
    opened = pd.DataFrame({"account": missing, "market": venue.markets.symbol[market], "quantity": step, "price": tick})
    return accounts.with_fills(venue, pd.concat([opened, opened.assign(quantity=-step)], ignore_index=True))


MODELS: dict[str, MarginModel] = {}
"""The registered margin models by name."""


def register_model(
    model: MarginModel,
    *,
    account_margin: Callable[..., Any],
    position_requirement: Callable[..., Any],
    fill_effect: Callable[..., Any] = kernels.effect_of_trial,
    restoring_lots: Callable[..., Any] = kernels.restoring_lots_by_bisection,
) -> None:
    """Add a margin model under its name, with its kernels.

    The kernels are functions that Numba compiles, with the parameters of those of the same names in
    `riskcore.kernels.margin_model`; kernels that contain them are compiled in each process.

    Parameters
    ----------
    model : MarginModel
        The model.
    account_margin : callable
        The margin of an account, a `riskcore.kernels.margin.MarginSums`.
    position_requirement : callable
        The part of a position in the maintenance margin; the nearest float64 of that of `MarginModel.account`.
    fill_effect : callable
        The effect of closing lots; by default they are closed, the margin is computed anew, and they are taken back.
    restoring_lots : callable
        The fewest lots that restore the target; by default they are found by bisection.

    Raises
    ------
    ValueError
        The name or the class of the figures is another model's.

    Notes
    -----
    docs/extending.md, "A margin model", has the steps and an example.

    Examples
    --------
    >>> from riskcore.margin import MODELS, register_model
    >>> register_model(MODELS["separable"], account_margin=abs, position_requirement=abs)
    Traceback (most recent call last):
        ...
    ValueError: 'separable' is a registered margin model
    """
    if model.name in MODELS:
        raise ValueError(f"{model.name!r} is a registered margin model")
    implement(
        model.folded,
        {
            kernels.account_margin: account_margin,
            kernels.position_requirement: position_requirement,
            kernels.fill_effect: fill_effect,
            kernels.restoring_lots: restoring_lots,
        },
    )
    MODELS[model.name] = model


def model_of(venue: Venue) -> MarginModel:
    """Return the margin model of a venue.

    Parameters
    ----------
    venue : Venue
        The venue; its policy names the model.

    Returns
    -------
    MarginModel
        The registered model of this name.

    Raises
    ------
    RiskDataError
        No model of this name is registered.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin import model_of
    >>> model_of(rc.load_venue("backpack").replace(policy={"margin_model": "no"}))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: venue.policy.margin_model, value 'no': must be 'scenario'...
    """
    if venue.policy.margin_model not in MODELS:
        must_be_registered(venue.policy, "margin_model", MODELS)
    return MODELS[venue.policy.margin_model]


def folded(prices: Prices) -> Any:
    """Return the figures that the margin model of the venue folds prices into.

    Parameters
    ----------
    prices : Prices
        Complete prices of one instant.

    Returns
    -------
    NamedTuple
        What `MarginModel.fold` returns, computed once for these prices.

    Raises
    ------
    RiskDataError
        The model of the venue is not registered.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.margin import folded
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> prices = rc.Prices.read(venue, accounts, {"SOL_USDC_PERP": 195.0})
    >>> folded(prices) is folded(prices)
    True
    """
    return prices.folded(model_of(prices.venue).fold)
