"""The operations that the sweep is written in: on eight accounts at once (`_simd`), or on one (`_scalar`)."""

import os
import warnings
from typing import Any

from ._jit import JIT_OFF

_OFF = {"0", "off", "no", "false"}


def _operations() -> Any:
    """Module of the operations: vectors if they are wanted and can be built; with the JIT off NumPy stands for them."""
    if JIT_OFF or os.environ.get("RISKCORE_SIMD", "").lower() not in _OFF:
        try:
            from . import _simd

            return _simd
        except Exception as error:
            warnings.warn(f"riskcore sweeps without vector instructions: {error}", RuntimeWarning, stacklevel=2)
    from . import _scalar

    return _scalar


_MODULE = _operations()
WIDTH = _MODULE.WIDTH
absolute = _MODULE.absolute
broadcast = _MODULE.broadcast
count_trailing_zeros = _MODULE.count_trailing_zeros
gather4 = _MODULE.gather4
load = _MODULE.load
mask_ge = _MODULE.mask_ge
mask_gt = _MODULE.mask_gt
maximum = _MODULE.maximum
select_le = _MODULE.select_le
sqrt = _MODULE.sqrt
store = _MODULE.store
store_rows = _MODULE.store_rows
