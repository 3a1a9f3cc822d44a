"""The riskcore command."""

from .commands import app
from .render import print_study
from .warm import compiling_noticed, warm

__all__ = ["app", "compiling_noticed", "print_study", "warm"]
