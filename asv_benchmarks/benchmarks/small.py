"""The smallest case: one account with ten positions in a quiet tick, and its margin in a user's own njit loop."""

from __future__ import annotations

import time

import numba
import numpy as np
import pandas as pd

from riskcore import Accounts, Engine, Tick, load_venue
from riskcore.kernels.layouts import AccountColumns, PriceArrays
from riskcore.kernels.margin import account_margin, account_status, margin_ratio
from riskcore.market import Prices
from riskcore.sample import market_row, with_price_guards

POSITIONS, TICKS, LOOKS, SECOND = 10, 2_000, 1_000_000, 10**9
START = 1_760_000_100 * SECOND  # nothing falls due within the ticks but what a second brings


@numba.njit
def look_often(account: int, state: AccountColumns, prices: PriceArrays, looks: int) -> tuple[int, float]:
    """How often an account is not safe, and its highest initial margin ratio; a market moves before each look."""
    unsafe, highest, markets = 0, 0.0, prices.price_per_lot.size
    for n in range(looks):
        prices.price_per_lot[n % markets] *= 1.000001 if n // markets % 2 else 0.999999
        sums = account_margin(account, state, prices)
        status = account_status(
            sums.equity, sums.exposure, sums.maintenance, sums.gross, prices.acmf_divisor, prices.acmf_offset
        )
        unsafe += status != 0
        highest = max(highest, margin_ratio(sums.initial, sums.equity, sums.exposure))
    return unsafe, highest


class Small:
    """Marks as a dict by symbol, no books, a tick a second; all guards of the venue on."""

    timeout = 300
    unit = "microseconds a step, nanoseconds an account"

    def setup(self) -> None:
        imf, mmf = ("0.02", "0.00005"), ("0.0125", "0.00003")
        names = [f"A{n}" for n in range(POSITIONS)]
        rows = [market_row(n, "0.01", "0.001", imf, mmf, impact=("0.99", "1.01")) for n in names]
        identity = {"weight": "1", "kind": {"type": "identity"}}
        self.venue = load_venue(
            {
                "settle_asset": "USDC",
                "markets": [with_price_guards(row, ("0.95", "1.05")) for row in rows],
                "collateral": [{"symbol": name, "haircutFunction": identity} for name in ("USDC", *names[:3])],
                "borrow_lend": [{"symbol": "USDC", "lentQuantity": "1000", "borrowedQuantity": "500"}],
            }
        )
        symbols = self.venue.markets.symbol
        quantity = [1.0 if n % 3 else -1.0 for n in range(POSITIONS)]
        positions = pd.DataFrame({"account": 1, "market": symbols, "quantity": quantity, "entry_price": 100.0})
        balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [10_000.0]})
        self.accounts = Accounts.from_frames(self.venue, positions, balances)
        moves = np.random.default_rng(0).normal(0, 1e-4, (TICKS, POSITIONS)).cumsum(axis=0)
        marks = np.round(100.0 * np.exp(moves), 2)
        self.marks = [dict(zip(symbols, row, strict=True)) for row in marks.tolist()]
        self.arrays = list(marks)
        self.ticks = [Tick(START + n * SECOND, row) for n, row in enumerate(self.marks)]
        self.columns = Prices.of_tick(self.venue, self.accounts, self.ticks[0]).arrays
        look_often(0, self.accounts.columns, self.columns, 1)  # compile
        self.time_steps()

    def time_steps(self) -> None:
        """2,000 ticks made before, the engine too."""
        engine = Engine(self.accounts, self.venue)
        for tick in self.ticks:
            engine.step(tick)

    def time_steps_and_their_ticks(self) -> None:
        engine = Engine(self.accounts, self.venue)
        for n, marks in enumerate(self.marks):
            engine.step(Tick(START + n * SECOND, marks))

    def time_steps_of_arrays(self) -> None:
        engine = Engine(self.accounts, self.venue)
        for n, marks in enumerate(self.arrays):
            engine.step(Tick(START + n * SECOND, marks))

    def track_microseconds_a_step(self) -> float:
        """Marginal cost of a step in a loop over ticks made before: the least of five runs of 2,000."""
        found = []
        for _ in range(5):
            engine = Engine(self.accounts, self.venue)
            start = time.perf_counter()
            for tick in self.ticks:
                engine.step(tick)
            found.append(time.perf_counter() - start)
        return min(found) / TICKS * 1e6

    def track_nanoseconds_an_account(self) -> float:
        """Margin and status of the account in a user's own njit loop: the least of five runs of a million."""
        found = []
        for _ in range(5):
            start = time.perf_counter()
            look_often(0, self.accounts.columns, self.columns, LOOKS)
            found.append(time.perf_counter() - start)
        return min(found) / LOOKS * 1e9


class Book:
    """A book of one market, 50 levels a side, from pairs into whole ticks and lots."""

    params = ("arrays", "lists", "text")
    param_names = ("form",)
    unit = "microseconds"

    def setup(self, form: str) -> None:
        self.venue, away = load_venue("backpack"), np.arange(1, 51)
        sides = {}
        for name, sign in (("bids", -1), ("asks", 1)):
            pairs = np.column_stack([np.round(60_000 + 0.1 * sign * away, 1), np.round(0.1 * away, 5)])
            rows = pairs.tolist()
            text = [[repr(x) for x in row] for row in rows]
            sides[name] = {"arrays": pairs, "lists": rows, "text": text}[form]
        self.tick = Tick(START, {}, {"BTC_USDC_PERP": sides})
        self.tick.columnar_books(self.venue)  # compile

    def track_microseconds_a_book(self, form: str) -> float:
        """The least of 200."""
        found = []
        for _ in range(200):
            start = time.perf_counter()
            self.tick.columnar_books(self.venue)
            found.append(time.perf_counter() - start)
        return min(found) * 1e6
