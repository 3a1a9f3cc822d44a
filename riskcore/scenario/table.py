"""The table of record: what a tick's prices and a model give before any account is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .._typing import Bool, Float, Int
from ..boundary import RiskDataError
from ..kernels.scenario_layouts import NO_MINIMUM, ScenarioArrays, ScenarioScratch
from . import requirement, screening
from .builder import TableBuilder
from .instruments import Instruments, Kind
from .model import ScenarioModel
from .portfolios import Portfolios
from .record import Terms
from .requirement import Gradients, Requirements
from .scenario_market import ScenarioMarket


@dataclass(frozen=True, eq=False)
class ScenarioTable:
    """The table of record of M instruments, N terms and S scenarios.

    Attributes
    ----------
    model : ScenarioModel
        The model.
    instruments : Instruments
        The instruments.
    market : ScenarioMarket
        The data of the tick.
    terms : Terms
        Forwards and discount factors.
    value : ndarray of float64, shape (M,)
        Value of record of a unit of size, in the numeraire: of an option its model value, or its mark where the model
        takes marks; of a linear perpetual or future and of a spot balance the price; of an inverse contract minus the
        coins that a quote unit is worth, so that profit and loss are size times the change.
    greeks : ndarray of float64, shape (M, 4)
        Delta (base units), gamma, vega and theta of a unit of size, as of `riskcore.options`.
    available : ndarray of bool, shape (M,)
        Whether the tick has all that an instrument needs; a portfolio that holds another one is refused.
    arrays : ScenarioArrays
        The table as the kernels take it.

    Notes
    -----
    The rule: docs/scenario_margin.md, "The requirement".

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
    >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
    >>> instruments = Instruments.from_frame(frame)
    >>> market = ScenarioMarket.read(instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 6e4})
    >>> model = load_scenario_model({"scenarios": [{"move": "0.18"}, {"move": "-0.18"}], "mm_factor": "0.8"})
    >>> table = ScenarioTable.of(model, instruments, market)
    >>> held = pd.DataFrame({"account": ["ann"], "market": ["BTC-PERP"], "size": [0.4]})
    >>> table.requirements(Portfolios.from_frame(instruments, held)[0]).maintenance
    array([3456.])
    """

    model: ScenarioModel
    instruments: Instruments
    market: ScenarioMarket
    terms: Terms
    value: Float
    greeks: Float
    available: Bool
    arrays: ScenarioArrays

    @classmethod
    def of(cls, model: ScenarioModel, instruments: Instruments, market: ScenarioMarket) -> ScenarioTable:
        """Compute the table of record of a tick.

        Parameters
        ----------
        model : ScenarioModel
            The model.
        instruments : Instruments
            The instruments.
        market : ScenarioMarket
            The data of the tick, of these instruments.

        Returns
        -------
        ScenarioTable
            The table.

        Raises
        ------
        RiskDataError
            The model does not fit the instruments, or an entry is not finite.

        Notes
        -----
        The rule: docs/scenario_margin.md, "The requirement".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_600.0}
        ... )
        >>> ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "-0.1"}]}), instruments, market).change
        array([[-6060.]])
        """
        return cls(model, instruments, market, *TableBuilder(model, instruments, market).fields())

    @property
    def change(self) -> Float:
        """Change of the value of a unit of size in each scenario, undamped and without weights; float64, shape (M, S).

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(instruments, "2026-01-01", index={"BTC": 6e4}, marks={"BTC-PERP": 6e4})
        >>> model = load_scenario_model({"scenarios": [{"move": "0.18"}, {"move": "-0.18"}]})
        >>> ScenarioTable.of(model, instruments, market).change.tolist()
        [[10800.0, -10800.0]]
        """
        row = self.arrays.row[:, : self.arrays.scenarios]
        if not self.arrays.is_discounted:
            return row
        return row - np.where(self.instruments.kind == Kind.OPTION, self.value, 0.0)[:, None]

    def requirements(
        self, portfolios: Portfolios, *, initial: bool = True, worst: bool = False, threads: int | None = None
    ) -> Requirements:
        """Requirements of portfolios.

        Parameters
        ----------
        portfolios : Portfolios
            A accounts, of the table's instruments.
        initial : bool
            Without, open orders and the scenarios of the initial requirement take no part: the initial requirement is
            that of the positions in the scenarios of the maintenance requirement.
        worst : bool
            Find the scenario that sets each requirement in the same pass: of a plain model it otherwise takes a pass of
            its own, when it is first read.
        threads : int, optional
            Number of threads; every core if it is not given. The bits do not depend on it.

        Returns
        -------
        Requirements
            Of each account.

        Raises
        ------
        RiskDataError
            An account holds an instrument that the tick has no complete data of.

        Notes
        -----
        The rule: docs/scenario_margin.md, "The requirement".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> table = ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "0.1"}]}), instruments, market)
        >>> held = pd.DataFrame({"account": ["ann"], "market": ["BTC-PERP"], "size": [-2.0]})
        >>> table.requirements(Portfolios.from_frame(instruments, held)[0]).loss
        array([12000.])
        """
        self.must_cover(portfolios)
        return requirement.requirements(portfolios, self.arrays, threads, initial, worst)

    def upper_bounds(self, portfolios: Portfolios, *, threads: int | None = None) -> tuple[Float, Float]:
        """Bounds that no maintenance requirement is above.

        Parameters
        ----------
        portfolios : Portfolios
            A accounts; their orders take no part.
        threads : int, optional
            Number of threads; every core if it is not given.

        Returns
        -------
        tuple of ndarray of float64, shape (A,)
            The sum of what each position can need alone, and the worst block of scenarios with each position at its
            lowest change in it; numeraire. The requirement is at most the second, and the second at most the first,
            within rounding, for which both have an allowance.

        Raises
        ------
        RiskDataError
            An account holds an instrument that the tick has no complete data of.

        Notes
        -----
        The rule: docs/scenario_margin.md, "Screening".

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> table = ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "0.1"}]}), instruments, market)
        >>> rows = [("ann", "BTC-PERP", -2.0), ("bob", "BTC-PERP", -1.0)]
        >>> held = pd.DataFrame(rows, columns=["account", "market", "size"])
        >>> portfolios, _ = Portfolios.from_frame(instruments, held)
        >>> [bound.round(3).tolist() for bound in table.upper_bounds(portfolios)]
        [[12000.0, 6000.0], [12000.0, 6000.0]]
        """
        self.must_cover(portfolios)
        return screening.bounds_of(portfolios, self._bounds, threads)

    def undecided(self, portfolios: Portfolios, equity: Float, *, threads: int | None = None) -> Int:
        """Accounts whose equity is not above the upper bounds of their requirement.

        Parameters
        ----------
        portfolios : Portfolios
            A accounts.
        equity : ndarray of float64, shape (A,)
            Numeraire; less what it may lack by rounding.
        threads : int, optional
            Number of threads; every core if it is not given. The accounts do not depend on it.

        Returns
        -------
        ndarray of int64
            Their numbers, ascending. The requirement of every other account is below its equity.

        Raises
        ------
        RiskDataError
            An account holds an instrument that the tick has no complete data of.

        Notes
        -----
        The rule: docs/scenario_margin.md, "Screening".

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> table = ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "0.1"}]}), instruments, market)
        >>> rows = [("ann", "BTC-PERP", -2.0), ("bob", "BTC-PERP", -1.0)]
        >>> held = pd.DataFrame(rows, columns=["account", "market", "size"])
        >>> portfolios, _ = Portfolios.from_frame(instruments, held)
        >>> table.undecided(portfolios, np.array([10_000.0, 10_000.0]))
        array([0])
        """
        self.must_cover(portfolios)
        return screening.undecided(portfolios, self._bounds, np.ascontiguousarray(equity, np.float64), threads)

    def select(self, portfolios: Portfolios, equity: Float, *, threads: int | None = None) -> tuple[Int, Requirements]:
        """Accounts whose maintenance requirement is not below their equity, by bounds first.

        Parameters
        ----------
        portfolios : Portfolios
            A accounts.
        equity : ndarray of float64, shape (A,)
            Numeraire.
        threads : int, optional
            Number of threads; every core if it is not given. The accounts do not depend on it.

        Returns
        -------
        tuple of ndarray of int64 and Requirements
            Numbers of the accounts that have positions and ``not requirement < equity``, ascending, and their
            requirements, in which open orders and the scenarios of the initial requirement take no part. They are
            exactly those that `requirements` gives for all accounts.

        Raises
        ------
        RiskDataError
            An account holds an instrument that the tick has no complete data of.

        Notes
        -----
        The rule: docs/scenario_margin.md, "Screening".

        Examples
        --------
        >>> import numpy as np
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> table = ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "0.1"}]}), instruments, market)
        >>> rows = [("ann", "BTC-PERP", -2.0), ("bob", "BTC-PERP", -1.0)]
        >>> held = pd.DataFrame(rows, columns=["account", "market", "size"])
        >>> portfolios, _ = Portfolios.from_frame(instruments, held)
        >>> accounts, requirements = table.select(portfolios, np.array([10_000.0, 10_000.0]))
        >>> accounts, requirements.maintenance
        (array([0]), array([12000.]))
        """
        self.must_cover(portfolios)
        equity, accounts = np.ascontiguousarray(equity, np.float64), np.arange(len(portfolios))
        if screening.are_worth(portfolios, self._bounds, equity):
            accounts = screening.undecided(portfolios, self._bounds, equity, threads)
        accounts = accounts[portfolios.span[accounts + 1] > portfolios.span[accounts]]
        some = portfolios if len(accounts) == len(portfolios) else screening.taken(portfolios, accounts)
        required = self.requirements(some, initial=False, threads=threads).maintenance
        kept = np.flatnonzero(~(required < equity[accounts]))
        return accounts[kept], self.requirements(screening.taken(some, kept), initial=False, threads=threads)

    def losses(self, portfolios: Portfolios, first: int, last: int) -> Float:
        """Change of each group of some accounts in each scenario, with weights, dampeners and offsets.

        Parameters
        ----------
        portfolios : Portfolios
            The accounts.
        first, last : int
            The first account, and the end of the accounts.

        Returns
        -------
        ndarray of float64, shape (last - first, G, S)
            Changes in the numeraire, a loss is negative; one column more where the model has a basis contingency.

        Raises
        ------
        RiskDataError
            An account holds an instrument that the tick has no complete data of.

        Notes
        -----
        The rule: docs/scenario_margin.md, "The requirement".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> model = load_scenario_model({"scenarios": [{"move": "0.1"}, {"move": "-0.1"}]})
        >>> held = pd.DataFrame({"account": ["ann"], "market": ["BTC-PERP"], "size": [-2.0]})
        >>> portfolios, _ = Portfolios.from_frame(instruments, held)
        >>> ScenarioTable.of(model, instruments, market).losses(portfolios, 0, 1).tolist()
        [[[-12000.0, 12000.0]]]
        """
        self.must_cover(portfolios)
        return requirement.losses(portfolios, self.arrays, first, last)

    def gradients(self, portfolios: Portfolios, *, threads: int | None = None) -> Gradients:
        """Maintenance requirements, and what each position adds to them.

        Parameters
        ----------
        portfolios : Portfolios
            A accounts with P positions.
        threads : int, optional
            Number of threads; every core if it is not given.

        Returns
        -------
        Gradients
            Of each position.

        Raises
        ------
        RiskDataError
            An account holds an instrument that the tick has no complete data of.

        Notes
        -----
        The rule: docs/scenario_margin.md, "The requirement".

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> model = load_scenario_model({"scenarios": [{"move": "0.1"}, {"move": "-0.1"}]})
        >>> held = pd.DataFrame({"account": ["ann"], "market": ["BTC-PERP"], "size": [-2.0]})
        >>> portfolios, _ = Portfolios.from_frame(instruments, held)
        >>> ScenarioTable.of(model, instruments, market).gradients(portfolios).gradient
        array([-6000.])
        """
        self.must_cover(portfolios)
        return requirement.gradients(portfolios, self.arrays, threads)

    def standalone(self) -> tuple[Float, Float]:
        """Requirement of a portfolio of one unit of each instrument.

        Minimum, dampener, rounding, and spread charges and credits take no part.

        Returns
        -------
        tuple of ndarray of float64, shape (M,)
            Of a long unit and of a short unit, in the numeraire; NaN where the tick has no complete data.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> model = load_scenario_model({"scenarios": [{"move": "0.1"}, {"move": "-0.2"}]})
        >>> ScenarioTable.of(model, instruments, market).standalone()
        (array([12000.]), array([6000.]))
        """
        return self._standalone

    @cached_property
    def _bounds(self) -> screening.Bounds:
        return screening.Bounds.of(self.arrays)

    @cached_property
    def _standalone(self) -> tuple[Float, Float]:
        count = len(self.instruments)
        none = self.arrays.short_minimum * 0.0
        arrays = self.arrays._replace(
            minimum_level=NO_MINIMUM, short_minimum=none, has_dampener=False, has_spreads=False, round_worst=0.0
        )
        units = Portfolios(
            np.arange(2 * count + 1, dtype=np.uint32),
            np.repeat(np.arange(count, dtype=np.uint16), 2),
            np.tile([1.0, -1.0], count),
        )
        rho = requirement.requirements(units, arrays, 1).maintenance.reshape(count, 2)
        rho[~self.available] = np.nan
        return np.ascontiguousarray(rho[:, 0]), np.ascontiguousarray(rho[:, 1])

    def scratch(self) -> ScenarioScratch:
        """Return a work space for kernels that compute the requirement of one account at a time.

        Returns
        -------
        ScenarioScratch
            A new one; each thread needs its own.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(
        ...     instruments, "2026-01-01", index={"BTC": 60_000.0}, marks={"BTC-PERP": 60_000.0}
        ... )
        >>> ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "0.1"}]}), instruments, market).scratch().delta
        array([0.])
        """
        return requirement.scratch_of(self.arrays)

    def must_cover(self, portfolios: Portfolios) -> None:
        """Refuse portfolios with an instrument that the tick has no complete data of.

        Parameters
        ----------
        portfolios : Portfolios
            The accounts.

        Raises
        ------
        RiskDataError
            There is one.

        Examples
        --------
        >>> import pandas as pd
        >>> from riskcore.scenario import Instruments, Portfolios, ScenarioMarket, ScenarioTable, load_scenario_model
        >>> frame = pd.DataFrame({"market": ["BTC-PERP"], "kind": ["PERP"], "underlying": ["BTC"]})
        >>> instruments = Instruments.from_frame(frame)
        >>> market = ScenarioMarket.read(instruments, "2026-01-01", index={"BTC": 60_000.0})
        >>> table = ScenarioTable.of(load_scenario_model({"scenarios": [{"move": "0.1"}]}), instruments, market)
        >>> held = pd.DataFrame({"account": ["ann"], "market": ["BTC-PERP"], "size": [-2.0]})
        >>> table.must_cover(Portfolios.from_frame(instruments, held)[0])
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: marks.BTC-PERP: an account holds it: a price is needed
        """
        held = portfolios.held
        missing = np.flatnonzero(held & ~self.available[: len(held)])
        if missing.size:
            i = int(missing[0])
            name, market, instruments = self.instruments.symbol[i], self.market, self.instruments
            table, what = "marks", "a price"
            if instruments.kind[i] == Kind.OPTION:
                if np.isnan(market.volatility[i]):
                    table, what = "volatilities", "a volatility"
                elif np.isnan(self.terms.forward[instruments.term[i]]):
                    table, what = "terms", "a forward"
            elif not np.isnan(market.mark[i]):
                table, what, name = "indexes", "an index", instruments.underlyings[instruments.underlying[i]]
            raise RiskDataError(table, name, f"an account holds it: {what} is needed")
