"""Whole runs: replay tables into a run folder, read it as tables, report it, explain an account of it."""

from . import report
from .explain import EquityChange, Explanation, explain
from .frames import Run, read_run
from .page import page
from .recorded_run import RecordedRun
from .replay import replay

__all__ = ["EquityChange", "Explanation", "RecordedRun", "Run", "explain", "page", "read_run", "replay", "report"]
