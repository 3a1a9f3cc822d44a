"""Tables of a run: the stages that took the liquidated positions, the providers' profit, and the margin ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..margin import margin_table
from ..market import Prices
from ..record import EVENT, STAGES, Rows
from ..state import Accounts
from ..venue import Venue
from .causes import value_changes
from .holdings import Holdings
from .recorded_run import RecordedRun

MMR_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, np.inf)


def waterfall_split(rows: Rows, venue: Venue) -> pd.DataFrame:
    """Share of each stage in the positions that were liquidated.

    Returns
    -------
    DataFrame with a row per stage: stage, notional (settle units at the fill prices), notional_share, fills,
    fill_share, accounts (that the stage touched).
    """
    table = []
    for event, stage in STAGES.items():
        fills = rows[(rows["event"] == EVENT[event]) & (rows["market"] >= 0)]
        notional = float((np.abs(fills["lots"]) * venue.markets.step_size[fills["market"]] * fills["price"]).sum())
        table.append((stage, notional, len(fills), len(np.unique(fills["account"]))))
    split = pd.DataFrame(table, columns=["stage", "notional", "fills", "accounts"])
    for name, column in (("notional_share", "notional"), ("fill_share", "fills")):
        total = split[column].sum()
        split[name] = split[column] / total if total else 0.0
    return split[["stage", "notional", "notional_share", "fills", "fill_share", "accounts"]]


def shortfalls(rows: Rows, venue: Venue) -> dict[str, float]:
    """Settle units of equity below zero that the fund paid, that other accounts paid, and that were left on record."""
    quantum = float(venue.settle_quantum)
    paid = {"paid_by_fund": "fund", "paid_by_others": "socialize", "left_on_record": "shortfall"}
    return {name: float(rows["cash"][rows["event"] == EVENT[event]].sum()) * quantum for name, event in paid.items()}


def margin_distribution(mmr: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Number of accounts by maintenance margin ratio, those at 0 first: from, to, accounts, share."""
    edges = np.array(MMR_EDGES)
    flat = int((mmr == 0).sum())
    above = np.searchsorted(edges, mmr[mmr > 0], side="right") - 1
    counts = np.bincount(np.minimum(above, len(edges) - 2), minlength=len(edges) - 1)
    table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "accounts": counts})
    table = pd.concat([pd.DataFrame({"from": [0.0], "to": [0.0], "accounts": [flat]}), table], ignore_index=True)
    table["share"] = table["accounts"] / max(len(mmr), 1)
    return table


def provider_pnl(path: str | Path) -> pd.DataFrame:
    """Profit and loss of each backstop provider on its takeovers, tick by tick.

    As if the provider had kept all positions and borrows: valued at the marks and prices of each tick (the last one
    where a tick has none), less the money paid; without funding, interest and other events of the account.

    Parameters
    ----------
    path
        A run folder.

    Returns
    -------
    DataFrame: time, provider (account id); so far, in settle units, taken (notional at the prices of the takeovers),
    edge (value of the takeovers at the marks and prices of their ticks, less the money paid), pnl (their value at the
    marks and prices of this tick, less the money paid); pnl_bp (pnl in basis points of taken).
    """
    return provider_pnl_of(RecordedRun.read(Path(path)))


def provider_pnl_of(run: RecordedRun) -> pd.DataFrame:
    """Compute `provider_pnl` of a run that is read already."""
    takeovers, tick_count = run.rows[run.rows["event"] == EVENT["backstop"]], len(run.time)
    frames = []
    for provider in run.folder.known["providers"]:
        rows = takeovers[takeovers["counterparty"] == provider]
        money = (rows["counter_cash"] - rows["counter_cost"]) * float(run.venue.settle_quantum)
        cash_flow = np.bincount(rows["tick"], money, tick_count).cumsum()
        edge = np.bincount(rows["tick"], value_changes(run, rows, "counterparty"), tick_count).cumsum()
        taken, value = np.zeros(tick_count), np.zeros(tick_count)
        for column, change, unit_value in (
            ("market", -rows["lots"], run.lot_value), ("asset", -(rows["quanta"] + rows["lent"]), run.quantum_value)
        ):  # fmt: skip
            named = rows[column] >= 0
            tick, item, size = rows["tick"][named], rows[column][named], change[named]
            taken += np.bincount(tick, np.abs(size * unit_value[tick, item]), tick_count)
            for k in np.unique(item):
                amount = np.bincount(tick[item == k], size[item == k], tick_count).cumsum()
                value += np.where(amount != 0, amount * unit_value[:, k], 0.0)
        taken, pnl = taken.cumsum(), value + cash_flow
        with np.errstate(invalid="ignore"):
            relative = np.where(taken > 0, pnl / taken * 1e4, 0.0)
        frames.append(
            pd.DataFrame(
                {
                    "time": pd.to_datetime(run.time, utc=True), "provider": run.start.ids[provider], "taken": taken,
                    "edge": edge, "pnl": pnl, "pnl_bp": relative,
                }
            )
        )  # fmt: skip
    columns = ["time", "provider", "taken", "edge", "pnl", "pnl_bp"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def timeline(path: str | Path) -> pd.DataFrame:
    """What each stage has taken so far, and what the fund has, tick by tick.

    Returns
    -------
    DataFrame: time, a column for each stage (settle units of notional at the fill prices), fund, shortfall (left on
    record or unsettled so far).
    """
    return timeline_of(RecordedRun.read(Path(path)))


def timeline_of(run: RecordedRun) -> pd.DataFrame:
    """Compute `timeline` of a run that is read already."""
    venue, rows, time = run.venue, run.rows, run.time
    quantum = float(venue.settle_quantum)

    def so_far(chosen: npt.NDArray[np.bool_], amount: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.bincount(rows["tick"][chosen], amount[chosen], len(time)).cumsum()

    notional = np.abs(rows["lots"]) * venue.markets.step_size[rows["market"]] * np.nan_to_num(rows["price"])
    table: dict[str, Any] = {"time": pd.to_datetime(time, utc=True)}
    for event, stage in STAGES.items():
        table[stage] = so_far((rows["event"] == EVENT[event]) & (rows["market"] >= 0), notional)
    everything = np.ones(len(rows), bool)
    table["fund"] = float(venue.policy.fund) + so_far(everything, (rows["fund"] + rows["fee"]) * quantum)
    table["shortfall"] = so_far(rows["event"] == EVENT["shortfall"], rows["cash"] * quantum)
    return pd.DataFrame(table)


def margin_bands(run: RecordedRun, samples: int) -> pd.DataFrame:
    """Number of accounts in each band of `margin_distribution` after sampled ticks.

    Parameters
    ----------
    run
        The run.
    samples
        Number of ticks to sample, evenly, first and last among them.

    Returns
    -------
    DataFrame: time, from, to, accounts, share; a row per sampled tick and band.
    """
    sampled = np.unique(np.linspace(0, len(run.time) - 1, min(samples, len(run.time))).astype(np.int64))
    holdings, done, tables = Holdings.of(run.start, run.venue), 0, []
    for tick, prices in _prices_at(run, sampled):
        last = int(np.searchsorted(run.rows["tick"], tick, side="right"))
        holdings.apply(run.rows[done:last])
        done, accounts = last, holdings.accounts()
        table = margin_distribution(margin_table(accounts, prices(accounts)).mmr)
        table.insert(0, "time", pd.to_datetime(run.time[tick], utc=True))
        tables.append(table)
    columns = ["time", "from", "to", "accounts", "share"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _prices_at(run: RecordedRun, sampled: npt.NDArray[np.int64]) -> Iterator[tuple[int, Callable[[Accounts], Prices]]]:
    """Prices of some ticks as the sweep of each used them; the books are not read."""
    venue, first = run.venue, 0
    markets = max(len(venue.markets.symbol), 1)
    for part in range(run.folder.last + 1):
        table, assets = run.folder.table("ticks", part), run.folder.table("assets", part)
        ticks = {name: values.reshape(-1, markets) for name, values in table.items()}
        count = len(ticks["tick"])
        for tick in sampled[(sampled >= first) & (sampled < first + count)].tolist():
            row = {name: values[tick - first] for name, values in ticks.items()}
            asset, of_tick = np.full(len(venue.assets.symbol), np.nan), assets["tick"] == tick
            asset[assets["asset"][of_tick]] = assets["price"][of_tick]
            prices = Prices(
                mark=row["mark"], index=row["index"], given_mark=row["given_mark"], given_index=row["given_index"],
                last=row["last_price"], given_asset=asset, asset=asset, open_interest=row["open_interest"],
                funding_rate=row["funding_rate"], open_lots=np.zeros(markets, np.int64), venue=venue,
            )  # fmt: skip
            yield tick, partial(prices.guarded, mark=row["mark"], index=row["index"])
        first += count
