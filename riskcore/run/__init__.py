"""Whole runs: replay tables into a run folder, report it, explain an account of it."""

from . import report
from .explain import explain
from .page import page
from .replay import replay

__all__ = ["explain", "page", "replay", "report"]
