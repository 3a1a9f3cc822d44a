"""The rules of docs/one_tick.md in plain Python, exact, slow and literal: the oracle of the tests.

Nothing here comes from the rest of riskcore, numpy or pandas, and every look at an account computes its margin from the
beginning. Docstrings name the section of one_tick.md that they follow.

Amounts are whole quanta, sizes whole lots, everything else a `Fraction`; only square roots are not always exact, and
the guards compute in float64 as their rules say (Guards). Where the engine decides by float64 and the exact figures are
too close to an edge to tell what float64 finds, a tick notes it in `doubts`.
"""

from .account_margin import Margin, gross, margin, sweep
from .activity import Refused, apply, carried_out
from .adl_policies import SCORES, WEIGHTS, Figures, deleveraging_score, profit_fraction
from .comparison import Difference, ReplayedTick, replay
from .folder import RunFolderError, TickError
from .journal import BOOK, apply_row, apply_rows, journalled, total_lots, total_quanta
from .judge import Accounts, Judge, JudgedActivity
from .margin_functions import (
    linear_function,
    margin_function,
    open_interest_function,
    square_root_function,
    tier_function,
)
from .numbers import INFINITY, ROUNDING, change_of_cost, float32, number, part, ranking_value, rhe, square_root, whole
from .price_updates import Band, mean_of, samples, tightest
from .prices import Prices
from .quotes import quote_book, slice_lots
from .shares import equity_share, integer_weights, largest_passing, water_fill, zero_price
from .state import Account, Asked, AssetState, Order, Proposal, State, load_state, start_state
from .throttle import account_key, draw, mix
from .tick import Seen, Tick, guarded, step
from .venue import Asset, Market, Venue

__all__ = [
    "BOOK",
    "INFINITY",
    "ROUNDING",
    "SCORES",
    "WEIGHTS",
    "Account",
    "Accounts",
    "Asked",
    "Asset",
    "AssetState",
    "Band",
    "Difference",
    "Figures",
    "Judge",
    "JudgedActivity",
    "Margin",
    "Market",
    "Order",
    "Prices",
    "Proposal",
    "Refused",
    "ReplayedTick",
    "RunFolderError",
    "Seen",
    "State",
    "Tick",
    "TickError",
    "Venue",
    "account_key",
    "apply",
    "apply_row",
    "apply_rows",
    "carried_out",
    "change_of_cost",
    "deleveraging_score",
    "draw",
    "equity_share",
    "float32",
    "gross",
    "guarded",
    "integer_weights",
    "journalled",
    "largest_passing",
    "linear_function",
    "load_state",
    "margin",
    "margin_function",
    "mean_of",
    "mix",
    "number",
    "open_interest_function",
    "part",
    "profit_fraction",
    "quote_book",
    "ranking_value",
    "replay",
    "rhe",
    "samples",
    "slice_lots",
    "square_root",
    "square_root_function",
    "start_state",
    "step",
    "sweep",
    "tier_function",
    "tightest",
    "total_lots",
    "total_quanta",
    "water_fill",
    "whole",
    "zero_price",
]
