"""Whole-column checks: of the journal by itself, of its sums against the last state, of prices and books."""

from __future__ import annotations

import numpy as np

from .findings import Findings
from .folder import (
    ACCOUNT,
    ACTIVITY,
    AMOUNT,
    BOOK,
    CHANGES,
    CLOSE_OUT,
    EVENTS,
    NOBODY,
    PAYING,
    POOL,
    REPAY,
    SHORTFALL,
    SLICES,
    WORDS,
    Array,
    Columns,
    Part,
    Run,
    is_event,
)  # fmt: skip
from .venue import Venue, in_ticks


def check_rows(run: Run, out: Findings) -> None:
    """Every row by itself, and the order of the rows."""
    j = run.journal
    tick, account, event = j["tick"], j["account"], j["event"]

    def never(mask: Array, what: str) -> None:
        for row in np.flatnonzero(mask).tolist():
            out.breach("rows", f"{WORDS['event'][event[row]]}: {what}", int(tick[row]), row, int(account[row]))

    out.checked["rows"] += len(tick)
    out.equal("rows", "rows of the journal and events of run.json", len(tick), run.manifest["events"])
    never(~run.usable, "names an unknown account, position, balance or order, or a change is 2**62 or more")
    unlimited = j["reason"] == WORDS["reason"].index("conversion_limit")  # the one row that asks for nothing
    unpaid = j["reason"] == WORDS["reason"].index("unsettled")
    parts = j["cash"], -j["cost"], j["counter_cash"], -j["counter_cost"], j["fund"], j["unsettled"]
    # in 64 bits a sum of 2**64 is 0 as well: its float64 is not
    wrapped = np.abs(sum(part.astype(np.float64) for part in parts)) > AMOUNT
    never((sum(parts) != 0) | wrapped, "money does not add up to 0")
    paying, settle, market = PAYING[event], j["settle"], np.clip(j["market"], 0, len(run.venue.markets) - 1)
    never((settle >= 0) != paying, "settle must be named where the event moves its quanta, and else be -1")
    due = np.where(j["market"] >= 0, np.array([one.settle for one in run.venue.markets])[market], run.venue.settle)
    free = is_event(j, "unsettle fund") | (j["reason"] == WORDS["reason"].index("settlement"))
    never(paying & ~free & (settle != due), "settle is not the asset that is paid")
    never(paying & free & ~np.isin(settle, run.venue.money), "settle is no asset that profit and loss is paid in")
    never(is_event(j, "redeem lend") & (j["lent"] != -j["quanta"]), "free and lent quanta do not cancel out")
    for code, (name, kind) in enumerate(EVENTS.items()):
        of_event = event == code
        allowed = [WORDS["reason"].index(reason) for reason in kind.reasons.split()]
        never(of_event & ~np.isin(j["reason"], allowed), "a reason of another event")
        other = np.where(unpaid, NOBODY, kind.other) if name == "shortfall" else kind.other
        fits = j["counterparty"] >= 0 if kind.other == ACCOUNT else j["counterparty"] == other
        never(of_event & ~(fits & (j["counterparty"] != account)), "a counterparty of another event")
        if kind.priced is not None:
            never(of_event & (np.isnan(j["price"]) == kind.priced), f"must have {'a' if kind.priced else 'no'} price")
        for column in ("market", "asset", "order"):
            named = j[column] >= 0 if column in kind.rows.split() else j[column] == -1
            if f"{column}?" in kind.rows.split():
                continue
            if column not in kind.rows.split("|") or "|" not in kind.rows:
                never(of_event & ~named, f"{column} must {'be named' if column in kind.rows.split() else 'be -1'}")
        if kind.rows == "market|asset":
            one = np.where(j["market"] >= 0, j["asset"] == -1, (j["market"] == -1) & (j["asset"] >= 0))
            never(of_event & ~one, "either a market or an asset must be named, and the other be -1")
        for column in CHANGES:
            if column not in kind.changes.split():
                never(of_event & (j[column] != 0), f"{column} must be 0")
        moving = {"requested"} if name in ("interest", "backstop", "adl") else {"requested", "lots", "quanta"}
        for column in moving & set(kind.changes.split()):
            never(of_event & (j[column] == 0) & ~unlimited, f"{column} must not be 0")
        if name in ("fund", "shortfall", "socialize", "redeem"):
            never(of_event & (j["quanta" if name == "redeem" else "cash"] < 0), "must not take")
    by_asset, stuck = j["asset"] >= 0, j["reason"] == WORDS["reason"].index("full_utilization")
    handed = is_event(j, "backstop adl")
    for column in ("lots", "cost", "entry", "counter_cost", "counter_entry", "quanta", "lent"):
        wrong = ~by_asset if column in ("quanta", "lent") else by_asset
        never(handed & wrong & (j[column] != 0), f"{column} must be 0")
    handed_over = np.where(~by_asset, j["lots"], np.where(stuck, j["lent"], j["quanta"]))
    never(handed & (handed_over == 0), "must hand over something")
    never(handed & by_asset & np.where(stuck, j["quanta"] != 0, j["lent"] != 0), "either free or lent quanta change")
    never(is_event(j, "adl") & (stuck != by_asset), "a reason of the other kind")
    shortfall = is_event(j, "shortfall")
    never(shortfall & (np.where(unpaid, j["counter_cash"], j["unsettled"]) != 0), "must not be both paid and unsettled")
    order = np.where(run.usable, np.maximum(j["order"], -1), -1)  # -1: none, or one that is not read
    for name in ("account", "market"):
        of_order = np.append(run.orders[name], 0)[order]
        never((order >= 0) & (of_order != j[name]), f"names an order of another {name}")
    charged = ~is_event(j, "fill")  # a venue may pay who trades
    never((charged & (j["fee"] < 0)) | (j["requested"] < 0), "fee and requested must not be negative")
    never(is_event(j, "convert") & (j["asset"] == settle), "the settle asset is not sold for itself")
    phase = run.phase
    for name in ("mmr_before", "mmr_after"):
        rated = (phase >= 0) & (phase != ACTIVITY)
        never(rated & ~(j[name] >= 0), f"{name} must be a number from 0")
        never(~rated & ~np.isnan(j[name]), f"{name} must be missing")
    never(
        (tick < -(phase == ACTIVITY).astype(np.int64))
        | (tick >= run.manifest["ticks"])
        | (np.diff(tick, prepend=-1) < 0),
        "ticks must ascend",
    )
    together = (np.diff(tick, prepend=-2) == 0) & (np.diff(j["time"], prepend=-1) == 0)
    place = phase.astype(np.float64)
    for number, name in enumerate(("book", "backstop", "adl"), SLICES):  # a lend is settled before the last book
        at = run.venue.stages.index(name) if name in run.venue.stages else len(run.venue.stages)
        place[phase == number] = REPAY + (at if run.venue.stages[0] == "book" else at + 1) / 10
    proposed = is_event(j, "propose")  # by the stage of the book, and by the last book
    place = place[np.maximum.accumulate(np.where(proposed, 0, np.arange(len(place))))] if len(place) else place
    never(together & (np.diff(place, prepend=0) < 0), "comes after a later phase")
    if run.venue.plain:  # with more assets, the fund of each is sold for the settle asset
        together &= (np.diff(account, prepend=-1) == 0) & (phase == CLOSE_OUT) & (np.diff(phase, prepend=0) == 0)
        step = np.where(is_event(j, "redeem convert"), 0, event)
        never(together & (np.diff(step, prepend=0) < 0), "comes too late in the close out")


def check_conservation(run: Run, out: Findings) -> None:
    """Lots per market and money per asset are the same at start and end, over all who can hold them."""
    venue, ledger = run.venue, run.ledger
    for table, item, columns, symbols in (
        ("positions", "market", ("lots",), [market.symbol for market in venue.markets]),
        ("balances", "asset", ("quanta", "lent"), [asset.symbol for asset in venue.assets]),
    ):
        for row, symbol in enumerate(symbols):
            before, after = (
                sum(sum(columns_held[column][columns_held[item] == row].tolist()) for column in columns)
                for columns_held in (run.start[table], run.state[table])
            )
            if item == "asset":
                before += run.opening_fund[row] + _unpaid(venue, row, run.start)
                after += ledger["fund", row] + ledger["shortfall", row] + _unpaid(venue, row, run.state)
            after += ledger[f"book_{columns[0]}", row] + (ledger["pool", row] if item == "asset" else 0)
            out.equal("conservation", f"all {' '.join(columns)} of {symbol}", after, before)


def _unpaid(venue: Venue, asset: int, tables: dict[str, Columns]) -> int:
    """Quanta of an asset that are no balance: unsettled, and paid for positions."""
    markets = [row for row, market in enumerate(venue.markets) if market.settle == asset]
    paid = tables["positions"]["cost"][np.isin(tables["positions"]["market"], markets)]
    unsettled = tables["balances"]["unsettled"][tables["balances"]["asset"] == asset]
    return int(sum(unsettled.tolist()) - sum(paid.tolist()))


def check_replay(run: Run, out: Findings) -> None:
    """The start plus the journal's changes is the last state."""
    j = run.journal
    if not run.usable.all():
        j = {name: column[run.usable] for name, column in j.items()}
    positions, balances = (
        {name: column.copy() for name, column in run.start[table].items()} for table in ("positions", "balances")
    )
    for table, column, rows, changes in (
        (positions, "lots", j["position"], j["lots"]),
        (positions, "cost", j["position"], j["cost"]),
        (positions, "lots", j["counter_position"], -j["lots"]),
        (positions, "cost", j["counter_position"], j["counter_cost"]),
        (positions, "entry", j["position"], j["entry"]),
        (positions, "entry", j["counter_position"], j["counter_entry"]),
        (balances, "quanta", j["money"], j["cash"] - j["fee"]),
        (balances, "quanta", j["counter_money"], j["counter_cash"]),
        (balances, "quanta", j["balance"], j["quanta"]),
        (balances, "lent", j["balance"], j["lent"]),
        (balances, "quanta", j["counter_balance"], -(j["quanta"] + j["lent"])),
        (balances, "unsettled", j["money"], j["unsettled"]),
    ):
        np.add.at(table[column], rows[rows >= 0], changes[rows >= 0])
    orders = _orders(run, j)
    open_orders = np.flatnonzero(orders["lots"] > 0)
    replayed = {
        "positions": positions,
        "balances": balances,
        "orders": {"order": open_orders} | {name: column[open_orders] for name, column in orders.items()},
    }
    for name, columns in replayed.items():
        for column, values in columns.items():
            _compare(out, f"state {name}.{column}", values, run.state[name][column], columns)

    def total(column: str, mask: Array) -> int:
        return sum(j[column][mask].tolist())

    venue, ledger, book = run.venue, run.ledger, j["counterparty"] == BOOK
    for row, market in enumerate(venue.markets):
        lots = -total("lots", book & (j["position"] >= 0) & (j["market"] == row))
        out.equal("replay", f"ledger book_lots of {market.symbol}", ledger["book_lots", row], lots)
    for row, asset in enumerate(venue.assets):
        money = -total("quanta", book & (j["balance"] >= 0) & (j["asset"] == row))
        money += total("counter_cash", book & (j["settle"] == row))
        out.equal("replay", f"ledger book_quanta of {asset.symbol}", ledger["book_quanta", row], money)
        of_pool = (j["counterparty"] == POOL) & (j["asset"] == row)
        lent = -total("quanta", of_pool) - total("lent", of_pool)
        out.equal("replay", f"ledger pool of {asset.symbol}", ledger["pool", row], lent)
        paid = j["settle"] == row
        fund = run.opening_fund[row] + total("fund", paid) + total("fee", paid)
        out.equal("replay", f"ledger fund of {asset.symbol}", ledger["fund", row], fund)
        shortfall = total("counter_cash", paid & (j["counterparty"] == SHORTFALL))
        out.equal("replay", f"ledger shortfall of {asset.symbol}", ledger["shortfall", row], shortfall)


def _orders(run: Run, j: Columns) -> Columns:
    """The orders after all rows that name one: lots of 0 are gone, or not placed."""
    orders = run.orders | {name: run.orders[name].copy() for name in ("lots", "price")}
    orders["lots"][len(run.start["orders"]["lots"]) :] = 0
    code = {name: WORDS["event"].index(name) for name in ("place", "change", "cancel", "fill")}
    rows = np.flatnonzero((j["order"] >= 0) & np.isin(j["event"], list(code.values())))
    columns = (j[name][rows].tolist() for name in ("event", "order", "requested", "lots", "price"))
    for event, order, requested, lots, price in zip(*columns, strict=True):
        if event == code["fill"]:
            orders["lots"][order] = max(int(orders["lots"][order]) - abs(lots), 0)
        else:
            orders["lots"][order] = 0 if event == code["cancel"] else requested
        if event == code["change"]:
            orders["price"][order] = in_ticks(run.venue, int(orders["market"][order]), price)
    return orders


def _compare(out: Findings, what: str, replayed: Array, recorded: Array, columns: Columns) -> None:
    out.checked["replay"] += len(replayed)
    if len(recorded) != len(replayed):
        out.breach("replay", f"{what}: {len(recorded)} rows, not {len(replayed)}")
        return
    for row in np.flatnonzero(recorded != replayed).tolist():
        account = int(columns["account"][row]) if "account" in columns else row
        out.breach("replay", f"{what}, row {row}: {recorded[row]}, not {replayed[row]}", account=account)


def check_prices(part: Part, out: Findings) -> None:
    """Prices are numbers in their range, none is given twice, and every book is listed from its best level on."""
    venue, ticks, prices, books = part.venue, part.ticks, part.given, part.books
    price, given = prices["price"], prices["given_price"]  # given: NaN of a price that is held
    interest, rate = ticks["open_interest"], ticks["funding_rate"]
    size = np.array([float(market.prices.tick) for market in venue.markets])[ticks["market"]]
    highest = np.array([row.prices.max_ticks for rows in (venue.markets, venue.spots) for row in rows])
    mark, index = ticks["mark"], ticks["index"]
    low, of_bar, high = (ticks[name] for name in ("given_low", "given_mark", "given_high"))
    has_bar = ~np.isnan(low) | ~np.isnan(high)
    inverse = np.array([market.inverse for market in venue.markets])[ticks["market"]]
    far = (mark > highest[ticks["market"]] * size) | (mark / size >= 1e13) | ((mark - index) / index >= 1e4)
    again = np.ones(len(prices["tick"]), bool)
    again[np.unique(prices["tick"] * part.asset.shape[1] + prices["asset"], return_index=True)[1]] = False
    step = np.diff(part.book, prepend=-1)
    unordered = (step < 0) | ((step == 0) & (np.diff(books["price"], prepend=0) * books["side"] >= 0))
    timeless = (np.diff(part.book // 2, prepend=-1) == 0) & (np.diff(books["book_time"], prepend=0) != 0)
    for what, tick, broken in (
        *(
            (f"{name} is not a number above 0", ticks["tick"], (ticks[name] <= 0) | np.isinf(ticks[name]))
            for name in ("mark", "index", "given_mark", "given_index", "last_price", "given_low", "given_high")
        ),
        ("bar does not hold the given mark", ticks["tick"], has_bar & ~((low <= of_bar) & (of_bar <= high))),
        ("open interest is not a number from 0", ticks["tick"], (interest < 0) | np.isinf(interest)),
        ("mark is above maxPrice, 10**13 ticks or 10**4 times the index", ticks["tick"], far),
        ("mark of an inverse market is below a tick", ticks["tick"], inverse & (mark < size)),
        ("funding rate is not a number from -1 to 1", ticks["tick"], np.abs(rate) > 1),
        ("price of an asset is not a number above 0", prices["tick"], ~(price > 0) | np.isinf(price)),
        ("given price of an asset is not a number above 0", prices["tick"], (given <= 0) | np.isinf(given)),
        ("price of an asset appears twice", prices["tick"], again),
        ("level of a book is above maxPrice", books["tick"], books["price"] > highest[books["market"]]),
        ("level of a book has 2**53 lots or more", books["tick"], books["lots"] >= 2**53),
        ("level of a book is not in order", books["tick"], unordered),
        ("book has more than one time", books["tick"], timeless),
    ):
        out.checked["prices"] += len(tick)
        for row in np.flatnonzero(broken).tolist():
            out.breach("prices", f"{what}: row {row} of the part's table", int(tick[row]))
