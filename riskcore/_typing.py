"""Types of arrays that several packages name."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Float: TypeAlias = npt.NDArray[np.float64]
Int: TypeAlias = npt.NDArray[np.int64]
Bool: TypeAlias = npt.NDArray[np.bool_]
AnyInt: TypeAlias = npt.NDArray[np.integer[Any]]
"""Whole numbers of any width."""
