"""The riskcore command."""

from .commands import app
from .render import print_study

__all__ = ["app", "print_study"]
