"""The clock of a venue: the instants of a tick, the prices and payments of each, and those that are left out."""

from .course import Course
from .instants import due_instants, instants, new_interval

__all__ = ["Course", "due_instants", "instants", "new_interval"]
