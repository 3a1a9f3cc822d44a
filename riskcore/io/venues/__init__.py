"""Saved API replies of venues: rules, accounts and order books."""

from . import backpack, binance, ccxt, dydx, hyperliquid
from .snapshot import Snapshot

__all__ = ["Snapshot", "backpack", "binance", "ccxt", "dydx", "hyperliquid"]
