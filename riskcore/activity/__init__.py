"""What happens to accounts between ticks: the table `activity`, and one account of an engine.

The rules are in docs/one_tick.md, "Activity between ticks".
"""

from .account import Account, Balance, Fill, Margin, Order, Position, margin_of
from .carry import CarriedOut, Hands, ReduceOnly, add_to_ledger, carry_out, must_be_check, rules_of
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
    "margin_of",
    "must_be_check",
    "rules_of",
]
