"""The riskcore command."""

from . import scenario_commands
from .commands import app
from .render import print_study

__all__ = ["app", "print_study", "scenario_commands"]
