"""Host mode: the order books belong to the host, to whom slices are proposed; nothing is filled in a book here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd

from ..boundary import natural
from ..market.guards import NO_BAND
from ..record import EVENT, EVENTS, STAGE_OF, Journal
from ..state import Accounts, Ledger, Proposal
from ..venue import Venue
from . import book, last_book
from .tick_state import TickState

_FILLS = [EVENT[event] for event, stage in STAGE_OF.items() if stage == "order book"]


def propose_slices(state: TickState, round_number: int) -> None:
    """Propose the slices that the stage `book` would send in its first round."""
    if round_number == 0:
        with _dry_run(state) as trial:
            book.sell_slices(trial, 0)
        _propose(state, trial)


def propose_rest(state: TickState, *, past_the_book: bool) -> None:
    """Propose the orders that the last book would send."""
    with _dry_run(state) as trial:
        last_book.close_at_market(trial, past_the_book=past_the_book)
    _propose(state, trial)


@contextmanager
def _dry_run(state: TickState) -> Iterator[TickState]:
    """State with depth, ledgers and journal of its own; what it changes of the selected accounts is taken back."""
    accounts, ledger = state.accounts, state.ledger
    positions, balances = accounts.position_rows(state.selected)[0], accounts.balance_rows(state.selected)[0]
    columns = accounts.columns
    changed = [(column, positions) for column in (columns.lots, columns.cost, columns.entry)]
    changed += [(column, balances) for column in (columns.free, columns.balance_cost)]
    before = [column[rows] for column, rows in changed]
    depth = {name: getattr(state.book, name).copy() for name in ("inside", "cursor", "taken")}
    trial = replace(
        state,
        journal=Journal(state.journal.tick, state.journal.time),
        ledger=replace(
            ledger,
            **{
                name: getattr(ledger, name).copy()
                for name in ("book_lots", "book_quanta", "fund", "last_slice", "sold")
            },
        ),
        book=state.book._replace(**depth),
        rules=state.rules._replace(market_room=state.rules.market_room.copy()),
        fee_rates={},
        _last_mmr={},
        _decided=[],
    )
    try:
        yield trial
    finally:
        for (column, rows), values in zip(changed, before, strict=True):
            column[rows] = values


def _propose(state: TickState, trial: TickState) -> None:
    """Write the rows of a dry run, in which its fills are proposals, and keep these."""
    rows, markets = trial.journal.rows().copy(), state.venue.markets
    place = np.flatnonzero(np.isin(rows["event"], _FILLS))
    filled, proposed = rows[place], state.journal.block(len(place))
    worst = state.book.band[2 * filled["market"] + (filled["lots"] > 0)]
    limited = (worst > 0) & (worst < NO_BAND)
    for name in ("reason", "account", "market", "mmr_before", "mmr_after"):
        proposed[name] = filled[name]
    proposed["event"], proposed["requested"] = EVENT["propose"], np.abs(filled["lots"])
    proposed["price"][limited] = natural(worst[limited], markets.tick, filled["market"][limited])
    rows[place] = proposed
    state.journal.extend(rows)
    assert trial.fee_rates is not None
    names = ("account", "market", "lots", "event")
    for account, market, lots, event, limit, has_limit in zip(
        *(filled[name].tolist() for name in names), worst.tolist(), limited.tolist(), strict=True
    ):
        fee_num, fee_den = trial.fee_rates[account, market]
        proposal = Proposal(lots, limit if has_limit else None, fee_num, fee_den, EVENTS[event])
        state.ledger.proposals[account, market] = proposal


def open_proposals(ledger: Ledger, accounts: Accounts) -> tuple[tuple[tuple[int, int], Proposal], ...]:
    """Return the proposals of which something is open, each with its account row and market row.

    Parameters
    ----------
    ledger, accounts
        The ledger that has the proposals, and the state: other stages may have taken a position since.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.liquidation import open_proposals
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> engine = rc.Engine(accounts, venue, book="host")
    >>> book = {"bids": [(193.99, 1_000.0)], "asks": [(194.0, 1_000.0)]}
    >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 194.0}, {"SOL_USDC_PERP": book}))
    >>> open_proposals(engine.ledger, engine.accounts)
    (((0, 2), Proposal(lots=-516, limit=19206, fee_num=1, fee_den=100, event='book')),)
    """
    proposals, found = ledger.proposals, []
    for (account, market), proposal in proposals.items():
        held = int(accounts.columns.lots[accounts.position_row(account, market)])
        if lots := proposals.open_lots(account, market, held):
            found.append(((account, market), proposal._replace(lots=lots)))
    return tuple(found)


def slices_frame(
    proposed: Sequence[tuple[tuple[int, int], Proposal]], venue: Venue, accounts: Accounts
) -> pd.DataFrame:
    """Return proposals as the table of `StepResult.slices`, in natural units.

    Parameters
    ----------
    proposed
        Account row and market row, and the proposal, of each.
    venue, accounts
        Of the run.

    Examples
    --------
    >>> from riskcore.liquidation import slices_frame
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> list(slices_frame((), venue, accounts).columns)
    ['account', 'market', 'side', 'quantity', 'limit_price', 'fee_rate', 'stage']
    """
    markets, rows = venue.markets, []
    for (account, market), proposal in proposed:
        lots, limit = proposal.lots, proposal.limit
        rows.append(
            (accounts.ids[account], markets.symbol[market], "buy" if lots > 0 else "sell",
             float(lots * markets.step[market]), np.nan if limit is None else float(limit * markets.tick[market]),
             float(proposal.rate), _STAGES[proposal.event])
        )  # fmt: skip
    columns = ["account", "market", "side", "quantity", "limit_price", "fee_rate", "stage"]
    frame = pd.DataFrame(rows, columns=columns)
    numbers = dict.fromkeys(("quantity", "limit_price", "fee_rate"), float)
    return frame.astype(numbers | {"account": accounts.ids.dtype})


_STAGES = {"book": "order book", "market_close": "last book"}
