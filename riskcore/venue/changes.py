"""Changes of a venue during a run: read from a table, and applied to the venue's source, which is loaded again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import LARGEST, SMALLEST
from ..boundary import RiskDataError, as_text, frames, json_input, schemas
from .load import load_venue
from .schema import _Collateral, _Market, _Spot
from .tables import Venue

_TABLE = "venue_changes"
_STATES = {"open": "Open", "post-only": "PostOnly", "closed": "Closed"}
_STATE, _DELIST = "state", "delist"
_UNITS_OF_MARKET = (
    "symbol", "baseSymbol", "quoteSymbol", "marketType", "settle", "multiplier", "underlying", "expiry", "strike",
    "right", "filters.price.tickSize", "filters.quantity.stepSize", "filters.price.maxPrice",
)  # fmt: skip
_UNITS_OF_ASSET = ("symbol", "quantum")
_WHOLE = 2.0**53
_COLUMNS = ("time", "market", "asset", "field", "value")


class VenueChange(NamedTuple):
    """One change of a venue at an instant.

    Attributes
    ----------
    time : int
        Nanoseconds since the epoch.
    book : int
        Row of the market among everything that has a book (`Venue.book_symbols`); -1 for an asset.
    asset : int
        Row of the asset; -1 for a market.
    field : str
        Dotted key of the market's or asset's row in the venue file, or ``state`` or ``delist`` of a market.
    value : str, int, bool, dict, list or None
        JSON, numbers with decimals as text: its value from then on; of ``delist`` the settlement price.
    row : int
        Row of the table, for messages.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import read_changes
    >>> venue = rc.load_venue("backpack")
    >>> rows = [{"time": "2025-10-10T21:00Z", "market": "SOL_USDC_PERP", "field": "delist", "value": 190.5}]
    >>> change = read_changes(venue, rows)[0]
    >>> change.delists, change.value
    (True, '190.5')
    """

    time: int
    book: int
    asset: int
    field: str
    value: Any
    row: int

    @property
    def delists(self) -> bool:
        """Whether the change delists the market at the settlement price ``value``, units of its quote."""
        return self.field == _DELIST

    def refusal(self, venue: Venue, rule: str) -> RiskDataError:
        """Return the error of this change.

        Parameters
        ----------
        venue : Venue
            The venue of the markets and assets.
        rule : str
            The rule that the change breaks.

        Returns
        -------
        RiskDataError
            One line, with the row, the market or asset, the field and its value.

        Examples
        --------
        >>> import riskcore as rc
        >>> from riskcore.venue import VenueChange
        >>> VenueChange(0, 2, -1, "state", "open", 3).refusal(rc.load_venue("backpack"), "must be known")
        RiskDataError("venue_changes.SOL_USDC_PERP.state, row 3, value 'open': must be known")
        """
        name = venue.book_symbols[self.book] if self.asset < 0 else venue.assets.symbol[self.asset]
        return RiskDataError(_TABLE, f"{name}.{self.field}", rule, row=self.row, value=as_text(self.value))


def read_changes(
    venue: Venue, table: pd.DataFrame | Iterable[Mapping[str, Any]], *, unit: str = "ns", own_clock: bool = False
) -> tuple[VenueChange, ...]:
    """Read a table of changes.

    Parameters
    ----------
    venue : Venue
        The venue of the markets and assets.
    table : DataFrame or list of mapping
        time, market or asset (one of them in each row), field, value. A text is read as JSON; a text that is no JSON is
        the value itself.
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch.
    own_clock : bool
        Whether times may be of a clock of their own, as the tick's is.

    Returns
    -------
    tuple of VenueChange
        By time, then in the order of the rows.

    Raises
    ------
    RiskDataError
        A row names no market or asset of the venue, or a field that it does not have or that may not change, or stands
        twice. Values are checked by `changed_venue`.

    Notes
    -----
    The rules: docs/one_tick.md, "Venue changes".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import read_changes
    >>> rows = [{"time": "2025-10-10T21:00Z", "market": "SOL_USDC_PERP", "field": "tickSize", "value": 0.1}]
    >>> read_changes(rc.load_venue("backpack"), rows)
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: venue_changes.field, row 0, value 'tickSize': must be a key of the row of...
    """
    frame = frames.rows_as_frame(_TABLE, table)
    if not len(frame):
        return ()
    frame = schemas.checked(_TABLE, frame, unit=unit, own_clock=own_clock)
    time = frame["time"].to_numpy(np.int64)
    names = {
        name: frame[name].tolist() if name in frame.columns else [None] * len(frame) for name in ("market", "asset")
    }
    books = venue.listing.row
    changes = []
    for row, (market, asset, field, value) in enumerate(
        zip(*names.values(), frame["field"].tolist(), frame["value"].tolist(), strict=True)
    ):
        if (market is None) == (asset is None):
            rule = "must be given, or else the asset, not both"
            raise RiskDataError(_TABLE, "market", rule, row=row, value=as_text(market))
        if market is not None and market not in books:
            raise RiskDataError(_TABLE, "market", "must be a market of the venue", row=row, value=market)
        if asset is not None and asset not in venue.assets.row:
            raise RiskDataError(_TABLE, "asset", "must be a collateral asset of the venue", row=row, value=asset)
        book = -1 if market is None else books[market]
        change = VenueChange(
            int(time[row]), book, -1 if asset is None else venue.assets.row[asset], field, _value(row, value), row
        )
        _must_be_changeable(venue, change)
        changes.append(change)
    return tuple(sorted(changes, key=lambda change: change.time))


def _value(row: int, value: Any) -> Any:
    """JSON of a value of the table, numbers with decimals as text; a whole float is a whole number."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value, parse_float=str, parse_constant=_not_finite)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        value = int(value)
    try:
        plain = json_input.raw([value], "value")[0]
        return json.loads(json.dumps(plain, allow_nan=False, default=str), parse_float=str)
    except RiskDataError as error:
        raise RiskDataError(_TABLE, "value", error.rule, row=row, value=as_text(value)) from None
    except (TypeError, ValueError):
        raise RiskDataError(_TABLE, "value", "must be JSON", row=row, value=as_text(value)) from None


def _not_finite(text: str) -> None:
    raise ValueError(text)


def _must_be_changeable(venue: Venue, change: VenueChange) -> None:
    """Refuse a field that the row does not have, or that is a unit of accounts and books."""
    field, is_perpetual = change.field, 0 <= change.book < len(venue.markets.symbol)
    shape: Any = _Collateral if change.asset >= 0 else _Market if is_perpetual else _Spot
    what = "an asset" if change.asset >= 0 else "a market" if is_perpetual else "a spot market"
    words = () if change.asset >= 0 else (_STATE, _DELIST) if is_perpetual else (_STATE,)
    units = _UNITS_OF_ASSET if change.asset >= 0 else _UNITS_OF_MARKET
    if field in words:
        return
    if field in units:
        rule = "must not change: accounts and books are counted in it"
        raise RiskDataError(_TABLE, "field", rule, row=change.row, value=field)
    if not _has_key(msgspec.inspect.type_info(shape), field.split(".")):
        rule = f"must be a key of the row of {what} in the venue file"
        rule += f", or {' or '.join(words)}" if words else ""
        raise RiskDataError(_TABLE, "field", rule, row=change.row, value=field)


def _has_key(kind: msgspec.inspect.Type, keys: list[str]) -> bool:
    """Whether a declared type has the key that a path of keys leads to."""
    if not keys:
        return True
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_has_key(one, keys) for one in kind.types)
    if not isinstance(kind, msgspec.inspect.StructType):
        return False
    inside = {field.encode_name: field.type for field in kind.fields}
    if kind.tag_field is not None:
        inside[kind.tag_field] = msgspec.inspect.StrType()
    return keys[0] in inside and _has_key(inside[keys[0]], keys[1:])


def changed_venue(venue: Venue, changes: Iterable[VenueChange]) -> Venue:
    """Return a venue after some changes of one instant, applied in their order and validated as a whole.

    Parameters
    ----------
    venue : Venue
        The venue before.
    changes : iterable of VenueChange
        The changes.

    Returns
    -------
    Venue
        A venue of the same units; the venue itself if no change alters it, as ``delist`` does not.

    Raises
    ------
    RiskDataError
        A value is wrong, or the venue that results breaks a rule of `load_venue`, or is of other units.

    Notes
    -----
    The rules: docs/one_tick.md, "Venue changes".

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import changed_venue, read_changes
    >>> venue = rc.load_venue("backpack")
    >>> rows = [{"time": "2025-10-10T21:00Z", "asset": "SOL", "field": "haircutFunction.weight", "value": "0.5"}]
    >>> changed_venue(venue, read_changes(venue, rows)).assets.weight.tolist()
    [1.0, 0.5]
    """
    source: dict[str, Any] | None = None
    done = []
    for change in changes:
        if change.delists:
            _must_be_settlement_price(venue, change)
            continue
        if source is None:
            source = deepcopy(venue.source)
        keys, value = change.field.split("."), change.value
        if keys == [_STATE]:
            if value not in _STATES:
                raise change.refusal(venue, f"must be one of {', '.join(_STATES)}")
            keys, value = ["orderBookState"], _STATES[value]
        target = _row(venue, source, change)
        for key in keys[:-1]:
            inner = target.get(key)
            if not isinstance(inner, dict):
                inner = target[key] = {}
            target = inner
        target[keys[-1]] = value
        done.append(change)
    if source is None:
        return venue
    last = done[-1]
    try:
        changed = load_venue(source, any_adl_policy=True)
    except RiskDataError as error:
        where = "" if error.column is None else f"{error.column}: "
        raise last.refusal(venue, f"must leave a valid venue; {where}{error.rule}") from None
    if changed.book_units != venue.book_units:
        raise last.refusal(venue, "must not change the units that accounts and books are counted in")
    return changed


def _row(venue: Venue, source: dict[str, Any], change: VenueChange) -> dict[str, Any]:
    """Row of the venue's source that a change is about."""
    if change.asset < 0:
        return _of_symbol(source["markets"], venue.book_symbols[change.book])
    symbol = venue.assets.symbol[change.asset]
    if symbol not in [row["symbol"] for row in source["collateral"]]:  # the settle asset, which need not be listed
        identity = {"weight": 1, "kind": {"type": "identity"}}
        source["collateral"].append({"symbol": symbol, "haircutFunction": identity})
    return _of_symbol(source["collateral"], symbol)


def _of_symbol(rows: list[dict[str, Any]], symbol: str) -> dict[str, Any]:
    return next(row for row in rows if row["symbol"] == symbol)


def _must_be_settlement_price(venue: Venue, change: VenueChange) -> None:
    markets, book = venue.markets, change.book
    try:
        price = schemas.number(change.value)
    except ValueError:
        price = np.nan
    if not SMALLEST <= price <= LARGEST:
        raise change.refusal(venue, "must be a settlement price, a finite number > 0")
    if price > markets.max_price[book]:
        raise change.refusal(venue, markets.too_high(book))
    if price < markets.min_price[book]:
        raise change.refusal(venue, "must be at least a tick of the market's tickSize: the contract is inverse")


def table_of_changes(changes: Iterable[VenueChange]) -> dict[str, npt.NDArray[Any]]:
    """Return changes as the columns of a run folder.

    Parameters
    ----------
    changes : iterable of VenueChange
        N changes.

    Returns
    -------
    dict of str to ndarray, shape (N,)
        time, market (row of its book) and asset (int64), field and value (JSON text).

    Examples
    --------
    >>> from riskcore.venue import VenueChange, table_of_changes
    >>> table_of_changes([VenueChange(5, 2, -1, "state", "open", 0)])["value"].tolist()
    ['"open"']
    """
    rows = [(c.time, c.book, c.asset, c.field, json.dumps(c.value)) for c in changes]
    columns = zip(*rows, strict=True) if rows else [()] * len(_COLUMNS)
    types = (np.int64, np.int64, np.int64, object, object)
    return {name: np.array(column, kind) for name, column, kind in zip(_COLUMNS, columns, types, strict=True)}


def changes_of_table(venue: Venue, table: Mapping[str, npt.NDArray[Any]]) -> tuple[VenueChange, ...]:
    """Read the columns of `table_of_changes`; rows of books and assets are those of the venue.

    Parameters
    ----------
    venue : Venue
        The venue of the markets and assets.
    table : mapping of str to ndarray
        The columns; they may be more.

    Returns
    -------
    tuple of VenueChange
        In the order of the rows.

    Raises
    ------
    RiskDataError
        As of `read_changes`.

    Examples
    --------
    >>> import riskcore as rc
    >>> from riskcore.venue import VenueChange, changes_of_table, table_of_changes
    >>> changes = (VenueChange(5, 2, -1, "state", "open", 0),)
    >>> changes_of_table(rc.load_venue("backpack"), table_of_changes(changes)) == changes
    True
    """
    changes = []
    columns = (table[name].tolist() for name in _COLUMNS)
    for row, (time, book, asset, field, text) in enumerate(zip(*columns, strict=True)):
        if (book < 0) == (asset < 0):
            raise RiskDataError(_TABLE, "market", "must be given, or else the asset, not both", row=row, value=book)
        change = VenueChange(time, book, asset, field, _value(row, text), row)
        _must_be_changeable(venue, change)
        changes.append(change)
    return tuple(changes)
