"""The events of one account in a run, in order, with their reasons."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..boundary import RiskDataError, as_text, natural
from ..record import EVENT_KINDS, REASONS, natural_frame, settle_amounts
from .causes import equity_changes
from .recorded_run import RecordedRun
from .report import left_open


@dataclass(frozen=True)
class EquityChange:
    """Equity of an account at the first and at the last tick of a run, and what changed it; settle units.

    Equity is the balances at their prices and the unrealised PnL at the mark, without haircuts. A loss is negative;
    ``start`` and the changes sum to ``end``.

    Attributes
    ----------
    start, end : float
        Equity at the first tick before its events, and at the last tick after them; NaN in a run without ticks.
    price : float
        Moves of marks and of prices of assets.
    slippage : float
        Fills in order books, also of a host, against the mark or the asset's price of the tick.
    fee : float
        Liquidation fees.
    backstop : float
        Edge of the backstop: takeovers by a provider, against the same prices. A gain of an account that is a provider.
    adl : float
        Auto-deleveraging, against the same prices: of the account itself or as the counterparty.
    funding, interest : float
        Funding and interest.
    delisting : float
        Settlement of positions in markets that were delisted, against the last mark before.
    shortfall : float
        Equity below zero that others paid or that was left on record, or the shortfall of others that the account paid.
    activity : float
        Transfers, deposits, withdrawals, borrows and repayments, and trades between ticks against the marks of the tick
        before.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import explain
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> equity = explain(folder, 1).equity
    >>> [round(amount, 6) for amount in (equity.start, equity.price, equity.slippage, equity.fee, equity.end)]
    [30.0, -10.0, -0.0516, -10.009884, 9.938516]
    """

    start: float
    end: float
    price: float
    slippage: float
    fee: float
    backstop: float
    adl: float
    funding: float
    interest: float
    delisting: float
    shortfall: float
    activity: float


@dataclass(frozen=True)
class Explanation:
    """The events of one account in a run, and the change of its equity.

    Attributes
    ----------
    account : int or str
        The user's account id.
    settle_asset : str
        Symbol of the venue's settle asset, which equity is in.
    equity : EquityChange
        Equity at the start and at the end, and what changed it.
    left_open : float
        Notional of the account at the end of the run if it is then at 100 % or above, else 0; settle units.
    events : DataFrame
        A row for each journal row in which the account was liquidated or was the counterparty: time, event, reason,
        market, asset, counterparty (the other account's id, or book, fund, shortfall, pool), quantity (change of the
        account's position or balance of the asset, signed), requested (quantity that was to be traded; NaN without a
        market), price, settle_asset (symbol; None where no money moved), cash (change of the account's free balance of
        that asset, fee not counted), fee (of that asset), mmr_before, mmr_after (of the account itself; NaN where it
        was the counterparty), and what and why in words. Natural units.

    Examples
    --------
    >>> import tempfile
    >>> from riskcore.run import explain
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> explain(folder, 1).events["what"].tolist()
    ['liquidation begins or continues', '5.16 of 5.16 SOL_USDC_PERP sold at 193.99, fee 10.01']
    """

    account: int | str
    settle_asset: str
    equity: EquityChange
    left_open: float
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
    run = RecordedRun.read(path)
    try:
        row = run.start.row_of(_as_id(account, run.start.ids.dtype.kind))
    except KeyError:
        raise RiskDataError("accounts", "account", "must be an account of the run", value=as_text(account)) from None
    change = equity_changes(run, np.array([row])).iloc[0]
    change["backstop"] = change.pop("provider_edge") + change.pop("fund_share")
    equity = EquityChange(**{str(name): float(value) for name, value in change.items()})
    account = run.start.ids[row : row + 1].tolist()[0]
    stays = left_open(run)
    notional = float(stays["notional"][stays["account"] == account].sum())
    return Explanation(account, run.venue.settle_asset, equity, notional, account_events(run, row))


def account_events(run: RecordedRun, row: int) -> pd.DataFrame:
    """Journal rows of one account in natural units, each with a sentence.

    Parameters
    ----------
    run
        The run.
    row
        Row of the account.

    Returns
    -------
    DataFrame
        The events of `Explanation`.
    """
    venue = run.venue
    rows = run.rows[(run.rows["account"] == row) | (run.rows["counterparty"] == row)]
    own = rows["account"] == row
    frame = natural_frame(rows, venue, run.start)
    frame["other"] = frame["counterparty"].where(own, frame["account"])
    asset = np.maximum(rows["asset"], 0)
    exchanged = natural(rows["quanta"] + rows["lent"], venue.assets.quantum, asset)
    in_market = rows["market"] >= 0
    quantity = np.where(in_market, frame["quantity"], np.where(rows["asset"] >= 0, exchanged, np.nan))
    counter_cash = settle_amounts(rows, "counter_cash", venue)
    lines = zip(own, exchanged, frame.to_dict("records"), strict=True)
    return pd.DataFrame(
        {
            "time": frame["time"],
            "event": frame["event"],
            "reason": frame["reason"],
            "market": frame["market"],
            "asset": frame["asset"],
            "counterparty": frame["other"],
            "quantity": np.where(own, 1, -1) * quantity,
            "requested": np.where(in_market, frame["requested_quantity"], np.nan),
            "price": rows["price"],
            "settle_asset": frame["settle_asset"],
            "cash": np.where(own, frame["cash_amount"], counter_cash),
            "fee": np.where(own, frame["fee_amount"], 0.0),
            "mmr_before": np.where(own, rows["mmr_before"], np.nan),
            "mmr_after": np.where(own, rows["mmr_after"], np.nan),
            "what": [_sentence(mine, line | {"exchanged": amount}, venue.settle_asset) for mine, amount, line in lines],
            "why": [REASONS[reason] for reason in frame["reason"]],
        }
    )


def _sentence(is_account: bool, line: dict[Hashable, Any], settle: str) -> str:
    """Sentence about a journal row, for its account or for its counterparty."""
    case = "lend" if line["lent_amount"] else "debt" if line["exchanged"] > 0 else "asset"
    price = "no price" if np.isnan(line["price"]) else ""
    cases = ("", line["reason"], "" if np.isnan(line["amount"]) else case, price)
    item = line["asset" if np.isnan(line["quantity"]) else "market"]
    sentence = next(candidate for candidate in EVENT_KINDS[line["event"]].sentences if candidate.case in cases)
    digits = ",.2f" if line["settle_asset"] == settle else ",.8g"
    cash, repaid = line["cash_amount"], -line["unsettled_amount"]
    money = {"cash": f"{cash:+{digits}}", "paid": f"{abs(cash):{digits}}", "repaid": f"{repaid:+{digits}}"}
    return (sentence.text if is_account or not sentence.counterparty else sentence.counterparty).format(
        market=line["market"], asset=line["asset"], item=item, settle=line["settle_asset"],
        other=line["other"], verb="sold" if line["quantity"] < 0 else "bought", quantity=abs(line["quantity"]),
        requested=line["requested_quantity"], price=line["price"], exchanged=abs(line["exchanged"]),
        fee=f"{line['fee_amount']:{digits}}" + f" {line['settle_asset']}" * (line["settle_asset"] != settle),
        amount=line["amount"], lent_amount=line["lent_amount"], **money,
    )  # fmt: skip


def _as_id(account: int | str, kind: str) -> int | str:
    """Turn text from a command line into the kind of id that the run has."""
    if kind == "i":
        with suppress(ValueError):
            return int(account)
    return account
