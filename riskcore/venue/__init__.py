"""The rules of a venue: its markets, assets, margin functions, liquidation policy and backstop providers."""

from .adl_policies import (
    POLICIES,
    AdlPolicy,
    Counterparties,
    allocate,
    integer_weights,
    pnl_leverage,
    ranked,
    register,
    top_of_queue,
    water_fill,
)
from .changes import VenueChange, changed_venue, changes_of_table, read_changes, table_of_changes
from .load import load_venue
from .margin_functions import IMF, MMF, MarginFunction, Sqrt, check_order
from .policy import FIGURES, Figure, Policy, check_adl_policy, must_be_registered, policy_page
from .presets import PRESETS, shipped, venue_path
from .tables import Pool, Provider, Units, Venue, must_be_perpetual, must_be_venue, values_at

__all__ = [
    "FIGURES",
    "IMF",
    "MMF",
    "POLICIES",
    "PRESETS",
    "AdlPolicy",
    "Counterparties",
    "Figure",
    "MarginFunction",
    "Policy",
    "Pool",
    "Provider",
    "Sqrt",
    "Units",
    "Venue",
    "VenueChange",
    "allocate",
    "changed_venue",
    "changes_of_table",
    "check_adl_policy",
    "check_order",
    "integer_weights",
    "load_venue",
    "must_be_perpetual",
    "must_be_registered",
    "must_be_venue",
    "pnl_leverage",
    "policy_page",
    "ranked",
    "read_changes",
    "register",
    "shipped",
    "table_of_changes",
    "top_of_queue",
    "values_at",
    "venue_path",
    "water_fill",
]
