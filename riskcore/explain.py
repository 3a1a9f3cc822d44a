"""What happened to one account, and why, in order."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pandas as pd

from . import run_folder
from .errors import RiskDataError
from .journal import to_frame
from .venue import load_venue

_WHY = {
    "mmr": "maintenance margin ratio at 100 % or above",
    "liquidation": "open orders are cancelled when a liquidation begins",
    "debt": "borrows are repaid while the account is liquidating",
    "close_out": "no position and no equity left",
    "full": "the slice was filled whole",
    "band": "the price band stopped the slice",
    "depth": "the book ended before the slice",
    "no_book": "no order on that side of the book",
    "below_auto_close": "margin fraction below the auto-close fraction",
    "backstop_exhausted": "the backstop had no capacity left",
    "no_counterparty": "no profitable opposing account was left",
    "bankrupt": "net equity below zero",
}


def explain(path: str | Path, account: int | str) -> pd.DataFrame:
    """Journal rows in which an account was liquidated or was the counterparty, each with a sentence.

    Parameters
    ----------
    path
        A run folder.
    account
        The user's account id.

    Returns
    -------
    DataFrame: time, event, what, why, mmr_before, mmr_after.

    Raises
    ------
    RiskDataError
        The run has no such account.
    """
    path = Path(path)
    run_folder.manifest(path)
    venue = load_venue(path / "venue.json")
    accounts = run_folder.read_accounts(path, venue)
    try:
        row = accounts.row_of(_as_id(account, accounts.ids.dtype.kind))
    except KeyError:
        raise RiskDataError("accounts", "account", "must be an account of the run", value=str(account)) from None
    journal = run_folder.read_journal(path)
    own = journal[(journal["account"] == row) | (journal["counterparty"] == row)]
    frame = to_frame(own, venue, accounts)
    step = {s: float(size) for s, size in zip(venue.markets.symbol, venue.markets.step, strict=True)}
    quantum = {s: float(size) for s, size in zip(venue.assets.symbol, venue.assets.quantum, strict=True)}
    settle = venue.settle_asset
    mine = own["account"] == row
    what = []
    for own_row, line in zip(mine, frame.to_dict("records"), strict=True):
        market, asset, price = line["market"], line["asset"], line["price"]
        size = abs(line["lots"]) * step.get(market, 0.0)
        asked = line["requested"] * step.get(market, 0.0)
        money = line["cash"] * quantum[settle]
        fee = line["fee"] * quantum[settle]
        moved = line["quanta"] * quantum.get(asset, 0.0)
        match line["event"]:
            case "trigger":
                text = "liquidation begins or goes on"
            case "cancel":
                text = f"order of {asked:g} {market} cancelled"
            case "redeem":
                text = f"{moved:g} {asset} of lends redeemed"
            case "convert":
                text = f"{moved:+g} {asset} against {money:+,.2f} {settle}"
            case "book":
                verb = "sold into the bids" if line["lots"] < 0 else "bought from the asks"
                text = f"{size:g} of {asked:g} {market} {verb} at {price:,.6g}, fee {fee:,.2f}"
            case "expire":
                text = f"slice of {asked:g} {market} not filled"
            case "backstop" | "adl" if own_row:
                text = f"{size:g} {market} handed to account {line['counterparty']} at {price:,.6g}"
            case "backstop" | "adl":
                text = f"{size:g} {market} taken over from account {line['account']} at {price:,.6g}"
            case "unfilled":
                text = f"{asked:g} {market} that nobody took stays open"
            case "fund":
                text = f"{money:,.2f} {settle} of shortfall paid by the fund"
            case _:
                text = f"{money:,.2f} {settle} of shortfall left on record"
        what.append(text)
    frame["what"] = what
    frame["why"] = [_WHY[reason] for reason in frame["reason"]]
    frame.loc[~mine, ["mmr_before", "mmr_after"]] = float("nan")
    return frame[["time", "event", "what", "why", "mmr_before", "mmr_after"]]


def _as_id(account: int | str, kind: str) -> int | str:
    """Turn text from a command line into the kind of id that the run has."""
    if kind == "i":
        with suppress(ValueError):
            return int(account)
    return account
