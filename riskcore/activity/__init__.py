"""What happens to accounts between ticks: the table `activity`, and one account of an engine.

The rules are in docs/one_tick.md, "Activity between ticks".
"""

from .account import Account, Balance, Fill, Margin, Order, Position, margin_of, no_prices_of
from .carry import CarriedOut, Hands, ReduceOnly, add_to_ledger, carry_out, have_prices, must_be_check, rules_of
from .quick import QuickFills, Start
from .read import Reader
from .result import ActivityResult

__all__ = [
    "Account",
    "ActivityResult",
    "Balance",
    "CarriedOut",
    "Fill",
    "Hands",
    "Margin",
    "Order",
    "Position",
    "QuickFills",
    "Reader",
    "ReduceOnly",
    "Start",
    "add_to_ledger",
    "carry_out",
    "have_prices",
    "margin_of",
    "must_be_check",
    "no_prices_of",
    "rules_of",
]
