"""Hypothesis strategies for scenes with guards of collateral, a funding table, venue changes and delistings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from riskcore import Tick
from tests.strategies import OTHERS, SETTLE, Scene, TickInput, decimals, haircuts, margin_functions, rounded, scenes

UPDATES = ("0.5", "0.9", "0.99", "0.9999"), ("1.0001", "1.01", "1.1", "2")
RATES = (0.0, 0.0000125, -0.0003, 0.005, -0.004)


@dataclass(frozen=True)
class EventfulInput(TickInput):
    """What both sides see of a tick, its entries of the funding table and venue changes too."""

    funding: list[dict[str, Any]] = field(default_factory=list)
    venue_changes: list[dict[str, Any]] = field(default_factory=list)

    def events(self) -> dict[str, Any]:
        return {"funding": self.funding, "venue_changes": self.venue_changes}

    def tick(self) -> Tick:
        return replace(super().tick(), **self.events())


def optional(values):
    return st.one_of(st.none(), st.sampled_from(values))


price_guards = st.fixed_dictionaries(
    {
        "minPriceUpdateMultiplier": optional(UPDATES[0]),
        "maxPriceUpdateMultiplier": optional(UPDATES[1]),
        "indexThreshold": optional(["0.001", "0.02", "0.1"]),
        "meanThreshold": optional(["0.001", "0.02", "0.1"]),
        "staleAfter": optional([1, 60, 4000]),
    }
).map(lambda guard: {name: figure for name, figure in guard.items() if figure is not None})


@st.composite
def asset_prices(draw, scene: Scene, inputs: TickInput):
    """Prices of assets that rise, fall, and fail to come where they may be held; some beside their market."""
    found = {}
    for row in scene.source["collateral"]:
        symbol = row["symbol"]
        price = inputs.asset_prices.get(symbol)
        if price is None and f"{symbol}_PERP" in inputs.path and draw(st.booleans()):
            price = inputs.path[f"{symbol}_PERP"]
        may_fail = symbol not in OTHERS or "staleAfter" in row.get("priceGuard", ())
        if price is None or (may_fail and draw(st.integers(0, 3)) == 0):
            continue
        move = draw(st.sampled_from([Decimal(1), Decimal(1), draw(decimals(950, 1050, 3)), draw(decimals(60, 160, 2))]))
        found[symbol] = rounded(Decimal(str(price)) * move, Decimal("0.0001"))
    return found


@st.composite
def market_changes(draw, market, path):
    """Changes of a market's row, all of them in the range of their fields."""
    kind = draw(
        st.sampled_from(
            ["state", "state", "update", "impact", "mean", "margin", "interest", "funding", "delist", "delist"]
        )
    )
    if kind == "state":
        return [("state", draw(st.sampled_from(["open", "post-only", "closed"])))]
    if kind == "impact":
        return [("filters.price.minImpactMultiplier", draw(st.sampled_from(["0.98", "0.999"])))]
    if market["marketType"] == "SPOT":
        return []
    if kind == "update":
        return [
            (f"filters.price.{name}PriceUpdateMultiplier", draw(st.sampled_from(values)))
            for name, values in zip(("min", "max"), UPDATES, strict=True)
        ]
    if kind == "mean":
        return [
            ("filters.price.meanMarkPriceBand", {"minMultiplier": "0.99", "maxMultiplier": draw(optional(["1.01"]))})
        ]
    if kind in ("margin", "interest"):
        pair = draw(margin_functions(kinds=("open_interest",)) if kind == "interest" else margin_functions())
        return list(zip(("imfFunction", "mmfFunction"), pair, strict=True))
    if kind == "funding":
        return [("fundingInterval", draw(st.sampled_from([60_000, 600_000, 3_600_000])))]
    tick = Decimal(market["filters"]["price"]["tickSize"])
    price = rounded(Decimal(str(path[market["symbol"]])) * draw(decimals(90, 110, 2)), tick / 10)
    return [("delist", max(price, float(tick)))]


@st.composite
def asset_changes(draw, row):
    kind = draw(st.sampled_from(["haircut", "weight", "guard", "figure", "margin"]))
    if kind == "haircut":
        return [("haircutFunction", draw(haircuts()))]
    if kind == "weight":
        return [("haircutFunction.weight", draw(st.sampled_from(["0.5", 0.75, "0.99"])))]
    if kind == "guard":
        return [("priceGuard", draw(price_guards))]
    if kind == "figure":
        return [("priceGuard.meanThreshold", draw(st.sampled_from(["0.01", 0.5])))]
    return list(
        zip(("imfFunction", "mmfFunction"), draw(margin_functions(50, 200, ("sqrt", "linear", "tiers"))), strict=True)
    )


@st.composite
def events_of(draw, scene: Scene, inputs: TickInput, since: int, gone: set[str]):
    """Entries and changes between two ticks; a market that is delisted has no entries and changes afterwards."""
    markets = [row for row in scene.source["markets"] if row["symbol"] not in gone]
    moments = sorted({draw(st.integers(since + 1, inputs.time)) for _ in range(draw(st.integers(0, 2)))})
    moments = [draw(st.sampled_from([moment, inputs.time])) for moment in moments]
    changes = []
    for moment in sorted(set(moments)):
        is_asset = draw(st.integers(0, 3)) == 0
        rows = [row for row in scene.source["collateral"] if row["symbol"] != SETTLE] if is_asset else markets
        rows = [row for row in rows if row["symbol"] not in gone]
        if not rows:
            continue
        row = draw(st.sampled_from(rows))
        made = draw(asset_changes(row) if is_asset else market_changes(row, inputs.path))
        place = {"market": None, "asset": None, ("asset" if is_asset else "market"): row["symbol"]}
        changes += [{"time": moment, **place, "field": name, "value": value} for name, value in made]
        gone |= {row["symbol"] for name, _ in made if name == "delist"}
    perpetuals = [row["symbol"] for row in markets if row["marketType"] != "SPOT"]
    times = st.one_of(st.just(inputs.time), st.integers(since + 1, inputs.time))
    keys = st.tuples(times, st.sampled_from(perpetuals)) if perpetuals else st.nothing()
    named = draw(st.lists(keys, max_size=3, unique=True)) if perpetuals else []
    funding = [{"time": time, "market": market, "rate": draw(st.sampled_from(RATES))} for time, market in sorted(named)]
    return draw(st.permutations(funding)), changes


@st.composite
def eventful_scenes(draw, ticks=3, mixed=False, clocked=False):
    """A scene whose assets have guards, and whose ticks come with entries of the funding table and venue changes.

    ``clocked``: there are some instants between two ticks.
    """
    scene = draw(scenes(ticks=ticks, live=True, mixed=mixed))
    collateral = [
        row if row["symbol"] == SETTLE else row | {"priceGuard": draw(price_guards)}
        for row in scene.source["collateral"]
    ]
    policy = scene.source["policy"] | {"liquidation_interval": None}
    if clocked:
        longest = max(later.time - first.time for first, later in pairwise(scene.ticks)) // 10**9
        policy["liquidation_interval"] = max(longest // draw(st.integers(2, 8)), 1)
        policy["price_path"] = draw(st.sampled_from(["hold", "linear", "bridge", "adverse"]))
        policy["realize_interval"] = None  # it may be a second
    scene = replace(scene, source=scene.source | {"collateral": collateral, "policy": policy})
    inputs, gone, scheduled, since = [], set[str](), set[str](), None
    for number, drawn in enumerate(scene.ticks):
        others = {f.name: getattr(drawn, f.name) for f in drawn.__dataclass_fields__.values()}
        funding, changes = [], []
        if number:
            others["asset_prices"] = draw(asset_prices(scene, drawn))
            funding, changes = draw(events_of(scene, drawn, since, gone))
        scheduled |= {entry["market"] for entry in funding}
        if draw(st.integers(0, 9)):  # else some rates are refused
            others["funding_rates"] = {m: rate for m, rate in drawn.funding_rates.items() if m not in scheduled}
        inputs.append(EventfulInput(**others, funding=funding, venue_changes=changes))
        since = drawn.time
    return replace(scene, ticks=inputs)
