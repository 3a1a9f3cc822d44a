"""Every policy on the deleveraging of 10 October 2025, and what of the published tables can be had again.

``python -m tests.adl_october [FOLDER]``. The folder is ../shared/data/hl_adl_20251010 by default; its PROVENANCE.md has
the sources and known defects, docs/adl_study.md what follows from them.

The data name the winners, what was closed of each and for what profit, and the closed notional by second and coin. They
do not say in which coins a winner was closed, what else it held, or what it held that was not closed. Hence: one common
market, in settle units; all positions short, as the profits beyond the notional show; equity as at the end of the
event, but at least the maintenance margin of the position, without which it would have been liquidated itself; and each
winner held ``held`` times what was closed of it. With 1, the only figure in the data, all is closed in the end under
every policy, and they differ in who goes when; what they do to the end needs an assumption: 2.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from riskcore import adl_study
from riskcore.cli import print_study
from tests.real_inputs import SHARED

FOLDER = SHARED / "data/hl_adl_20251010"
GAP = 4
"""Seconds: the times of the requests are whole seconds, rounded down, of waves that are more than 5 s apart."""


MAINTENANCE = 0.0125
"""Of the notional, at the venue's highest leverage of 40: half of the initial margin."""


@dataclass(frozen=True)
class Published:
    """Tables of the folder."""

    users: pd.DataFrame
    seconds: pd.DataFrame
    coins: pd.DataFrame
    losers: pd.DataFrame
    replay: pd.DataFrame
    policies: pd.DataFrame
    numbers: dict


def published(folder: Path = FOLDER) -> Published:
    """Read the folder."""
    names = (
        "adl_by_user", "adl_notional_by_second_coin", "by_coin", "loser_deficit_waves", "two_pass_by_wave_h0",
        "policy_per_wave_metrics",
    )  # fmt: skip
    tables = [pd.read_parquet(folder / f"{name}.parquet") for name in names]
    return Published(*tables, json.loads((folder / "published_numbers.json").read_text()))


def hyperliquid_october(folder: Path = FOLDER, held: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Winners and requests for `riskcore.adl_study.study`."""
    data = published(folder)
    users, requests = data.users, hyperliquid_october_requests(data)
    notional = held * users["adl_notional"]
    equity = np.maximum(users["account_value_end"], MAINTENANCE * notional)
    winners = pd.DataFrame(
        {
            "account": users["acct"],
            "notional": notional,
            "pnl": held * users["closed_pnl"],
            "equity": equity,
            "leverage": notional / equity,
        }
    )
    return winners, requests


def hyperliquid_october_requests(data: Published) -> pd.DataFrame:
    """Requests by second and coin.

    The needed budget of a published wave is the deficit of its requests, by their notional; the others have none.
    """
    seconds = data.seconds.sort_values(["t_ms", "coin"], ignore_index=True)
    deficit = np.zeros(len(seconds))
    for wave in data.replay.itertuples():
        own = (seconds["t_ms"] >= wave.t_start_ms // 1000 * 1000) & (seconds["t_ms"] <= wave.t_end_ms)
        notional = seconds.loc[own, "adl_notional"]
        deficit[own] = wave.budget_needed_usd * notional / notional.sum()
    return pd.DataFrame(
        {
            "time": pd.to_datetime(seconds["t_ms"], unit="ms", utc=True),
            "notional": seconds["adl_notional"],
            "deficit": deficit,
        }
    )


def waves(requests: pd.DataFrame, data: Published) -> pd.DataFrame:
    """Waves by the pauses between the requests: first and last second, and the events of the coins together."""
    time = np.sort(requests["time"].unique().as_unit("ms").asi8)
    wave = np.cumsum(np.diff(time, prepend=time[0]) > GAP * 1000) + 1
    events = data.seconds.groupby("t_ms")["bucket_events"].first()[time]
    frame = pd.DataFrame({"wave": wave, "time": time, "events": events.to_numpy()})
    return frame.groupby("wave").agg(start=("time", "first"), end=("time", "last"), events=("events", "sum"))


def reproduced(data: Published) -> pd.DataFrame:
    """Figures of the published tables that follow from others in the folder: what, from what, largest difference.

    Differences are relative, but for those of counts and times.
    """
    users, seconds, coins, table, replay = data.users, data.seconds, data.coins, data.policies, data.replay
    impact, found = data.numbers["total_impact"], []

    def note(what: str, source: str, ours: object, theirs: object) -> None:
        ours, theirs = (np.atleast_1d(np.asarray(x, float)) for x in (ours, theirs))
        known = np.isfinite(theirs) & np.isfinite(ours)
        scale = np.maximum(np.abs(theirs[known]), 1.0)
        off = float((np.abs(ours - theirs)[known] / scale).max(initial=0.0))
        found.append((what, source, int(known.sum()), off))

    events, notional = impact["adl"]["events"], impact["adl"]["notional"]
    by_second = seconds.groupby("t_ms")["bucket_events"].first()
    note("events", "accounts", users["num_adl_events"].sum(), events)
    note("events", "seconds", by_second.sum(), events)
    note("events", "coins", coins["adl_events"].sum(), events)
    bursts = {b["timestamp"]: b["adls"] for b in data.numbers["batch"]["top_shared_bursts"]}
    stamps = pd.to_datetime(list(bursts), format="ISO8601").floor("s").as_unit("ms").asi8
    note("events of the ten largest bursts", "seconds", by_second[stamps], list(bursts.values()))
    note("notional", "accounts", users["adl_notional"].sum(), notional)
    note("notional", "seconds and coins", seconds["adl_notional"].sum(), notional)
    note("profit", "accounts", users["closed_pnl"].sum(), impact["adl"]["pnl"])
    by_coin = coins.dropna(subset="adl_notional").set_index("coin")["adl_notional"]
    note(
        "notional of each coin",
        "seconds and coins",
        seconds.groupby("coin")["adl_notional"].sum()[by_coin.index],
        by_coin,
    )
    top = {coin: row["adl"] for coin, row in impact["top_combined_tickers"].items()}
    note("notional of the ten largest coins", "coins", by_coin[list(top)], list(top.values()))
    ours = waves(hyperliquid_october_requests(data), data)
    own = ours.loc[ours.index[np.searchsorted(ours["start"], data.losers["t_start_ms"], side="right") - 1]]
    note("start of the waves with a deficit, s", "seconds", own["start"] // 1000, data.losers["t_start_ms"] // 1000)
    note("end of the waves with a deficit, s", "seconds", own["end"] // 1000, data.losers["t_end_ms"] // 1000)
    note("events of the waves with a deficit", "seconds", own["events"], data.losers["n_rows"])
    for name, frame in (("two_pass", replay), ("policy table", table)):
        note(f"{name}: deficit_usd", "loser_deficit_waves", data.losers["deficit_usd"], frame["deficit_usd"])
        note(f"{name}: max_loss_usd", "loser_deficit_waves", data.losers["max_loss_usd"], frame["max_loss_usd"])
    deficit, needed, prod = (replay[f"{n}_usd"] for n in ("deficit", "budget_needed", "budget_prod"))
    note(
        "two_pass: overshoot_prod_minus_needed_usd", "budgets", prod - needed, replay["overshoot_prod_minus_needed_usd"]
    )
    headline = data.numbers["headlines"]["prod_overshoot_vs_needed_usd"]
    note("headline: prod_overshoot_vs_needed_usd", "two_pass", (prod - needed).sum(), headline)
    for name, budget in (("prod", prod), ("needed", needed)):
        theta = budget / deficit
        note(f"two_pass: theta_{name}", "budgets, deficit", theta, replay[f"theta_{name}"])
        note(f"two_pass: theta_{name}_capped", "budgets, deficit", theta.clip(0, 1), replay[f"theta_{name}_capped"])
        note(f"policy table: theta_{name}_capped", "two_pass", theta.clip(0, 1), table[f"theta_{name}_capped"])
        note(f"policy table: budget_{name}", "two_pass", budget, table[f"budget_{name}"])
    for name in ("equity", "pnl"):
        start = replay[f"winners_{name}_start_usd"]
        note(f"two_pass: H_star_{name}", "budgets, winners", np.minimum(needed, start), replay[f"H_star_{name}"])
    for name in ("pr", "pnl_pr", "eq_pr"):
        budget = np.minimum(table["budget_needed"], table["total_cap"])
        note(f"policy table: budget_{name}", "budget_needed, total_cap", budget, table[f"budget_{name}"])
    for name in ("prod", "pr", "pnl_pr", "eq_pr", "vector", "contract_pr", "fixed_point_ilp_integer"):
        budget, ptsr = table[f"budget_{name}"], table[f"ptsr_{name}"]
        left = deficit - budget
        worst = (left / deficit).clip(0, 1) * table["max_loss_usd"]
        note(f"policy table: overshoot_{name}", "budgets", budget - needed, table[f"overshoot_{name}"])
        note(f"policy table: rd_nse_{name}", f"ptsr_{name}", ptsr / (1 + ptsr), table[f"rd_nse_{name}"])
        note(f"policy table: pmr_{name}", f"ptsr_{name}, deficit", ptsr * left / worst, table[f"pmr_{name}"])
    return pd.DataFrame(found, columns=["what", "source", "values", "off"])


def main(folder: Path) -> None:
    """Print both studies and what of the published tables follows from others; write the pictures to runs/."""
    out, console = Path("runs"), Console(width=160)
    out.mkdir(exist_ok=True)
    for held in (1.0, 2.0):
        study = adl_study.study(*hyperliquid_october(folder, held), wave_gap=GAP)
        console.rule(f"each winner held {held:g} times what was closed of it")
        print_study(study, console)
        study.write_html(out / f"adl-october-{held:g}.html")
    print(reproduced(published(folder)).to_string(index=False))
    print("Powered by HyperReplay - (c) ConejoCapital; other sources: docs/adl_study.md")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
