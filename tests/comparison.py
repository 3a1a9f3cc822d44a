"""Engine and oracle side by side: what must be equal, what may differ by float64's rounding, and by how much."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any

import numpy as np

from riskcore import Accounts, ActivityResult, Engine, StepResult, Venue, reference
from riskcore.kernels.layouts import AccountColumns

ROUNDING = reference.ROUNDING
WHOLE = ("order", "requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled")
COUNTER = ("counter_cost", "counter_cash", "counter_entry", "fund")
NONE = -(2**63)  # a sample that there is not
NAMED = ("event", "reason", "account", "counterparty", "market", "asset", "settle")


gross = reference.gross


def same_ratio(found: float, margin: Fraction, look: reference.Margin, scale: Fraction) -> bool:
    """Whether a ratio of float64 amounts is right: within 1e-9, and as near as net equity itself can be.

    Net equity may be off by 1e-12 of the gross amounts. Where nothing more than that is left of it, the sign of
    float64's equity is open, and the ratio is infinite or as large as that makes it.
    """
    if look.exposure == 0:
        return found == 0
    doubt = ROUNDING * scale
    if 0 < doubt >= abs(look.net_equity):
        return found >= float(margin / (2 * doubt)) * (1 - 1e-9)
    if look.net_equity <= 0:
        return found == math.inf
    return math.isclose(found, float(margin / look.net_equity), rel_tol=max(1e-9, float(2 * doubt / look.net_equity)))


def natural_rows(result: StepResult | ActivityResult) -> list[dict[str, Any]]:
    """The engine's rows in the oracle's words."""
    rows = result.events.astype(object).where(result.events.notna(), None).to_dict("records")
    for row, time in zip(rows, result.raw_events["time"].astype(np.int64).tolist(), strict=True):
        row["time"] = time
        row["order"] = None if row["order"] < 0 else row["order"]
    return rows


def assert_same_journal(
    result: StepResult,
    rows: list[dict[str, Any]],
    venue: reference.Venue,
    before: reference.State,
    prices: reference.Prices,
    seen: reference.Seen | None = None,
) -> None:
    """Row by row: whole numbers and names equal, prices within 1e-12, ratios as near as float64 equity allows.

    ``seen`` has the prices and the venue of each instant of a tick that has several.
    """
    state, prices = reference.apply_rows(before, ()), prices.at(venue, before)
    found = natural_rows(result)
    for place, (ours, theirs) in enumerate(zip(found, rows, strict=False)):
        assert_same_row(ours, theirs, place)
        if theirs["event"] == "harm":
            assert ours["mmr_before"] == ours["mmr_after"]
        if seen is not None:
            venue, prices = seen.venues[theirs["time"]], seen.by_time[theirs["time"]]
        account = state.accounts.get(theirs["account"])
        for moment in ("mmr_before", "mmr_after"):
            if math.isnan(theirs[moment]):
                assert ours[moment] is None, f"row {place}: {moment}"
            else:
                look = reference.margin(venue, account, prices)
                assert float(look.mmr) == theirs[moment]
                right = same_ratio(ours[moment], look.maintenance_margin, look, gross(venue, account, prices))
                assert right, f"row {place}: {moment} {ours[moment]}, not {theirs[moment]}"
            if moment == "mmr_before":
                reference.apply_row(state, theirs)
    assert len(found) == len(rows)


def assert_same_row(ours: dict[str, Any], theirs: dict[str, Any], place: int) -> None:
    """Whole numbers and names equal, the price within 1e-12."""
    named = ("tick", "time", *NAMED, *WHOLE, *COUNTER)
    assert {n: ours[n] for n in named} == {n: theirs[n] for n in named}, f"row {place}"
    if math.isnan(theirs["price"]):
        assert ours["price"] is None, f"row {place}"
    else:
        assert math.isclose(ours["price"], theirs["price"], rel_tol=1e-12), f"row {place}"


def assert_same_state(engine: Engine, venue: reference.Venue, state: reference.State) -> None:
    """Positions, balances, orders, ledgers, what the providers took and what is remembered, all by equality."""
    accounts, ledger, columns = engine.accounts, engine.ledger, engine.accounts.columns
    markets, assets = list(venue.markets), list(venue.assets)
    rows = {account_id: row for row, account_id in enumerate(accounts.ids.tolist())}  # opened ones come last
    assert sorted(rows) == list(state.accounts)
    for account_id, account in state.accounts.items():
        row = rows[account_id]
        positions = {
            markets[columns.market[i]]: [int(columns.lots[i]), int(columns.cost[i]), int(columns.entry[i])]
            for i in accounts.positions_of(row)
            if columns.lots[i] or columns.cost[i] or columns.entry[i]
        }
        balances = {
            assets[columns.asset[j]]: [int(columns.free[j]), int(columns.lent[j])] for j in accounts.balances_of(row)
        }
        assert positions == {market: held for market, held in account.positions.items() if any(held)}
        assert balances == account.balances
        for asset, i in zip(balances, accounts.balances_of(row), strict=True):
            assert int(columns.unsettled[i]) == account.unsettled.get(asset, 0)
            costs = (
                cost for symbol, (_, cost, _) in account.positions.items() if venue.markets[symbol].settle == asset
            )
            assert int(columns.balance_cost[i]) == sum(costs)
        assert int(columns.open_orders[row]) == len(account.orders)
        for i in accounts.positions_of(row):
            for column, side in ((columns.open_bid, "bid"), (columns.open_ask, "ask")):
                assert int(column[i]) == account.open_lots(markets[columns.market[i]], side)
        assert accounts.leverage_limit[row] == float(account.leverage_limit or math.inf)
    assert_same_orders(accounts, venue, {rows[account_id]: account for account_id, account in state.accounts.items()})
    assert ledger.book_lots.tolist() == list(state.book_lots.values())
    assert ledger.book_quanta.tolist() == list(state.book_quanta.values())
    assert ledger.pool.tolist() == list(state.pool.values())
    premiums = zip(ledger.premium_sum.tolist(), ledger.premium_count.tolist(), strict=True)
    assert list(premiums) == list(state.premiums.values())
    assert ledger.fund.tolist() == list(state.fund.values())
    assert ledger.adl_on == state.adl_on
    assert ledger.shortfall.tolist() == list(state.shortfall.values())
    taken = (state.provider_minute, state.provider_hour, state.provider_total)
    assert ledger.taken.tolist() == [[column[provider] for column in taken] for provider in venue.providers]
    last_slice = {(rows[account], markets.index(market)): t for (account, market), t in state.last_slice.items()}
    assert ledger.last_slice == last_slice
    assert ledger.sold == {rows[account]: quanta for account, quanta in state.sold.items()}
    assert_same_memory(engine, venue, state)


def assert_same_orders(accounts: Accounts, venue: reference.Venue, by_row: dict[int, reference.Account]) -> None:
    """The open orders, by their numbers."""
    markets, orders = list(venue.markets), accounts.orders
    expected = {
        order.index: (row, order.market, order.side, order.price, order.lots, order.reduce_only, order.id)
        for row, account in by_row.items()
        for order in account.orders
    }
    found = {}
    for number in np.flatnonzero(orders.lots).tolist():
        symbol, side = markets[orders.market[number]], "bid" if orders.side[number] > 0 else "ask"
        price = int(orders.price[number]) * venue.markets[symbol].tick_size
        figures = int(orders.lots[number]), bool(orders.reduce_only[number]), orders.id_of(number)
        found[number] = (int(orders.account[number]), symbol, side, price, *figures)
    assert found == expected


def assert_same_memory(engine: Engine, venue: reference.Venue, state: reference.State) -> None:
    """What the guards remember, and the books given last (run_folder.md, `state/`)."""
    frames, memories = engine.guard_state.frames(), list(state.guard_states.values())
    found = frames["markets"].to_dict("records")
    assert len(found) == len(memories)
    for row, memory in zip(found, memories, strict=True):
        sample = memory.used[-1][1:] if memory.used else (None, None)
        for name, value, time in (
            ("mark", memory.mark, memory.mark_time),
            ("index", memory.index, memory.index_time),
            ("basis", memory.basis, memory.basis_time),
        ):
            same = math.isnan(row[name]) if value is None else row[name] == value
            assert same, f"{name}: {row[name]}, not {value}"
            assert row[f"{name}_time"] == time
        assert (row["sample_mark"], row["sample_premium"]) == tuple(NONE if x is None else x for x in sample)
    assert sampled(frames["samples"]) == {
        (place, second): (mark, NONE if premium is None else premium)
        for place, memory in enumerate(memories)
        for second, (mark, premium) in reference.samples(memory.used, state.time_ns).items()
    }
    assert_same_assets(engine, state)
    symbols, expected = [*venue.markets, *venue.spots], []
    for place, symbol in enumerate(symbols):
        for sign, side in ((1, "bids"), (-1, "asks")):
            tick = (venue.markets | venue.spots)[symbol].tick_size
            levels = state.books.get(symbol, {}).get(side, ())
            expected += [[place, sign, reference.whole(price / tick), lots, gone] for price, lots, gone in levels]
    if venue.policy["refill_half_life"] is not None:
        assert frames["books"][["market", "side", "price", "lots", "consumed_lots"]].to_numpy().tolist() == expected


def assert_same_assets(engine: Engine, state: reference.State) -> None:
    """What is remembered of the prices of assets, and of markets with entries of the funding table or delisted."""
    frames = engine.guard_state.frames()
    own = {} if state.prices is None else state.prices.asset_prices
    seconds = range(state.time_ns // 10**9 - 299, state.time_ns // 10**9 + 1)
    known = frames["assets"].to_dict("records")
    assert len(known) == len(state.asset_states)
    sampled = {
        (row["asset"], second): row["price"]
        for row in frames["asset_samples"].to_dict("records")
        for second in range(row["second"], row["second"] + row["count"])
    }
    expected = {}
    for row, (symbol, memory) in zip(known, state.asset_states.items(), strict=True):
        assert math.isnan(row["price"]) if memory.price is None else row["price"] == memory.price, symbol
        assert (row["time"], row["own"]) == (memory.time, symbol in own), symbol
        for second in seconds:
            before = [price for time, price in memory.used if time <= second * 10**9]
            if before:
                expected[row["asset"], second] = before[-1]
    assert sampled == expected
    for flags, markets in (
        (engine.ledger.funding_scheduled, state.funding_scheduled),
        (engine.ledger.delisted, state.delisted),
    ):
        assert {symbol for symbol, is_set in zip(state.guard_states, flags.tolist(), strict=True) if is_set} == markets


def sampled(table) -> dict[tuple[int, int], tuple[int, int]]:
    """The samples of each second."""
    found = {}
    for row in table.to_dict("records"):
        for second in range(row["second"], row["second"] + row["count"]):
            assert (row["market"], second) not in found
            found[row["market"], second] = (row["mark"], row["premium"])
    return found


def holdings(accounts: Accounts) -> dict[str, Any]:
    """Every column and order of the accounts as lists, to be compared by equality."""
    found = {name: getattr(accounts.columns, name).tolist() for name in AccountColumns._fields}
    return found | {f"order_{name}": column.tolist() for name, column in accounts.orders.columns._asdict().items()}


def whole_state(engine: Engine) -> dict[str, Any]:
    """All that a tick may change in an engine."""
    ledger = {
        name: value.tolist() if isinstance(value, np.ndarray) else copy.deepcopy(value)
        for name, value in vars(engine.ledger).items()
    }
    memory = {name: table.to_records(index=False).tobytes() for name, table in engine.guard_state.frames().items()}
    return holdings(engine.accounts) | ledger | memory | {"ticks": engine.ticks, "time": engine.time}


def totals(engine: Engine, venue: Venue) -> tuple[list[int], list[int]]:
    """Lots of each market, quanta of each asset (the unsettled too, less the costs): no tick changes them."""
    columns, ledger = engine.accounts.columns, engine.ledger
    lots = [int(n) for n in ledger.book_lots]
    for market, held in zip(columns.market.tolist(), columns.lots.tolist(), strict=True):
        lots[market] += held
    quanta = [int(n) + int(m) for n, m in zip(ledger.book_quanta, ledger.pool, strict=True)]
    for asset, *amounts in zip(columns.asset, columns.free, columns.lent, columns.unsettled, strict=True):
        quanta[asset] += sum(map(int, amounts))
    for market, cost in zip(columns.market, columns.cost.tolist(), strict=True):
        quanta[venue.markets.settle[market]] -= cost
    paid = zip(ledger.fund.tolist(), ledger.shortfall.tolist(), strict=True)
    return lots, [held + fund + shortfall for held, (fund, shortfall) in zip(quanta, paid, strict=True)]
