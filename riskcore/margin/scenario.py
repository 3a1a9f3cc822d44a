"""The scenario margin model: what the whole portfolio of an account would lose in the worst scenario, plus charges."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..boundary import RiskDataError
from ..kernels import scenario_accounts as kernels
from ..kernels.margin import BELOW_AUTO_CLOSE, DOUBT, LIQUIDATING, SAFE
from ..kernels.scenario_accounts import PortfolioLayout, ScenarioPrices
from ..kernels.scenario_layouts import PortfolioColumns
from ..kernels.sweep import CHUNK
from ..market import Prices
from ..scenario import Kind, Parts, Portfolios, ScenarioTable
from ..scenario.exact import parts as exact_parts
from ..scenario.screening import taken
from ..state import Accounts
from ..venue import IMF, Venue
from . import exact
from .model import MODELS, MarginModel, folded
from .scenario_view import exact_orders, exact_sizes, portfolios_of, with_orders

if TYPE_CHECKING:
    from .._typing import Bool, Float, Int

_MAX_LOTS = 1 << 53
_ONCE = RLock()
_FEW = 64  # accounts below which equity is computed one by one
_PLACES = Fraction(1, 10**40)  # what exact quotients are rounded to (`exact`)


def table_of(prices: Prices) -> ScenarioTable:
    """Return the table of record of a tick under the scenario model of the venue, computed once for these prices.

    Parameters
    ----------
    prices : Prices
        Complete prices of one instant.

    Returns
    -------
    ScenarioTable
        The table, of the venue's markets and, behind them, its assets.

    Raises
    ------
    RiskDataError
        The venue has no scenario model, or the prices have not the data that it needs.
    """
    return prices.folded(_table)


def _table(prices: Prices) -> ScenarioTable:
    venue = prices.venue
    if venue.scenario_model is None:
        rule = "must be given: the margin model scenario reads it"
        raise RiskDataError("venue", "scenario_model", rule)
    if prices.scenario is None:
        raise RiskDataError("marks", None, "must be a Tick: the margin model scenario needs its time and its terms")
    return ScenarioTable.of(venue.scenario_model, venue.instruments, prices.scenario)


def _without_parts(prices: Prices) -> ScenarioPrices:
    """The figures of a tick without the requirements of single units, which margins do not need."""
    table, arrays, venue = table_of(prices), prices.arrays, prices.venue
    return ScenarioPrices(
        price_per_lot=arrays.price_per_lot,
        value_per_lot=arrays.value_per_lot,
        price_per_quantum=arrays.price_per_quantum,
        settle_quantum=arrays.settle_quantum,
        acmf_divisor=arrays.acmf_divisor,
        acmf_offset=arrays.acmf_offset,
        separable=arrays,
        layout=_layout(venue, table),
        scenario=table.arrays,
        quanta=float(numeraire_price(prices)) / arrays.settle_quantum,
        notional=_notional(prices, table),
        alone=np.empty((0, 2)),
        one=_one(0),
        scratch=table.scratch(),
    )


def _one(count: int) -> PortfolioColumns:
    """Room for the rows of one account."""
    numbers, none = np.empty(count, np.uint16), np.empty(0)
    return PortfolioColumns(
        np.zeros(2, np.uint32), numbers, np.empty(count), np.zeros(2, np.uint32), numbers[:0], none, none
    )


class ScenarioMargin(MarginModel):
    """The margin model of docs/scenario_margin.md, with the scenario model of the venue."""

    name = "scenario"
    folded = ScenarioPrices
    revalues = True

    def fold(self, prices: Prices) -> ScenarioPrices:
        """Return the table of record, with the prices that equity and the margin functions of borrows need."""
        table = table_of(prices)
        return prices.folded(_without_parts)._replace(
            alone=np.nan_to_num(np.stack(table.standalone(), axis=1)), one=_one(len(table.value))
        )

    def estimate(
        self, accounts: Accounts, row: Int, prices: Prices, figures: Float, status: npt.NDArray[np.uint8]
    ) -> None:
        """Fill the margins of some accounts: equity by the packed sweep, requirements of all portfolios together."""
        portfolios = _portfolios(accounts, row, prices)
        self._fill(accounts, row, prices, portfolios, _equity(accounts, row, prices), figures, status)

    def liquidatable(self, accounts: Accounts, row: Int, prices: Prices) -> Bool:
        """Return whether the maintenance margin ratio of each of some accounts is 1 or more, decided exactly.

        Only accounts that upper bounds of their requirement do not clear are computed.
        """
        portfolios, (equity, gross) = _portfolios(accounts, row, prices), _equity(accounts, row, prices)
        room, found = np.empty(len(row)), np.zeros(len(row), bool)
        kernels.room_of(row, equity, gross, accounts.columns, prices.folded(_without_parts), room)
        left = table_of(prices).undecided(portfolios, room, threads=1)
        if not len(left):
            return found
        figures, status = np.empty((4, len(left))), np.empty(len(left), np.uint8)
        rest, money = taken(portfolios, left), (equity[left], gross[left])
        self._fill(accounts, row[left], prices, rest, money, figures, status, initial_too=False)
        for n in np.flatnonzero(status == DOUBT).tolist():
            status[n] = self.account(accounts, int(row[left[n]]), prices).status
        found[left] = np.not_equal(status, SAFE)
        return found

    def account(self, accounts: Accounts, account: int, prices: Prices) -> exact.ExactMargin:
        """Return the margin of an account; it is split in proportion to the requirements of the positions alone."""
        figures = ExactFigures(accounts, account, prices)
        margin, whole, exposure = figures.margin, figures.maintenance, figures.exposure
        alone = {row: figures.alone(row) for row in figures.positions}
        borrowed = {row: figures.borrow(row) for row in figures.borrows}
        total = sum(alone.values()) + sum(borrowed.values())
        if not total:  # a minimum, or a loss of collateral: in proportion to the values of positions
            alone = {row: abs(Fraction(margin.value.get(row, 0))) for row in alone}
            total = sum(alone.values())
        share = whole / total if total else Fraction(0)
        return exact.ExactMargin(
            equity=margin.equity,
            exposure=exact.decimal(exposure),
            maintenance=exact.decimal(whole),
            requirement={row: exact.decimal(part * share) for row, part in alone.items()},
            value=dict.fromkeys(figures.positions, Decimal(0)) | margin.value,
            borrowed={row: exact.decimal(part * share) for row, part in borrowed.items()},
            status=_status(prices, Fraction(margin.equity), exposure, whole),
        )

    def covers_initial_margin(self, accounts: Accounts, account: int, prices: Prices) -> bool:
        """Return whether the initial margin ratio of an account is under 1, and its net equity not below 0."""
        figures = ExactFigures(accounts, account, prices)
        room = _rounded(Fraction(figures.margin.equity) - figures.initial, prices.venue)
        return room > 0 or (not room and not figures.counts and not accounts.columns.open_orders[account])

    def largest_orders(self, accounts: Accounts, row: Int, market: int, prices: Prices) -> Int:
        """Return the largest bid and ask at the mark that the initial margin of each account allows.

        The initial requirement cannot fall as an order grows, in any scenario model: bisection finds the largest.
        """
        arrays = prices.folded(_without_parts)
        equity = _equity(accounts, row, prices)
        portfolios, new = with_orders(_portfolios(accounts, row, prices), arrays.layout, market)
        orders = portfolios.orders
        assert orders is not None
        orders.price[new] = prices.mark[market]
        figures, status = np.empty((4, len(row))), np.empty(len(row), np.uint8)
        lots = np.empty((len(row), 2), np.int64)
        for column, side in enumerate((1, -1)):
            low, high = np.full(len(row), -1), np.full(len(row), _MAX_LOTS)
            while (high - low > 1).any():
                size = low + (high - low) // 2
                orders.size[new] = side * size * arrays.layout.lot_size[market]
                self._fill(accounts, row, prices, portfolios, equity, figures, status)
                fits = figures[2] < figures[0]
                low, high = np.where(fits, size, low), np.where(fits, high, size)
            lots[:, column] = np.maximum(low, 0)
        return lots

    def _fill(
        self, accounts: Accounts, row: Int, prices: Prices, portfolios: Portfolios, equity: tuple[Float, Float],
        figures: Float, status: npt.NDArray[np.uint8], initial_too: bool = True,
    ) -> None:  # fmt: skip
        """Fill the margins of some accounts from their portfolios and their equity, DOUBT where float64 is in doubt."""
        needed = table_of(prices).requirements(portfolios, initial=initial_too, threads=1)
        net, exposure, initial, maintenance = figures
        kernels.margins_with_requirements(
            row, portfolios.span, portfolios.instrument, portfolios.size, *equity, needed.maintenance, needed.initial,
            needed.scale, accounts.columns, prices.folded(_without_parts), net, exposure, initial, maintenance, status,
        )  # fmt: skip


class ExactFigures:
    """Figures of one account in exact arithmetic, settle units; a float64 of the table of record is its binary value.

    Parameters
    ----------
    accounts : Accounts
        The state.
    account : int
        Account row.
    prices : Prices
        Complete prices of one instant.
    """

    def __init__(self, accounts: Accounts, account: int, prices: Prices) -> None:
        self.margin = exact.account_margin(accounts, account, prices)
        self.accounts, self.account, self.prices = accounts, account, prices
        self.table, self.arrays = table_of(prices), folded(prices)
        self.rows, self.sizes = exact_sizes(accounts, account, self.arrays.layout, prices)
        lots = accounts.columns.lots
        self.positions = [row for row in accounts.positions_of(account) if lots[row]]  # an option may be worth nothing
        self.borrows = list(self.margin.borrowed)
        self.numeraire = numeraire_price(prices)

    @property
    def counts(self) -> bool:
        """Whether the account has a position or a borrow: without, its maintenance margin is 0."""
        return bool(self.positions or self.borrows)

    @cached_property
    def parts(self) -> Parts:
        """Requirement of the portfolio without open orders, in the numeraire."""
        return exact_parts(self.table, self.rows, self.sizes)

    @cached_property
    def initial_requirement(self) -> Fraction:
        """Initial requirement of the portfolio with its open orders, in the numeraire."""
        orders = exact_orders(self.accounts, self.account, self.prices)
        return exact_parts(self.table, self.rows, self.sizes, orders).initial if orders else self.parts.initial

    @property
    def maintenance(self) -> Fraction:
        """Requirement of the portfolio, and the margin functions of borrows."""
        if not self.counts:
            return Fraction(0)
        functions = sum((self.borrow(row) for row in self.borrows if self.has_function(row)), Fraction(0))
        return self.parts.maintenance * self.numeraire + functions

    @property
    def initial(self) -> Fraction:
        """Initial requirement of the portfolio and margin functions of borrows; at least the maintenance margin."""
        columns, required = self.accounts.columns, self.initial_requirement * self.numeraire
        for row in self.borrows:
            if self.has_function(row):
                k = int(columns.asset[row])
                owed = exact.decimal(-int(columns.free[row]) * self.quantum(row))
                function, price = 2 * (len(self.prices.mark) + k) + IMF, exact.decimal(self.prices.asset[k])
                required += Fraction(exact.requirement(self.prices, function, owed, price))
        return max(required, self.maintenance)

    @property
    def exposure(self) -> Fraction:
        """Gross delta notional and borrows; at least a settle quantum where there is a position."""
        total = sum((self.delta_notional(row) for row in self.positions), Fraction(0))
        free, least = self.accounts.columns.free, Fraction(self.prices.venue.settle_quantum)
        owed = -sum((int(free[row]) * self.quantum(row) for row in self.borrows), Fraction(0))
        return (max(total, least) if self.positions else total) + owed

    def size(self, row: int) -> Fraction:
        """Signed size of a position."""
        m = int(self.accounts.columns.market[row])
        return int(self.accounts.columns.lots[row]) * self.prices.venue.markets.exact_lot_size[m]

    def quantum(self, row: int) -> Fraction:
        """Settle units of a quantum of a balance."""
        k = self.accounts.columns.asset[row]
        quantum = exact.decimal(self.prices.venue.assets.quantum[k])
        return Fraction(quantum) * Fraction(exact.decimal(self.prices.asset[k]))

    def delta_notional(self, row: int) -> Fraction:
        """Gross delta notional of a position."""
        unit = Fraction(float(self.arrays.notional[self.accounts.columns.market[row]]))
        return abs(self.size(row)) * unit * Fraction(self.prices.venue.settle_quantum)

    def alone(self, row: int) -> Fraction:
        """Requirement of a position alone."""
        size = self.size(row)
        unit = self.arrays.alone[self.accounts.columns.market[row], 0 if size > 0 else 1]
        return Fraction(float(unit)) * abs(size) * self.numeraire

    def has_function(self, row: int) -> bool:
        """Whether a borrow has a margin function: it is not of the settle asset, and no row of the portfolio."""
        k = int(self.accounts.columns.asset[row])
        return k != self.prices.venue.settle and not self.arrays.layout.spot_counts[k] & kernels.BORROWS

    def borrow(self, row: int) -> Fraction:
        """Requirement of a borrow alone."""
        if self.has_function(row):
            return Fraction(self.margin.borrowed[row])
        k = int(self.accounts.columns.asset[row])
        if not self.arrays.layout.spot_counts[k] & kernels.BORROWS:
            return Fraction(0)
        size = -int(self.accounts.columns.free[row]) * Fraction(exact.decimal(self.prices.venue.assets.quantum[k]))
        return size * Fraction(float(self.arrays.alone[len(self.prices.mark) + k, 1])) * self.numeraire

    def collateral(self, row: int) -> Fraction:
        """Requirement of a balance alone, which is that of its row of the portfolio; 0 where nothing else is held."""
        instrument = len(self.prices.mark) + int(self.accounts.columns.asset[row])
        size = dict(zip(self.rows, self.sizes, strict=True)).get(instrument, Fraction(0))
        if size <= 0 or not self.counts:
            return Fraction(0)
        return size * Fraction(float(self.arrays.alone[instrument, 0])) * self.numeraire


def _status(prices: Prices, equity: Fraction, exposure: Fraction, maintenance: Fraction) -> int:
    """Status of an account: SAFE, LIQUIDATING or BELOW_AUTO_CLOSE."""
    policy = prices.venue.policy
    if not exposure or _rounded(maintenance - equity, prices.venue) < 0:
        return SAFE
    divisor, offset = (Fraction(exact.decimal(figure)) for figure in (policy.acmf_divisor, policy.acmf_offset))
    auto_close = max(maintenance / divisor, maintenance - offset * exposure)
    is_above = _rounded(equity, prices.venue) > 0 and _rounded(auto_close - equity, prices.venue) <= 0
    return LIQUIDATING if is_above else BELOW_AUTO_CLOSE


def _rounded(amount: Fraction, venue: Venue) -> Fraction:
    """An amount, where equity may contain a rounded quotient to the places of it (`exact`)."""
    return amount if venue.plain_money else round(amount / _PLACES) * _PLACES


def numeraire_price(prices: Prices) -> Fraction:
    """Return the settle units of one of the numeraire of the venue's scenario model, exactly.

    Parameters
    ----------
    prices : Prices
        Complete prices of one instant.

    Returns
    -------
    Fraction
        1, or the price of the coin.
    """
    name = table_of(prices).model.numeraire
    return Fraction(1 if name == "settle" else exact.decimal(prices.asset[prices.venue.assets.row[name]]))


def _portfolios(accounts: Accounts, row: Int, prices: Prices) -> Portfolios:
    """Portfolios of some accounts; the first of several threads makes the table and the portfolios for all."""
    with _ONCE:
        return portfolios_of(accounts, row, prices.folded(_without_parts).layout, prices)


def _equity(accounts: Accounts, row: Int, prices: Prices) -> tuple[Float, Float]:
    """Net equity of some accounts, and the scale of its rounding error, settle quanta."""
    if len(row) < _FEW or accounts.may_change or not (np.diff(row) == 1).all():
        equity, gross = np.empty((2, len(row)))
        kernels.equity_of(row, accounts.columns, prices.arrays, equity, gross)
        return equity, gross
    view, first, last = accounts.sweep_view, int(row[0]) // CHUNK, int(row[-1]) // CHUNK + 1
    start = int(row[0]) - first * CHUNK
    equity, gross = np.empty((2, min(last * CHUNK, len(view.slot)) - first * CHUNK))
    kernels.equity_chunks(
        first, last, view.columns, view.slot, prices.lookup, accounts.columns, prices.arrays,
        np.empty((CHUNK, 4)), equity, gross,
    )  # fmt: skip
    return equity[start : start + len(row)], gross[start : start + len(row)]


def _layout(venue: Venue, table: ScenarioTable) -> PortfolioLayout:
    """How positions and balances become rows of portfolios: of assets those that can change a requirement."""
    assets = slice(len(venue.markets.symbol), None)
    counted = table.arrays.moves_long[assets] | (table.arrays.charge[assets] > 0.0).any(axis=1)
    counts = np.where(counted, kernels.COLLATERAL, 0).astype(np.uint8)
    if table.model.borrow_margin == "scenario":
        counts |= kernels.BORROWS
    size = np.array([float(quantum) for quantum in venue.assets.quantum])
    return PortfolioLayout(venue.instruments.rank, venue.markets.lot_size, counts, size)


def _notional(prices: Prices, table: ScenarioTable) -> Float:
    """Gross delta notional of one unit of size of each instrument, settle quanta; 0 of an asset."""
    venue, markets = prices.venue, len(prices.mark)
    notional = np.zeros(len(venue.instruments))
    notional[:markets] = prices.arrays.price_per_lot / venue.markets.lot_size
    option = np.flatnonzero(venue.instruments.kind == Kind.OPTION)
    forward = table.market.forward[venue.instruments.term[option]]
    notional[option] = np.abs(table.greeks[option, 0]) * forward / float(venue.settle_quantum)
    return np.nan_to_num(notional)


MODELS[ScenarioMargin.name] = ScenarioMargin()
