"""What happened to one account in a run, and why, in order."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..boundary import RiskDataError, text_of
from ..record import REASONS, reader, to_frame
from .attribution import EquityChange, equity_change


@dataclass(frozen=True)
class Explanation:
    """The events of one account in a run, and the change of its equity.

    Attributes
    ----------
    account : int or str
        The user's account id.
    settle_asset : str
        Symbol of the asset that money is in.
    equity : EquityChange
        Equity at the start and at the end, and what changed it.
    events : DataFrame
        A row for each journal row in which the account was liquidated or was the counterparty: time, event, reason,
        market, asset, counterparty (the other account's id, or book, fund, shortfall, pool), quantity (change of the
        account's position or balance of the asset, signed), requested (quantity that was to be traded; NaN without a
        market), price, cash (change of the account's settle balance, fee not counted), fee, mmr_before, mmr_after
        (of the account itself; NaN where it was the counterparty), and what and why in words. Natural units.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import explain
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> explain(folder, 1).events["what"].tolist()
    ['liquidation begins or goes on', '5.16 of 5.16 SOL_USDC_PERP sold at 193.99, fee 10.01']
    """

    account: int | str
    settle_asset: str
    equity: EquityChange
    events: pd.DataFrame


def explain(path: str | Path, account: int | str) -> Explanation:
    """Explain the events of one account in a run: its equity, and its journal rows with a sentence each.

    Parameters
    ----------
    path : str or Path
        A run folder.
    account : int or str
        The user's account id.

    Returns
    -------
    Explanation
        The events and the change of the equity.

    Raises
    ------
    RiskDataError
        The folder holds no run, or one that is damaged; or the run has no such account.

    Notes
    -----
    The events: docs/one_tick.md, "The journal".

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import explain
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> explain(folder, 1).events["why"].tolist()
    ['the maintenance margin ratio is 100 % or above', 'the slice was filled in full']
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
                verb = "sold" if line["lots"] < 0 else "bought"
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
                text = f"{size:g} {market} to account {line['counterparty']} at {price:,.6g}"
            case "backstop" | "adl":
                text = f"{size:g} {market} from account {line['account']} at {price:,.6g}"
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
    traded, requested = (_natural(own[name], venue.markets.step, own["market"]) for name in ("lots", "requested"))
    quanta = _natural(own["quanta"] + own["lent"], venue.assets.quantum, own["asset"])
    cash, fee = np.where(mine, own["cash"], own["counter_cash"]), np.where(mine, own["fee"], 0)
    row_of_settle = np.full(len(own), venue.settle)
    events = pd.DataFrame(
        {
            "time": frame["time"],
            "event": frame["event"],
            "reason": frame["reason"],
            "market": frame["market"],
            "asset": frame["asset"],
            "counterparty": frame["counterparty"].where(mine, frame["account"]),
            "quantity": np.where(mine, 1, -1) * np.where(own["market"] >= 0, traded, quanta),
            "requested": requested,
            "price": own["price"],
            "cash": _natural(cash, venue.assets.quantum, row_of_settle),
            "fee": _natural(fee, venue.assets.quantum, row_of_settle),
            "mmr_before": np.where(mine, own["mmr_before"], np.nan),
            "mmr_after": np.where(mine, own["mmr_after"], np.nan),
            "what": what,
            "why": [REASONS[reason] for reason in frame["reason"]],
        }
    )
    account = accounts.ids[row : row + 1].tolist()[0]
    return Explanation(account, settle, equity_change(run, accounts, row, own), events)


def _natural(
    amount: npt.NDArray[Any], unit: Sequence[Fraction], kind: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Whole numbers of each row's unit as the nearest number in natural units; NaN where ``kind`` is -1."""
    over, under = (np.array([float(getattr(u, part)) for u in unit]) for part in ("numerator", "denominator"))
    return np.where(kind >= 0, amount * over[kind] / under[kind], np.nan)


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
