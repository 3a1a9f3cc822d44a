"""Cascades through every stage, over several ticks: nothing is made or lost, and nobody is made worse than allowed."""

from collections import Counter
from decimal import Decimal
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import event, given, settings
from hypothesis import strategies as st

from riskcore import Engine, reference
from riskcore.audit import audit
from riskcore.venue import POLICIES
from tests.comparison import natural_rows, totals
from tests.strategies import SETTLE, START, Scene, TickInput

LOT, CENT = Decimal("0.01"), Decimal("0.01")
LOTS = {"stepSize": str(LOT), "minQuantity": str(LOT)}
STAGES = ("book", "backstop", "adl", "close out")


def rounded(amount: float, unit: Decimal = CENT) -> float:
    return float(round(Decimal(amount) / unit) * unit)


def market_row(symbol: str, rng: Random) -> dict:
    factor = rng.choice(["0", "0", "0.0004"])
    return {
        "symbol": symbol, "baseSymbol": symbol, "marketType": "PERP",
        "filters": {"price": {"tickSize": "0.01", "maxPrice": "10000"}, "quantity": LOTS},
        "imfFunction": {"type": "sqrt", "base": "0.08", "factor": factor},
        "mmfFunction": {"type": "sqrt", "base": "0.05", "factor": factor},
    }  # fmt: skip


def policy(rng: Random) -> dict:
    return {
        "slice_probability": 1, "min_slice_notional": rng.choice([0, 100]), "fund": rng.choice([0, 0, 20, 3000]),
        "slice_fraction": rng.choice(["0.1", "0.5", 1]), "liquidation_fee": rng.choice(["0.01", "0.002"]),
        "account_order": rng.choice(["mmr", "mmr", "pro_rata", "random"]),
        "harmful_slice": rng.choice(["waive", "send", "backstop"]),
        "backstop_below_zero": rng.choice(["mark", "mark", "zero_price"]),
        "backstop_fund_share": rng.choice(["1/3", 1]),
        "liquidation_interval": None,  # the ticks are 20 seconds apart
        "adl_policy": rng.choice(list(POLICIES)), "adl_price": rng.choice([0, 0, "1/3", 1, 1]),
        "adl_counterparties": rng.choice(["profitable", "opposing", "opposing"]),
        "adl_cap": rng.choice([1, 1, "0.4"]),
        "shortfall": rng.choice(["non_recourse", "unsettled", "equity", "open_interest"]),
    }  # fmt: skip


def cascade(rng: Random) -> Scene:
    """Longs of all leverages, the shorts against them, small providers, thin books, and a price that falls and falls.

    Some shorts are hedged, and at the first tick just about healthy, so that they can bear nothing more.
    Some of the longs have their money in GEM, free or lent, or have borrowed it; GEM's pool may be all lent out.
    """
    symbols = ["X", "Y"][: rng.choice([1, 2, 2])]
    mark, gem = {"X": 100.0, "Y": 20.0}, 10.0
    longs, shorts, providers = rng.randint(8, 12), rng.randint(5, 8), rng.randint(1, 2)
    ids = list(range(1, longs + shorts + providers + 1))
    rng.shuffle(ids)
    scene, away, tight = Scene({}, seed=rng.randint(0, 2**31)), [], []

    def hold(account: int, side: int, symbol: str) -> float:
        """Open a position; gives its notional."""
        notional = rng.choice([500, 3_000, 3_000, 12_000]) * rng.uniform(0.6, 1.5)
        lots = rounded(notional / mark[symbol], LOT)
        entry = rounded(mark[symbol] * rng.uniform(0.99, 1.01) if side > 0 else mark[symbol] * rng.uniform(0.96, 1.06))
        scene.positions.append({"account": account, "market": symbol, "quantity": side * lots, "entry_price": entry})
        away.append((account, side * lots * (mark[symbol] - entry)))
        return lots * mark[symbol]

    for n, account in enumerate(ids[providers:]):
        side = 1 if n < longs else -1
        held = rng.sample(symbols, rng.randint(1, len(symbols)))
        hedged = side < 0 and len(held) > 1 and rng.random() < 0.6
        notional = sum(hold(account, -side if hedged and n else side, symbol) for n, symbol in enumerate(held))
        part = rng.choice([0.052, 0.06, 0.075, 0.09, 0.11, 0.15] if side > 0 else [0.06, 0.1, 0.5])
        if side < 0 and rng.random() < 0.6:
            tight.append(account)
        equity = part * notional * rng.uniform(0.97, 1.03)
        money = equity - sum(profit for who, profit in away if who == account)
        kind = rng.choice(["cash", "cash", "free", "lent", "borrowed"])
        share = rng.uniform(0.3, 0.9) * money
        if kind == "borrowed":
            scene.balances.append({"account": account, "asset": "GEM", "quantity": -rounded(share / gem), "lent": 0.0})
            money += share
        elif kind != "cash" and money > 0:
            amounts = (rounded(share / gem / 0.9), 0.0) if kind == "free" else (0.0, rounded(share / gem / 0.9))
            scene.balances.append({"account": account, "asset": "GEM", "quantity": amounts[0], "lent": amounts[1]})
            money -= share
        scene.balances.append({"account": account, "asset": SETTLE, "quantity": rounded(money), "lent": 0.0})
    for account in ids[:providers]:
        money = rng.choice([300.0, 2_000.0, 50_000.0])
        scene.balances.append({"account": account, "asset": SETTLE, "quantity": money, "lent": 0.0})

    collateral = {SETTLE: "1", "GEM": "0.9"}
    scene.source.update(
        settle_asset=SETTLE,
        markets=[market_row(symbol, rng) for symbol in symbols],
        collateral=[
            {"symbol": symbol, "haircutFunction": {"weight": weight, "kind": {"type": "identity"}}}
            for symbol, weight in collateral.items()
        ],
        borrow_lend=rng.choice([[], [{"symbol": "GEM", "borrowedQuantity": rng.choice(["0", "1000", "100000"])}]]),
        policy=policy(rng),
        backstop=[{"account": n, "capacity_per_min": rng.choice([300, 800, 4_000, 15_000])} for n in ids[:providers]],
    )
    for n in range(rng.randint(3, 4)):
        fall = rng.choice([0.02, 0.08, 0.15] if n == 0 else [0.012, 0.025, 0.05, 0.08])
        mark = {symbol: rounded(mark[symbol] * (1 - fall * rng.uniform(0.3, 1.2))) for symbol in symbols}
        gem = rounded(gem * rng.uniform(0.96, 1.01))
        books = {}
        for symbol in symbols:
            depth = rng.choice([0, 400, 2_000, 10_000]) / mark[symbol]
            levels = [[(rounded(mark[symbol] * (1 + sign * away)), rounded(depth * (1 + 20 * away), LOT))
                       for away in (0.0005, 0.002, 0.01)] for sign in (-1, 1)]  # fmt: skip
            bids, asks = ([level for level in side if level[1] > 0] for side in levels)
            books[symbol] = {"bids": bids, "asks": asks}
        scene.ticks.append(TickInput(START + n * 20 * 10**9, mark, {}, {"GEM": gem}, books))
    tighten(scene, tight, rng)
    return scene


def tighten(scene: Scene, accounts: list[int], rng: Random) -> None:
    """Choose the settle balances that bring accounts to ratios of 85 to 99 % at the first tick."""
    venue, state = scene.load_reference()
    prices = scene.ticks[0].prices().at(venue, state)
    for row in scene.balances:
        if row["asset"] == SETTLE and row["account"] in accounts:
            look = reference.margin(venue, state.accounts[row["account"]], prices)
            missing = float(look.maintenance_margin) * rng.uniform(1.01, 1.17) - float(look.net_equity)
            row["quantity"] = rounded(row["quantity"] + missing)


def stage(row: dict) -> str | None:
    if row["event"] in ("shortfall", "socialize", "fund") or row["reason"] == "close_out":
        return "close out"
    return row["event"] if row["event"] in STAGES else None


def assert_row_is_fair(venue: reference.Venue, state: reference.State, prices: reference.Prices, row: dict) -> None:
    """Nobody's position grows or turns by being closed against, and nobody is brought to a ratio of 100 %."""
    other, market, name = state.accounts[row["counterparty"]], row["market"], row["event"]
    before, held = reference.margin(venue, other, prices), other.positions.get(market, (0,))[0]
    reference.apply_row(state, row)
    after, left = reference.margin(venue, other, prices), other.positions.get(market, (0,))[0]
    if name == "backstop":
        assert after.imr < 1 or before.imr >= 1
        return
    assert after.mmr < 1 or before.mmr >= 1
    if name == "adl":
        assert abs(left) <= abs(held)
        assert left * held >= 0
    if name == "socialize":
        assert after.net_equity >= 0 or before.net_equity < 0


def run_cascade(scene: Scene) -> Counter:
    """Step through it and check every row; gives how many of each stage there were."""
    venue, accounts = scene.load()
    oracle, state = scene.load_reference()
    engine, reached = Engine(accounts, venue, scene.seed), Counter()
    everything = totals(engine, venue)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        for inputs in scene.ticks:
            rows = natural_rows(engine.step(inputs.tick()))
            prices = inputs.prices().at(oracle, state)
            for row in rows:
                reached.update({row["event"], row["reason"], stage(row)})
                if row["event"] in ("adl", "backstop", "socialize"):
                    assert_row_is_fair(oracle, state, prices, row)
                else:
                    reference.apply_row(state, row)
                assert min(state.fund.values()) >= 0
            assert totals(engine, venue) == everything
            assert (engine.ledger.fund >= 0).all()
            engine.save(path)
        report = audit(path)
        assert report.ok, report.breaches.head()
    return reached


@settings(max_examples=8)
@given(st.randoms(use_true_random=False))
def test_cascades(rng):
    reached = run_cascade(cascade(rng))
    event(f"{sum(1 for name in STAGES if reached[name])} stages")


def test_cascades_reach_every_stage():
    """Most of them all four, and every way of paying a shortfall is among them."""
    runs = [run_cascade(cascade(Random(seed))) for seed in range(16)]
    assert sum(all(run[name] for name in STAGES) for run in runs) >= 8
    for name in ("fund", "shortfall", "socialize", "unfilled", "redeem", "full_utilization"):
        assert any(run[name] for run in runs), name
