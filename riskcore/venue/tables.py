"""The rules of a venue in columns: markets, spot markets, assets, pools and providers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cached_property
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._limits import POSITION_LIMIT, TOTAL_LIMIT
from .._typing import AnyInt, Bool, Float, Int
from ..boundary import RiskDataError, counted, escaped, natural
from ..kernels.layouts import MarginFunctionArrays, RequirementLookup
from ..kernels.path import MEAN_THRESHOLD, AssetRules
from ..scenario import Instruments, Kind, ScenarioModel, load_scenario_model
from .margin_functions import MarginFunctions
from .policy import Policy, _wrong

_MAX_TICKS = 10**13
_SECOND, _HOUR = 10**9, 3_600 * 10**9
"""Largest price in ticks, whatever maxPrice a market has: samples of the guards and their sums fit 64 bits."""
PERPETUALS, INVERSE, OPTION = ("PERP", "IPERP"), ("IPERP", "IDATED"), "OPTION"
KINDS = {
    "PERP": Kind.PERPETUAL, "IPERP": Kind.PERPETUAL, "DATED": Kind.FUTURE, "IDATED": Kind.FUTURE, OPTION: Kind.OPTION
}  # fmt: skip
"""Types of the rows that are markets, and the kind of instrument of each."""
MAX_LOTS_IN_MARKET = TOTAL_LIMIT - 1
"""Largest sum of the positions, or of the orders, of all accounts in a market."""

_ALL = slice(None)


@dataclass(frozen=True)
class Listing:
    """Markets with an order book, one row each.

    ``type`` is the marketType of the row in the venue file, ``terms`` the underlying, expiry, strike and right of a
    contract that expires, "" of another row.
    ``tick``, ``step`` and ``multiplier`` are exact; ``settle`` is the asset row of the market's settle asset, in which
    profit and loss, fees and funding are paid. A linear contract is worth ``step * multiplier * price`` of it a lot; an
    ``inverse`` one ``-step * multiplier / price``. ``value_num / value_den`` quanta of the settle asset are the value
    of a lot at one tick; of an inverse contract ``-value_num / (value_den * ticks)``. ``max_ticks`` are the ticks of
    maxPrice, and at most 10**13. Multipliers of the price-impact band and of the limit-price band are None where the
    venue has none. ``takes_orders`` is False where the book fills no order, ``is_closed`` True where it is closed.
    """

    symbol: tuple[str, ...]
    type: tuple[str, ...]
    terms: tuple[str, ...]
    tick: tuple[Fraction, ...]
    step: tuple[Fraction, ...]
    multiplier: tuple[Fraction, ...]
    settle: Int
    inverse: Bool
    max_ticks: Int
    value_num: Int
    value_den: Int
    min_impact: tuple[Fraction | None, ...]
    max_impact: tuple[Fraction | None, ...]
    min_multiplier: tuple[Fraction | None, ...]
    max_multiplier: tuple[Fraction | None, ...]
    takes_orders: Bool
    is_closed: Bool

    @cached_property
    def tick_size(self) -> Float:
        """Price of a tick, nearest float64, one per row."""
        return np.array([float(t) for t in self.tick])

    @cached_property
    def step_size(self) -> Float:
        """Quantity of a lot, nearest float64, one per row."""
        return np.array([float(s) for s in self.step])

    @cached_property
    def exact_lot_size(self) -> tuple[Fraction, ...]:
        """Base units, or quote units of an inverse contract, per lot, one per row."""
        return tuple(step * per for step, per in zip(self.step, self.multiplier, strict=True))

    @cached_property
    def lot_size(self) -> Float:
        """The same, nearest float64."""
        return np.array([float(size) for size in self.exact_lot_size])

    def lot_value(self, row: int, price: Fraction) -> Fraction:
        """Signed value of one lot of a row at a price, units of its settle asset, exactly."""
        size = self.exact_lot_size[row]
        return -size / price if self.inverse[row] else size * price

    def lot_values(self, price: Float, row: AnyInt | slice = _ALL) -> Float:
        """Signed values of one lot at prices > 0, units of the settle assets, float64: of all rows, or of ``row``."""
        return values_at(price, self.lot_size[row], self.inverse[row])

    def prices_of(self, row: AnyInt, lots: Int, money: Float) -> Float:
        """Prices at which lots of some rows are worth amounts of money, units of the settle assets: one of each row."""
        size, inverse = lots * self.lot_size[row], self.inverse[row]
        return np.asarray(np.where(inverse, np.abs(size), money) / np.where(inverse, np.abs(money), size))

    @cached_property
    def min_price(self) -> Float:
        """Lowest price, nearest float64, one per row: a tick of an inverse contract, whose value is highest there."""
        return np.where(self.inverse, self.tick_size, 0.0)

    @cached_property
    def max_price(self) -> Float:
        """Highest price, nearest float64, one per row."""
        return np.asarray(self.max_ticks * self.tick_size)

    @cached_property
    def side_limits(self) -> tuple[Float, Float]:
        """Quanta of a lot at one tick, 1 at least, and lots below which the side of a book passes no limit.

        An inverse contract is worth most at one tick: its lots are limited for themselves, and times the price.
        """
        value = self.value_num / self.value_den
        return np.where(self.inverse, 1.0, np.maximum(value, 1.0)), np.where(self.inverse, TOTAL_LIMIT / value, np.inf)

    def too_high(self, row: int) -> str:
        """Rule that a price above the highest of a row breaks."""
        if self.max_ticks[row] < _MAX_TICKS:
            return "must be at most the market's maxPrice"
        highest = np.format_float_positional(self.max_price[row], trim="-")
        return f"must be at most {highest}, 10**13 ticks of the market's tickSize: the market has no lower maxPrice"

    @property
    def too_low(self) -> str:
        """Rule that a price below the lowest of a row breaks."""
        return "must be at least a tick of the market's tickSize: the contract is inverse"

    @cached_property
    def price_bounds(self) -> Float:
        """Lowest and highest price, nearest float64, shape (2, rows)."""
        return np.array([self.min_price, self.max_price])

    @cached_property
    def tick_ratio(self) -> Float:
        """Price of a tick, its numerator and its denominator, nearest float64, shape (3, rows)."""
        return np.array([[float(t), float(t.numerator), float(t.denominator)] for t in self.tick]).T.copy()

    @cached_property
    def row(self) -> dict[str, int]:
        """Row of each symbol."""
        return {symbol: row for row, symbol in enumerate(self.symbol)}


@dataclass(frozen=True)
class Markets(Listing):
    """Perpetuals, dated futures and options of the venue, one row each, in the order of the venue's list (M rows).

    ``underlying`` names what a market is about; ``expiry`` is in nanoseconds since the epoch, 0 of a perpetual;
    ``strike`` is NaN and ``is_call`` False of a market that is no option. An option ``settles_in_coin`` if its settle
    asset is its base asset: its price is then in that asset too.
    ``base_asset`` is the row of the base asset whose price the market tells, -1 if it is no collateral, or the market
    is an option, or a dated future beside a perpetual; ``quote_asset`` that of the asset in which
    prices are quoted, which is the venue's settle asset where an inverse market's quote is no collateral.
    ``mean_mark_low`` and ``mean_mark_high`` are the multipliers of the mean-mark band and ``premium_tolerance`` that of
    the mean-premium band, None where there is none; ``min_update`` and ``max_update`` the limits of a price update's
    factor in a second, NaN where there is none. ``funding_interval`` is in nanoseconds, 0 for a market without funding;
    its bounds are rates per interval, infinite where there are none.
    """

    underlying: tuple[str, ...]
    expiry: Int
    strike: Float
    is_call: Bool
    settles_in_coin: Bool
    base_asset: Int
    quote_asset: Int
    min_lots: Int
    mean_mark_low: tuple[Fraction | None, ...]
    mean_mark_high: tuple[Fraction | None, ...]
    premium_tolerance: tuple[Fraction | None, ...]
    min_update: Float
    max_update: Float
    funding_interval: Int
    funding_lower: Float
    funding_upper: Float

    @cached_property
    def kind(self) -> npt.NDArray[np.uint8]:
        """`riskcore.scenario.Kind` of each market, shape (M,)."""
        return np.array([KINDS[name] for name in self.type], np.uint8)

    @cached_property
    def is_option(self) -> Bool:
        """Whether each market is an option, shape (M,)."""
        return np.array([name == OPTION for name in self.type], bool)

    @cached_property
    def has_options(self) -> bool:
        """Whether a market is an option."""
        return bool(self.is_option.any())

    @cached_property
    def update_cap(self) -> Float:
        """Limits of a price update's factor in a second, NaN where there is none, shape (2, M)."""
        return np.array([self.min_update, self.max_update])

    @cached_property
    def max_lots(self) -> Int:
        """Most lots of a position in each market, shape (M,): worth less than 2**60 quanta of its settle asset.

        A linear contract is worth most at maxPrice, an inverse one at one tick.
        """
        ticks = np.where(self.inverse, 1, self.max_ticks)
        rows = zip(ticks.tolist(), self.value_num.tolist(), self.value_den.tolist(), strict=True)
        most = (
            (POSITION_LIMIT * den - 1) // (ticks * num) if ticks < _MAX_TICKS else MAX_LOTS_IN_MARKET
            for ticks, num, den in rows
        )
        return np.array([min(lots, MAX_LOTS_IN_MARKET) for lots in most], np.int64)

    @cached_property
    def funding_periods(self) -> tuple[int, ...]:
        """Funding intervals that some market has."""
        return tuple(sorted(set(self.funding_interval.tolist()) - {0}))

    def quantity(self, lots: Int, market: AnyInt) -> Float:
        """Quantity of a number of lots of each market, nearest float64, so that it prints as the user wrote it."""
        return natural(lots, self.step, market)


@dataclass(frozen=True)
class Spots(Listing):
    """Spot markets of collateral assets against the settle asset, the first that the venue lists of each (S rows).

    ``asset`` is the row of the base asset; ``lot_quanta`` its quanta per lot.
    """

    asset: Int
    lot_quanta: Int


@dataclass(frozen=True)
class Assets:
    """Collateral assets, one row each (K rows). ``haircut_base`` is +inf for the identity haircut.

    ``guards`` (shape (4, K)) are the limits of a price update's factor in a second and the largest distances from the
    index and from the mean, NaN where there is none; ``stale_after`` the nanoseconds for which a price is held, -1
    where it is not.
    """

    symbol: tuple[str, ...]
    quantum: tuple[Fraction, ...]
    weight: Float
    haircut_base: Float
    haircut_penalty: Float
    guards: Float
    stale_after: Int

    @cached_property
    def guarded(self) -> tuple[bool, bool]:
        """Whether an asset has a guard that changes prices, and whether one has a guard by the mean."""
        has_guard = ~np.isnan(self.guards)
        return bool(has_guard.any()), bool(has_guard[MEAN_THRESHOLD].any())

    @cached_property
    def holds(self) -> bool:
        """Whether the price of an asset may be held."""
        return bool((self.stale_after >= 0).any())

    @cached_property
    def quantum_size(self) -> Float:
        """Quantity of a quantum, nearest float64, shape (K,)."""
        return np.array([float(q) for q in self.quantum])

    @cached_property
    def row(self) -> dict[str, int]:
        """Row of each symbol."""
        return {symbol: row for row, symbol in enumerate(self.symbol)}


@dataclass(frozen=True)
class Pool:
    """Borrow-lend pool of an asset.

    Attributes
    ----------
    is_open : bool
        Whether more can be borrowed.
    lent, borrowed : int
        Quanta that accounts outside the run lend and borrow.
    fee : Fraction
        Part of the interest that the pool keeps.
    optimal_utilization : Fraction
        Utilisation (borrowed over lent) at the kink of the rate curve.
    max_utilization : Fraction
        Utilisation that redeeming and borrowing may reach at most.
    throttle_threshold, throttle_update : Fraction
        Utilisation that they may always reach, and the part of the way from the utilisation to ``max_utilization``
        that they may go in a tick.
    borrow_limit : int or None
        Most quanta that may be borrowed; None: no limit.

    Notes
    -----
    The rules: docs/one_tick.md, "Interest" and "Settlement".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack").replace(borrow_lend=[{"symbol": "USDC", "lentQuantity": 100, "fee": "0.1"}])
    >>> pool = venue.pools[venue.settle]
    >>> pool.lent, pool.fee, pool.optimal_utilization
    (100000000, Fraction(1, 10), Fraction(9, 10))
    """

    is_open: bool
    lent: int
    borrowed: int
    fee: Fraction
    optimal_utilization: Fraction
    max_utilization: Fraction
    throttle_threshold: Fraction
    throttle_update: Fraction
    borrow_limit: int | None


@dataclass(frozen=True)
class Provider:
    """A backstop provider: its account, its limits, and its markets and assets.

    Attributes
    ----------
    account : int or str
        The user's account id.
    capacity_per_min, capacity_per_hour : Fraction or None
        Largest notional that it takes over in a minute and in an hour, settle units; None: no limit.
    max_notional : Fraction or None
        Most notional of all that it has taken over, settle units; None: no limit.
    markets, assets : frozenset of int
        Rows of the markets and assets that it takes.

    Notes
    -----
    The rule: docs/one_tick.md, "4 Backstop: providers".

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack").replace(backstop=[{"account": 9, "capacity_per_min": 1_000_000}])
    >>> provider = venue.backstop[0]
    >>> provider.account, provider.capacity_per_min, sorted(provider.markets)
    (9, Fraction(1000000, 1), [0, 1, 2, 3])
    """

    account: int | str
    capacity_per_min: Fraction | None
    capacity_per_hour: Fraction | None
    max_notional: Fraction | None
    markets: frozenset[int]
    assets: frozenset[int]


@dataclass(frozen=True)
class Units:
    """Units of the whole numbers of accounts: rows of markets and assets, lots, ticks and quanta.

    A function that takes accounts and a venue compares their units by `Units.must_fit`; margin functions, policy and
    pools of the two may differ.

    Attributes
    ----------
    settle_asset : str
        Symbol of the settle asset.
    markets : tuple of str
        Symbols of the markets (of books: of all markets with a book), by row.
    steps, ticks : tuple of Fraction
        Quantity of a lot and price of a tick, by market.
    multipliers : tuple of Fraction
        Base units per unit of quantity, by market; of an inverse contract, quote units.
    types, terms : tuple of str
        The marketType of a market, and the terms of one that expires, by market.
    settle : tuple of int
        Row of the asset that a market settles in, by market.
    max_ticks : tuple of int
        Highest price in ticks, by market.
    assets : tuple of str
        Symbols of the assets, by row.
    quanta : tuple of Fraction
        Quantity of a quantum, by asset.

    Examples
    --------
    >>> import riskcore as rc
    >>> units = rc.load_venue("backpack").units
    >>> units.settle_asset, units.steps[units.markets.index("SOL_USDC_PERP")]
    ('USDC', Fraction(1, 100))
    """

    settle_asset: str
    markets: tuple[str, ...]
    steps: tuple[Fraction, ...]
    ticks: tuple[Fraction, ...]
    multipliers: tuple[Fraction, ...]
    types: tuple[str, ...]
    terms: tuple[str, ...]
    settle: tuple[int, ...]
    max_ticks: tuple[int, ...]
    assets: tuple[str, ...]
    quanta: tuple[Fraction, ...]

    @classmethod
    def of(cls, settle_asset: str, markets: Listing, assets: Assets) -> Units:
        """Return the units of markets and assets.

        Parameters
        ----------
        settle_asset : str
            Symbol of the settle asset.
        markets : Listing
            The markets, or all markets with a book.
        assets : Assets
            The assets.

        Returns
        -------
        Units
            Their units.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.venue import Units
        >>> venue = rc.load_venue("backpack")
        >>> Units.of("USDC", venue.markets, venue.assets) == venue.units
        True
        """
        return cls(
            settle_asset=settle_asset,
            markets=markets.symbol,
            steps=markets.step,
            ticks=markets.tick,
            multipliers=markets.multiplier,
            types=markets.type,
            terms=markets.terms,
            settle=tuple(markets.settle.tolist()),
            max_ticks=tuple(markets.max_ticks.tolist()),
            assets=assets.symbol,
            quanta=assets.quantum,
        )

    @cached_property
    def inverse(self) -> tuple[bool, ...]:
        """Whether a market's contract is inverse, by market."""
        return tuple(name in INVERSE for name in self.types)

    @cached_property
    def options(self) -> Bool:
        """Whether a market is an option, by market."""
        return np.array([name == OPTION for name in self.types], bool)

    @cached_property
    def market_sizes(self) -> tuple[Float, Float, Float]:
        """Step, multiplier and quantum of the settle asset of each market, nearest float64, shapes (M,)."""
        step, multiplier, quanta = (
            np.array([float(size) for size in sizes]) for sizes in (self.steps, self.multipliers, self.quanta)
        )
        return step, multiplier, quanta[np.array(self.settle, np.int64)]

    @cached_property
    def digest(self) -> bytes:
        """A digest that equal units have in common, quick to compare."""
        return sha256(repr([getattr(self, field.name) for field in fields(self)]).encode()).digest()

    def must_fit(self, venue: Units, what: str = "accounts") -> None:
        """Refuse the units of a venue that differ from these, in which ``what`` was read.

        Parameters
        ----------
        venue : Units
            Units of the venue.
        what : str
            Name of the object that has these units, for the message.

        Raises
        ------
        RiskDataError
            The message names the first difference.

        Examples
        --------
        >>> import riskcore as rc
        >>> rc.load_venue("backpack").units.must_fit(rc.load_venue("dydx").units)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: venue.markets.symbol, row 0, ...
        """
        if self is venue or self.digest == venue.digest:
            return
        rule = f"must be as in the venue that the {what} were read with ({{}}): read the {what} with this venue"
        if self.settle_asset != venue.settle_asset:
            raise _wrong("settle_asset", rule.format(self.settle_asset), venue.settle_asset)
        for name, symbols, venue_symbols in (
            ("markets", self.markets, venue.markets),
            ("collateral", self.assets, venue.assets),
        ):
            for row, (symbol, venue_symbol) in enumerate(zip_longest(symbols, venue_symbols, fillvalue="none")):
                if symbol != venue_symbol:
                    raise RiskDataError("venue", f"{name}.symbol", rule.format(symbol), row=row, value=venue_symbol)
        settle, venue_settle = ([units.assets[row] for row in units.settle] for units in (self, venue))
        units: tuple[tuple[str, tuple[str, ...], Sequence[Any], Sequence[Any]], ...] = (
            ("stepSize", self.markets, self.steps, venue.steps),
            ("tickSize", self.markets, self.ticks, venue.ticks),
            ("multiplier", self.markets, self.multipliers, venue.multipliers),
            ("marketType", self.markets, self.types, venue.types),
            ("terms", self.markets, self.terms, venue.terms),
            ("settle", self.markets, settle, venue_settle),
            ("maxPrice in ticks", self.markets, self.max_ticks, venue.max_ticks),
            ("quantum", self.assets, self.quanta, venue.quanta),
        )
        for name, symbols, sizes, venue_sizes in units:
            for symbol, size, venue_size in zip(symbols, sizes, venue_sizes, strict=True):
                if size != venue_size:
                    raise RiskDataError("venue", name, rule.format(_plain(size)), row=symbol, value=_plain(venue_size))


@dataclass(frozen=True, repr=False)
class Venue:
    """The rules of a venue, frozen and columnar. Made by `load_venue`.

    Attributes
    ----------
    settle_asset : str
        Symbol of the settle asset, the unit of all money.
    settle : int
        Row of the settle asset.
    markets : Markets
        Perpetuals, dated futures and options, M rows.
    spots : Spots
        Spot markets of collateral assets, S rows.
    assets : Assets
        Collateral assets, K rows.
    margin_functions : MarginFunctions
        Initial and maintenance margin function of each market, then of each asset.
    pools : tuple of Pool or None
        Borrow-lend pool of each asset, None where an asset has none.
    policy : Policy
        The liquidation policy.
    backstop : tuple of Provider
        The backstop providers.
    scenario_model : ScenarioModel or None
        The model of the margin model ``scenario``.
    source : dict
        Content of a venue file that gives this venue.

    Examples
    --------
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack")
    >>> venue.markets.symbol[:2], venue.assets.symbol[venue.settle], venue.policy.adl_policy
    (('BTC_USDC_PERP', 'ETH_USDC_PERP'), 'USDC', 'pnl_leverage')
    """

    settle_asset: str
    settle: int
    markets: Markets
    spots: Spots
    assets: Assets
    margin_functions: MarginFunctions
    pools: tuple[Pool | None, ...]
    policy: Policy
    backstop: tuple[Provider, ...]
    scenario_model: ScenarioModel | None
    source: dict[str, Any]

    def __repr__(self) -> str:
        """One line: the first markets, the number of assets, and the fund."""
        symbols = self.markets.symbol
        named = ", ".join(map(escaped, symbols[:3])) + (", ..." if len(symbols) > 3 else "")
        spots = f", {counted(len(self.spots.symbol), 'spot book')}" if self.spots.symbol else ""
        providers = f", {counted(len(self.backstop), 'backstop provider')}" if self.backstop else ""
        return (
            f"Venue({counted(len(symbols), 'market')}: {named}{spots}; {counted(len(self.assets.symbol), 'asset')}, "
            f"settles in {escaped(self.settle_asset)}, fund {float(self.policy.fund):,.15g}{providers})"
        )

    def replace(
        self,
        *,
        policy: Mapping[str, Any] | None = None,
        backstop: Sequence[Mapping[str, Any]] | None = None,
        borrow_lend: Sequence[Mapping[str, Any]] | None = None,
        scenario_model: str | Path | dict[str, Any] | ScenarioModel | None = None,
    ) -> Venue:
        """Return this venue with other figures of its policy, other providers or pools, or another scenario model.

        Parameters
        ----------
        policy : mapping, optional
            The figures to change, as `load_venue` takes them; the others stay.
        backstop, borrow_lend : sequence of mapping, optional
            The whole list, as `load_venue` takes it; None leaves the venue's own.
        scenario_model : str, Path, dict or ScenarioModel, optional
            As `riskcore.load_scenario_model` takes it; None leaves the venue's own.

        Returns
        -------
        Venue
            A venue of the same units: accounts that were read with this venue go with it.

        Raises
        ------
        RiskDataError
            As of `load_venue`.

        Examples
        --------
        >>> from riskcore import load_venue
        >>> venue = load_venue("backpack").replace(policy={"fund": 1_000_000, "adl_policy": "pro_rata"})
        >>> venue
        Venue(4 markets: BTC_USDC_PERP, ETH_USDC_PERP, SOL_USDC_PERP, ...; 2 assets, settles in USDC, fund 1,000,000)
        """
        from .load import load_venue  # here: load imports this module

        if policy is not None and not isinstance(policy, Mapping):
            raise _wrong("policy", "must be a mapping of figures by name", type(policy).__name__)
        lists = {"backstop": backstop, "borrow_lend": borrow_lend}
        changed: dict[str, Any] = {name: rows for name, rows in lists.items() if rows is not None}
        if scenario_model is not None:
            changed["scenario_model"] = load_scenario_model(scenario_model).to_dict()
        return load_venue(self.source | changed | {"policy": self.source["policy"] | dict(policy or {})})

    def to_json(self, path: str | Path) -> None:
        """Write the venue as a file that `load_venue` reads as the same venue.

        Parameters
        ----------
        path : str or Path
            The file to write, or to replace.

        Raises
        ------
        RiskDataError
            The file cannot be written.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import riskcore as rc
        >>> path = Path(tempfile.mkdtemp()) / "venue.json"
        >>> rc.load_venue("backpack").to_json(path)
        >>> rc.load_venue(path)
        Venue(4 markets: BTC_USDC_PERP, ETH_USDC_PERP, SOL_USDC_PERP, ...; 2 assets, settles in USDC, fund 0)
        """
        try:
            Path(path).write_text(json.dumps(self.source, indent=1))
        except OSError as error:
            raise RiskDataError("out", None, f"cannot be written: {error.strerror}", value=str(path)) from None

    @cached_property
    def units(self) -> Units:
        """Units of the whole numbers of accounts that are read with this venue."""
        return Units.of(self.settle_asset, self.markets, self.assets)

    @cached_property
    def book_units(self) -> Units:
        """Units of the whole numbers of order books, which spot markets have as well."""
        return Units.of(self.settle_asset, self.listing, self.assets)

    @property
    def settle_quantum(self) -> Fraction:
        """Settle units per quantum of the settle asset."""
        return self.assets.quantum[self.settle]

    @cached_property
    def listing(self) -> Listing:
        """Rows of everything that has a book: the markets, and then the spot markets (B = M + S rows)."""
        parts = (self.markets, self.spots)
        columns: dict[str, Any] = {}
        for column in fields(Listing):
            first, second = (getattr(part, column.name) for part in parts)
            columns[column.name] = first + second if isinstance(first, tuple) else np.concatenate([first, second])
        return Listing(**columns)

    @property
    def book_symbols(self) -> tuple[str, ...]:
        """Symbols of everything that has a book, by book row."""
        return self.listing.symbol

    @cached_property
    def instruments(self) -> Instruments:
        """The markets, and behind them a spot balance of each asset, as scenario margin knows them (M + K rows)."""
        markets, assets = self.markets, self.assets.symbol
        underlyings = tuple(dict.fromkeys(markets.underlying))
        row, none = {name: u for u, name in enumerate(underlyings)}, [0] * len(assets)
        balances = [f"{asset} balance" if asset in markets.row else asset for asset in assets]
        return Instruments(
            symbol=(*markets.symbol, *balances),
            kind=np.append(markets.kind, np.full(len(assets), Kind.SPOT, np.uint8)),
            inverse=np.append(markets.inverse | markets.settles_in_coin, np.array(none, bool)),
            underlying=np.array([row.get(name, -1) for name in (*markets.underlying, *assets)], np.int64),
            underlyings=underlyings,
            expiry=np.append(markets.expiry, none),
            strike=np.append(markets.strike, np.full(len(assets), np.nan)),
            is_call=np.append(markets.is_call, np.array(none, bool)),
            contract=np.append([float(per) for per in markets.multiplier], np.ones(len(assets))),
        )

    @cached_property
    def linear_markets(self) -> tuple[tuple[int, ...], ...]:
        """Rows of the perpetuals, and behind them of the dated futures, of each underlying of ``instruments``."""
        underlying, kind = self.instruments.underlying[: len(self.markets.symbol)], self.markets.kind
        rows = np.argsort(kind, kind="stable")
        rows = rows[kind[rows] != Kind.OPTION]
        return tuple(tuple(rows[underlying[rows] == u].tolist()) for u in range(len(self.instruments.underlyings)))

    @cached_property
    def has_scenarios(self) -> bool:
        """Whether prices carry the data of options and scenario margin."""
        return self.scenario_model is not None or self.markets.has_options

    @cached_property
    def folded_margin_functions(self) -> MarginFunctionArrays | None:
        """The result of `MarginFunctions.folded` at any prices (settle quanta); None if it depends on them."""
        if self.margin_functions.by_quantity.any() or self.margin_functions.open_interest_markets:
            return None
        price = np.ones(len(self.margin_functions.functions) // 2)
        return self.margin_functions.folded(price, lambda market: Fraction(0), float(self.settle_quantum))

    @cached_property
    def _tiers(self) -> tuple[tuple[Float, Float], tuple[Float, Float]]:
        markets, unit, functions = len(self.markets.symbol), float(self.settle_quantum), self.margin_functions
        return functions.tiers(0, markets, unit), functions.tiers(markets, len(functions.functions) // 2, unit)

    def requirement_lookups(self) -> tuple[RequirementLookup, RequirementLookup]:
        """Make the tables in which a sweep looks up the margin functions of markets, and of borrows.

        Returns
        -------
        market, borrow : RequirementLookup
            The tiers are filled, in settle quanta, and shared by all tables; the other arrays are empty.

        Examples
        --------
        >>> import riskcore as rc
        >>> market, borrow = rc.load_venue("hyperliquid").requirement_lookups()
        >>> market.grows, market.tiers.shape[0]
        (0, 1)
        """
        market, borrow = (
            RequirementLookup(
                roots=np.empty((tiers.shape[1], 4)),
                growth=np.empty((tiers.shape[1], 4)),
                grows=int(self.margin_functions.grows),
                tiers=tiers,
                deductions=deductions,
            )
            for tiers, deductions in self._tiers
        )
        return market, borrow

    @cached_property
    def asset_rules(self) -> AssetRules:
        """Guards of the prices of assets, and the markets that tell these prices."""
        markets, assets = self.markets, self.assets
        return AssetRules(
            guards=assets.guards,
            stale_after=assets.stale_after,
            base_asset=markets.base_asset,
            quote_asset=markets.quote_asset,
            settle=self.settle,
        )

    @cached_property
    def money(self) -> tuple[int, ...]:
        """Rows of the money assets: the venue's settle asset, then the other settle assets of markets, ascending."""
        return self.settle, *sorted(set(self.markets.settle.tolist()) - {self.settle})

    @cached_property
    def money_rows(self) -> Int:
        """The rows of `money` as an array."""
        return np.array(self.money, np.int64)

    @cached_property
    def plain_money(self) -> bool:
        """Whether every contract is linear and settled in the venue's settle asset."""
        return not self.markets.inverse.any() and len(self.money) == 1

    @cached_property
    def pooled(self) -> Bool:
        """Whether each asset has a pool, shape (K,)."""
        return np.array([pool is not None for pool in self.pools])

    @cached_property
    def due_periods(self) -> tuple[int, ...]:
        """Periods, nanoseconds, at whose multiples since the epoch interest, funding or realisation falls due."""
        hour = (_HOUR,) if any(self.pools) else ()
        realize = self.policy.realize_interval
        return (*self.markets.funding_periods, *hour, *(() if realize is None else (realize * _SECOND,)))

    @cached_property
    def settle_quanta(self) -> tuple[Float, Float]:
        """Values at a price of 1: a lot of each market in quanta of its settle asset, a quantum in settle quanta."""
        markets, quantum = self.markets, self.assets.quantum
        rows = zip(markets.step, markets.multiplier, markets.settle.tolist(), strict=True)
        lots = np.array([float(step * per / quantum[k]) for step, per, k in rows])
        return lots, np.array([float(unit / self.settle_quantum) for unit in quantum])


def values_at(price: Float, size: Float, inverse: Bool) -> Float:
    """Return the signed values of lots at prices.

    Parameters
    ----------
    price : ndarray of float64, shape (..., N)
        Prices, >= 0; NaN for none.
    size : ndarray of float64, shape (N,)
        Value without the sign at a price of 1.
    inverse : ndarray of bool, shape (N,)
        Whether each contract is inverse.

    Returns
    -------
    ndarray of float64, shape (..., N)
        ``size * price`` of a linear contract, ``-size / price`` of an inverse one (0 without a price), in units of
        ``size``.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.venue import values_at
    >>> values_at(np.array([50.0, 50.0]), np.array([1.0, 100.0]), np.array([False, True])).tolist()
    [50.0, -2.0]
    """
    value = price * size
    if inverse.any():
        with np.errstate(divide="ignore"):
            value = np.where(inverse, np.where(price == 0, 0.0, -size / price), value)
    return value


def must_be_venue(venue: object) -> None:
    """Refuse an argument that is no venue.

    Parameters
    ----------
    venue : object
        The argument.

    Raises
    ------
    RiskDataError
        It is no `Venue`.

    Examples
    --------
    >>> from riskcore.venue import must_be_venue
    >>> must_be_venue("backpack")
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: venue: must be a Venue, not str
    """
    if not isinstance(venue, Venue):
        raise RiskDataError("venue", None, f"must be a Venue, not {type(venue).__name__}")


def must_be_perpetual(venue: Venue, what: str) -> None:
    """Refuse a venue with options, dated futures or a margin model of scenarios where only perpetuals are known.

    Parameters
    ----------
    venue : Venue
        The venue.
    what : str
        What knows only perpetuals, for the message.

    Raises
    ------
    RiskDataError
        A market is no perpetual, or the margin model is ``scenario``.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import must_be_perpetual
    >>> must_be_perpetual(rc.load_venue("backpack"), "an engine")
    """
    for symbol, kind in zip(venue.markets.symbol, venue.markets.type, strict=True):
        if kind not in PERPETUALS:
            rule = f"must be a perpetual: {what} knows no options and no dated futures"
            raise RiskDataError("venue", f"markets.{symbol}.marketType", rule, value=kind)
    if venue.policy.margin_model == "scenario":
        raise _wrong("policy.margin_model", f"must not be scenario: {what} has no such margin model", "scenario")


def _plain(value: Fraction | int | str) -> str:
    """Text of a word, or of an exact figure as a decimal."""
    return value if isinstance(value, str) else np.format_float_positional(float(value), trim="-")
