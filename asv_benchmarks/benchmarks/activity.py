"""Activity of accounts between ticks: one fill and a look at its account, a table of fills, and the step after a fill.

Times are those of this thread, in parts of the margin of one account from Python, which the same process measures.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

import riskcore as rc
from riskcore.sample import generate_accounts, venue_source

from . import ACCOUNTS, _Figures
from .screen import seconds

FILLS, TICKS, SECOND = 2_000, 300, 10**9
ROWS = max(20_000, min(1_000_000, 10 * ACCOUNTS))
START = 1_760_000_100 * SECOND
MARKS = {"BTC_USDC_PERP": 100_000.0, "ETH_USDC_PERP": 4_000.0, "SOL_USDC_PERP": 200.0}


def median(calls: list[float]) -> float:
    return float(np.median(calls))


class Ratios(_Figures):
    """In parts of a look at one account's margin: 5 microseconds, say, of a margin by a compiled kernel."""

    params = [
        "fill and margin of its account, not checked / margin",
        "fill and margin of its account, checked / margin",
        "a fill of a table / margin, thousandths",
        "a step after a fill / a step after none",
    ]

    def setup_cache(self) -> dict[str, float | str]:
        venue, marks = rc.load_venue(venue_source([ACCOUNTS + 1])), MARKS
        accounts = rc.Accounts.from_frames(venue, *generate_accounts(venue, marks, ACCOUNTS))  # none is liquidating
        engine = rc.Engine(accounts, venue, record=False)
        engine.step(rc.Tick(START, marks, indexes=marks))
        rng, columns = np.random.default_rng(1), accounts.columns
        rows = rng.choice(np.flatnonzero(columns.lots), ROWS)
        holder, market = accounts.position_accounts()[rows], columns.market[rows]
        symbols = np.array(venue.markets.symbol, object)[market]
        lot = venue.markets.step_size[market]
        table = pd.DataFrame(
            {
                "action": "fill", "account": accounts.ids[holder], "market": symbols,
                "quantity": -lot * np.sign(columns.lots[rows]), "price": [marks[symbol] for symbol in symbols.tolist()],
            }
        )  # fmt: skip
        figures = []
        one = [(engine.account(row.account), row.market, row.quantity, row.price) for row in table[:FILLS].itertuples()]
        engine.step(rc.Tick(START + SECOND, marks, indexes=marks))
        steps: dict[bool, list[float]] = {True: [], False: []}
        for n in range(TICKS):
            after_fill, tick = n % 2 == 0, rc.Tick(START + (n + 2) * SECOND, marks, indexes=marks)
            if after_fill:
                account, symbol, quantity, price = one[n % len(one)]
                account.fill(symbol, quantity, price, 0.0, check="off")
            steps[after_fill].append(seconds(lambda tick=tick: engine.step(tick)))
        print(f"{1e6 * median(steps[True]):.0f} us a step after a fill, {1e6 * median(steps[False]):.0f} after none")
        ratio = median(steps[True]) / median(steps[False])
        look = median([seconds(lambda a=a: engine.margin(a.id)) for a, *_ in one])
        for check in ("off", "on"):

            def fill(account, market, quantity, price, check=check):
                account.fill(market, quantity, price, 0.0, check=check)
                engine.margin(account.id)

            figures.append(median([seconds(lambda row=row, fill=fill: fill(*row)) for row in one]) / look)
            print(f"{1e6 * figures[-1] * look:.1f} us for a fill and a look, checks {check}")
        engine.apply(table[:1000], check="off")
        batch = min(seconds(lambda: engine.apply(table, check="off")) for _ in range(3))
        print(f"{ROWS / batch / 1e6:.2f} million fills a second")
        figures.append(1000 * batch / ROWS / look)
        figures.append(ratio)
        return dict(zip(self.params, figures, strict=True))
