"""The record of a run: journal rows and the run folder."""

from . import reader, run_folder
from .events import (
    ACTIVITY,
    BOOK,
    CHANGES_NOTHING,
    EVENT,
    EVENT_KINDS,
    EVENTS,
    FUND,
    NO_ACCOUNT,
    NOBODY,
    POOL,
    REASON,
    REASONS,
    ROW,
    SHORTFALL,
    STAGE_OF,
    STAGES,
    Rows,
    closes_positions,
    journal_page,
)
from .invariants import InvariantError, Invariants
from .journal import EVENT_COLUMNS, Journal, fills, has_acted, natural_frame, settle_amounts, to_frame, touched
from .reader import read_journal
from .run_folder import Recorded, RecordedActivity
from .totals import Totals

__all__ = [
    "ACTIVITY",
    "BOOK",
    "CHANGES_NOTHING",
    "EVENT",
    "EVENTS",
    "EVENT_COLUMNS",
    "EVENT_KINDS",
    "FUND",
    "NOBODY",
    "NO_ACCOUNT",
    "POOL",
    "REASON",
    "REASONS",
    "ROW",
    "SHORTFALL",
    "STAGES",
    "STAGE_OF",
    "InvariantError",
    "Invariants",
    "Journal",
    "Recorded",
    "RecordedActivity",
    "Rows",
    "Totals",
    "closes_positions",
    "fills",
    "has_acted",
    "journal_page",
    "natural_frame",
    "read_journal",
    "reader",
    "run_folder",
    "settle_amounts",
    "to_frame",
    "touched",
]
