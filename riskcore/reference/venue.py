"""The venue: markets, collateral assets, pools, providers and the policy, read from the venue's JSON."""

from __future__ import annotations

import copy
import operator
from fractions import Fraction
from functools import cached_property

from .margin_functions import margin_functions
from .numbers import INFINITY, approximate, figure, number, rhe, square_root, whole

POLICY = {
    "acmf_divisor": 2,
    "acmf_offset": "0.06",
    "margin_model": "separable",
    "haircut_size_unit": "notional",
    "slice_fraction": "0.1",
    "slices_per_tick": 1,
    "min_slice_notional": 1000,
    "liquidation_fee": "0.01",
    "backstop_fund_share": "1/3",
    "backstop_below_zero": "mark",
    "fund": 0,
    "shortfall": "non_recourse",
    "stages": ("book", "backstop", "adl"),
    "adl_when": "backstop_exhausted",
    "adl_fund_on": 0,
    "adl_fund_off": 0,
    "adl_policy": "pnl_leverage",
    "adl_price": 0,
    "adl_counterparties": "profitable",
    "adl_cap": 1,
    "zero_price_band": 1,
    "counterparty_mmr": 1,
    "slice_probability": "0.5",
    "liquidation_interval": 1,
    "price_path": "hold",
    "slice_cooldown": None,
    "target_mmr": 1,
    "depth_share": 1,
    "slippage_limit": None,
    "market_cap": None,
    "account_cap": None,
    "account_cap_interval": 60,
    "account_order": "mmr",
    "position_order": "relief",
    "harmful_slice": "waive",
    "waived_fee_share": "0.5",
    "conversion_slippage": "0.01",
    "conversion_limit": None,
    "mark_index_threshold": "0.05",
    "stale_after": 60,
    "refill_half_life": None,
    "realize_interval": None,
    "borrow_rate_base": 0,
    "borrow_rate_slope": "0.06",
    "borrow_rate_jump": 1,
    "surface_check": "warn",
}
WORDS = (
    "margin_model", "haircut_size_unit", "price_path", "account_order", "position_order", "harmful_slice",
    "backstop_below_zero", "shortfall", "stages", "adl_when", "adl_policy", "adl_counterparties",
    "surface_check",
)  # fmt: skip


class Tradable:
    """What perpetuals and spot markets have in common: sizes, and the figures of guards and bands (run_folder.md)."""

    def __init__(self, row):
        price, quantity = row["filters"]["price"], row["filters"]["quantity"]
        self.symbol, self.base_symbol = row["symbol"], row["baseSymbol"]
        self.tick_size, self.step_size = number(price["tickSize"]), number(quantity["stepSize"])
        self.lot_tick = self.tick_size * self.step_size  # value of a lot at one tick, in settle units
        self.impact = figure(price.get("minImpactMultiplier")), figure(price.get("maxImpactMultiplier"))
        self.limit = figure(price.get("minMultiplier")), figure(price.get("maxMultiplier"))
        self.closed = row.get("orderBookState") in ("Closed", "CancelOnly", "PostOnly")


class Spot(Tradable):
    """A spot market of a collateral asset against the settle asset."""

    def __init__(self, row, quantum: Fraction):
        super().__init__(row)
        self.lot = whole(self.step_size / quantum)  # in quanta of the asset


class Market(Tradable):
    """A perpetual market, linear or inverse: its contract, its margin functions and its funding."""

    def __init__(self, row, settle, quote):
        super().__init__(row)
        self.row, price, quantity = row, row["filters"]["price"], row["filters"]["quantity"]
        self.settle, self.quote = settle, quote  # quote: the asset of its prices, None for the unit of account
        self.is_inverse, self.multiplier = row["marketType"] == "IPERP", number(row.get("multiplier") or 1)
        self.lot_tick *= self.multiplier
        mean_mark, mean_premium = price.get("meanMarkPriceBand") or {}, price.get("meanPremiumBand") or {}
        self.mean_mark = figure(mean_mark.get("minMultiplier")), figure(mean_mark.get("maxMultiplier"))
        self.tolerance = figure(mean_premium.get("tolerancePct"))
        self.update = figure(price.get("minPriceUpdateMultiplier")), figure(price.get("maxPriceUpdateMultiplier"))
        self.highest_price = figure(price.get("maxPrice"))
        self.minimum_lots = number(quantity.get("minQuantity") or 0) / self.step_size
        self.initial, self.maintenance = margin_functions(row)
        kinds = [(row.get(name) or {}).get("type") for name in ("imfFunction", "mmfFunction")]
        self.asks_open_interest = "open_interest" in kinds
        lower, upper = row.get("fundingRateLowerBound"), row.get("fundingRateUpperBound")
        self.funding_interval = row.get("fundingInterval")  # milliseconds
        self.funding_lower = -INFINITY if lower is None else float(lower) / 10000
        self.funding_upper = INFINITY if upper is None else float(upper) / 10000

    def in_float64(self) -> Market:
        """The market with its step size and margin functions in float64."""
        market = copy.copy(self)
        market.step_size, market.multiplier = float(self.step_size), float(self.multiplier)
        market.initial, market.maintenance = margin_functions(self.row, as_number=approximate)
        return market

    def lot_value(self, price):
        """Signed value of a lot at a price, in units of the market's settle asset (Contracts)."""
        size = self.step_size * self.multiplier
        return -size / price if self.is_inverse else size * price

    def worth(self, quantum: Fraction):
        """What lots are worth at a price in ticks: lots times ticks, or whole quanta of an inverse contract (Quote)."""
        if self.is_inverse:
            return lambda lots, ticks: rhe(lots * self.lot_value(ticks * self.tick_size) / quantum)
        return operator.mul

    def worth_unit(self, quantum: Fraction) -> Fraction:
        """Quanta of the settle asset that the unit of `worth` is."""
        return Fraction(1) if self.is_inverse else self.lot_tick / quantum

    def price_of(self, lots: int, flow, mark) -> float:
        """Price at which a change by `lots` brings `flow` units of the settle asset (Contracts).

        The price of an inverse contract is without sign, and the mark where the flow is 0.
        """
        size = lots * self.step_size * self.multiplier
        if not self.is_inverse:
            return float(-flow / size)
        return float(abs(size / flow) if flow else mark)


class PriceGuard:
    """The guards of an asset's price, each None where there is none."""

    def __init__(self, row):
        self.update = figure(row.get("minPriceUpdateMultiplier")), figure(row.get("maxPriceUpdateMultiplier"))
        self.index_threshold, self.mean_threshold = figure(row.get("indexThreshold")), figure(row.get("meanThreshold"))
        self.stale_after = figure(row.get("staleAfter"))  # seconds


class Asset:
    """A collateral asset: its haircut, the margin functions of a borrow, and the guards of its price."""

    def __init__(self, row, default_base):
        self.symbol, self.quantum = row["symbol"], number(row.get("quantum") or "0.000001")
        self.row, self.default_base, kind = row, default_base, row["haircutFunction"]["kind"]
        self.weight, self.is_identity = number(row["haircutFunction"]["weight"]), kind["type"] == "identity"
        if not self.is_identity:
            self.base, self.penalty = number(kind["base"]), number(kind["positiveCurvePenalty"])
        self.initial, self.maintenance = margin_functions(row, default_base)
        self.guard = PriceGuard(row.get("priceGuard") or {})

    def in_float64(self) -> Asset:
        """The asset with its quantum, haircut and margin functions in float64."""
        asset = copy.copy(self)
        asset.quantum, asset.weight = float(self.quantum), float(self.weight)
        if not self.is_identity:
            asset.base, asset.penalty = float(self.base), float(self.penalty)
        asset.initial, asset.maintenance = margin_functions(self.row, self.default_base, approximate)
        return asset

    def effective_weight(self, size: Fraction) -> Fraction:
        """`weight_eff` of a balance of notional or token quantity `size` (Margin of an account)."""
        if self.is_identity:
            return self.weight
        return min(self.weight, self.base / (1 + self.penalty * square_root(size)))


class Pool:
    """An asset's row in `borrow_lend`, quantities in quanta (run_folder.md)."""

    def __init__(self, row, quantum: Fraction):
        row = {name: figure for name, figure in row.items() if figure is not None}
        limit = row.get("openBorrowLendLimit")
        self.is_open = row.get("state", "Open") == "Open"
        self.lent, self.borrowed = (rhe(number(row.get(n, 0)) / quantum) for n in ("lentQuantity", "borrowedQuantity"))
        self.fee, self.optimum = number(row.get("fee", 0)), number(row.get("optimalUtilization", "0.9"))
        self.highest, self.threshold = (
            number(row.get(name, 1)) for name in ("maxUtilization", "throttleUtilizationThreshold")
        )
        self.update_fraction = number(row.get("throttleUpdateFraction", "0.1"))
        self.limit = INFINITY if limit is None else rhe(number(limit) / quantum)


class Venue:
    """The venue's perpetuals, collateral assets, pools, policy and backstop, by symbol and account id."""

    def __init__(self, venue):
        self.source = venue  # a venue is never changed: a change makes another one
        self.settle = venue.get("settle_asset", "USDC")
        collateral = {row["symbol"]: row for row in venue.get("collateral") or []}
        haircut = {"weight": 1, "kind": {"type": "identity"}}
        collateral.setdefault(self.settle, {"symbol": self.settle, "haircutFunction": haircut})
        self.assets = {
            symbol: Asset(row, "0.10" if symbol == self.settle else "0.20") for symbol, row in collateral.items()
        }
        self.settle_quantum = self.assets[self.settle].quantum
        perpetuals = [row for row in venue["markets"] if row["marketType"] in ("PERP", "IPERP")]
        self.markets = {row["symbol"]: self.perpetual(row) for row in perpetuals}
        paid_in = {market.settle for market in self.markets.values()} - {self.settle}
        self.money = [self.settle, *(symbol for symbol in self.assets if symbol in paid_in)]  # its own asset first
        policy = {**POLICY, **(venue.get("policy") or {})}
        self.policy = {name: x if name in WORDS else figure(x) for name, x in policy.items()}
        self.haircut_size_unit = self.policy["haircut_size_unit"]
        self.providers = {entry["account"]: entry for entry in venue.get("backstop") or []}
        rows = {row["symbol"]: row for row in venue.get("borrow_lend") or []}
        self.pools = {
            symbol: Pool(rows[symbol], asset.quantum) for symbol, asset in self.assets.items() if symbol in rows
        }
        self.spots = {  # symbol: the spot market of a collateral asset against the settle asset
            row["symbol"]: Spot(row, self.assets[row["baseSymbol"]].quantum)
            for row in venue["markets"]
            if row["marketType"] == "SPOT"
            and row.get("baseSymbol") in self.assets
            and row.get("quoteSymbol") == self.settle
        }

    def __deepcopy__(self, memo) -> Venue:
        return self

    def perpetual(self, row) -> Market:
        """A perpetual, with the asset that it settles in and that of its prices (Contracts)."""
        quote = row.get("quoteSymbol")
        if row["marketType"] == "IPERP":
            settle, quote = row.get("settle") or row["baseSymbol"], quote if quote in self.assets else None
        else:
            is_own = quote not in self.assets and quote in (None, "USD")
            settle = quote = row.get("settle") or (self.settle if is_own else quote)
        if settle not in self.assets:
            raise LookupError(f"{row['symbol']}: {settle} is not a collateral asset")
        return Market(row, settle, quote)

    @cached_property
    def legs(self) -> dict:
        """The number of each leg, (market, None) or (None, asset) (Throttle)."""
        legs = [*((market, None) for market in self.markets), *((None, asset) for asset in self.assets)]
        return {leg: number for number, leg in enumerate(legs)}

    @cached_property
    def in_float64(self) -> Venue:
        """The venue with the figures of an account's margin in float64."""
        venue = copy.copy(self)
        venue.markets = {symbol: market.in_float64() for symbol, market in self.markets.items()}
        venue.assets = {symbol: asset.in_float64() for symbol, asset in self.assets.items()}
        venue.settle_quantum = float(self.settle_quantum)
        venue.policy = {name: float(x) if isinstance(x, Fraction) else x for name, x in self.policy.items()}
        return venue

    @cached_property
    def is_plain_money(self) -> bool:
        """Whether every market is linear and settles in the venue's asset."""
        return all(self.is_plain(symbol) for symbol in self.markets)

    def is_plain(self, symbol: str) -> bool:
        """Whether a market is linear and settles in the venue's asset."""
        return not self.markets[symbol].is_inverse and self.markets[symbol].settle == self.settle

    def spot_of(self, asset: str) -> Spot | None:
        """The spot market of an asset (2 Repay, Where)."""
        return next((spot for spot in self.spots.values() if spot.base_symbol == asset), None)
