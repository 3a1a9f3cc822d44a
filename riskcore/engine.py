"""The engine: ticks in one after another, liquidations out, on a state that it owns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ._limits import INT64_MAX, INT64_MIN
from .accrual import Premiums, max_growth
from .activity import (
    Account,
    ActivityResult,
    CarriedOut,
    Hands,
    Margin,
    QuickFills,
    Reader,
    ReduceOnly,
    Start,
    add_to_ledger,
    carry_out,
    have_prices,
    margin_of,
    must_be_check,
    no_prices_of,
    rules_of,
)
from .boundary import RecordingWarning, RiskDataError, as_html, as_text, counted, escaped, frame_as_html, moment
from .clock import Course, instants
from .context import TickContext
from .delisting import delist
from .liquidation import liquidate, open_proposals, slices_frame, start_tick
from .margin import MarginTable, margin_table, margins_of, model_of
from .margin.screen import Screen
from .market import Books, Prices, Scheduled, Tick, read_scheduled
from .market import Path as PricePath
from .market.guards import GuardState, Refusal
from .record import (
    NO_ACCOUNT,
    Invariants,
    Journal,
    Recorded,
    RecordedActivity,
    Rows,
    Totals,
    events_frame,
    fills,
    has_acted,
    reader,
    run_folder,
    to_frame,
    touched,
)
from .state import Accounts, Growth, Ledger, Opened, Pools, Proposal, did_you_mean, must_fit
from .venue import Venue, check_adl_policy, must_be_perpetual

_MAX_RECORDED_BYTES = 256 << 20  # bytes of ticks in memory
_MAX_PRICES = 50_000_000  # of the instants of a tick in all markets, which are in memory together


@dataclass(frozen=True, repr=False)
class StepResult:
    """The result of one tick.

    Attributes
    ----------
    tick, time : int
        Number of the tick, and nanoseconds since the epoch.
    selected : ndarray of int64
        Account rows that were liquidating, in the order of treatment.
    margins : MarginTable
        Their margins before anything was done, in that order.
    table : MarginTable or None
        The margin of every account before anything was done; only of a step that was asked for it.
    rows : ndarray of `riskcore.record.ROW`
        This tick's part of the journal, whole numbers.
    venue : Venue
        The venue of the engine.
    accounts : Accounts
        The engine's accounts, which go on with it.
    proposed : tuple
        Account row and market row, and the `Proposal`, of each slice that is proposed to the host.

    Notes
    -----
    ``events`` and ``fills`` are tables in natural units; ``raw_events`` has the whole numbers of ``rows`` with ids and
    symbols. The events: docs/one_tick.md, "The journal".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> engine = rc.Engine(accounts, venue)
    >>> book = {"bids": [(193.99, 1_000.0)], "asks": [(194.0, 1_000.0)]}
    >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {market: 194.0}, {market: book}))
    >>> result
    StepResult(tick 0 at 2025-10-10 21:00:00+00:00: 1 liquidated, 2 events, order book 1,000.99)
    >>> result.events[["account", "event", "reason", "quantity"]].to_dict("records")[1]
    {'account': 1, 'event': 'book', 'reason': 'full', 'quantity': -5.16}
    """

    tick: int
    time: int
    selected: npt.NDArray[np.int64]
    margins: MarginTable
    table: MarginTable | None
    rows: Rows
    venue: Venue
    accounts: Accounts
    proposed: tuple[tuple[tuple[int, int], Proposal], ...] = ()

    def __repr__(self) -> str:
        """One line: the number of accounts liquidated, and the notional of each stage at the fill prices."""
        stages = self.fills.groupby(["stage", "settle_asset"], sort=False, as_index=False)["notional"].sum()
        own = self.venue.settle_asset
        closed = "".join(
            f", {stage} {notional:,.2f}" if asset == own else f", {stage} {notional:,.8g} {escaped(asset)}"
            for stage, asset, notional in stages[["stage", "settle_asset", "notional"]].to_numpy().tolist()
        )
        rows = counted(len(self.rows), "event")
        return f"StepResult(tick {self.tick} at {moment(self.time)}: {len(self.selected):,} liquidated, {rows}{closed})"

    def _repr_html_(self) -> str:
        return f"<p>{as_html(repr(self))}</p>{frame_as_html(self.fills, 20)}"

    @property
    def events(self) -> pd.DataFrame:
        """Events in order: a row per event, with the user's account ids and symbols.

        First the columns in natural units (`riskcore.record.natural_frame`): time, tick, account, owner, event, reason,
        counterparty, market, asset, quantity, requested_quantity, price, amount, lent_amount, settle_asset,
        cash_amount, fee_amount, unsettled_amount, fund_amount, mmr_before, mmr_after; then the whole numbers of the
        journal that they stand for: lots, quanta, cash, fee and so on (docs/one_tick.md).
        """
        return events_frame(self.rows, self.venue, self.accounts)

    @property
    def raw_events(self) -> pd.DataFrame:
        """The whole numbers of the journal alone (lots, quanta), with the user's account ids and symbols."""
        return to_frame(self.rows, self.venue, self.accounts)

    @property
    def fills(self) -> pd.DataFrame:
        """Fills that closed positions, in natural units.

        Columns: time, account, market, side (of the account: buy, sell), quantity, price, notional, fee, settle_asset
        (of both), stage (order book, backstop, ADL), reason, counterparty (an account, or "book"), owner (of the
        account).
        """
        return fills(self.rows, self.venue, self.accounts)

    @property
    def slices(self) -> pd.DataFrame:
        """Slices that are proposed to the host, in natural units; none where the engine fills the books itself.

        Columns: account, market, side (of the account: buy, sell), quantity (signed: the change of the position),
        limit_price (the worst price; NaN: any), fee_rate (part of the value that a fill costs), stage (order book, last
        book).
        """
        return slices_frame(self.proposed, self.venue, self.accounts)


class Engine:
    """Runs the liquidation waterfall over ticks.

    An engine owns its state: nobody can exchange it, and a copy of an engine, also by pickle, goes on by itself.

    Parameters
    ----------
    accounts : Accounts
        The starting state; the engine works on a copy.
    venue : Venue
        The rules.
    seed : int
        Of the draws, 64 bits: which legs act in a round, and a random order of accounts. They depend on the seed, the
        time and the account's id alone.
    book : str
        "engine": liquidations fill in the tick's books. "host": the books belong to the host of the run, to whom slices
        are proposed (`StepResult.slices`), and who confirms what it filled; the policy's ``liquidation_interval`` is
        null then: ticks are the clock.
    check_screen : bool
        Compute every account at every tick and raise RuntimeError where the screen differs: slow, to be sure.
    record : bool
        Keep every tick for `save`. The ticks kept are written to the run folder when they come to 256 MiB; an engine
        that has no folder yet warns then, once. Without it nothing is kept, and nothing can be saved.

    Raises
    ------
    RiskDataError
        The accounts were read with a venue of other units, the venue's ADL policy or margin model is not registered,
        the seed is no whole number of 64 bits, or ``book`` is another word.

    Notes
    -----
    The rules of a tick: docs/one_tick.md.

    Examples
    --------
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> venue = rc.load_venue("backpack").replace(policy={"slice_probability": 1, "fund": 1_000})
    >>> market = "SOL_USDC_PERP"
    >>> positions = pd.DataFrame({"account": [1], "market": [market], "quantity": [10.0], "entry_price": [200.0]})
    >>> balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [80.0]})
    >>> engine = rc.Engine(rc.Accounts.from_frames(venue, positions, balances), venue)
    >>> book = {"bids": [(193.99, 1_000.0)], "asks": [(194.0, 1_000.0)]}
    >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {market: 194.0}, {market: book}))
    >>> result.fills[["account", "side", "quantity", "stage"]].to_dict("records")
    [{'account': 1, 'side': 'sell', 'quantity': 5.16, 'stage': 'order book'}]
    >>> engine
    Engine(1 account, 1 tick, last at 2025-10-10 21:00:00+00:00, fund 1,010.01 USDC)
    """

    def __init__(
        self, accounts: Accounts, venue: Venue, seed: int = 0, *, book: str = "engine", check_screen: bool = False,
        record: bool = True,
    ) -> None:  # fmt: skip
        must_fit(accounts, venue)
        check_adl_policy(venue.policy)
        must_be_perpetual(venue, "an engine")
        if not isinstance(book, str) or book not in run_folder.BOOKS:
            raise RiskDataError("book", None, f"must be one of {', '.join(run_folder.BOOKS)}", value=as_text(book))
        self._book, venue = book, _of_ticks(venue) if book == "host" else venue
        model_of(venue)
        accounts.must_have_rows_of(venue.backstop)
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not INT64_MIN <= seed <= INT64_MAX:
            raise RiskDataError("seed", None, "must be a whole number of 64 bits", value=seed)
        self._venue, self._first_venue, self._seed = venue, venue, seed
        self._state, self._check_screen = accounts.copy(), check_screen
        self._ledger = Ledger.opening(venue)
        self._make_views()
        self._guard_state = GuardState.opening(venue)
        self._ticks = 0
        self._time: int | None = None
        # accounts read from tables cannot be written to; a copy of them, or another engine's state, can
        self._start: Accounts | None = (accounts.copy() if accounts.may_change else accounts) if record else None
        self._folder: Path | None = None
        self._saved: str | None = None  # the digest of the folder's run.json
        self._record, self._warned = record, False
        self._recorded: list[Recorded | RecordedActivity] = []
        self._recorded_bytes = 0  # of the ticks in memory
        self._broken: str | None = None
        self._prices: Prices | None = None  # of the last tick
        self._acted: int | None = None  # time of the last tick or action
        self._pending: list[CarriedOut] = []  # activity that the ledgers, the journal and the screen do not have yet
        self._rules: npt.NDArray[np.int64] | None = None  # of the markets, for activity
        self._no_prices: Prices | None = None  # before the first tick
        self._idle_since: int | None = None  # time of the last instant, if nothing since then changed an account
        self._at_rest = self._is_covered = False  # since then nobody is liquidating, and what is held had a price

    def _make_views(self) -> None:
        """Make the read-only view of the state, its screen and its totals; the state is not copied."""
        self._accounts = self._state.view()
        self._growth = Growth(self._state, self._accounts, self.venue)
        self._screen = Screen(self.accounts, self.venue, check=self._check_screen)
        self._totals = Totals(self.accounts, self.venue)
        self._invariants = Invariants(self.accounts, self.venue, self._ledger)
        self._reader, self._reduce_only = Reader(self._accounts), ReduceOnly()
        self._quick = QuickFills(self._start_quick, lambda done: self._pending.append(done))
        self._accounts.before_sweep(self._catch_up)

    @property
    def accounts(self) -> Accounts:
        """The state as it is now, for reading; positions in lots, money in quanta."""
        return self._accounts

    @property
    def venue(self) -> Venue:
        """The rules."""
        return self._venue

    @property
    def seed(self) -> int:
        """Seed of the draws."""
        return self._seed

    @property
    def book(self) -> str:
        """Whose the order books are: "engine" or "host"."""
        return self._book

    @property
    def ledger(self) -> Ledger:
        """Makers, fund and shortfall as they are now, in lots and quanta."""
        self._catch_up()
        return self._ledger

    @property
    def prices(self) -> Prices | None:
        """Prices that counted at the last tick; None before the first."""
        return self._prices

    @property
    def guard_state(self) -> GuardState:
        """Prices, books and samples of the ticks so far that the guards use at the next one."""
        return self._guard_state

    @property
    def ticks(self) -> int:
        """Number of ticks so far."""
        return self._ticks

    @property
    def time(self) -> int | None:
        """Time of the last tick, nanoseconds since the epoch; None before the first."""
        return self._time

    def __repr__(self) -> str:
        """One line: accounts, ticks, the time of the last one, and the fund."""
        last = "" if self.time is None else f", last at {moment(self.time)}"
        assets, (settle, *others) = self.venue.assets, self.venue.money
        fund = self.ledger.fund * assets.quantum_size
        rest = f"fund {fund[settle]:,.2f} {escaped(self.venue.settle_asset)}"
        rest += "".join(f" and {fund[k]:,.8g} {escaped(assets.symbol[k])}" for k in others if fund[k])
        return f"Engine({counted(len(self.accounts), 'account')}, {counted(self.ticks, 'tick')}{last}, {rest})"

    def __copy__(self) -> Engine:
        """Return an engine that shares nothing that changes: half a copy would be of no tick."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, object]:
        """Fields of a copy: all but the views, which are of this engine's own state."""
        self._catch_up()
        return {name: value for name, value in vars(self).items() if name not in _VIEWS}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Go on from there."""
        vars(self).update(state)
        if not self._state.columns.lots.flags.writeable:  # as it comes out of a pickle
            self._state = self._state.copy()
        self._make_views()

    def step(self, tick: Tick, *, full_table: bool = False) -> StepResult:
        """Guard the price updates, apply the accruals, liquidate the accounts at a margin ratio of 1 or more.

        The screen finds these accounts without computing every account at every tick (`riskcore.Screen`).

        Parameters
        ----------
        tick : Tick
            The market.
        full_table : bool
            Whether the result is to have the margin of every account: a sweep of all.

        Returns
        -------
        StepResult
            The accounts selected, their margins, and the events of the tick.

        Raises
        ------
        RiskDataError
            The tick is not later than the one before, or later by more than the policy's ``largest_gap``, a price is
            missing, a book is wrong, or the accounts' positions and balances are past the range of whole numbers;
            nothing has changed.
        OSError
            The recorded ticks cannot be written to the run folder; nothing has changed.
        RuntimeError
            An earlier tick failed half-way, in a user's own ADL policy say: the state is of no tick.
        InvariantError
            A RuntimeError: the tick made or lost lots or money, or wrote a number that is none
            (`riskcore.record.Invariants`). The engine has stopped; the error has the rows that show it.

        Notes
        -----
        The rules: docs/one_tick.md, from "Guards" to "6 Close out: shortfall".

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> engine = rc.Engine(accounts, venue)
        >>> for time, mark in (("2025-10-10T21:00Z", 195.0), ("2025-10-10T21:01Z", 194.5)):
        ...     result = engine.step(rc.Tick(time, {market: mark}), full_table=True)
        ...     print(result.tick, result.selected.tolist(), result.table.net_equity.tolist())
        0 [] [30.0, 425.0]
        1 [0] [25.0, 427.5]
        """
        self._must_be_whole()
        if not isinstance(tick, Tick):
            raise RiskDataError("tick", None, f"must be a Tick, not {type(tick).__name__}")
        self._catch_up()
        if self._recorded_bytes > _MAX_RECORDED_BYTES:
            self._write_or_warn()
        course = self._read(tick)
        try:  # nothing is refused from here on
            return self._go_on(course, full_table)
        except BaseException as error:
            self._break(error)
            raise

    def propose(self, tick: Tick) -> pd.DataFrame:
        """Return the slices that a step would propose to the host, and change nothing.

        Parameters
        ----------
        tick : Tick
            The market.

        Returns
        -------
        DataFrame
            As `StepResult.slices` of an engine with ``book="host"``, whatever this one has.

        Raises
        ------
        RiskDataError
            As of `step`.

        Notes
        -----
        It takes a copy of the engine. The rules: docs/one_tick.md, "Host mode".

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> engine = rc.Engine(accounts, venue, book="host")
        >>> book = {"bids": [(193.99, 1_000.0)], "asks": [(194.0, 1_000.0)]}
        >>> slices = engine.propose(rc.Tick("2025-10-10T21:00Z", {market: 194.0}, {market: book}))
        >>> slices[["account", "quantity", "limit_price", "fee_rate", "stage"]].to_dict("records"), engine.ticks
        ([{'account': 1, 'quantity': -5.16, 'limit_price': 192.06, 'fee_rate': 0.01, 'stage': 'order book'}], 0)
        """
        self._must_be_whole()
        trial = Engine.__new__(Engine)
        left_out = {"_recorded": [], "_recorded_bytes": 0, "_record": False, "_start": None, "_book": "host"}
        trial.__setstate__(deepcopy({n: v for n, v in self.__getstate__().items() if n not in left_out}) | left_out)
        trial._enter(_of_ticks(trial.venue))
        return trial.step(tick).slices

    def apply(self, activity: Any, *, check: str = "on") -> ActivityResult:
        """Carry out actions of accounts between two ticks, one after another; all of them or none.

        Parameters
        ----------
        activity : DataFrame, or mapping, or list of mappings
            A row per action, of pandas, Polars, pyarrow or DuckDB; a mapping of columns, a list of mappings, or one
            mapping. Columns: action (open, fill, place, change, cancel, deposit, withdraw, transfer, borrow, repay,
            lend, redeem, leverage, confirm), time, account, market, asset, quantity, price, side, order, reduce_only,
            fee, to_account, owner, leverage_limit. docs/tables.md says which action uses which.
        check : str
            "on": the venue's own checks are made too. "off": the host has decided already.

        Returns
        -------
        ActivityResult
            Events and fills.

        Raises
        ------
        RiskDataError
            A row breaks a rule, or the venue refuses it: the message names the row, and nothing has changed.
        RuntimeError
            An earlier tick failed half-way: the state is of no tick.

        Notes
        -----
        The rules: docs/one_tick.md, "Activity between ticks". Every action is a row of the journal, or more; the rows
        belong to the tick before them.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> engine = rc.Engine(accounts, venue)
        >>> actions = [
        ...     {"action": "open", "account": 9},
        ...     {"action": "deposit", "account": 9, "asset": "USDC", "quantity": 50.0},
        ...     {"action": "fill", "account": 9, "market": "SOL_USDC_PERP", "quantity": 1.0, "price": 195.0},
        ... ]
        >>> engine.apply(actions)
        Traceback (most recent call last):
            ...
        riskcore.boundary.errors.RiskDataError: activity.account, row 2, value 9: must have a price in the last tick...
        >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}))
        >>> engine.apply(actions), engine
        (ActivityResult(1 open, 1 fill, 1 deposit), Engine(3 accounts, 1 tick, last at 2025-10-10 21:00:00+00:00, ...))
        """
        self._must_be_whole()
        must_be_check(check)
        self._quick.close()
        actions = self._reader.read(activity, self.venue, self._acted)
        try:
            done = carry_out(self._hands(), actions, check, self.ticks - 1)
        except RiskDataError:
            if len(actions.opened.ids):
                self._reader.forget()
            raise
        except BaseException as error:
            self._break(error)
            raise
        if len(done.written):
            self._acted = int(actions.time[-1])
            self._pending.append(done)
        return ActivityResult(done, self.accounts)

    def open(self, id: int | str, owner: int | str | None = None, leverage_limit: float | None = None) -> Account:
        """Open an account, which has nothing yet.

        Parameters
        ----------
        id : int or str
            Its id, that of no other account.
        owner : int or str, optional
            Id of its owner; by default itself.
        leverage_limit : float, optional
            Largest exposure over net equity that it allows itself.

        Returns
        -------
        Account
            The account.

        Raises
        ------
        RiskDataError
            The id is that of an account, or a value breaks a rule.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Engine(accounts, venue).open(9, leverage_limit=5.0)
        Account(9: equity 0.00 USDC, IMR 0.0 %, MMR 0.0 %, safe)
        """
        self.apply({"action": "open", "account": id, "owner": owner, "leverage_limit": leverage_limit})
        return Account(self, id)

    def account(self, id: int | str) -> Account:
        """Return an account, to look at it and to act for it.

        Parameters
        ----------
        id : int or str
            Its id.

        Returns
        -------
        Account
            The account.

        Raises
        ------
        RiskDataError
            There is no such account.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> rc.Engine(accounts, venue).account(1).balances
        {'USDC': Balance(quantity=80.0, lent=0.0)}
        """
        self._row_of("account", id)
        return Account(self, id)

    def margin(self, id: int | str) -> Margin:
        """Return the margin of an account at the prices of the last tick.

        Parameters
        ----------
        id : int or str
            Id of the account.

        Returns
        -------
        Margin
            Equity, exposure, margins, ratios and status; float64, the status exact.

        Raises
        ------
        RiskDataError
            There is no such account, or something that it holds has no price in the last tick.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> engine = rc.Engine(accounts, venue)
        >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {"SOL_USDC_PERP": 195.0}))
        >>> engine.margin(1).mmr
        0.8775
        """
        row = self._row_of("margin", id)
        prices = self._prices
        if prices is None:
            prices = self._no_prices = self._no_prices or no_prices_of(self.venue)
        return margin_of(self._accounts, row, prices)

    def _row_of(self, table: str, id: int | str) -> int:
        try:
            return self._reader.row_of(id)
        except (KeyError, TypeError):
            rule = f"must be an account of the state{did_you_mean(id, self.accounts.ids)}"
            raise RiskDataError(table, None, rule, value=as_text(id)) from None

    @property
    def quick_fills(self) -> QuickFills:
        """The way of an `Account` to fill without a table."""
        self._must_be_whole()
        return self._quick

    def _start_quick(self) -> Start:
        return Start(self._hands(), self.ticks - 1, 0 if self._acted is None else self._acted)

    def _hands(self) -> Hands:
        """State, rules and prices for activity."""
        if self._rules is None:
            self._rules = rules_of(self.venue, self._ledger.delisted)
        return Hands(self._state, self._growth, self._ledger, self.venue, self._prices, self._rules, self._reduce_only)

    def _catch_up(self) -> None:
        """Take in the activity since the last time: journal, ledgers, totals and screen."""
        self._quick.close()
        if not self._pending:
            return
        pending, self._pending = self._pending, []
        try:
            rows = np.concatenate([done.rows for done in pending]) if len(pending) > 1 else pending[0].rows
            accounts = np.concatenate([done.accounts for done in pending])
            if len(accounts) > 1:
                accounts = np.unique(accounts)
            if any(done.has_grown for done in pending):
                self._invariants.opened()
                self._screen.grown(accounts)
            else:
                self._screen.changed(accounts)
            add_to_ledger(self._ledger, rows)
            self._ledger.must_fit()
            self._invariants.check(rows, self._ledger)
            self._totals.add(rows, accounts)
        except BaseException as error:
            self._break(error)
            raise
        self._idle_since, self._at_rest = None, False
        self._is_covered = self._is_covered and have_prices(rows, self._prices)
        if self._record:
            opened = [done.actions.opened for done in pending if len(done.actions.opened.ids)]
            recorded = RecordedActivity(rows, Opened.joined(opened))
            self._recorded.append(recorded)
            self._recorded_bytes += recorded.nbytes

    def _read(self, tick: Tick) -> Course:
        """Read and guard a tick, and work out what falls due; all that can be refused is refused here."""
        time, ledger = tick.nanoseconds(self.time), self.ledger
        self._must_follow(time)
        scheduled = read_scheduled(self.venue, tick, self.time, time, ledger.funding_scheduled, ledger.delisted)
        venue = scheduled.venue
        given, books = Prices.incomplete(venue, tick), tick.columnar_books(venue, time)
        if tick.funding_rates is not None:
            scheduled.must_set_rates(given.funding_rate)
        times = instants(scheduled.segments, self.time, time, scheduled.times)
        course = self._course(given, books, times, scheduled)
        if course.lacks_a_price(self.accounts, is_covered=self._is_covered):
            course = self._course(given, books, times[-1:], scheduled)
        highest = course.highest_prices()
        self._totals.must_fit(highest)
        course.plan_accruals(self.accounts, self._totals.lots)
        if due := list(course.accruals.values()):
            growth = max_growth(venue, sum(accruals.hours for accruals in due))
            total = np.sum([accruals.total for accruals in due], axis=0)
            self._totals.must_fit(highest, growth=growth, due=total)
        return course

    def _course(self, given: Prices, books: Books, times: npt.NDArray[np.int64], scheduled: Scheduled) -> Course:
        """Guard the prices of a tick's instants."""
        path = PricePath.between(
            self.venue, self.accounts, self.guard_state.mark, self._prices, given, books, self.time, times, self.seed
        )
        premiums = Premiums(self.ledger.premium_sum.copy(), self.ledger.premium_count.copy())
        return Course(path, self.guard_state, scheduled, self.accounts, premiums)

    def _enter(self, venue: Venue) -> None:
        """Take over a changed venue; its units are the same, so the state and its totals stay."""
        self._venue, self._rules = venue, None
        self._screen = Screen(self.accounts, venue, check=self._check_screen)

    def _go_on(self, course: Course, full_table: bool) -> StepResult:
        """Go from instant to instant, and take note of everything."""
        step, k = _Step(self.time, full_table), 0
        self.ledger.proposals.clear()
        self.ledger.premium_sum, self.ledger.premium_count = course.premiums
        self._at_rest, self._is_covered = self._at_rest and course.last > 0 and course.starts_as_before, True
        while (k := self._next(course, k)) < course.last:
            self._act(course, k, step)
            k += 1
        if step.rows:
            course.count_open_lots(self.accounts)
        self._act(course, k, step)
        self._guard_state = course.state_after()
        rows = np.concatenate(step.rows) if step.rows else _NO_ROWS
        if len(rows):
            self.ledger.must_fit()
            self._totals.add(rows, touched(rows))
        course.prices.forget()
        self._prices, time = course.prices, int(course.times[-1])
        if self._record:
            scheduled = course.scheduled
            recorded = Recorded(
                self.ticks, time, course.prices, course.books, rows, scheduled.given_entries, scheduled.changes
            )
            self._recorded.append(recorded)
            self._recorded_bytes += recorded.nbytes
        selected, margins = step.triggers(self.accounts, course.prices)
        proposed = open_proposals(self.ledger, self.accounts)
        result = StepResult(self.ticks, time, selected, margins, step.table, rows, self.venue, self.accounts, proposed)
        self._ticks, self._time, self._acted = self.ticks + 1, time, time
        return result

    def _next(self, course: Course, k: int) -> int:
        """Number of the first instant from ``k`` on that is not known to leave everything as it is."""
        while k < course.last:
            stop = course.next_visit(k)
            if self._at_rest and not self._check_screen:
                k = min(stop, course.next_update(k))
            elif self._idle_since is not None and not self.guard_state.book_memory.is_refilling:
                k = min(stop, course.next_update(k), course.next_interval(k, self._idle_since))
            if k == stop:
                break
            found = self._screen.first(course.table_at(k), k, stop)
            if found < stop:
                return found
            k = stop
        return k

    def _act(self, course: Course, k: int, step: _Step) -> None:
        """Do what an instant asks for: rows of guards, payments, and the liquidation of who is at 100 % then."""
        time, prices, venue = int(course.times[k]), course.prices_at(k), course.segment_at(k).venue
        if venue is not self.venue:
            self._enter(venue)
        if step.rolled is not None:
            start_tick(self.ledger, venue.policy, step.rolled, time)
        step.rolled = time
        context = self._context(prices, time) if course.is_due(k) else None
        before = 0
        if context is not None:
            for market, price in course.delistings_at(k):
                delist(context, market, price)
                self._rules = None
            _write_refusals(context.journal, venue, course.refusals_at(k))
            if k in course.accruals:
                course.accruals[k].apply(context)
            before = len(context.journal)
            self._screen.changed(touched(context.journal.rows()))
        if k == course.last and step.full_table:
            step.table = margin_table(self.accounts, prices)
        selected = self._screen.rows(prices)
        self._at_rest, self._idle_since = not selected.size, time
        if selected.size:
            context = context or self._context(prices, time)
            margins = margins_of(self.accounts, selected, prices)
            guarded, of_host = course.guarded_at(k), self.book == "host"
            step.add(*liquidate(context, self.accounts, selected, margins, guarded, self.seed, of_host=of_host))
        rows = _NO_ROWS if context is None else context.journal.rows()
        if len(rows):
            self._invariants.check(rows, self.ledger)
            step.rows.append(rows)
        if selected.size:
            done = rows[before:]
            self._screen.changed(touched(done))
            if has_acted(done):
                self._idle_since = None

    def _context(self, prices: Prices, time: int) -> TickContext:
        """Context of an instant, without rows in its journal."""
        pools = Pools(self.venue, self._state)
        return TickContext(self.venue, self._state, prices, self.ledger, Journal(self.ticks, time), pools)

    def _break(self, error: BaseException) -> None:
        """Refuse to go on from the midst of a tick."""
        self._broken = f"tick {self.ticks} failed half-way: {type(error).__name__}: {error}"
        self.accounts.sweep_view.refresh(self.accounts.columns, np.arange(len(self.accounts)))

    def save(
        self, path: str | Path, *, complete: bool = True, inputs: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        """Write the run folder, or the ticks since the last save of this run.

        Parameters
        ----------
        path : str or Path
            A new folder, or the one that this engine was saved to or resumed from.
        complete : bool
            False while the run goes on.
        inputs : mapping of str to mapping, optional
            Path and sha256 of the tables that the ticks came from, for the record.

        Raises
        ------
        RiskDataError
            The folder holds something else, another process writes it, the run in it has gone on without this engine,
            or nothing was recorded.
        ValueError
            The run is kept in another folder already.
        OSError
            A file cannot be written. The ticks that were saved before still count, and a later save writes the others.

        Notes
        -----
        The files: docs/run_folder.md.

        Examples
        --------
        >>> import tempfile
        >>> import riskcore as rc
        >>> from riskcore.sample import two_accounts
        >>> venue, accounts = two_accounts()
        >>> market = "SOL_USDC_PERP"
        >>> engine = rc.Engine(accounts, venue)
        >>> result = engine.step(rc.Tick("2025-10-10T21:00Z", {market: 195.0}))
        >>> folder = tempfile.mkdtemp()
        >>> engine.save(folder)
        >>> rc.read_run(folder).ticks
        1
        """
        self._must_be_whole()
        if not self._record:
            rule = "an engine with record=False keeps no ticks to save: create it with record=True"
            raise RiskDataError("run", None, rule, value=str(path))
        self._catch_up()
        path = Path(path)
        if self._folder is not None and path.resolve() != self._folder:
            raise ValueError(f"this run is already saved in {self._folder}")
        self._saved = run_folder.write_part(
            path, self._first_venue, self.accounts, self.ledger, self.guard_state, self._prices, self._recorded,
            start=self._start, after=self._saved, seed=self.seed, book=self.book, ticks=self.ticks, complete=complete,
            inputs=inputs,
        )  # fmt: skip
        self._folder, self._recorded, self._recorded_bytes, self._start = path.resolve(), [], 0, None

    def _write_or_warn(self) -> None:
        """Write the recorded ticks to the folder, or warn once that they are kept in memory."""
        if self._folder is not None:
            self.save(self._folder, complete=False)
        elif not self._warned:
            self._warned = True
            warnings.warn(
                f"{len(self._recorded)} ticks, {self._recorded_bytes} bytes, are kept in memory until they are saved: "
                "save the engine to a folder, after which it saves later ticks itself, or create it with record=False",
                RecordingWarning,
                stacklevel=3,
            )

    def _must_follow(self, time: int) -> None:
        """Refuse a tick that is not later than the one before, or too much later."""
        before, policy = self.time, self.venue.policy
        if self._acted is not None and time < self._acted and self._acted != before:
            rule = f"must not be before the last action, {moment(self._acted)}"
            raise RiskDataError("tick", "time", rule, value=moment(time))
        if before is None:
            return
        if time <= before:
            rule = f"must be later than the tick before, {moment(before)}"
            raise RiskDataError("tick", "time", rule, value=moment(time))
        if time - before > policy.max_gap_nanoseconds:
            gap, limit = pd.Timedelta(time - before), policy.largest_gap
            rule = (
                f"must not be {gap} after the tick before, {moment(before)}: the policy's largest_gap is {limit} "
                "seconds; add the ticks between, or set a larger largest_gap"
            )
            raise RiskDataError("tick", "time", rule, value=moment(time))
        interval, markets = policy.liquidation_interval, len(self.venue.markets.symbol)
        if interval is not None and (count := (time - before) // (interval * 10**9) * markets) > _MAX_PRICES:
            rule = (
                f"must have at most {_MAX_PRICES:,} prices of its instants since the tick before, {moment(before)}, "
                f"not {count:,}: add ticks between, or set a longer liquidation_interval, or null"
            )
            raise RiskDataError("tick", "time", rule, value=moment(time))

    def _must_be_whole(self) -> None:
        if self._broken is not None:
            raise RuntimeError(f"{self._broken}; resume from the last save, or start again")

    @classmethod
    def resume(cls, path: str | Path, *, check_screen: bool = False, record: bool = True) -> Engine:
        """Return an engine that goes on where the run folder ends.

        A run that another process is writing can be read in this way; only `save` needs to be its one writer.

        Parameters
        ----------
        path : str or Path
            A run folder.
        check_screen, record : bool
            As of `Engine`.

        Returns
        -------
        Engine
            The engine after the last tick of the folder.

        Raises
        ------
        RiskDataError
            The folder holds no run, or one that is damaged.

        Examples
        --------
        >>> import tempfile
        >>> import riskcore as rc
        >>> from riskcore.sample import small_run
        >>> folder = tempfile.mkdtemp()
        >>> small_run(folder)
        >>> rc.Engine.resume(folder)
        Engine(2 accounts, 2 ticks, last at 2025-10-10 21:01:00+00:00, fund 1,010.01 USDC)
        """
        saved = reader.read_state(Path(path))
        engine = cls(saved.accounts, saved.venue, saved.seed, book=saved.book, check_screen=check_screen, record=record)
        engine._ledger, engine._guard_state, engine._prices = saved.ledger, saved.guard_state, saved.prices
        engine._invariants = Invariants(engine.accounts, engine.venue, engine.ledger)
        engine._ticks, engine._time, engine._acted = saved.ticks, saved.time, saved.acted or saved.time
        engine._start, engine._folder, engine._saved = None, Path(path).resolve(), saved.digest
        return engine


class _Step:
    """What the instants of a tick leave behind."""

    def __init__(self, before: int | None, full_table: bool) -> None:
        self.rolled = before  # time up to which capacities and caps are rolled
        self.full_table = full_table
        self.table: MarginTable | None = None
        self.rows: list[Rows] = []
        self._selected: set[int] = set()
        self._triggers: list[tuple[npt.NDArray[np.int64], MarginTable]] = []

    def add(self, selected: npt.NDArray[np.int64], margins: MarginTable) -> None:
        """Take in the accounts that an instant liquidated, in order."""
        new = [n for n, account in enumerate(selected.tolist()) if account not in self._selected]
        if new:
            self._selected.update(selected[new].tolist())
            self._triggers.append((selected[new], margins.rows(np.array(new))))

    def triggers(self, accounts: Accounts, prices: Prices) -> tuple[npt.NDArray[np.int64], MarginTable]:
        """Accounts in the order of their first triggers, and their margins then."""
        if not self._triggers:
            nobody = np.empty(0, np.int64)
            return nobody, margins_of(accounts, nobody, prices)
        selected, margins = zip(*self._triggers, strict=True)
        return np.concatenate(selected), MarginTable.joined(margins)


def _of_ticks(venue: Venue) -> Venue:
    """Venue whose only instants are the ticks."""
    return venue if venue.policy.liquidation_interval is None else venue.replace(policy={"liquidation_interval": None})


_NO_ROWS = Journal(0, 0).rows()
_VIEWS = ("_accounts", "_growth", "_screen", "_totals", "_invariants", "_reader", "_reduce_only", "_quick")


def _write_refusals(journal: Journal, venue: Venue, refusals: list[Refusal]) -> None:
    markets = len(venue.markets.symbol)
    for reason, book, price, asset in refusals:
        where = {"market": book} if 0 <= book < markets else {"asset": asset}
        if book >= markets:
            where["asset"] = int(venue.spots.asset[book - markets])
        journal.add("guard", reason, NO_ACCOUNT, np.nan, np.nan, price=price, **where)
