"""Tables of a run: the stages that took the liquidated positions, the providers' profit, and the margin ratios."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._typing import Float
from ..boundary import RiskDataError
from ..margin import margin_table
from ..market import Prices
from ..record import EVENT, STAGES, Rows, closes_positions, settle_amounts
from ..state import Accounts
from ..venue import Venue
from .causes import equity_changes, value_changes
from .holdings import Holdings
from .recorded_run import RecordedRun

MMR_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, np.inf)


def waterfall_split(rows: Rows, venue: Venue, asset_price: Float | None = None) -> pd.DataFrame:
    """Return the share of each stage in the positions that were liquidated.

    Parameters
    ----------
    rows : ndarray of `riskcore.record.ROW`
        Journal rows.
    venue : Venue
        The venue of the run.
    asset_price : ndarray of float64, shape (T, K), optional
        Prices of the assets at every tick, settle units; needed by a venue with several settle assets.

    Returns
    -------
    DataFrame
        A row per stage: stage, notional (`fill_notional`), notional_share, fills, fill_share, accounts
        (liquidated by the stage).

    Raises
    ------
    RiskDataError
        The venue has several settle assets, and no prices are given.

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.run.report import waterfall_split
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = rc.read_run(folder)
    >>> waterfall_split(run.rows, run.venue)[["stage", "notional_share"]].to_dict("records")
    [{'stage': 'order book', 'notional_share': 1.0}, {'stage': 'backstop', 'notional_share': 0.0}, ...]
    """
    table = []
    for stage in STAGES:
        fills = rows[closes_positions(rows, stage)]
        notional = float(fill_notional(fills, venue, asset_price).sum())
        table.append((stage, notional, len(fills), len(np.unique(fills["account"]))))
    split = pd.DataFrame(table, columns=["stage", "notional", "fills", "accounts"])
    for name, column in (("notional_share", "notional"), ("fill_share", "fills")):
        total = split[column].sum()
        split[name] = split[column] / total if total else 0.0
    return split[["stage", "notional", "notional_share", "fills", "fill_share", "accounts"]]


def fill_notional(rows: Rows, venue: Venue, asset_price: Float | None = None) -> Float:
    """Return the notional of fills at their prices, in the venue's settle asset.

    Parameters
    ----------
    rows : ndarray of `riskcore.record.ROW`, shape (R,)
        Journal rows.
    venue : Venue
        The venue of the run.
    asset_price : ndarray of float64, shape (T, K), optional
        Prices of the assets at every tick, settle units; needed by a venue with several settle assets.

    Returns
    -------
    ndarray of float64, shape (R,)
        Settle units; meaningful of rows with a market and a price.

    Raises
    ------
    RiskDataError
        The venue has several settle assets, and no prices are given.

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.record import EVENT
    >>> from riskcore.run.report import fill_notional
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = rc.read_run(folder)
    >>> fill_notional(run.rows[run.rows["event"] == EVENT["book"]], run.venue).round(4).tolist()
    [1000.9884]
    """
    if venue.plain_money:
        notional: Float = np.abs(rows["lots"]) * venue.markets.lot_size[rows["market"]] * rows["price"]
        return notional
    value = np.abs(rows["lots"] * venue.markets.lot_values(rows["price"], rows["market"]))
    return value * _money_price(rows, venue, asset_price)


def _money_price(rows: Rows, venue: Venue, asset_price: Float | None) -> Float:
    """Settle units of a unit of the settle asset of journal rows at their ticks; 1 of the venue's, and without one."""
    price = np.ones(len(rows))
    if not venue.plain_money:
        if asset_price is None:
            raise RiskDataError("report", "asset_price", "must be given for a venue with several settle assets")
        paid = rows["settle"] >= 0
        price[paid] = asset_price[rows["tick"][paid], rows["settle"][paid]]
    return price


def shortfalls(rows: Rows, venue: Venue, asset_price: Float | None = None) -> dict[str, float]:
    """Return equity below zero that the fund paid, that other accounts paid, and that was left on record.

    Parameters
    ----------
    rows : ndarray of `riskcore.record.ROW`
        Journal rows.
    venue : Venue
        The venue of the run.
    asset_price : ndarray of float64, shape (T, K), optional
        Prices of the assets at every tick, settle units; needed by a venue with several settle assets.

    Returns
    -------
    dict of str to float
        paid_by_fund, paid_by_others, left_on_record; settle units.

    Raises
    ------
    RiskDataError
        The venue has several settle assets, and no prices are given.

    Notes
    -----
    The rule: docs/one_tick.md, "6 Close out: shortfall".

    Examples
    --------
    >>> import tempfile
    >>> import riskcore as rc
    >>> from riskcore.run.report import shortfalls
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> run = rc.read_run(folder)
    >>> shortfalls(run.rows, run.venue)
    {'paid_by_fund': 0.0, 'paid_by_others': 0.0, 'left_on_record': 0.0}
    """
    names = {"paid_by_fund": "fund", "paid_by_others": "socialize", "left_on_record": "shortfall"}
    total = {}
    for name, event in names.items():
        paid = rows[rows["event"] == EVENT[event]]
        own = paid["settle"] == venue.settle
        total[name] = float(paid["cash"][own].sum()) * float(venue.settle_quantum)
        amount = settle_amounts(paid[~own], "cash", venue)
        total[name] += float(amount @ _money_price(paid[~own], venue, asset_price))
    return total


def left_open(run: RecordedRun) -> pd.DataFrame:
    """Return the accounts that are at 100 % or above at the end of a run: what nobody took.

    Parameters
    ----------
    run : RecordedRun
        The run.

    Returns
    -------
    DataFrame
        A row per account, the largest notional first: account (id), notional (of its positions and borrows), mmr; at
        the prices of the last tick, settle units.

    Notes
    -----
    The rule: docs/one_tick.md, "What stays open".

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import RecordedRun
    >>> from riskcore.run.report import left_open
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> left_open(RecordedRun.read(folder)).round(4).to_dict("records")
    [{'account': 1, 'notional': 938.96, 'mmr': 1.2754}]
    """
    found = [np.empty(0, np.int64), np.empty(0), np.empty(0)]
    for _, prices in _prices_at(run, np.array([len(run.time) - 1])):
        table = margin_table(run.end, prices(run.end))
        rows = np.flatnonzero(table.liquidatable)
        rows = rows[np.argsort(-table.exposure[rows], kind="stable")]
        found = [rows, table.exposure[rows], table.mmr[rows]]
    return pd.DataFrame({"account": run.end.ids[found[0]], "notional": found[1], "mmr": found[2]})


def left_open_totals(stays: pd.DataFrame) -> dict[str, float]:
    """Return the number of accounts that `left_open` found, and their notional.

    Parameters
    ----------
    stays : DataFrame
        As of `left_open`.

    Returns
    -------
    dict of str to float
        accounts, notional (settle units).

    Examples
    --------
    >>> import pandas as pd
    >>> left_open_totals(pd.DataFrame({"account": [1], "notional": [938.96], "mmr": [1.2754]}))
    {'accounts': 1, 'notional': 938.96}
    """
    return {"accounts": len(stays), "notional": float(stays["notional"].sum())}


def margin_distribution(mmr: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Return the number of accounts by maintenance margin ratio, those at 0 first.

    Parameters
    ----------
    mmr : ndarray of float64, shape (N,)
        Maintenance margin ratios.

    Returns
    -------
    DataFrame
        from, to (ratios, `MMR_EDGES`), accounts, share (of all accounts).

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.run.report import margin_distribution
    >>> margin_distribution(np.array([0.0, 0.05, 0.95, 1.2]))["accounts"].tolist()
    [1, 1, 0, 0, 0, 0, 1, 1]
    """
    edges = np.array(MMR_EDGES)
    flat = int((mmr == 0).sum())
    above = np.searchsorted(edges, mmr[mmr > 0], side="right") - 1
    counts = np.bincount(np.minimum(above, len(edges) - 2), minlength=len(edges) - 1)
    table = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "accounts": counts})
    table = pd.concat([pd.DataFrame({"from": [0.0], "to": [0.0], "accounts": [flat]}), table], ignore_index=True)
    table["share"] = table["accounts"] / max(len(mmr), 1)
    return table


def provider_pnl(run: RecordedRun) -> pd.DataFrame:
    """Return profit and loss of each backstop provider on its takeovers, tick by tick: whether the risk was paid.

    As if the provider had kept all takeovers: positions and borrows at the marks and prices of each tick (the last one
    where a tick has none), less the money paid; without later funding and interest, and without other changes of the
    account.

    Parameters
    ----------
    run : RecordedRun
        The run.

    Returns
    -------
    DataFrame
        time, provider (account id), taken (settle units of notional so far, at the prices of the takeover), edge (their
        value less the price paid, then), pnl (their value now less the price paid), pnl_bp (basis points of taken).

    Examples
    --------
    The run has no backstop provider.

    >>> import tempfile
    >>> from riskcore.run import RecordedRun
    >>> from riskcore.run.report import provider_pnl
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> len(provider_pnl(RecordedRun.read(folder)))
    0
    """
    takeovers, tick_count = run.rows[run.rows["event"] == EVENT["backstop"]], len(run.time)
    frames = []
    for provider in run.folder.manifest["providers"]:
        rows = takeovers[takeovers["counterparty"] == provider]
        cash_flow = run.value_after_ticks(rows, rows["counter_cash"] - rows["counter_cost"])
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


def owner_table(run: RecordedRun) -> pd.DataFrame:
    """Return accounts, liquidations and equity of each owner.

    Parameters
    ----------
    run : RecordedRun
        The run.

    Returns
    -------
    DataFrame
        A row per owner, in the order of their first accounts: owner (id), accounts, liquidated (accounts that were at
        100 % at some tick), notional (liquidated, settle units at the fill prices), equity_start, equity_end (market
        value before the first tick and after the last one, settle units; NaN in a run without ticks).

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import RecordedRun
    >>> from riskcore.run.report import owner_table
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> owner_table(RecordedRun.read(folder))[["owner", "liquidated", "equity_start"]].to_numpy().tolist()
    [[1.0, 1.0, 30.0], [2.0, 0.0, 425.0]]
    """
    rows, count = run.rows, len(run.start)
    closes = rows[closes_positions(rows)]
    liquidated = np.zeros(count, bool)
    liquidated[rows["account"][rows["event"] == EVENT["trigger"]]] = True
    change = equity_changes(run, np.arange(count))
    by_account = pd.DataFrame(
        {
            "accounts": 1, "liquidated": liquidated.astype(np.int64),
            "notional": np.bincount(closes["account"], fill_notional(closes, run.venue, run.asset_price), count),
            "equity_start": change["start"], "equity_end": change["end"],
        }
    )  # fmt: skip
    sums = by_account.groupby(run.start.owner).sum(min_count=1)
    sums.insert(0, "owner", run.start.owners[sums.index])
    return sums.reset_index(drop=True)


def timeline(run: RecordedRun) -> pd.DataFrame:
    """Return the notional of each stage so far, and the fund, tick by tick.

    Parameters
    ----------
    run : RecordedRun
        The run.

    Returns
    -------
    DataFrame
        time, a column for each stage (notional so far, `fill_notional`), fund (settle units at the tick's prices),
        shortfall (settle units left on record or unsettled so far).

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import RecordedRun
    >>> from riskcore.run.report import timeline
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> timeline(RecordedRun.read(folder))["order book"].round(6).tolist()
    [0.0, 1000.9884]
    """
    venue, rows, time = run.venue, run.rows, run.time
    quantum = float(venue.settle_quantum)

    def so_far(chosen: npt.NDArray[np.bool_], amount: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.bincount(rows["tick"][chosen], amount[chosen], len(time)).cumsum()

    closes = closes_positions(rows)
    notional = np.zeros(len(rows))
    notional[closes] = fill_notional(rows[closes], venue, run.asset_price)
    table: dict[str, Any] = {"time": pd.to_datetime(time, utc=True)}
    for stage in STAGES:
        table[stage] = so_far(closes_positions(rows, stage), notional)
    table["fund"] = float(venue.policy.fund) + run.value_after_ticks(rows, rows["fund"] + rows["fee"])
    table["shortfall"] = so_far(rows["event"] == EVENT["shortfall"], rows["cash"] * quantum)
    return pd.DataFrame(table)


def margin_bands(run: RecordedRun, samples: int) -> pd.DataFrame:
    """Return the number of accounts in each band of `margin_distribution` after sampled ticks.

    Parameters
    ----------
    run : RecordedRun
        The run.
    samples : int
        Number of ticks to sample, evenly, first and last among them.

    Returns
    -------
    DataFrame
        time, from, to, accounts, share; a row per sampled tick and band.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from riskcore.run.report import RecordedRun, margin_bands
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> bands = margin_bands(RecordedRun.read(Path(folder)), 2)
    >>> bands.loc[bands["accounts"] > 0, ["from", "accounts"]].to_numpy().tolist()
    [[0.0, 1.0], [0.75, 1.0], [0.0, 1.0], [1.0, 1.0]]
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
    venue, first, venues = run.venue, 0, run.folder.venues()
    markets = max(len(venue.markets.symbol), 1)
    for part in range(run.folder.last + 1):
        table, assets = run.folder.table("ticks", part), run.folder.table("assets", part)
        ticks = {name: values.reshape(-1, markets) for name, values in table.items()}
        count = len(ticks["tick"])
        for tick in sampled[(sampled >= first) & (sampled < first + count)].tolist():
            row = {name: values[tick - first] for name, values in ticks.items()}
            while len(venues) > 1 and venues[1][0] <= tick:
                del venues[0]
            venue = venues[0][1]
            asset, of_tick = np.full(len(venue.assets.symbol), np.nan), assets["tick"] == tick
            asset[assets["asset"][of_tick]] = assets["price"][of_tick]
            prices = Prices(
                mark=row["mark"], index=row["index"], given_mark=row["given_mark"], given_index=row["given_index"],
                last=row["last_price"], low=row["given_low"], high=row["given_high"], given_asset=asset,
                own_asset=asset, asset=asset, open_interest=row["open_interest"],
                funding_rate=row["funding_rate"], open_lots=np.zeros(markets, np.int64), venue=venue,
            )  # fmt: skip
            yield tick, partial(prices.guarded, mark=row["mark"], index=row["index"], asset=asset)
        first += count
