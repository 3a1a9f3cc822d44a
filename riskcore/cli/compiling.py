"""A line that tells of compiling that takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba.core.event import Event, Listener, install_listener

from ..kernels._cache import folder_in_use


@contextmanager
def compiling_noticed(say: Callable[[str], None]) -> Iterator[None]:
    """Say in one line that kernels are compiled, as soon as that has taken a second together."""
    with install_listener("numba:compile", _Compiling(say)):
        yield


class _Compiling(Listener):
    """Adds up the time that Numba compiles. A timer runs meanwhile: one kernel can take most of the time."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._said = say, False
        self._depth, self._left, self._since = 0, 1.0, 0.0
        self._timer: threading.Timer | None = None

    def on_start(self, event: Event) -> None:
        self._depth += 1
        if self._depth == 1 and not self._said:
            self._since = time.perf_counter()
            self._timer = threading.Timer(self._left, self._tell)
            self._timer.daemon = True
            self._timer.start()

    def on_end(self, event: Event) -> None:
        self._depth -= 1
        if self._depth == 0 and self._timer is not None:
            self._timer.cancel()
            self._left = max(self._left - (time.perf_counter() - self._since), 0.0)

    def _tell(self) -> None:
        self._said = True
        detail = "once for this version (riskcore warm does it ahead)" if folder_in_use() else "which are not kept"
        self._say(f"compiling kernels, {detail}")
