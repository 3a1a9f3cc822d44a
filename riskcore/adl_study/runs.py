"""A run folder again, under every policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .._typing import Float, Int
from ..engine import Engine
from ..market import NO_FUNDING, Books, FundingEntries, TickTable
from ..record import EVENT, ROW, Rows, reader
from ..run import report
from ..state import Accounts
from ..venue import AdlPolicy, Venue, load_venue, values_at
from .result import Study, chosen, collect, gap_of
from .tally import Start, Tally


def study_run(
    path: str | Path,
    policies: Sequence[str] | None = None,
    wave_gap: str | float = "5s",
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Study:
    """Run the engine over the inputs of a run folder once for each policy, all else as in the run's venue.

    The winners are the accounts with a profit at the sweep of the first tick that closed against one: up to there all
    policies are one run.

    Parameters
    ----------
    path : str or Path
        A run folder.
    policies : sequence of str, optional
        Names of `riskcore.venue.POLICIES`; all of them by default.
    wave_gap : str or float
        A longer pause between two ticks with deleveraging begins a new wave: text like "5s", or seconds.
    progress : callable, optional
        Called with the number of ticks done, of all policies, and their total.

    Returns
    -------
    Study
        Figures of each policy.

    Raises
    ------
    RiskDataError
        The folder holds no run, or there is no such policy.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.adl_study import study_run
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> study_run(folder, ["pnl_leverage", "pro_rata"]).total[["policy", "closed"]].to_dict("records")
    [{'policy': 'pnl_leverage', 'closed': 0.0}, {'policy': 'pro_rata', 'closed': 0.0}]
    """
    path, named, gap = Path(path), chosen(policies), gap_of(wave_gap)
    run = reader.open_run(path)
    source = run.venue.source
    results, splits = [], []
    for done, policy in enumerate(named):
        venue = load_venue(source | {"policy": source["policy"] | {"adl_policy": policy.name}})
        accounts, ticks = reader.read_accounts(path, venue), read_ticks(path, venue)

        def stepped(tick: int, done: int = done, total: int = len(ticks)) -> None:
            if progress is not None:
                progress(done * total + tick, len(named) * total)

        _, mark, _, asset = reader.Reader(path, venue).prices()
        unit_values = _unit_values(venue, mark, asset)
        tally, positions, rows = _run(policy, venue, accounts, ticks, unit_values, run.manifest["seed"], gap, stepped)
        results.append((tally, positions))
        splits.append(report.waterfall_split(rows, venue, asset).assign(policy=policy.name))
    split = pd.concat(splits, ignore_index=True)
    return collect(results, split[["policy", *split.columns.drop("policy")]])


def read_ticks(path: Path, venue: Venue) -> TickTable:
    """Ticks of a run folder as the engine took them."""
    folder = reader.Reader(path, venue)
    parts, events = list(folder.ticks()), list(folder.events())
    funding, changes = [given for _, given, _ in events], [given for _, _, given in events]
    names = (
        "time", "given_mark", "given_index", "open_interest", "funding_rate", "last_price", "given_low", "given_high"
    )  # fmt: skip
    time, mark, index, interest, rate, last, low, high = (
        np.concatenate([ticks[name] for ticks, _, _ in parts]) for name in names
    )
    time = np.ascontiguousarray(time[:, 0])
    asset = np.full((len(time), len(venue.assets.symbol)), np.nan)
    for _, prices, _ in parts:
        asset[prices["tick"], prices["asset"]] = prices["given_price"]
    books = pd.concat([pd.DataFrame(levels) for _, _, levels in parts], ignore_index=True)
    return TickTable(
        venue=venue,
        time=time,
        mark=mark,
        index=index,
        open_interest=interest,
        funding_rate=rate,
        last=last,
        low=low,
        high=high,
        asset=asset,
        books=dict(_books(books, venue, time)),
        funding=FundingEntries(*map(np.concatenate, zip(NO_FUNDING, *funding, strict=True))),
        venue_changes=tuple(change for of_tick in changes for change in of_tick),
    )


def _books(table: pd.DataFrame, venue: Venue, time: Int) -> list[tuple[int, Books]]:
    width = len(venue.markets.symbol) + len(venue.spots.asset)
    books = []
    for _, levels in table.groupby("tick"):
        tick, market = int(levels["tick"].iloc[0]), levels["market"].to_numpy()
        side = 2 * market + (levels["side"].to_numpy() < 0)
        seen = np.zeros(width, np.int64)
        seen[market] = levels["book_time"]
        offset = np.searchsorted(side, np.arange(2 * width + 1)).astype(np.int64)
        books.append((int(time[tick]), Books(offset, levels["price"].to_numpy(), levels["lots"].to_numpy(), seen)))
    return books


def _unit_values(venue: Venue, mark: Float, asset: Float) -> tuple[Float, Float]:
    """Signed value of a lot of each market, and of a quantum of its settle asset: settle quanta, shape (T, M)."""
    (lots, quanta), settle = venue.settle_quanta, venue.markets.settle
    money = np.nan_to_num(asset * quanta)[:, settle]
    return np.nan_to_num(values_at(mark, lots, venue.markets.inverse)) * money, money


def _run(
    policy: AdlPolicy, venue: Venue, accounts: Accounts, ticks: TickTable, unit_values: tuple[Float, Float], seed: int,
    gap: int, stepped: Callable[[int], None],
) -> tuple[Tally, pd.DataFrame, Rows]:  # fmt: skip
    """Figures of one policy, the lots closed of each position and quanta taken from it, and the journal.

    A long of an inverse market has a negative value: it counts as a short of that value.
    """
    engine = Engine(accounts, venue, seed, record=False)
    unit, sign = float(venue.settle_quantum), np.where(venue.markets.inverse, -1, 1)
    columns, owner = engine.accounts.columns, engine.accounts.position_accounts()
    tally, journal = None, [np.empty(0, ROW)]
    closed, taken = np.zeros((2, len(owner)), np.int64)
    for tick in ticks:
        before = columns.lots.copy(), columns.entry.copy()
        step = engine.step(tick, full_table=True)
        journal.append(step.rows)
        stepped(engine.ticks)
        events = [EVENT[event] for event in ("adl", "market_close", "unfilled")]
        of_adl = (step.rows["market"] >= 0) & np.isin(step.rows["event"], events)
        if not of_adl.any():
            continue
        rows = step.rows[of_adl]
        price, money = (values[step.tick] for values in unit_values)
        lot_value = price[columns.market]
        gain = before[0] * lot_value - before[1] * money[columns.market]
        profit, lot_value = np.bincount(owner, gain, len(accounts)).astype(np.float64), np.abs(lot_value)
        assert step.table is not None
        able = (step.table.net_equity > 0) & ~step.table.liquidatable
        profit[~able] = 0.0
        if tally is None:
            held = before[0] * sign[columns.market]
            tally = Tally(policy.name, Start(owner, held, lot_value, profit), gap, unit, again=True)
        tally.begin(step.time, lot_value, step.table.net_equity / unit, profit)
        deals, book, unfilled = (rows[rows["event"] == event] for event in events)
        unfilled = unfilled[unfilled["time"] == step.rows["time"].max()]  # the last instant's alone stay open
        position_rows, haircut = _deals(deals, engine.accounts, price, money)
        owed = np.bincount(deals["account"], haircut, len(accounts))
        wanted = float(unfilled["requested"] @ np.abs(price)[unfilled["market"]])
        tally.close_at_market(float(np.abs(book["lots"]) @ np.abs(price)[book["market"]]))
        tally.request(wanted, float(np.maximum(owed, 0).sum()))
        tally.deal(position_rows, deals["lots"] * sign[deals["market"]], haircut)
        tally.end()
        np.add.at(closed, position_rows, np.abs(deals["lots"]))
        np.add.at(taken, position_rows, haircut)
    names = {"account": engine.accounts.ids[owner], "market": np.array(venue.markets.symbol, object)[columns.market]}
    positions = pd.DataFrame(names | {"policy": policy.name, "closed": closed, "haircut": taken})
    if tally is None:
        nobody = np.zeros(len(accounts))
        tally = Tally(policy.name, Start(owner, columns.lots, np.zeros(len(owner)), nobody), gap, unit)
    return tally, positions[closed > 0], np.concatenate(journal)


def _deals(deals: Rows, accounts: Accounts, price: Float, money: Float) -> tuple[Int, Int]:
    """Position rows of the winners, and settle quanta that each received less than at the mark."""
    rows = np.array([accounts.position_row(c, m) for c, m in deals[["counterparty", "market"]].tolist()], np.int64)
    market, received = deals["market"], deals["counter_cash"] - deals["counter_cost"]
    return rows, np.rint(deals["lots"] * price[market] - received * money[market]).astype(np.int64)
