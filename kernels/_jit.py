"""The one decorator of the house."""

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])

# fastmath stays off: it removes the NaN checks that the trigger test relies on.
# nogil lets the drivers run chunks on plain Python threads, without a threading layer.
kernel = cast(Callable[[F], F], numba.njit(nogil=True, error_model="numpy"))
