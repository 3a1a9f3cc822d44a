"""What the modules of the venues share: parameters that ship with the package, and venues without borrowing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from ..venue import Venue, load_venue

_NO_MARGIN = {"type": "sqrt", "base": "1e-18", "factor": "0"}


def shipped(name: str) -> dict[str, Any]:
    """Parameters that ship with the package, with their ``source`` and ``date``."""
    content: dict[str, Any] = json.loads((resources.files("riskcore") / "presets" / f"{name}.json").read_text())
    return content


def at_face_value(asset: str) -> dict[str, Any]:
    """Collateral row of an asset without a haircut."""
    return {"symbol": asset, "haircutFunction": {"weight": "1", "kind": {"type": "identity"}}}


def settle_only(
    markets: Sequence[Mapping[str, Any]],
    settle_asset: str,
    policy: Mapping[str, Any] | None,
    backstop: Sequence[Mapping[str, Any]] | None,
) -> Venue:
    """Build a venue whose only collateral is its settle asset, of which a negative balance needs no margin."""
    settle = at_face_value(settle_asset) | {"imfFunction": _NO_MARGIN, "mmfFunction": _NO_MARGIN}
    return load_venue(
        {
            "settle_asset": settle_asset,
            "markets": list(markets),
            "collateral": [settle],
            "policy": policy or {},
            "backstop": backstop or [],
        }
    )
