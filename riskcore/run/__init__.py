"""Whole runs: replay tables into a run folder, read it as tables, report it, explain an account of it."""

from . import report
from .explain import explain
from .frames import Run, read_run
from .replay import replay

__all__ = ["Run", "explain", "read_run", "replay", "report"]
