"""What happened to one account in a run, and why, in order."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from ..boundary import RiskDataError, text_of
from ..record import REASONS, reader, to_frame


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
        The folder holds no run, or one that is damaged; or the run has no such account.
    """
    run = reader.opened(Path(path))
    venue, accounts = run.venue, run.accounts()
    try:
        row = accounts.row_of(_as_id(account, accounts.ids.dtype.kind))
    except KeyError:
        raise RiskDataError("accounts", "account", "must be an account of the run", value=text_of(account)) from None
    journal = run.journal()
    own = journal[(journal["account"] == row) | (journal["counterparty"] == row)]
    frame = to_frame(own, venue, accounts)
    step = {s: float(size) for s, size in zip(venue.markets.symbol, venue.markets.step, strict=True)}
    spots = venue.spots
    lots = {venue.assets.symbol[k]: float(size) for k, size in zip(spots.asset, spots.step, strict=True)}
    quantum = {s: float(size) for s, size in zip(venue.assets.symbol, venue.assets.quantum, strict=True)}
    settle = venue.settle_asset
    mine = own["account"] == row
    what = []
    for own_row, line in zip(mine, frame.to_dict("records"), strict=True):
        market, asset, price = line["market"], line["asset"], line["price"]
        # a row without a market is about a spot book, whose lots are of the asset
        lot, item = (step[market], market) if market in step else (lots.get(asset, 0.0), asset)
        size, asked = abs(line["lots"]) * lot, line["requested"] * lot
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
            case "skip":
                text = f"{item} rests"
            case "harm":
                text = f"slice of {asked:g} {market} at {price:,.6g} would not help"
            case "expire" if line["reason"] == "conversion_limit":
                text = f"no {asset} converted"
            case "expire":
                text = f"slice of {asked:g} {item} not filled"
            case "backstop" | "adl" if market not in step:
                text = _exchange(own_row, line, quantum, settle)
            case "backstop" | "adl" if own_row:
                text = f"{size:g} {market} handed to account {line['counterparty']} at {price:,.6g}"
            case "backstop" | "adl":
                text = f"{size:g} {market} taken over from account {line['account']} at {price:,.6g}"
            case "unfilled":
                text = f"{asked:g} {market} that nobody took stays open"
            case "funding":
                text = f"funding of {money:+,.2f} {settle} for {market}"
            case "interest":
                text = f"interest of {moved:+g} {asset}, {line['lent'] * quantum[asset]:+g} on lends"
            case "realize":
                text = f"PnL of {money:+,.2f} {settle} in {market} realised"
            case "unsettle":
                text = f"{-line['unsettled'] * quantum[settle]:+,.2f} {settle} out of the unsettled balance"
            case "fund":
                text = f"{money:,.2f} {settle} of shortfall paid by the fund"
            case "socialize" if own_row:
                text = f"{money:,.2f} {settle} of shortfall paid by account {line['counterparty']}"
            case "socialize":
                text = f"{money:,.2f} {settle} of the shortfall of account {line['account']} paid"
            case "shortfall" if line["reason"] == "unsettled":
                text = f"{money:,.2f} {settle} of shortfall left unsettled"
            case _:
                text = f"{money:,.2f} {settle} of shortfall left on record"
        what.append(text)
    frame["what"] = what
    frame["why"] = frame["reason"].astype(object).map(REASONS)
    frame.loc[~mine, ["mmr_before", "mmr_after"]] = float("nan")
    return frame[["time", "event", "what", "why", "mmr_before", "mmr_after"]]


def _exchange(own_row: bool, line: dict[Hashable, Any], quantum: dict[str, float], settle: str) -> str:
    """Sentence of a row in which an asset changed hands between two accounts."""
    asset, money = line["asset"], abs(line["cash"]) * quantum[settle]
    amount = (line["quanta"] + line["lent"]) * quantum[asset]
    if line["lent"]:
        what, other = f"lend of {-amount:g} {asset} settled", "with"
    elif amount > 0:
        what, other = f"debt of {amount:g} {asset} taken over", "by" if own_row else "from"
    else:
        what, other = f"{-amount:g} {asset} sold", "to" if own_row else "by"
    return f"{what} {other} account {line['counterparty' if own_row else 'account']} for {money:,.2f} {settle}"


def _as_id(account: int | str, kind: str) -> int | str:
    """Turn text from a command line into the kind of id that the run has."""
    if kind == "i":
        with suppress(ValueError):
            return int(account)
    return account
