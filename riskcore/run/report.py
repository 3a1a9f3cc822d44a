"""Tables of a run: the stages that took the liquidated positions, the providers' profit, and the margin ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..margin import margin_table
from ..market import Prices
from ..record import EVENT, STAGES, Rows, reader
from ..state import Accounts
from ..venue import Venue
from .holdings import Holdings

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
        own = rows[(rows["event"] == EVENT[event]) & (rows["market"] >= 0)]
        notional = float((np.abs(own["lots"]) * venue.markets.step_size[own["market"]] * own["price"]).sum())
        table.append((stage, notional, len(own), len(np.unique(own["account"]))))
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


class RecordedRun(NamedTuple):
    """Journal and prices of a run folder, read once for all tables.

    ``lot_value`` (T, M) and ``quantum_value`` (T, K) are settle units per lot and per quantum at every tick; the last
    one known where a tick has no price.
    """

    folder: reader.Reader
    start: Accounts
    end: Accounts
    rows: Rows
    time: npt.NDArray[np.int64]
    mark: npt.NDArray[np.float64]
    lot_value: npt.NDArray[np.float64]
    quantum_value: npt.NDArray[np.float64]

    @classmethod
    def read(cls, path: Path) -> RecordedRun:
        """Read a run folder.

        Raises
        ------
        RiskDataError
            The folder holds no run, or one that is damaged.
        """
        folder = reader.opened(path)
        venue, (time, mark, asset) = folder.venue, folder.prices()
        last_mark, last_asset = (pd.DataFrame(prices).ffill().to_numpy() for prices in (mark, asset))
        lot_value, quantum_value = last_mark * venue.markets.step_size, last_asset * venue.assets.quantum_size
        accounts = folder.accounts(), folder.accounts(last=True)
        return cls(folder, *accounts, folder.journal(), time, mark, lot_value, quantum_value)

    @property
    def venue(self) -> Venue:
        """The venue of the run."""
        return self.folder.venue


def provider_pnl(path: str | Path) -> pd.DataFrame:
    """Profit and loss of each backstop provider on what it took over, tick by tick: whether the risk was paid.

    As if it had kept all it took: positions and borrows at the marks and prices of each tick (the last one where a tick
    has none), less what it paid; without funding and interest since, and whatever the account did or suffered besides.

    Parameters
    ----------
    path
        A run folder.

    Returns
    -------
    DataFrame: time, provider (account id), taken (settle units of notional so far, at the prices of the takeover), edge
    (what that was worth more than was paid, then), pnl (what it is worth more now), pnl_bp (basis points of taken).
    """
    return provider_pnl_of(RecordedRun.read(Path(path)))


def provider_pnl_of(run: RecordedRun) -> pd.DataFrame:
    """Compute `provider_pnl` of a run that is read already."""
    folder, venue, time, accounts = run.folder, run.venue, run.time, run.start
    lot, quantum = run.lot_value, run.quantum_value
    rows = run.rows[run.rows["event"] == EVENT["backstop"]]
    received = (rows["counter_cash"] - rows["counter_cost"]) * float(venue.settle_quantum)
    frames = []
    for account in folder.known["providers"]:
        own = rows["counterparty"] == account
        tick, money = rows["tick"][own], received[own]
        worth, taken, now = np.zeros(len(time)), np.zeros(len(time)), np.zeros(len(time))
        for item, change, price in (
            ("market", -rows["lots"][own], lot), ("asset", -rows["quanta"][own] - rows["lent"][own], quantum)
        ):  # fmt: skip
            here = rows[item][own] >= 0
            at, of, size = tick[here], rows[item][own][here], change[here]
            value = size * price[at, of]
            worth += np.bincount(at, value, len(time))
            taken += np.bincount(at, np.abs(value), len(time))
            for n in np.unique(of):
                held = np.bincount(at[of == n], size[of == n], len(time)).cumsum()
                now += np.where(held != 0, held * price[:, n], 0.0)
        paid = np.bincount(tick, money, len(time))
        total = taken.cumsum()
        pnl = now + paid.cumsum()
        with np.errstate(invalid="ignore"):
            relative = np.where(total > 0, pnl / total * 1e4, 0.0)
        frames.append(
            pd.DataFrame(
                {
                    "time": pd.to_datetime(time, utc=True), "provider": accounts.ids[account], "taken": total,
                    "edge": (worth + paid).cumsum(), "pnl": pnl, "pnl_bp": relative,
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

    def so_far(of: npt.NDArray[np.bool_], amount: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.bincount(rows["tick"][of], amount[of], len(time)).cumsum()

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
            asset, here = np.full(len(venue.assets.symbol), np.nan), assets["tick"] == tick
            asset[assets["asset"][here]] = assets["price"][here]
            given = Prices(
                mark=row["mark"], index=row["index"], given_mark=row["given_mark"], given_index=row["given_index"],
                last=row["last_price"], given_asset=asset, asset=asset, open_interest=row["open_interest"],
                funding_rate=row["funding_rate"], open_lots=np.zeros(markets, np.int64), venue=venue,
            )  # fmt: skip
            yield tick, partial(given.guarded, mark=row["mark"], index=row["index"])
        first += count
