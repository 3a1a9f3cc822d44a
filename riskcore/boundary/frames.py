"""Tables of pandas and of other libraries, and whether a table has the columns that are needed."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow

from .errors import RiskDataError
from .escaping import as_html

_FOREIGN = "tables of other libraries are taken as well, by the Arrow interface (Polars, pyarrow, DuckDB)"


def as_frame(table: str, given: Any) -> pd.DataFrame:
    """Return a frame of pandas: the one given, or what another library's table (Polars, pyarrow, DuckDB) holds.

    Raises
    ------
    RiskDataError
        It is no table.
    """
    if isinstance(given, pd.DataFrame):
        return given
    kind = type(given).__name__
    if is_frame(given):
        try:
            found: pd.DataFrame = pyarrow.table(given).to_pandas()
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise RiskDataError(table, None, f"must be a table: {error}", value=kind) from None
        return found
    rule = "pandas.DataFrame(...) makes one of it" if isinstance(given, dict | list) else _FOREIGN
    raise RiskDataError(table, None, f"must be a pandas DataFrame, not {kind}: {rule}")


def is_frame(given: object) -> bool:
    """Whether it is a table, of whatever library, and not a column of one."""
    return isinstance(given, pd.DataFrame) or (
        hasattr(given, "__arrow_c_stream__") and not isinstance(given, pd.Series | type)
    )


def frame_as_html(table: pd.DataFrame, most: int | None = None) -> str:
    """Return a table for a page, every text in it escaped.

    Parameters
    ----------
    table : DataFrame
        The table.
    most : int, optional
        Most rows to write: of a longer table the first rows are written, and the numbers of rows below them.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.boundary import frame_as_html
    >>> "&lt;b&gt;" in frame_as_html(pd.DataFrame({"account": ["<b>", "bob"]}), 1)
    True
    """
    head = table if most is None else table.head(most)
    formatters = {name: lambda value: as_html(str(value)) for name in head.select_dtypes(["object", "str"])}
    found: str = head.to_html(index=False, border=0, escape=False, formatters=formatters)
    return found if len(head) == len(table) else f"{found}<p>{len(table):,} rows, {len(head):,} of them shown</p>"


def must_have(table: str, frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a frame without one of some columns, or with one of them twice.

    Raises
    ------
    RiskDataError
    """
    labels = [label if isinstance(label, str) else None for label in frame.columns]
    for name in names:
        if name not in labels:
            there = [label for label in labels if label is not None]
            rule = f"the column is missing; there are {', '.join(there) or 'none'}"
            near = get_close_matches(name, [label for label in there if label not in names], 1)
            raise RiskDataError(table, name, f"{rule}: is it {near[0]!r}?" if near else rule)
        if labels.count(name) > 1:
            raise RiskDataError(table, name, "the column stands twice")


def missing(values: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    """Where there is no value."""
    try:
        return values.isna().to_numpy()
    except ArithmeticError:  # a Decimal that signals when it is compared
        return np.array([v.is_qnan() if isinstance(v, Decimal) else pd.isna(v) is True for v in values], bool)
