"""The tables of a run folder: columns declared once, for writing and reading; docs/run_folder.md has their meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .._limits import AMOUNT_LIMIT
from ..boundary import RiskDataError
from ..kernels.guards import NO_SAMPLE
from .events import COLUMNS, EVENTS, POOL, REASONS

Table = dict[str, npt.NDArray[Any]]
Sizes = Mapping[str, int]


class _Kind(NamedTuple):
    """Type and range of the values of a column.

    ``low`` and ``high`` bound them: a number, or the name of a table's size that a row number must be below.
    """

    type: pa.DataType
    low: float = -np.inf
    high: float | str = np.inf
    missing: bool = False  # NaN, or `NO_SAMPLE`


_I, _F = pa.int64(), pa.float64()
_WORD = pa.dictionary(pa.int8(), pa.string())
_KINDS = {
    "id": _Kind(pa.string()),  # or whole numbers
    "whole": _Kind(_I),
    "amount": _Kind(_I, 1 - AMOUNT_LIMIT, AMOUNT_LIMIT - 1),
    "natural": _Kind(_I, 0),
    "positive": _Kind(_I, 1),
    "side": _Kind(_I, -1, 1),
    "sample": _Kind(_I, -(10**16), 10**16),
    "sample?": _Kind(_I, -(10**16), 10**16, missing=True),
    "flag": _Kind(pa.bool_()),
    "word": _Kind(_WORD),
    "name": _Kind(pa.string()),
    "number": _Kind(_F, missing=True),
    "sum": _Kind(_F),
    "price": _Kind(_F, np.nextafter(0, 1), np.finfo(float).max),
    "price?": _Kind(_F, np.nextafter(0, 1), np.finfo(float).max, missing=True),
    "quantity?": _Kind(_F, 0, missing=True),
    "rate": _Kind(_F, -1, 1),
    "limit": _Kind(_F, 0.001),
    "tick": _Kind(_I, 0, "tick"),
    "tick?": _Kind(_I, -1, "tick"),
    "account": _Kind(_I, 0, "account"),
    "market": _Kind(_I, 0, "market"),
    "asset": _Kind(_I, 0, "asset"),
    "book": _Kind(_I, 0, "book"),
    "order": _Kind(_I, 0, "order"),
    "account?": _Kind(_I, -1, "account"),
    "market?": _Kind(_I, -1, "market"),
    "asset?": _Kind(_I, -1, "asset"),
    "book?": _Kind(_I, -1, "book"),
    "order?": _Kind(_I, -1, "order"),
    "party": _Kind(_I, POOL, "account"),
}

_ORDERS = "account:account market:market side:side price:positive lots:{} reduce_only:flag id:name"
_POSITIONS = "account:account market:market lots:amount cost:amount entry:amount"
_BALANCES = "account:account asset:asset quanta:amount lent:amount unsettled:amount"
_SPECS = {
    "start/accounts": "account:id leverage_limit:limit owner:id",
    "start/positions": _POSITIONS,
    "start/balances": _BALANCES,
    "start/orders": _ORDERS.format("natural"),
    "ticks": "tick:tick time:whole market:market mark:price? index:price? given_mark:price? given_index:price?"
    " last_price:price? given_low:price? given_high:price? open_interest:quantity? funding_rate:number",
    "assets": "tick:tick asset:asset price:price given_price:price?",
    "books": "tick:tick market:book side:side price:positive lots:positive book_time:whole",
    "funding": "tick:tick time:whole market:market rate:rate",
    "venue_changes": "tick:tick time:whole market:book? asset:asset? field:name value:name",
    "opened": "account:id leverage_limit:limit owner:id",
    "orders": _ORDERS.format("positive"),
    "journal": " ".join(f"{name}:{column.kind}" for name, column in COLUMNS.items()),
    "state/positions": _POSITIONS,
    "state/balances": _BALANCES,
    "state/orders": "order:order " + _ORDERS.format("positive"),
    "state/limits": "account:account leverage_limit:limit",
    "state/proposals": "account:account market:market lots:amount price:natural fee_num:natural fee_den:positive"
    " event:word",
    "state/markets": "market:market premium_sum:sum premium_count:natural mark:price? mark_time:whole index:price?"
    " index_time:whole basis:number basis_time:whole sample_mark:sample? sample_premium:sample?"
    " open_interest:quantity? open_lots:natural funding_scheduled:flag delisted:flag",
    "state/assets": "asset:asset price:price? time:whole own:flag",
    "state/samples": "second:whole count:positive market:market mark:sample premium:sample?",
    "state/asset_samples": "second:whole count:positive asset:asset price:price",
    "state/slices": "account:account market:market time:whole",
    "state/sold": "account:account quanta:natural",
    "state/books": "market:book side:side price:positive lots:positive consumed_lots:natural decay_time:whole",
    "state/ledger": "ledger:name item:natural value:whole",
}
_COLUMNS = {
    table: {name: _KINDS[kind] for name, kind in (column.split(":") for column in spec.split())}
    for table, spec in _SPECS.items()
}
_WORDS = {"event": EVENTS, "reason": tuple(REASONS)}

START = tuple(table for table in _SPECS if table.startswith("start/"))
PARTS = ("ticks", "assets", "books", "funding", "venue_changes", "opened", "orders", "journal")
OPTIONAL_STATE = ("state/slices", "state/sold", "state/books")
"""Tables of the last state that exist only where a figure of the policy requires them."""
STATE = tuple(table for table in _SPECS if table.startswith("state/") and table not in OPTIONAL_STATE)


def encoded(table: str, frame: pd.DataFrame) -> memoryview:
    """Bytes of a Parquet file of the table."""
    types = {name: kind.type for name, kind in _COLUMNS[table].items()}
    if "owner" in types and frame["account"].dtype == np.int64:
        types["account"] = types["owner"] = _I
    sink = pa.BufferOutputStream()
    schema = pa.schema(list(types.items()))
    pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), sink, compression="zstd")
    return memoryview(sink.getvalue())


_LARGE = 1 << 20  # bytes


def decoded(table: str, file: str, content: bytes, sizes: Sizes) -> Table:
    """Columns of a table from the bytes of its file, words as their numbers.

    Parameters
    ----------
    table
        A name of the declared tables.
    file
        Where it stands in the run folder, for messages.
    sizes
        Number of ticks, accounts, markets, assets, books and orders: what row numbers must be below.

    Raises
    ------
    RiskDataError
        The file is not Parquet, has other columns or types, or a value is missing or out of range.
    """
    threads = len(content) > _LARGE  # to start them takes longer than to read a small table
    read, kinds = _parquet(partial(pq.read_table, use_threads=threads), file, content), _COLUMNS[table]
    if read.column_names != list(kinds):
        columns_read = ", ".join(map(str, read.column_names))
        raise RiskDataError("run", file, f"its columns must be {', '.join(kinds)}, not {columns_read}")
    return {name: _values(file, name, kind, read.column(name), sizes) for name, kind in kinds.items()}


def count_rows(file: str, content: bytes) -> int:
    """Rows of a table by the bytes of its file."""
    return int(_parquet(pq.read_metadata, file, content).num_rows)


def _parquet(read: Callable[[pa.BufferReader], Any], file: str, content: bytes) -> Any:
    try:
        return read(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError):
        raise RiskDataError("run", file, "must be a Parquet file") from None


def _values(file: str, name: str, kind: _Kind, column: pa.ChunkedArray, sizes: Sizes) -> npt.NDArray[Any]:
    """Values of a column, checked against its kind."""
    sent, wanted = column.type, kind.type
    dictionary = pa.types.is_dictionary(sent)
    is_text = pa.types.is_string(sent) or pa.types.is_large_string(sent)
    if dictionary:
        is_text = pa.types.is_string(sent.value_type) or pa.types.is_large_string(sent.value_type)
    fits = is_text and (wanted == _WORD or not dictionary) if wanted in (_WORD, pa.string()) else sent == wanted
    if kind is _KINDS["id"]:
        fits = fits or sent == _I
    if not fits:
        raise RiskDataError("run", file, f"{name} must hold {wanted}, not {sent}")
    if column.null_count and wanted != _F:
        raise _wrong(file, name, column.is_null().to_numpy(), "must not be missing", None)
    if wanted == _WORD:
        return _codes(file, name, column)
    values: npt.NDArray[Any] = column.to_numpy()
    if is_text:
        return np.asarray(values, object)
    if wanted == pa.bool_():
        return values
    high = kind.high if not isinstance(kind.high, str) else sizes[kind.high] - 1
    bad = ~((values >= kind.low) & (values <= high))
    if kind.missing:
        bad &= ~np.isnan(values) if kind.type == _F else values != NO_SAMPLE
    if kind is _KINDS["side"]:
        bad |= values == 0
    if bad.any():
        raise _wrong(file, name, bad, _rule(kind, high), values)
    return values if values.flags.writeable else values.copy()


def _codes(file: str, name: str, column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Events or reasons as their numbers."""
    words, values = _WORDS[name], column.to_pandas().astype(object)
    codes = np.asarray(pd.Index(words, dtype=object).get_indexer(pd.Index(values)), np.int64)
    if np.any(codes < 0):
        raise _wrong(file, name, codes < 0, f"must be one of {', '.join(words)}", values.to_numpy())
    return codes


def _rule(kind: _Kind, high: float) -> str:
    if kind is _KINDS["side"]:
        return "must be 1 or -1"
    if isinstance(kind.high, str):
        return f"must be a row number from {kind.low:.0f} to {high:.0f}"
    if kind.type == _I:
        return f"must be from {kind.low} to {high}" if kind.high < np.inf else f"must be {kind.low} or more"
    if kind.low == -np.inf:
        return "must not be missing"
    if kind is _KINDS["rate"]:
        return "must be from -1 to 1"
    return f"must be {'a finite number > 0' if kind.high < np.inf else f'{kind.low:g} or more'}"


def _wrong(file: str, column: str, bad: Any, rule: str, values: Any) -> RiskDataError:
    row = int(np.flatnonzero(bad)[0])
    value = "none" if values is None else values[row]
    return RiskDataError("run", file, f"{column} {rule}", row=row, value=value)
