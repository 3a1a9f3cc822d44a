"""Reads tables of pandas and of other libraries, and checks that a table has the columns that are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from .._typing import Bool
from .errors import RiskDataError
from .escaping import as_html

_FOREIGN = "tables with the Arrow interface (Polars, pyarrow, DuckDB) are accepted too"


def as_frame(table: str, source: Any) -> pd.DataFrame:
    """Return a frame of pandas: the source itself, or a copy of another library's table (Polars, pyarrow, DuckDB).

    Raises
    ------
    RiskDataError
        It is no table.
    """
    if isinstance(source, pd.DataFrame):
        return source
    kind = type(source).__name__
    if is_frame(source):
        try:
            frame: pd.DataFrame = pyarrow.table(source).to_pandas()
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise RiskDataError(table, None, f"must be a table: {error}", value=kind) from None
        return frame
    rule = "pandas.DataFrame(...) converts it" if isinstance(source, dict | list) else _FOREIGN
    raise RiskDataError(table, None, f"must be a pandas DataFrame, not {kind}: {rule}")


def rows_as_frame(table: str, source: Any) -> pd.DataFrame:
    """Return a frame of a list of rows, mappings by column each; or of a table as of `as_frame`.

    Raises
    ------
    RiskDataError
        It is neither.
    """
    if not isinstance(source, list | tuple):
        return as_frame(table, source)
    for row, mapping in enumerate(source):
        if not isinstance(mapping, Mapping):
            raise RiskDataError(table, None, "must be a mapping by column", row=row, value=type(mapping).__name__)
    return pd.DataFrame([dict(mapping) for mapping in source], dtype=object)


def is_frame(value: object) -> bool:
    """Whether a value is a table of any library; a column of one is not."""
    return isinstance(value, pd.DataFrame) or (
        hasattr(value, "__arrow_c_stream__") and not isinstance(value, pd.Series | type)
    )


def frame_as_html(table: pd.DataFrame, max_rows: int | None = None) -> str:
    """Return a table for a page, every text in it escaped.

    Parameters
    ----------
    table : DataFrame
        The table.
    max_rows : int, optional
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
    head = table if max_rows is None else table.head(max_rows)
    formatters = {name: lambda value: as_html(str(value)) for name in head.select_dtypes(["object", "str"])}
    page: str = head.to_html(index=False, border=0, escape=False, formatters=formatters)
    return page if len(head) == len(table) else f"{page}<p>{len(table):,} rows, {len(head):,} of them shown</p>"


def must_have(table: str, frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse a frame without one of some columns, or with one of them twice.

    Raises
    ------
    RiskDataError
    """
    labels = [label if isinstance(label, str) else None for label in frame.columns]
    for name in names:
        if name not in labels:
            present = [label for label in labels if label is not None]
            rule = f"the column is missing; the table has {', '.join(present) or 'none'}"
            near = get_close_matches(name, [label for label in present if label not in names], 1)
            raise RiskDataError(table, name, f"{rule}: did you mean {near[0]!r}?" if near else rule)
        if labels.count(name) > 1:
            raise RiskDataError(table, name, "the column appears twice")


def missing(values: pd.Series[Any]) -> Bool:
    """Whether each row has no value."""
    try:
        return values.isna().to_numpy()
    except ArithmeticError:  # a Decimal that signals when it is compared
        return np.array([v.is_qnan() if isinstance(v, Decimal) else pd.isna(v) is True for v in values], bool)
