"""The screen: the accounts at 100 % at each of many ticks, without computing every account at each of them."""

from .intervals import PriceIntervals, interval_values
from .screen import Screen

__all__ = ["PriceIntervals", "Screen", "interval_values"]
