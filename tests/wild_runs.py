"""Runs in which everything happens, drawn from a seed: a venue, accounts and ticks with all that a feed gets wrong."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd

import riskcore as rc
from riskcore import sample

PRICES = {"BTC": (100_000.0, 0.1), "ETH": (4_000.0, 0.01), "SOL": (200.0, 0.01)}
"""First price and tick size."""


def spot_row(base, tick, step, impact, limit):
    price = {"tickSize": tick, "minImpactMultiplier": impact[0], "maxImpactMultiplier": impact[1],
             "minMultiplier": limit[0], "maxMultiplier": limit[1]}  # fmt: skip
    return {"symbol": f"{base}_USDC", "baseSymbol": base, "quoteSymbol": "USDC", "marketType": "SPOT",
            "filters": {"price": price, "quantity": {"stepSize": step}}}  # fmt: skip


def wild_venue(count, policy, full=False, closed=None, mixed=False, events=False):
    """Each kind of band, cap and margin function in some market, two spot markets, and providers of little means.

    ``closed`` has the states of books that nobody may take from; ``mixed``: ETH settles in USDT, and SOL is an inverse
    market.
    Where the pools are ``full``, all that is lent is borrowed, and one provider does not take every market and asset.
    """
    source = sample.venue_source([count + 1, count + 2])
    for row in source["collateral"] if events else ():
        if row["symbol"] in GUARDS:
            row["priceGuard"] = GUARDS[row["symbol"]]
    source["policy"] = {"fund": 150, "min_slice_notional": 200, "liquidation_interval": None} | policy
    for provider, capacity in zip(source["backstop"], ("300000", "120000"), strict=True):
        provider |= {"capacity_per_min": capacity, "capacity_per_hour": "500000"}
    btc, eth, sol = source["markets"]
    mean = {"minMultiplier": "0.99", "maxMultiplier": "1.01"}
    btc["filters"]["price"] |= {
        "minImpactMultiplier": "0.998", "maxImpactMultiplier": "1.002", "meanMarkPriceBand": mean,
    }  # fmt: skip
    eth["filters"]["price"] |= {
        "minImpactMultiplier": None, "maxImpactMultiplier": None, "minMultiplier": "0.997", "maxMultiplier": "1.003",
        "minPriceUpdateMultiplier": "0.985", "maxPriceUpdateMultiplier": "1.015",
    }  # fmt: skip
    sol["filters"]["price"] |= {
        "meanMarkPriceBand": {"minMultiplier": "0.97", "maxMultiplier": "1.03"},
        "meanPremiumBand": {"tolerancePct": "0.0015"}, "minPriceUpdateMultiplier": "0.99",
    }  # fmt: skip
    btc["mmfFunction"] |= {"unit": "quantity", "factor": "0.002"}
    eth["mmfFunction"] = {
        "type": "tiers",
        "brackets": [
            {"from": 0, "rate": "0.0125"}, {"from": "5000", "rate": "0.015"}, {"from": "40000", "rate": "0.02"},
        ],
    }  # fmt: skip
    source["markets"] += [
        spot_row("BTC", "0.1", "0.00001", ("0.998", "1.002"), ("0.985", "1.015")),
        spot_row("SOL", "0.01", "0.01", (None, None), ("0.998", "1.002")),
    ]
    source["borrow_lend"] = [
        {"symbol": "USDC", "lentQuantity": "5000000", "borrowedQuantity": "1000000", "fee": "0.1"},
        {"symbol": "BTC", "lentQuantity": "9", "borrowedQuantity": "3", "throttleUtilizationThreshold": "0.8"},
    ]
    if full:
        source["borrow_lend"][1] |= {"lentQuantity": "3", "throttleUtilizationThreshold": "1"}
        source["borrow_lend"].append({"symbol": "ETH", "lentQuantity": "1", "borrowedQuantity": "1"})
        source["backstop"][0] |= {"markets": ["BTC_USDC_PERP", "SOL_USDC_PERP"], "assets": ["SOL", "ETH"]}
        sol["imfFunction"] = {
            "type": "tiers", "whole": True,
            "brackets": [{"from": 0, "rate": "0.03"}, {"from": "2e4", "rate": "0.05"}, {"from": "9e4", "rate": "0.1"}],
        }  # fmt: skip
        sol["mmfFunction"]["factor"] = "0"  # no root stays below brackets
    if mixed:
        eth["quoteSymbol"] = "USDT"
        sol |= {"marketType": "IPERP", "quoteSymbol": "USD", "multiplier": "200"}
        weight = {"weight": "0.95", "kind": {"type": "identity"}}
        source["collateral"].append({"symbol": "USDT", "haircutFunction": weight})
        source["borrow_lend"].append({"symbol": "SOL", "lentQuantity": "20", "borrowedQuantity": "12"})
    for row in source["markets"]:
        row["orderBookState"] = (closed or {}).get(row["symbol"], "Open")
    return rc.load_venue(source)


def wild_accounts(venue, count, seed, poor=None):
    """Drawn accounts, of which many owe settle, BTC or SOL against other collateral; some hold USDT where it is one.

    ``poor`` is what the providers have, and then some accounts have a leverage limit or owe what is not settled yet.
    """
    first = {f"{base}_USDC_PERP": price for base, (price, _) in PRICES.items()}
    positions, balances, orders = sample.generate_accounts(venue, first, count, seed=seed)
    balances = balances.assign(lent=0.0)
    settle = balances[(balances["asset"] == "USDC") & (balances["account"] <= count)]
    held, extra = set(balances.loc[balances["asset"] != "USDC", "account"]), []
    for row, account, amount in zip(settle.index, settle["account"], settle["quantity"], strict=True):
        kind = account % 5 if account not in held else 4
        if kind == 0:
            balances.loc[row, ["quantity", "lent"]] = round(0.3 * amount, 6), round(0.7 * amount, 6)
        elif kind == 1:
            balances.loc[row, "quantity"] = round(-0.4 * amount, 6)
            extra.append((account, "SOL", round(1.4 * amount / 188, 6), 0.0))
        elif kind == 2:
            extra.append((account, "BTC", -round(0.8 * amount / 1e5, 6), 0.0))
            extra.append((account, "ETH", round(0.5 * amount / 4e3, 6), round(0.4 * amount / 4e3, 6)))
        elif kind == 3:
            extra.append((account, "SOL", -round(0.9 * amount / 200, 6), round(0.1 * amount / 200, 6)))
            free, lent = (0.85, 0.0) if poor is None else (0.5, 0.35)
            extra.append((account, "BTC", round(free * amount / 1e5, 6), round(lent * amount / 1e5, 6)))
        if account % 7 == 0 and "USDT" in venue.assets.symbol:
            extra.append((account, "USDT", round(0.3 * amount, 6), round(0.1 * amount, 6)))
    extra = pd.DataFrame(extra, columns=["account", "asset", "quantity", "lent"])
    balances, settings = pd.concat([balances, extra], ignore_index=True), None
    if poor is not None:
        balances.loc[(balances["account"] > count) & (balances["asset"] == "USDC"), "quantity"] = poor
        settled = [(account, 5.0 + account % 40, -1.0 * (account % 3 == 0)) for account in range(1, count + 3)]
        # without a position: what they have free, lend, and owe
        for number, (free, lent, owed) in enumerate([(30, 0, 200), (0, 20, 200), (5, 0, 5), (0, 0, 7)], count + 3):
            balances.loc[len(balances)] = number, "USDC", float(free), float(lent)
            settled.append((number, 10.0, -float(owed)))
        settings = pd.DataFrame(settled, columns=["account", "leverage_limit", "unsettled"])
        settings["owner"] = settings["account"] % 10
    return rc.Accounts.from_frames(venue, positions, balances, orders, settings)


def wild_book(price, tick, depth, rng):
    """Five levels on each side, the best a few basis points off."""
    sides = {}
    for name, sign in (("bids", -1), ("asks", 1)):
        prices = np.round(price * (1 + sign * np.cumsum(rng.uniform(0.0001, 0.0015, 5))) / tick) * tick
        sizes = np.maximum(np.round(rng.exponential(depth / price, 5), 2 if price < 1e4 else 4), 0.01)
        sides[name] = [(round(float(p), 6), round(float(s), 5)) for p, s in zip(prices, sizes, strict=True)]
    return sides


def wild_ticks(count, depth, rng, fall, asset_prices=None):
    """Prices that fall and come back, with gaps and prints that are off, and books that are old, crossed or half."""
    now, last_books = pd.Timestamp("2025-10-10 20:59:30", tz="UTC"), {}
    for number in range(count):
        now += pd.Timedelta(rng.choice([1.0, 1.0, 1.0, 0.4, 7.5, 65.0 if number > 5 else 1.0]), "s")
        marks, indexes, lasts, books, book_times = {}, {}, {}, {}, {}
        for base, (first, tick) in PRICES.items():
            perp = f"{base}_USDC_PERP"
            price = first * (1 - fall * np.sin(np.pi * number / count) ** 2) * (1 + rng.normal(0, 0.001))
            dark = number > 0 and base == "SOL" and rng.random() < 0.12
            if number == 0 or (rng.random() < 0.7 and not dark):
                off = rng.choice([1.0, 1.08, 0.93], p=[0.96, 0.02, 0.02])
                marks[perp] = round(price * (1 + rng.normal(0, 0.001)) * off, 4)
            if number == 0 or (rng.random() < 0.75 and not dark):
                indexes[perp] = round(price, 4)
            if rng.random() < 0.5 and not dark:
                lasts[perp] = round(price * (1 + rng.normal(0, 0.002)), 2)
            for market in (perp, f"{base}_USDC") if base != "ETH" else (perp,):
                draw = rng.random()
                if draw < 0.05 or dark:
                    continue
                if market not in last_books or draw > 0.2:
                    last_books[market] = wild_book(price, tick, depth, rng)
                books[market] = last_books[market]
                if draw > 0.97:  # crossed
                    books[market] = {"bids": books[market]["asks"][::-1], "asks": books[market]["bids"][::-1]}
                elif draw > 0.94:
                    books[market] = {"asks": books[market]["asks"]}
                if rng.random() < 0.15:
                    book_times[market] = now - pd.Timedelta(float(rng.choice([3, 50, 60, 61, 200])), "s")
        yield rc.Tick(now, marks, books, indexes, asset_prices, last_prices=lasts, book_times=book_times)


GUARDS = {
    "BTC": {"minPriceUpdateMultiplier": "0.999", "maxPriceUpdateMultiplier": "1.001", "meanThreshold": "0.1"},
    "ETH": {"indexThreshold": "0.01", "staleAfter": 30},
    "SOL": {"meanThreshold": "0.02", "maxPriceUpdateMultiplier": "1.05", "staleAfter": 6000},
}
"""Guards of the prices of collateral."""
FLAT = [("imfFunction", {"type": "linear", "base": "0.04", "slope": 0}),
        ("mmfFunction", {"type": "linear", "base": "0.02", "slope": 0})]  # fmt: skip
CHANGES = {
    5: ("market", "ETH_USDC_PERP", [("state", "closed")]),
    9: ("market", "ETH_USDC_PERP", [("state", "open"), ("filters.price.maxPriceUpdateMultiplier", "1.2")]),
    12: ("market", "BTC_USDC_PERP", FLAT),
    15: ("asset", "SOL", [("haircutFunction.weight", "0.8"), ("priceGuard.meanThreshold", 0.03)]),
    18: ("market", "SOL_USDC", [("filters.price.minMultiplier", "0.9"), ("state", "post-only")]),
    22: ("market", "ETH_USDC_PERP", [("fundingInterval", 5000)]),
    32: ("market", "SOL_USDC_PERP", [("delist", 176.5)]),
}
"""Changes by the number of the tick with which they come."""


class Events:
    """Prices of assets that are off or missing, entries of a funding table, and venue changes, tick by tick.

    The tick after a refused one comes with the events of that one too.
    """

    def __init__(self, rng):
        self.rng, self.since, self.prices = rng, None, {base: price for base, (price, _) in PRICES.items()}
        self.funding, self.changes = [], []

    def beside(self, number, tick):
        """The tick of a number with its events."""
        rng, now, given = self.rng, tick.nanoseconds(), {}
        for base, price in self.prices.items():
            self.prices[base] = price = tick.marks.get(f"{base}_USDC_PERP", price)
            if number == 0 or rng.random() < 0.8:
                given[base] = round(price * rng.choice([1.0, 1.3, 0.8], p=[0.9, 0.05, 0.05]), 2)
        if self.since is None:
            return replace(tick, asset_prices=given)
        for market in ("BTC_USDC_PERP", "SOL_USDC_PERP") if number > 6 else ():
            times = {entry["time"] for entry in self.funding if entry["market"] == market}
            for time in set(rng.integers(self.since + 1, now + 1, rng.integers(0, 3)).tolist()) - times:
                self.funding.append({"time": time, "market": market, "rate": round(rng.normal(0, 0.001), 6)})
        kind, symbol, fields = CHANGES.get(number, ("market", None, []))
        place, moment = {"market": None, "asset": None, kind: symbol}, now - int(rng.integers(0, 3)) * 10**8
        self.changes += [{"time": moment, **place, "field": name, "value": value} for name, value in fields]
        rates = {} if number % 3 else {"ETH_USDC_PERP": 0.0003}
        tick = replace(tick, asset_prices=given, funding_rates=rates)
        return replace(tick, funding=self.funding, venue_changes=self.changes)

    def accepted(self, tick):
        """The engine took a tick."""
        self.since, self.funding, self.changes = tick.nanoseconds(), [], []


def wild_run(
    path, policy, *, seed, count=110, ticks=60, depth=6e3, fall=0.12, poor=None, closed=None, mixed=False, events=False
):
    """A run of which one tick in some is refused, saved in two parts; with ``poor`` providers the pools are full.

    ``mixed``: markets settle in several assets; ``events``: assets have guards, and things happen at their own times.
    """
    rng = np.random.default_rng(seed)
    venue = wild_venue(count, policy, full=poor is not None, closed=closed, mixed=mixed, events=events)
    engine, prices = rc.Engine(wild_accounts(venue, count, seed, poor), venue, seed), {"USDT": 0.998} if mixed else None
    things = Events(rng) if events else None
    for number, tick in enumerate(wild_ticks(ticks, depth, rng, fall, prices)):
        if things is not None:
            tick = things.beside(number, tick)
        with suppress(rc.RiskDataError):  # a market that is held has no mark: then nothing has changed
            engine.step(tick)
            if things is not None:
                things.accepted(tick)
        if number == ticks // 2:
            engine.save(path)
    engine.save(path)
