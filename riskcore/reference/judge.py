"""The decisions of a tick from the accounts that it looks at: selection and the six phases beside a recorded run.

A run folder tells what the guards let through and what fell due; whoever reads it (`riskcore.audit`) keeps all accounts
in columns. The judge asks for the few accounts that a tick treats, and for those that take over from them. Tests of an
account are decided in float64 where that leaves no doubt, else in exact numbers: both find the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

from .account_margin import Margin, margin
from .activity import Activity, Refused, asked_of
from .adl_policies import SCORES, WEIGHTS, Figures
from .clock import new_intervals
from .float64 import Float64, Sums
from .journal import apply_row
from .path import longs_hold_more
from .prices import Prices
from .shares import integer_weights
from .state import Account, Asked, start_state
from .throttle import account_key
from .tick import Tick
from .tick_state import UNCHANGING, Deal, TickState
from .venue import Market, Venue

CERTAIN = 1e-9  # of the gross amounts: a thousand times what float64 can be wrong by

Policies = Mapping[str, tuple[Callable[[list[Figures]], Sequence[float]], bool]]
"""By name, the scores or weights of the figures of a side, and whether they are weights."""


class Accounts(Protocol):
    """What the judge asks of all accounts as they are at the sweep of a tick; accounts are numbered by their ids."""

    def select(self) -> None:
        """An account is selected: what was consumed of the books decays."""

    def account(self, number: int) -> Account:
        """A copy of an account."""

    def is_there(self, number: int) -> bool:
        """Whether an account has been opened by now."""

    def holders(self, symbol: str, are_long: bool) -> list[int]:
        """The accounts with a position on a side of a market, ascending."""

    def borrowers(self, asset: str) -> list[int]:
        """The accounts with a debt in an asset, ascending."""

    def pool_totals(self, asset: str) -> tuple[int, int]:
        """Quanta that a pool was lent, and that are borrowed from it."""

    def book(self, symbol: str) -> dict[str, list]:
        """Levels of both sides of a book: [ticks, lots left, [price, lots, lots consumed]], best first."""

    def means(self, symbol: str) -> tuple:
        """Means of the marks and of the premiums of a market in the window of samples; None where there are none."""

    def recorded(self, number: Any, symbol: str) -> list[tuple[int, int]]:
        """Counterparties and lots of the recorded ADL of an account's position, in their order."""


class Estimate:
    """The margin of an account: what float64 leaves in doubt, and every figure that is asked for, is exact."""

    def __init__(self, float64: Float64, account: Account, exact: Callable[[], Margin]):
        self.float64, self.account, self.compute = float64, account, exact

    @cached_property
    def sums(self) -> Sums:
        """The margin in float64."""
        return self.float64.sums(self.account)

    @cached_property
    def exact(self) -> Margin:
        """The margin in exact numbers."""
        return self.compute()

    def __getattr__(self, name: str):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.exact, name)

    def is_far(self, *distances: float) -> bool:
        """Whether float64 is right about the signs of some differences of amounts."""
        return min(map(abs, distances)) > CERTAIN * self.sums.gross

    @property
    def mmr(self) -> float:
        """MMR in float64."""
        return self.sums.ratio

    @property
    def liquidating(self) -> bool:
        """Whether the account is liquidating."""
        equity, exposure, maintenance, _ = self.sums
        if exposure == 0.0:
            return False
        return not maintenance < equity if self.is_far(maintenance - equity) else self.exact.liquidating

    @property
    def below_auto_close(self) -> bool:
        """Whether the account is below auto-close."""
        equity, exposure, maintenance, _ = self.sums
        if exposure == 0.0:
            return False
        auto_close = max(maintenance / self.float64.divisor, maintenance - self.float64.offset * exposure)
        if self.is_far(maintenance - equity, auto_close - equity, equity):
            return not maintenance < equity and (equity < auto_close or equity <= 0.0)
        return self.exact.below_auto_close

    def covers_initial(self) -> bool | None:
        """Whether the IMR is below 1 and the net equity not below 0; None where that is in doubt."""
        equity, exposure, _, _ = self.sums
        initial = self.float64.initial(self.account)
        if self.float64.has_steps or not self.is_far(equity, initial - equity):
            return None
        return equity > 0.0 and (exposure == 0.0 or initial < equity)

    def stays_healthy(self, most: float) -> bool | None:
        """Whether an account is healthy as a counterparty with an MMR below `most`; None where that is in doubt."""
        equity, exposure, maintenance, _ = self.sums
        if not self.is_far(equity, maintenance - most * equity):
            return None
        return equity > 0.0 and (exposure == 0.0 or maintenance < most * equity)


class Judged(TickState):
    """What is decided from a few of all accounts, which are numbered, and read when they are asked for."""

    def set_source(self, accounts: Accounts) -> None:
        """Take over where the accounts are read, as they are at the sweep or before all actions."""
        self.source, self.written = accounts, set[Any]()
        self.state.accounts, self.swept = Asked(accounts.account), Asked(accounts.account)

    def estimate(self, account: Account) -> Estimate:
        """The margin of an account."""
        return Estimate(self.float64, account, lambda: margin(self.venue, account, self.prices))

    def look(self, account_id) -> Any:
        """The margin of an account as it is now."""
        if account_id not in self.known:
            self.known[account_id] = self.estimate(self.state.accounts[account_id])
        return self.known[account_id]

    def sums(self, account_id) -> Sums:
        """The margin of an account as it is now, in float64."""
        return self.look(account_id).sums

    def margin_of(self, account: Account) -> Any:
        """The margin of an account that is tried."""
        return self.estimate(account)

    def stays_healthy(self, look) -> bool:
        """Whether an account is healthy as a counterparty must stay (Healthy accounts)."""
        found = look.stays_healthy(float(self.venue.policy["counterparty_mmr"]))
        return super().stays_healthy(look.exact) if found is None else found

    def covers_initial(self, look) -> bool:
        """Whether the IMR of an account is below 1 and its net equity not below 0 (4 Backstop, Providers)."""
        found = look.covers_initial()
        return super().covers_initial(look.exact) if found is None else found

    def record(self, event: str, reason: str, account_id, *price, **changes) -> None:
        """Make a change by its row."""
        super().record(event, reason, account_id, *price, **changes)
        if event not in UNCHANGING:
            self.written |= {account_id, changes.get("counterparty")}

    def pool_totals(self, asset: str) -> tuple:
        """`pool_lent` and `pool_borrowed`."""
        lent, borrowed = self.source.pool_totals(asset)
        for one in self.written:
            if isinstance(one, int):
                for sign, accounts in ((1, self.state.accounts), (-1, self.swept)):
                    free, account_lent = accounts[one].balances.get(asset, (0, 0))
                    lent, borrowed = lent + sign * account_lent, borrowed + sign * max(-free, 0)
        return lent, borrowed


class JudgedActivity(Judged, Activity):
    """Actions between two ticks beside their recorded rows."""

    def __init__(self, judge: Judge, time_ns: int, prices: Prices | None, accounts: Accounts):
        super().__init__(judge.venue, judge.memory, prices)
        self.set_source(accounts)
        self.state.opening, self.latest = Asked(accounts.account), max(self.state.acted, time_ns)
        self.undo: tuple = ()

    def is_there(self, account_id) -> bool:
        """Whether there is an account."""
        return isinstance(account_id, int) and self.source.is_there(account_id)

    def can_open(self, account_id) -> bool:
        """Whether the settings of an account that is opened are known."""
        return isinstance(account_id, int)

    def decide(self, first: dict) -> tuple[list[dict], str]:
        """The rows of the action that a recorded row asked for, and why it is refused, if it is."""
        self.undo, self.rows = self.saved({"account": first["account"], "other": first["counterparty"]}), []
        try:
            self.carry_out(asked_of(self.state, first), is_checked=first["reason"] == "request")
        except Refused as error:
            return [], str(error)
        return self.rows, ""

    def take_over(self, recorded: list[dict]) -> None:
        """Make the changes of recorded rows in the place of those of the last action."""
        self.put_back(*self.undo)
        for row in recorded:
            apply_row(self.state, row)
            self.written |= {row["account"], row["counterparty"]}
            self.latest = max(self.latest, row["time"])

    def finish(self) -> None:
        """Forget the accounts: they are read anew."""
        self.state.accounts, self.state.acted = {}, self.latest


class JudgedTick(Judged, Tick):
    """One tick from the selection on; the accounts are numbered, and read when they are asked for."""

    def __init__(self, judge: Judge, number: int, time_ns: int, prices: Prices, accounts: Accounts, fund: dict):
        super().__init__(judge.venue, judge.memory, time_ns, prices, judge.seed)
        self.set_source(accounts)
        self.judge, self.number, self.state.fund = judge, number, fund
        self.start_margins = True  # there are ratios from here on
        self.figures_at_sweep = Asked(self.float64_at_sweep)
        self.levels, self.limits, self.worst_average = map(Asked, map(self.reader_of, BOOK_TABLES))
        self.last_prices: dict = {}

    def swept_figures(self, account_id):
        """The figures of an account at the sweep, in float64."""
        return self.figures_at_sweep[account_id]

    def float64_at_sweep(self, account_id):
        """The same, computed: of an account that is as it was at the sweep from what it is now."""
        look = self.estimate(self.swept[account_id]) if account_id in self.written else self.look(account_id)
        return self.float64.swept(look.sums, look)

    # -- what the columns of all accounts tell

    def holders(self, symbol: str, are_long: bool) -> list:
        """The accounts with a position on a side of a market at the sweep, ascending."""
        return self.source.holders(symbol, are_long)

    def borrowers(self, asset: str) -> dict:
        """The debts of the accounts that owe an asset now, ascending by account."""
        accounts = sorted({*self.source.borrowers(asset), *(one for one in self.written if isinstance(one, int))})
        debts = {one: -self.state.accounts[one].balances.get(asset, (0,))[0] for one in accounts}
        return {one: debt for one, debt in debts.items() if debt > 0}

    def reader_of(self, table: str) -> Callable[[tuple], Any]:
        """What reads the levels, the band or the worst average price of a side of a market."""

        def read(key: tuple):
            symbol, market = key[0], (self.venue.markets | self.venue.spots)[key[0]]
            self.levels.update({(symbol, side): levels for side, levels in self.source.book(symbol).items()})
            if isinstance(market, Market):
                self.set_bands(market, self.last_prices.get(symbol))
            else:
                self.set_spot_bands(market)
            return dict.get(getattr(self, table), key)

        return read

    def means(self, market: Market) -> tuple:
        """The means of the samples of a market."""
        return self.source.means(market.symbol)

    # -- the tick

    def decide(self, candidates: list[int]) -> list[dict]:
        """Go through the tick from the selection on; `candidates`: all that may be liquidating, ascending."""
        self.clocks()
        self.keys = {
            one: account_key(self.seed, self.time_ns, self.judge.ids[one])
            for one in candidates
            if self.look(one).liquidating
        }
        if self.keys:
            self.source.select()
        self.phases()
        self.state.accounts, self.state.time_ns = {}, self.time_ns
        return self.rows

    # -- ADL policies that are not of the page

    def is_shared(self) -> bool:
        """Whether the policy of ADL shares positions out by weights."""
        name = self.venue.policy["adl_policy"]
        return self.judge.policies[name][1] if name in self.judge.policies else super().is_shared()

    def ranked(self, side: dict) -> dict:
        """The scores of those who take part, or their weights made whole."""
        name = self.venue.policy["adl_policy"]
        if name not in self.judge.policies:
            return super().ranked(side) if self.judge.knows_policy else side
        ranks = dict(zip(side, self.judge.policies[name][0](list(side.values())), strict=True)) if side else {}
        if self.is_shared():
            return integer_weights({one: weight if weight > 0 else 0.0 for one, weight in ranks.items()})
        return {one: score for one, score in ranks.items() if score > -float("inf")}

    def close_deal(self, deal: Deal, ranks: dict) -> None:
        """Close a position against its counterparties; of a policy that nobody knows, against the recorded ones."""
        if self.judge.knows_policy:
            super().close_deal(deal, ranks)
            return
        for other, lots in self.source.recorded(deal.account_id, deal.market):
            if other in ranks and 0 < lots <= min(deal.left, self.room(other, deal.market)):
                self.offer(deal, other, lots)


BOOK_TABLES = ("levels", "limits", "worst_average")


class Judge:
    """What is remembered from one judged tick to the next: the ledgers of caps, cooldowns and providers.

    Parameters
    ----------
    source : dict
        The venue's JSON, providers by the numbers of their accounts.
    ids : list
        The users' account ids by number, ascending.
    seed : int
        Of the run's draws.
    policies : dict
        ADL policies that are not of the page, by name.
    """

    def __init__(self, source: dict, ids: list, seed: int, policies: Policies):
        self.venue, self.ids, self.seed, self.policies = Venue(source), ids, seed, policies
        self.memory = start_state(self.venue, {})

    @property
    def knows_policy(self) -> bool:
        """Whether the order of counterparties follows from a policy of the page or from one that was given."""
        name = self.venue.policy["adl_policy"]
        return name in SCORES or name in WEIGHTS or name in self.policies

    def leaves_out(self, time_ns: int) -> bool:
        """Whether an instant is left out at which no price, no event and no consumed level asks for it."""
        return self.memory.is_quiet and not new_intervals(self.venue, self.memory.decided, time_ns)

    def pass_over(self, time_ns: int) -> None:
        """Remember an instant that is not left out and at which nobody is liquidating."""
        self.memory.decided, self.memory.is_quiet, self.memory.proposals = time_ns, True, {}

    def tick(self, number: int, time_ns: int, prices: Prices, accounts: Accounts, fund: dict) -> JudgedTick:
        """The tick of a number, to be decided."""
        return JudgedTick(self, number, time_ns, prices, accounts, fund)

    def activity(self, time_ns: int, prices: Prices | None, accounts: Accounts) -> JudgedActivity:
        """Actions after a tick, by the time and the prices of it; before the first without prices."""
        return JudgedActivity(self, time_ns, prices, accounts)

    def low_first(self, prices: Prices, symbol: str, held: Iterable[int]) -> bool:
        """Whether the low of a bar comes before its high on the path `adverse`, of lots held at prices."""
        return longs_hold_more(self.venue, prices, symbol, held)

    def advance(self, time_ns: int) -> None:
        """Forget what the clocks and cooldowns forget until a time."""
        Tick(self.venue, self.memory, time_ns, Prices({}), self.seed).clocks()
        self.memory.time_ns = time_ns
