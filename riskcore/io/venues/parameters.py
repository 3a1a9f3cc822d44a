"""Parameters shared by the modules of venues: margin functions from tiers, and venues without borrowing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any

from ...venue import Venue, load_venue

BOOK_THEN_FUND = {"stages": ["book", "adl"], "adl_when": "fund_below"}
"""Figures of a venue without a backstop: ADL once the fund has nothing left."""

_RATE_DIGITS = 28  # of 1 / leverage
_NO_MARGIN = {"type": "sqrt", "base": "1e-18", "factor": "0"}


def at_face_value(asset: str) -> dict[str, Any]:
    """Collateral row of an asset without a haircut."""
    return {"symbol": asset, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}}


def settle_only(
    markets: Sequence[Mapping[str, Any]],
    settle_asset: str,
    stages: Mapping[str, Any],
    policy: Mapping[str, Any] | None,
    backstop: Sequence[Mapping[str, Any]] | None,
) -> Venue:
    """Build a venue whose only collateral is its settle asset, of which a negative balance needs no margin.

    ``stages`` has the figures of the policy that the venue's documents give; ``policy`` goes before them.
    """
    settle = at_face_value(settle_asset) | {"imfFunction": _NO_MARGIN, "mmfFunction": _NO_MARGIN}
    return load_venue(
        {
            "settle_asset": settle_asset,
            "markets": list(markets),
            "collateral": [settle],
            "policy": {**stages, **(policy or {})},
            "backstop": backstop or [],
        }
    )


def tiers(rates: Iterable[tuple[Decimal, Decimal]], *, whole: bool = False) -> dict[str, Any]:
    """Margin function of the kind tiers; a bracket with the rate of the one before is part of it."""
    brackets: list[dict[str, str]] = []
    for lower, rate in rates:
        if not brackets or brackets[-1]["rate"] != format(rate.normalize(), "f"):
            brackets.append({"from": format(lower.normalize(), "f"), "rate": format(rate.normalize(), "f")})
    return {"type": "tiers", "brackets": brackets} | ({"whole": True} if whole else {})


def fraction_of(leverage: Decimal) -> Decimal:
    """Initial margin fraction of a leverage."""
    with localcontext(prec=_RATE_DIGITS):
        return 1 / leverage


def at_most(function: Mapping[str, Any], fraction: Decimal) -> Mapping[str, Any]:
    """Initial margin function of a user who chose a leverage of 1 / fraction."""
    if function["type"] != "tiers":
        return function
    rates = [(Decimal(str(b["from"])), Decimal(str(b["rate"]))) for b in function["brackets"]]
    return tiers([(lower, max(rate, fraction)) for lower, rate in rates], whole=True)
