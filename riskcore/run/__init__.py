"""Whole runs: replay tables into a run folder, report it, explain an account of it."""

from . import report
from .attribution import EquityChange
from .explain import Explanation, explain
from .replay import replay

__all__ = ["EquityChange", "Explanation", "explain", "replay", "report"]
