"""Whole runs: replay tables into a run folder, read it as tables, report it, explain an account of it."""

from . import report
from .explain import EquityChange, Explanation, explain
from .frames import Run, read_run
from .page import page
from .recorded_run import RecordedRun
from .replay import replay
from .scenario_pictures import binding_picture, payoff_picture

__all__ = [
    "EquityChange", "Explanation", "RecordedRun", "Run", "binding_picture", "explain", "page", "payoff_picture",
    "read_run", "replay", "report",
]  # fmt: skip
