"""The journal's columns, events and reasons, declared once.

The declarations give the dtype of the rows, their check when a run is read (`check_rows`), the tables in natural
units, the sentences of `riskcore explain`, and the page docs/journal.md (`journal_page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..boundary import RiskDataError
from ..kernels import journal as kernels

Rows = npt.NDArray[np.void]
"""Journal rows, of dtype `ROW`."""

ACCOUNT = 0
BOOK, FUND, SHORTFALL = kernels.BOOK, kernels.FUND, kernels.SHORTFALL
NOBODY, POOL = kernels.NOBODY, kernels.POOL
"""Counterparties: an account (its row), or one of the parties that are not accounts."""
NO_ACCOUNT = -1
"""The account of a `guard` row: the row is about a market."""

_COUNTERPARTIES = {
    ACCOUNT: "account", BOOK: "the book (-1)", FUND: "the fund (-2)", SHORTFALL: "the shortfall ledger (-3)",
    NOBODY: "none (-4)", POOL: "the pool (-5)",
}  # fmt: skip


class Column(NamedTuple):
    """A column of the journal.

    Attributes
    ----------
    kind : str
        Of `riskcore.record.run_schema`: type and range.
    unit, meaning : str
        Texts of docs/journal.md.
    default : int or float
        Value in rows of events that do not use the column.
    """

    kind: str
    unit: str
    meaning: str
    default: int | float = 0


COLUMNS = {
    "tick": Column("tick?", "", "Number of the tick, from 0; of an event between ticks that of the one before, or -1."),
    "time": Column("whole", "ns", "Time of the instant; of an event between ticks its own."),
    "event": Column("word", "", "An event of the table below."),
    "reason": Column("word", "", "A reason of the event."),
    "account": Column("account?", "row", "Number of the account; -1 in a `guard` row.", -1),
    "counterparty": Column("party", "row", "Row of another account, or a number below 0: see the events.", NOBODY),
    "market": Column("market?", "row", "Market; -1: none.", -1),
    "asset": Column("asset?", "row", "Asset of `quanta` and `lent`; -1: none.", -1),
    "settle": Column("asset?", "row", "Asset of the amounts in settle quanta; -1: the event has none.", -1),
    "order": Column(
        "order?", "row", "Number of the order: its row in `start/orders`, or behind them in `orders`; -1: none.", -1,
    ),
    "requested": Column("whole", "lots", "Size that the event is about: see the events."),
    "lots": Column("whole", "lots", "Change of the account's position; the counterparty's is the opposite."),
    "cost": Column("whole", "settle quanta", "Change of the position's cost."),
    "cash": Column("whole", "settle quanta", "Change of the account's free balance of `settle`, the fee not counted."),
    "entry": Column("whole", "settle quanta", "Change of the position's `entry`."),
    "fee": Column("whole", "settle quanta", "Fee taken from the account's balance of `settle`, given to the fund."),
    "quanta": Column("whole", "quanta", "Change of the account's free balance of `asset`."),
    "lent": Column(
        "whole", "quanta",
        "Change of the account's lent balance of `asset`; the counterparty's free balance changes by the opposite of"
        " `quanta + lent`.",
    ),
    "unsettled": Column("whole", "settle quanta", "Change of the account's unsettled balance of `settle`."),
    "counter_cost": Column("whole", "settle quanta", "Change of the cost of the counterparty's position."),
    "counter_cash": Column("whole", "settle quanta", "Change of the counterparty's balance of `settle`, or money."),
    "counter_entry": Column("whole", "settle quanta", "Change of the `entry` of the counterparty's position."),
    "fund": Column("whole", "settle quanta", "Change of the insurance fund's `settle`, the fee not counted."),
    "price": Column(
        "number", "quote units",
        "See the events; of an asset in units of `settle`, in a `guard` row of the venue's asset; NaN: none.", np.nan,
    ),
    "mmr_before": Column("number", "", "MMR of the account before the row; NaN before accounts are selected.", np.nan),
    "mmr_after": Column("number", "", "MMR of the account after the row; NaN before accounts are selected.", np.nan),
}  # fmt: skip
"""The columns of the journal by name."""

AMOUNTS = (
    "requested", "lots", "cost", "cash", "entry", "fee", "quanta", "lent", "unsettled", "counter_cost", "counter_cash",
    "counter_entry", "fund",
)  # fmt: skip
"""Columns that are 0 unless the event uses them."""

MONEY = tuple(name for name in AMOUNTS if COLUMNS[name].unit == "settle quanta")
"""Columns of `AMOUNTS` in quanta of the row's ``settle``: a row has a ``settle`` if its event uses one of them."""


class Sentence(NamedTuple):
    """Sentence of `explain` about a row, a format string.

    Attributes
    ----------
    text : str
        To the account of the row. Names: market, asset, item (market or asset), settle (asset), other (account id),
        verb (sold, bought); in natural units quantity and exchanged (not signed), requested, price, amount,
        lent_amount; as texts cash and repaid (signed), paid (not signed), fee.
    counterparty : str
        To the counterparty; empty: the same text.
    case : str
        Rows that it is for: a reason, "no price", or, of rows with an asset, "lend", "debt" (a borrow changes hands) or
        "asset"; empty: all others.
    """

    text: str
    counterparty: str = ""
    case: str = ""


class Event(NamedTuple):
    """Declaration of an event.

    Attributes
    ----------
    meaning : str
        Text of docs/journal.md.
    reasons : str
        Names of `REASONS`.
    counterparties : tuple of int
        One of these; `ACCOUNT` stands for any.
    names : str
        Row numbers that are set; of those joined by | exactly one, and one with a ? may be.
    amounts : str
        Columns of `AMOUNTS` that may differ from 0.
    price : str
        Meaning of ``price``; empty: NaN. It may be NaN where the meaning says so.
    requested : str
        Unit of ``requested``: "lots" of the market, or with an asset its "spot_lots" or "quanta".
    stage : str
        Name of the stage that closes positions so; empty: none.
    sentences : tuple of Sentence
        The first one whose case fits.
    """

    meaning: str
    reasons: str
    counterparties: tuple[int, ...]
    names: str = ""
    amounts: str = ""
    price: str = ""
    requested: str = ""
    stage: str = ""
    sentences: tuple[Sentence, ...] = ()

    @property
    def is_priced(self) -> bool:
        """Whether every row has a price."""
        return bool(self.price) and "NaN" not in self.price


_BOOK = "depth impact mean_mark mean_premium limit"
_LIMITS = f"account_cap market_cap depth_share {_BOOK} slippage"
_POSITIONS = "lots cost cash entry counter_cost counter_cash counter_entry"
_TAKEOVER = (
    Sentence("lend of {exchanged:g} {asset} settled with account {other} for {paid} {settle}", case="lend"),
    Sentence(
        "debt of {exchanged:g} {asset} taken over by account {other} for {paid} {settle}",
        "debt of {exchanged:g} {asset} taken over from account {other} for {paid} {settle}",
        "debt",
    ),
    Sentence(
        "{exchanged:g} {asset} sold to account {other} for {paid} {settle}",
        "{exchanged:g} {asset} sold by account {other} for {paid} {settle}",
        "asset",
    ),
    Sentence(
        "{quantity:g} {market} to account {other} at {price:,.6g}",
        "{quantity:g} {market} from account {other} at {price:,.6g}",
    ),
)

EVENT_KINDS = {
    "trigger": Event(
        "The account is selected: its liquidation begins or continues.", "mmr", (NOBODY,),
        sentences=(Sentence("liquidation begins or continues"),),
    ),
    "cancel": Event(
        "An open order is cancelled; `requested` are its lots.", "liquidation delisted request host reduce_only",
        (NOBODY,), "market order", "requested", requested="lots",
        sentences=(Sentence("order of {requested:g} {market} cancelled"),),
    ),
    "redeem": Event(
        "Lent quanta become free ones.", "debt close_out settlement request host", (NOBODY,), "asset", "quanta lent",
        sentences=(Sentence("{amount:g} {asset} of lends redeemed"),),
    ),
    "convert": Event(
        "An asset is sold, or bought to repay a borrow, for the settle asset.", "debt close_out settlement", (BOOK,),
        "asset", "cash fee quanta counter_cash", "average price",
        sentences=(Sentence("{amount:+g} {asset} against {cash} {settle}"),),
    ),
    "book": Event(
        "A slice is filled in the order book, by the host with the reason `host`; `requested` is the slice's size, or"
        " what was open of it.",
        f"full {_LIMITS} host", (BOOK,), "market", "requested lots cost cash entry fee counter_cash",
        "average price", "lots", "order book",
        (Sentence("{quantity:g} of {requested:g} {market} {verb} at {price:,.6g}, fee {fee}"),),
    ),
    "propose": Event(
        "A slice, or the order of the last book, of `requested` is proposed to the host, who may fill it until the next"
        " tick.",
        f"full {_LIMITS}", (NOBODY,), "market", "requested", "limit price, NaN: none",
        "lots", sentences=(
            Sentence("slice of {requested:g} {market} proposed to the host without a limit", case="no price"),
            Sentence("slice of {requested:g} {market} proposed to the host at the limit {price:,.6g}"),
        ),
    ),
    "expire": Event(
        "A slice, or a conversion in a spot book, is not filled; `requested` is its size, 0 of `conversion_limit`.",
        f"{_LIMITS} no_book conversion conversion_limit", (NOBODY,), "market|asset", "requested",
        requested="spot_lots",
        sentences=(
            Sentence("no {asset} converted", case="conversion_limit"),
            Sentence("slice of {requested:g} {item} not filled"),
        ),
    ),
    "backstop": Event(
        "A provider takes a position, or a balance of an asset; `requested` is the amount offered.",
        "below_auto_close escalated mmr", (ACCOUNT,), "market|asset", f"requested {_POSITIONS} quanta fund",
        "price of the takeover", "quanta", "backstop", _TAKEOVER,
    ),
    "adl": Event(
        "A position is closed against that of a counterparty, or a lend settled with the debt of one; `requested` is"
        " the amount still to be closed.",
        "backstop_exhausted fund_below full_utilization", (ACCOUNT,), "market|asset", f"requested {_POSITIONS} lent",
        "price of the closing", "quanta", "ADL", _TAKEOVER,
    ),
    "market_close": Event(
        "The last book: a position that no stage took goes to the order book as one order at any price inside the"
        " bands; `requested` is its size.",
        f"full {_BOOK} host", (BOOK,), "market", "requested lots cost cash entry fee counter_cash",
        "average price", "lots", "order book",
        (Sentence("{quantity:g} of {requested:g} {market} {verb} at {price:,.6g} as one order, fee {fee}"),),
    ),
    "unfilled": Event(
        "The rest of a position, lend or debt, `requested`, stays open: the next instant tries again.",
        f"no_book {_BOOK} slippage conversion conversion_limit withheld to_backstop full_utilization no_collateral",
        (NOBODY,), "market|asset", "requested", requested="quanta",
        sentences=(
            Sentence("lend of {requested:g} {asset} stays open", case="full_utilization"),
            Sentence("debt of {requested:g} {asset} stays open", case="asset"),
            Sentence("{requested:g} {market} stays open"),
        ),
    ),
    "fund": Event(
        "The fund pays a shortfall.", "bankrupt", (FUND,), "", "cash fund",
        sentences=(Sentence("{paid} {settle} of shortfall paid by the fund"),),
    ),
    "shortfall": Event(
        "A shortfall that nobody pays is left on record, or unsettled with the account.", "bankrupt unsettled",
        (SHORTFALL, NOBODY), "", "cash counter_cash unsettled",
        sentences=(
            Sentence("{paid} {settle} of shortfall left unsettled", case="unsettled"),
            Sentence("{paid} {settle} of shortfall left on record"),
        ),
    ),
    "funding": Event(
        "Funding of a position is paid.", "interval rate", (BOOK,), "market", "cash counter_cash", "mark",
        sentences=(Sentence("funding of {cash} {settle} for {market}"),),
    ),
    "interest": Event(
        "Interest on a borrow or a lend is added to the balance, that on the settle asset to `quanta` too.",
        "hour entry request host", (POOL,), "asset", "quanta lent",
        sentences=(Sentence("interest of {amount:+g} {asset}, {lent_amount:+g} on lends"),),
    ),
    "realize": Event(
        "The unrealised PnL of a position is moved to the settle balance.", "interval", (NOBODY,), "market",
        "cost cash", "mark",
        sentences=(Sentence("PnL of {cash} {settle} in {market} realised"),),
    ),
    "unsettle": Event(
        "The unsettled balance is moved to the settle balance.", "settlement close_out", (NOBODY,), "",
        "cash unsettled",
        sentences=(Sentence("{repaid} {settle} out of the unsettled balance"),),
    ),
    "guard": Event(
        "A guard refuses or limits a price update, or refuses a book; a row of an asset's price, or of a spot book, "
        "names the asset.",
        "stale_book crossed_book index_update_cap mark_held index_clamp mean_clamp update_cap closed_book", (NOBODY,),
        "market|asset", "", "refused price, NaN if there is none",
    ),
    "skip": Event(
        "A position or a borrow is left out of a round.", "throttle cooldown", (NOBODY,), "market|asset",
        sentences=(Sentence("{item} is throttled"),),
    ),
    "harm": Event(
        "A slice, or a conversion, of `requested` would not lower the margin ratio; the reason names the treatment.",
        "fee_waived sent withheld to_backstop", (NOBODY,), "market|asset", "requested", "average price of the quote",
        "quanta",
        sentences=(
            Sentence("conversion of {requested:g} {asset} at {price:,.6g} is harmful", case="asset"),
            Sentence("slice of {requested:g} {market} at {price:,.6g} is harmful"),
        ),
    ),
    "socialize": Event(
        "Another account pays a part of a shortfall.", "equity open_interest", (ACCOUNT,), "", "cash counter_cash",
        sentences=(
            Sentence(
                "{paid} {settle} of shortfall paid by account {other}",
                "{paid} {settle} of the shortfall of account {other} paid",
            ),
        ),
    ),
    "open": Event(
        "An account is opened between ticks; it has no position and no balance yet.", "request host", (NOBODY,),
        sentences=(Sentence("account opened"),),
    ),
    "transfer": Event(
        "An owner moves an asset from the account to another account of its own.", "request host", (ACCOUNT,), "asset",
        "quanta",
        sentences=(
            Sentence("{exchanged:g} {asset} moved to account {other}", "{exchanged:g} {asset} from account {other}"),
        ),
    ),
    "deposit": Event(
        "An asset comes from outside the run, which is counted with the book.", "request host", (BOOK,), "asset",
        "quanta",
        sentences=(Sentence("{exchanged:g} {asset} paid in"),),
    ),
    "withdraw": Event(
        "An asset goes outside the run, which is counted with the book.", "request host", (BOOK,), "asset", "quanta",
        sentences=(Sentence("{exchanged:g} {asset} paid out"),),
    ),
    "fill": Event(
        "The account trades with the market between ticks; `fund` gives the fee on to the book. An order that is named"
        " loses the lots.",
        "request host", (BOOK,), "market order?", "lots cost cash entry fee counter_cash fund", "price of the fill",
        sentences=(Sentence("{quantity:g} {market} {verb} at {price:,.6g}, fee {fee}"),),
    ),
    "borrow": Event(
        "An asset is borrowed, and goes outside the run, which is counted with the book.", "request host", (BOOK,),
        "asset", "quanta",
        sentences=(Sentence("{exchanged:g} {asset} borrowed"),),
    ),
    "repay": Event(
        "A borrow of an asset is repaid from outside the run, which is counted with the book.", "request host", (BOOK,),
        "asset", "quanta",
        sentences=(Sentence("{exchanged:g} {asset} of borrows repaid"),),
    ),
    "lend": Event(
        "Free quanta become lent ones.", "request host", (NOBODY,), "asset", "quanta lent",
        sentences=(Sentence("{lent_amount:g} {asset} lent"),),
    ),
    "leverage": Event(
        "The account sets its leverage limit.", "request host", (NOBODY,), price="new limit, NaN: none",
        sentences=(Sentence("leverage limit removed", case="no price"), Sentence("leverage limit set to {price:g}")),
    ),
    "place": Event(
        "An order is placed; `requested` is its size, of a reduce-only order cut to the position.", "request host",
        (NOBODY,), "market order", "requested", "limit price", "lots",
        sentences=(Sentence("order of {requested:g} {market} placed at {price:,.6g}"),),
    ),
    "change": Event(
        "An open order gets a new size, `requested`, and limit price.", "request host reduce_only", (NOBODY,),
        "market order", "requested", "new limit price", "lots",
        sentences=(Sentence("order changed to {requested:g} {market} at {price:,.6g}"),),
    ),
    "delist": Event(
        "A market is delisted, and a position in it is closed at the settlement price without a fee.",
        "settlement_price", (BOOK,), "market", "lots cost cash entry counter_cash", "settlement price",
        sentences=(Sentence("{quantity:g} {market} settled at {price:,.6g}"),),
    ),
}  # fmt: skip
"""The events by name."""

REASONS = {
    "mmr": "the maintenance margin ratio is 100 % or above",
    "liquidation": "open orders are cancelled when a liquidation begins",
    "debt": "borrows are repaid while the account is liquidating",
    "close_out": "the account has no position and no equity left",
    "full": "the slice was filled in full",
    "depth": "the book ended before the slice was filled",
    "no_book": "the book has no order on that side",
    "slippage": "the average price would exceed the slippage limit",
    "account_cap": "the account's cap of the interval is used up",
    "market_cap": "the market's cap of the tick is used up",
    "depth_share": "one slice takes no more than its share of the depth",
    "impact": "the price impact band stopped the slice",
    "mean_mark": "the band around the five-minute mean mark stopped the slice",
    "mean_premium": "the band around the five-minute mean premium stopped the slice",
    "limit": "the limit price band stopped the slice",
    "conversion": "the slippage limit of conversions stopped the conversion",
    "conversion_limit": "the limit on conversions at the index is used up",
    "throttle": "the random draw left the position or borrow out of this round",
    "cooldown": "the cooldown after the position's last slice has not passed",
    "fee_waived": "the trade would raise the margin ratio at the full fee: the fee is cut",
    "sent": "the trade raises the margin ratio, and the policy sends it all the same",
    "withheld": "the trade would raise the margin ratio even without a fee: it is not sent",
    "to_backstop": "the trade would raise the margin ratio: the account goes to the backstop",
    "below_auto_close": "the margin fraction is below the auto-close margin fraction",
    "escalated": "a trade in the book, or a conversion, would have raised the margin ratio",
    "backstop_exhausted": "the backstop had no capacity left",
    "fund_below": "the insurance fund is below the level at which the policy switches ADL on",
    "no_collateral": "the account has nothing that could be sold for the debt",
    "bankrupt": "net equity is below zero",
    "interval": "the payment is due at every interval",
    "hour": "interest is due at every hour",
    "entry": "a new borrow pays the interest of the running hour",
    "settlement": "the payments due exceeded the settle balance",
    "stale_book": "the book was too old",
    "crossed_book": "the best bid was not below the best ask",
    "index_update_cap": "the index moved further than the update cap allows",
    "mark_held": "no new mark was known: the last mark is carried forward",
    "index_clamp": "the price was further from the index than the threshold",
    "mean_clamp": "the price was further from its mean than the threshold",
    "update_cap": "the mark moved further than the update cap allows",
    "full_utilization": "the lend could not be redeemed: the whole pool is borrowed",
    "unsettled": "the fund could not pay: the account owes the rest",
    "equity": "the fund could not pay: accounts with opposite positions pay by their equity",
    "open_interest": "the fund could not pay: all accounts with positions in the market pay by their notional",
    "closed_book": "the market's book takes no orders",
    "request": "the owner of the account asked for it between ticks",
    "host": "the host of the run decided it between ticks",
    "reduce_only": "a reduce-only order has at most the lots of the position that it reduces",
    "rate": "the rate is due at its own time",
    "delisted": "open orders of the market are cancelled when it is delisted",
    "settlement_price": "positions are settled at this price when the market is delisted",
}
"""Reasons of rows in the order of their codes, each with the sentence of `explain`."""

EVENTS = tuple(EVENT_KINDS)
EVENT = {name: code for code, name in enumerate(EVENT_KINDS)}
REASON = {name: code for code, name in enumerate(REASONS)}
STAGE_OF = {name: kind.stage for name, kind in EVENT_KINDS.items() if kind.stage}
"""Stage of each event that closes positions."""
STAGES = tuple(dict.fromkeys(STAGE_OF.values()))
"""Names of the stages that close positions."""

_TYPES = {"word": np.uint8, "number": np.float64}
ROW = np.dtype([(name, _TYPES.get(column.kind, np.int64)) for name, column in COLUMNS.items()])
"""A row of the journal in memory; events and reasons by their codes."""

CHANGES_NOTHING = tuple(
    name
    for name, kind in EVENT_KINDS.items()
    if "order" not in kind.names and kind.amounts in ("", "requested") and name != "leverage"
)
"""Events that change neither amounts, orders nor the leverage limit of an account."""

PAYING = tuple(name for name, kind in EVENT_KINDS.items() if set(MONEY) & set(kind.amounts.split()))
"""Events whose rows have a ``settle``."""

ACTIVITY = ("request", "host", "reduce_only")
"""Reasons of rows between ticks (`is_activity`)."""

UNRATED = (
    "interval", "rate", "hour", "entry", "settlement", "settlement_price", "delisted", *ACTIVITY,
    *EVENT_KINDS["guard"].reasons.split(),
)  # fmt: skip
"""Reasons of rows from before the accounts of an instant are selected: they have no margin ratios."""


_IS_ACTIVITY = np.isin(list(REASONS), ACTIVITY)


def is_activity(rows: Rows) -> npt.NDArray[np.bool_]:
    """Whether rows are of activity between ticks; they belong to the tick before them, -1 before the first.

    Parameters
    ----------
    rows : ndarray of `ROW`, shape (R,)
        Journal rows.

    Returns
    -------
    ndarray of bool, shape (R,)
        Whether each row is of something that was done between two ticks.

    Examples
    --------
    >>> from riskcore.record import Journal, is_activity
    >>> journal = Journal(0, 0)
    >>> for reason in ("liquidation", "request"):
    ...     journal.add("cancel", reason, 3, 1.2, 1.1, market=2, order=0, requested=5)
    >>> is_activity(journal.rows()).tolist()
    [False, True]
    """
    return np.asarray(_IS_ACTIVITY[rows["reason"]])


def closes_positions(rows: Rows, stage: str = "") -> npt.NDArray[np.bool_]:
    """Whether rows are fills of liquidated positions: in any stage, or in one.

    Parameters
    ----------
    rows : ndarray of `ROW`, shape (R,)
        Journal rows.
    stage : str, optional
        One of `STAGES`.

    Returns
    -------
    ndarray of bool, shape (R,)
        Whether each row is such a fill.

    Examples
    --------
    >>> from riskcore.record import Journal, closes_positions
    >>> journal = Journal(0, 0)
    >>> for event, reason in (("book", "full"), ("market_close", "depth"), ("adl", "backstop_exhausted")):
    ...     journal.add(event, reason, 3, 1.2, 1.1, market=2, lots=-5)
    >>> closes_positions(journal.rows(), "order book").tolist()
    [True, True, False]
    """
    events = [EVENT[event] for event, of in STAGE_OF.items() if stage in ("", of)]
    return np.isin(rows["event"], events) & (rows["market"] >= 0)


def check_rows(file: str, rows: Mapping[str, npt.NDArray[Any]]) -> None:
    """Refuse journal rows that are not as their events are declared.

    Parameters
    ----------
    file
        Where the rows stand in the run folder, for messages.
    rows
        Columns of `COLUMNS`, each of shape (R,) and each value in its range; events and reasons by their codes.

    Raises
    ------
    RiskDataError
        Names the first such row, a column, and the rule that its value breaks.
    """
    event, kinds = rows["event"], EVENT_KINDS.values()
    errors: list[tuple[int, str, str]] = []

    def must(bad: npt.NDArray[np.bool_], column: str, rule: str) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            errors.append((row, column, f"must {rule} in a row of {EVENTS[event[row]]}"))

    guard, missing = event == EVENT["guard"], np.isnan(rows["price"])
    must(guard & (rows["account"] != NO_ACCOUNT), "account", "be -1")
    must(~guard & (rows["account"] == NO_ACCOUNT), "account", "be named")
    allowed = np.array([[reason in kind.reasons.split() for reason in REASONS] for kind in kinds])
    must(~allowed[event, rows["reason"]], "reason", "be one of its event")
    allowed = np.array([[-n in kind.counterparties for n in range(1 - POOL)] for kind in kinds])
    must(~allowed[event, -np.minimum(rows["counterparty"], 0)], "counterparty", "be of the kind of its event")
    either = np.array(["|" in kind.names for kind in kinds])[event]
    named = {name: rows[name] >= 0 for name in ("market", "asset", "order")}
    must(either & (named["market"] == named["asset"]), "market", "be named, or else the asset,")
    for name, is_named in named.items():
        used = np.array([name in kind.names.split() for kind in kinds])[event]
        may = np.array([f"{name}?" in kind.names.split() for kind in kinds])[event] | (either & (name != "order"))
        must(used & ~is_named, name, "be named")
        must(~used & is_named & ~may, name, "be -1")
    for name in AMOUNTS:
        used = np.array([name in kind.amounts.split() for kind in kinds])[event]
        must(~used & (rows[name] != 0), name, "be 0")
    pays, named_settle = np.isin(event, [EVENT[name] for name in PAYING]), rows["settle"] >= 0
    must(pays & ~named_settle, "settle", "be named")
    must(~pays & named_settle, "settle", "be -1")
    must(np.array([kind.is_priced for kind in kinds])[event] & missing, "price", "be a number")
    must(~np.array([bool(kind.price) for kind in kinds])[event] & ~missing, "price", "be NaN")
    unrated = np.array([reason in UNRATED for reason in REASONS])[rows["reason"]]
    for name in ("mmr_before", "mmr_after"):
        must(unrated & ~np.isnan(rows[name]), name, "be NaN")
        must(~unrated & np.isnan(rows[name]), name, "be a number")
    if errors:
        row, column, rule = min(errors, key=itemgetter(0))
        value = tuple(REASONS)[rows["reason"][row]] if column == "reason" else rows[column][row].item()
        raise RiskDataError("run", file, f"{column} {rule}", row=row, value=value)


def journal_page() -> str:
    """Write docs/journal.md.

    Returns
    -------
    str
        Markdown: an introduction, and tables of the columns, the events and the reasons.

    Examples
    --------
    >>> print(journal_page().splitlines()[0])
    # The journal
    """
    columns = [
        f"| `{name}` | {'text' if column.kind == 'word' else ROW[name]} | {column.unit} | {column.meaning} |"
        for name, column in COLUMNS.items()
    ]
    events = [
        f"| `{name}` | {kind.meaning} | {' or '.join(_COUNTERPARTIES[party] for party in kind.counterparties)} "
        f"| {_code(kind.names.replace('|', ' or '))} | {_code(kind.amounts)} | {kind.price} | {_code(kind.reasons)} |"
        for name, kind in EVENT_KINDS.items()
    ]
    reasons = [f"| `{name}` | {sentence} |" for name, sentence in REASONS.items()]
    return _PAGE.format(columns="\n".join(columns), events="\n".join(events), reasons="\n".join(reasons))


def _code(names: str) -> str:
    """Names as code, separated by commas."""
    code = ", ".join(f"`{name}`" for name in names.split()).replace(", `or`, ", " or ")
    return code.replace("?`", "` or none")


_PAGE = """\
# The journal

The journal has a row per event, in the order of the events. Whole-number columns are changes: a state plus the changes
of the rows since then is the state after them. The counterparty's changes are in the row of the account.
Money is conserved in every row: [one_tick.md](one_tick.md#the-journal) has the equation and an example.
MMR is the maintenance margin ratio, PnL profit and loss.

## Columns

| column | type | unit | meaning |
|---|---|---|---|
{columns}

## Events

Settle quanta are quanta of the asset `settle`, which is the settle asset of the market in a row with a market.
`settle` is -1 in rows of events without such an amount.
A row has one of the reasons of its event. `market`, `asset` and `order` are -1 unless the column "names" has them; an
amount is 0 unless the column "amounts" has it; `price` is NaN unless the event has one.
`mmr_before` and `mmr_after` are NaN in rows from before the accounts are selected, delistings, guards, accruals and
settlement, and in rows between ticks, which have the reason `request`, `host` or `reduce_only`.
`requested` of an event with an asset is in lots of its spot book (`expire`), or in quanta (`backstop`, `adl`,
`harm`, `unfilled`).

| event | what happened | counterparty | names | amounts | price | reasons |
|---|---|---|---|---|---|---|
{events}

## Reasons

| reason | sentence of `explain` |
|---|---|
{reasons}

This page is written by `riskcore.record.journal_page` from `riskcore/record/events.py`.
"""
