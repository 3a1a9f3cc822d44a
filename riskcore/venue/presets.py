"""Parameters of venues that ship with the package: venue files by name, and saved replies."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from ..boundary import RiskDataError

PRESETS = ("backpack", "dydx", "hyperliquid")
"""Names of the venue files that ship with the package."""


def shipped(name: str) -> dict[str, Any]:
    """Return the content of a shipped file, with its ``source`` and ``date``.

    Parameters
    ----------
    name : str
        Name of the file without its suffix.

    Returns
    -------
    dict
        Content of the JSON file.

    Examples
    --------
    >>> from riskcore.venue import shipped
    >>> [market["symbol"] for market in shipped("backpack")["markets"]][:3]
    ['BTC_USDC_PERP', 'ETH_USDC_PERP', 'SOL_USDC_PERP']
    """
    content: dict[str, Any] = json.loads(_file(name).read_text())
    return content


def venue_path(source: str | Path) -> Path:
    """Return the file that a path or the name of a preset stands for.

    Text without a suffix and without a separator is the name of a preset, whatever files the current folder has.

    Parameters
    ----------
    source : str or Path
        Path, or name of a preset.

    Returns
    -------
    Path
        The file; it need not exist.

    Raises
    ------
    RiskDataError
        No preset has this name.

    Examples
    --------
    >>> from riskcore.venue import venue_path
    >>> venue_path("backpack").name, venue_path("venues/backpack").name, venue_path("backpack.json").name
    ('backpack.json', 'backpack', 'backpack.json')
    """
    if not isinstance(source, str) or Path(source).suffix or any(s in source for s in (os.sep, os.altsep) if s):
        return Path(source)
    if source not in PRESETS:
        rule = f"must be a preset ({', '.join(PRESETS)}), or a path with a suffix or a separator"
        raise RiskDataError("venue", None, rule, value=source)
    return _file(source)


def _file(name: str) -> Path:
    return Path(str(resources.files("riskcore") / "presets" / f"{name}.json"))
