"""Parquet and CSV files of the tables that users hand in, and the ticks in them."""

from __future__ import annotations

import os
import re
import secrets
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .._typing import Float
from ..boundary import RiskDataError, frames, schemas, timestamps
from ..market import NO_FUNDING, Books, FundingEntries, TickTable, asset_values, first_bad_bar
from ..market.guards import two_sided
from ..record import run_folder
from ..state import Accounts, must_fit
from ..venue import Venue, VenueChange, read_changes

_FORMULA = r"^'*[=+\-@\t\r]"
"""Start of a text that a spreadsheet would take for a formula, or that is escaped already."""

_EXACT_FLOATS: dict[str, Any] = (
    {} if tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1) else {"float_precision": "round_trip"}
)
"""How pandas is told to read the nearest float64; from 3.1 on it always does."""

_NAMES = (
    "account", "market", "asset", "side", "source", "field", "action", "order", "to_account", "owner", "underlying"
)  # fmt: skip
_MORE_IDS = "to_account", "owner", "order"
"""Columns of the table `activity` that a CSV file may leave empty, and that hold ids."""
_MISSING = ["", "#N/A", "N/A", "NA", "NULL", "NaN", "None", "nan", "null"]
"""Texts of a CSV file that stand for no value; of a name only the first does: an account may be called NA."""

_WHOLE = r"^(0|-?[1-9][0-9]*)$"
_ANOTHER_START = re.compile(rb"^(?=[^\r\n])(?!(0|-?[1-9][0-9]{0,17}),)", re.MULTILINE)
"""Start of a row of a CSV file that is no whole number of 64 bits."""
_NEVER = -(2**62)


def read_table(path: str | Path, table: str, accounts: Accounts | None = None) -> pd.DataFrame:
    r"""Read a table from a file, Parquet by its suffix, else CSV.

    Times are left as the file has them: the unit of whole numbers is told to the function that takes the table.
    In a CSV file the quote that `write_table` puts before a text is taken away.

    Parameters
    ----------
    path : str or Path
        The file.
    table : str
        Name of the table in messages.
    accounts : Accounts, optional
        The accounts that the table is about: where their ids are text, so are those of a CSV file.

    Returns
    -------
    DataFrame
        The table.

    Raises
    ------
    RiskDataError
        The file cannot be read, is not what its suffix says, or has no rows.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from riskcore.io import read_table
    >>> path = Path(tempfile.mkdtemp()) / "balances.csv"
    >>> count = path.write_text("account,asset,quantity\n7,USDC,150.5\n")
    >>> read_table(path, "balances").to_dict("records")
    [{'account': 7, 'asset': 'USDC', 'quantity': 150.5}]
    """
    frame = _read(path, table)
    if table == "activity" and _kind(Path(path)) == "CSV" and (accounts is None or accounts.ids.dtype == np.int64):
        for name in _MORE_IDS[:2]:
            if name in frame.columns:
                frame[name] = _whole_if_all_are(frame[name])
    if accounts is not None and accounts.ids.dtype != np.int64:
        if _kind(Path(path)) == "CSV" and "account" in frame.columns:
            frame["account"] = frame["account"].astype(str)
        return frame
    return _with_ids([path], [frame])[0]


def read_accounts(
    venue: Venue,
    positions: str | Path,
    balances: str | Path,
    orders: str | Path | None = None,
    settings: str | Path | None = None,
) -> Accounts:
    r"""Read accounts from files of the tables that `Accounts.from_frames` takes, Parquet by the suffix, else CSV.

    Faster and in less memory than `read_table` and `Accounts.from_frames` are together: of the names in a Parquet file
    each is read once, and no table is kept for longer than it is needed.

    Parameters
    ----------
    venue : Venue
        The venue whose markets and assets the tables name.
    positions, balances : str or Path
        Files of the tables; columns as of `Accounts.from_frames`.
    orders, settings : str or Path, optional
        Files of the tables; columns as of `Accounts.from_frames`.

    Returns
    -------
    Accounts
        The accounts.

    Raises
    ------
    RiskDataError
        A file cannot be read, or a table breaks a rule.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import riskcore as rc
    >>> from riskcore.io import read_accounts
    >>> folder = Path(tempfile.mkdtemp())
    >>> count = (folder / "positions.csv").write_text(
    ...     "account,market,quantity,entry_price\n7,SOL_USDC_PERP,12.5,180.25\n"
    ... )
    >>> count = (folder / "balances.csv").write_text("account,asset,quantity\n7,USDC,150\n")
    >>> read_accounts(rc.load_venue("backpack"), folder / "positions.csv", folder / "balances.csv")
    Accounts(1 account, 1 position, 0 open orders, 150.00 USDC in balances)
    """
    paths = {"positions": positions, "balances": balances, "orders": orders, "settings": settings}
    frames = {n: _read(p, n, read_dictionary=["market", "asset"]) for n, p in paths.items() if p is not None}
    read = dict(zip(frames, _with_ids([paths[n] for n in frames], list(frames.values())), strict=True))
    del frames
    return Accounts.from_frames(
        venue, read.pop("positions"), read.pop("balances"), read.pop("orders", None), read.pop("settings", None)
    )


def _with_ids(paths: Sequence[str | Path | None], frames: list[pd.DataFrame]) -> list[pd.DataFrame]:
    """Make whole numbers of account ids that a CSV file has as text, if all are written as whole numbers are.

    No id changes: where one is written as `007`, all stay text.
    """
    read = list(frames)
    tables_of_csv = [
        n for n, (path, frame) in enumerate(zip(paths, frames, strict=True))
        if _kind(Path(str(path))) == "CSV" and "account" in frame.columns
    ]  # fmt: skip
    for n in tables_of_csv:
        if frames[n]["account"].dtype != np.int64:
            texts = pa.array(frames[n]["account"], pa.large_string())
            if not texts.null_count and pc.all(pc.match_substring_regex(texts, _WHOLE)).as_py():
                with suppress(pa.ArrowInvalid):  # past 64 bits
                    read[n] = frames[n].assign(account=texts.cast(pa.int64()).to_numpy())
    if len({read[n]["account"].dtype == np.int64 for n in tables_of_csv}) == 2:
        for n in tables_of_csv:
            read[n] = read[n].assign(account=read[n]["account"].astype(str))
    return read


def _whole_if_all_are(ids: pd.Series[Any]) -> pd.Series[Any]:
    """Make whole numbers of ids that a CSV file has as text, some of them missing, if all are written as such."""
    given = ids.notna()
    if not all(re.match(_WHOLE, text) for text in ids[given]):
        return ids
    return pd.Series([int(text) if there else None for text, there in zip(ids, given, strict=True)], dtype=object)


def _texts(table: str, file: BinaryIO) -> dict[str, type[str]] | None:
    """Columns of a CSV file whose values are read as they are written."""
    texts = {} if _has_whole_ids(file) else {"account": str}
    if table == "activity":
        texts |= dict.fromkeys(_MORE_IDS, str)
    return texts or None


def _has_whole_ids(file: BinaryIO) -> bool:
    """Whether a CSV file begins its rows with account ids that are all written as whole numbers are.

    pandas reads those in a third of the time that texts take.
    """
    first = file.readline().startswith(b"account,")
    whole = first and _ANOTHER_START.search(file.read()) is None
    file.seek(0)
    return whole


def _kind(path: Path) -> str:
    return "Parquet" if path.suffix.lower() == ".parquet" else "CSV"


def _read(path: str | Path, table: str, **how: Any) -> pd.DataFrame:
    """Read a table; ``how`` to read a Parquet file."""
    if not isinstance(path, str | os.PathLike):
        raise RiskDataError(table, None, f"must be a path, not {type(path).__name__}")
    path = Path(path)
    kind = _kind(path)
    rule = f"must be a {kind} file"
    if path.suffix.lower() not in (".parquet", ".csv"):
        rule += "; a .parquet file is read as Parquet, any other file as CSV"
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            if kind == "Parquet":
                # an id that is missing would make floats of the whole numbers beside it
                whole = {"integer_object_nulls": True}
                frame = pq.read_table(file).to_pandas(**whole) if table == "activity" else pd.read_parquet(file, **how)
            else:
                # low_memory would let a column change its type on the way
                header = pd.read_csv(file, index_col=False, nrows=0).columns
                missing = {name: [""] if name in _NAMES else _MISSING for name in header}
                file.seek(0)
                frame = _unescape_formulas(
                    pd.read_csv(
                        file, index_col=False, low_memory=False, keep_default_na=False, na_values=missing or _MISSING,
                        dtype=_texts(table, file), **_EXACT_FLOATS,
                    )
                )  # fmt: skip
    except (pa.ArrowException, pd.errors.ParserWarning, ValueError):
        raise RiskDataError(table, None, rule, value=str(path)) from None
    except OSError as error:
        # pyarrow reports a damaged file as an OSError without a number
        rule = f"cannot be read: {error.strerror}" if error.errno else rule
        raise RiskDataError(table, None, rule, value=str(path)) from None
    if not len(frame):
        raise RiskDataError(table, None, "must have at least one row", value=str(path))
    return frame


def write_table(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a table, Parquet or CSV by the suffix; the file appears whole or not at all.

    In a CSV file a text that begins with =, +, -, @, a tab or a carriage return gets a single quote in front, so that
    no spreadsheet runs it as a formula; `read_table` takes it away. Numbers stay as they are.

    Parameters
    ----------
    frame : DataFrame
        The table; its index is not written.
    path : str or Path
        The file to write, or to replace.

    Raises
    ------
    RiskDataError
        As of `output_file`, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from riskcore.io import write_table
    >>> path = Path(tempfile.mkdtemp()) / "balances.csv"
    >>> write_table(pd.DataFrame({"account": ["=A1", "bob"], "quantity": [-1.5, 2.0]}), path)
    >>> path.read_text().splitlines()
    ['account,quantity', "'=A1,-1.5", 'bob,2.0']
    """

    def fill(file: BinaryIO) -> None:
        if Path(path).suffix.lower() == ".parquet":
            frame.to_parquet(file, index=False, compression="zstd")
        else:
            escape_formulas(frame).to_csv(file, index=False)

    write_atomically(path, fill, TABLES)


def escape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame for a CSV file: texts that a spreadsheet would run as formulas have a single quote in front."""
    names = [f"'{n}" if isinstance(n, str) and re.match(_FORMULA, n) else n for n in frame.columns]
    return _changed(frame, _FORMULA, lambda text: f"'{text}").set_axis(names, axis="columns")


def _unescape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Take the quotes of `escape_formulas` away."""
    return _changed(frame, f"^'{_FORMULA[1:]}", lambda text: text[1:])


def _changed(frame: pd.DataFrame, pattern: str, change: Callable[[str], str]) -> pd.DataFrame:
    """Change the texts that match a pattern."""
    frame = frame.copy(deep=False)
    for n, dtype in enumerate(frame.dtypes):
        if not (isinstance(dtype, pd.CategoricalDtype | pd.StringDtype) or pd.api.types.is_object_dtype(dtype)):
            continue
        values = frame.iloc[:, n]
        try:
            text = pa.array(values, pa.large_string(), from_pandas=True)
            rows = np.flatnonzero(pc.match_substring_regex(text, pattern).to_numpy(zero_copy_only=False))
        except (pa.ArrowException, UnicodeEncodeError):  # not all of it text, or half of a surrogate pair
            rows = np.flatnonzero([isinstance(v, str) and re.match(pattern, v) is not None for v in values])
        if rows.size:
            values = values.astype(object)
            values.iloc[rows] = values.iloc[rows].map(change)
            frame.isetitem(n, values.array)
    return frame


def write_text(text: str, path: str | Path, *suffixes: str) -> None:
    """Write a text file, under a name with one of the suffixes if any are given; it appears whole or not at all.

    Parameters
    ----------
    text : str
        The text.
    path : str or Path
        The file to write, or to replace.
    *suffixes : str
        Suffixes that the name may have, with their dots; any if there are none.

    Raises
    ------
    RiskDataError
        As of `output_file`, or the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from riskcore.io import write_text
    >>> path = Path(tempfile.mkdtemp()) / "page.html"
    >>> write_text("<p>Done</p>", path, ".html")
    >>> path.read_text()
    '<p>Done</p>'
    """

    def fill(file: BinaryIO) -> None:
        file.write(text.encode())

    write_atomically(path, fill, suffixes)


TABLES = (".parquet", ".csv")
"""Suffixes of the tables that are written."""


def output_file(path: str | Path, suffixes: Sequence[str] = (), inputs: Iterable[str | Path | None] = ()) -> Path:
    """Return the file that writing to a path makes or replaces: at the end of links, where it is one.

    Parameters
    ----------
    path : str or Path
        The path.
    suffixes : sequence of str
        Suffixes that can be written, with their dots; any if there are none.
    inputs : iterable of str, Path or None
        Files that the output must not be, also by another name.

    Returns
    -------
    Path
        The file; it need not exist.

    Raises
    ------
    RiskDataError
        The name has another suffix, the path names something that is not a regular file, or the file is an input or
        part of a run folder.

    Examples
    --------
    >>> from riskcore.io import TABLES, output_file
    >>> output_file("margins.txt", TABLES)
    Traceback (most recent call last):
        ...
    riskcore.boundary.errors.RiskDataError: out, value 'margins.txt': must end in .parquet or .csv
    """
    path = Path(path)
    target = Path(os.path.realpath(path))

    def wrong(rule: str) -> RiskDataError:
        return RiskDataError("out", None, rule, value=str(path))

    if suffixes and path.suffix.lower() not in suffixes:
        raise wrong(f"must end in {' or '.join(suffixes)}")
    if os.path.lexists(path) and not os.path.isfile(path) and (os.path.exists(path) or os.path.islink(target)):
        raise wrong("must be a new or a regular file: a folder, a device or a pipe is not replaced")
    for other in inputs:
        if other is not None and os.path.exists(other) and os.path.exists(target) and os.path.samefile(other, target):
            raise wrong("must not be an input of the same command")
    folder = run_folder.holding(target)
    if folder is not None and (target.parent != folder or target.name not in run_folder.PAGES):
        raise wrong(f"must not be in a run folder, {folder}, except as {' or '.join(run_folder.PAGES)}")
    return target


def write_atomically(path: str | Path, fill: Callable[[BinaryIO], None], suffixes: Sequence[str] = ()) -> None:
    """Write a file by a function; it appears whole or not at all, and replaces a regular file alone."""
    target = output_file(path, suffixes)
    fresh = target.with_name(f".{secrets.token_hex(8)}.new")
    try:
        with fresh.open("xb") as file:
            fill(file)
        os.replace(fresh, target)
    except OSError as error:
        raise RiskDataError("out", None, f"cannot be written: {error.strerror or error}", value=str(path)) from None
    finally:
        with suppress(OSError):
            fresh.unlink()


def read_ticks(
    venue: Venue,
    accounts: Accounts,
    marks: pd.DataFrame,
    books: pd.DataFrame | None = None,
    asset_prices: pd.DataFrame | None = None,
    *,
    funding: pd.DataFrame | None = None,
    venue_changes: pd.DataFrame | None = None,
    activity: pd.DataFrame | None = None,
    volatilities: pd.DataFrame | None = None,
    terms: pd.DataFrame | None = None,
    surface: pd.DataFrame | None = None,
    underlyings: pd.DataFrame | None = None,
    unit: str = "ns",
) -> TickTable:
    """Collect ticks from tables in natural units: one tick per time in ``marks``.

    Parameters
    ----------
    venue : Venue
        The venue whose markets and assets the tables name.
    accounts : Accounts
        The state at the first tick.
    marks : DataFrame
        time, market, mark_price, and optionally index_price, open_interest (quantity), funding_rate (of the funding due
        at that time), last_price (of the last trade), low_price and high_price (the lowest and the highest mark since
        the time before); prices in settle units. A market with positions or orders must
        have a mark, or a price that a mark follows from (an index, a last price, a book of two sides), at the first
        time; later the mark before may be carried forward for the policy's ``stale_after``.
    books : DataFrame, optional
        time, market, side, level, price, quantity, and optionally book_time; times of ``marks``. Spot markets of
        collateral assets may have a book as well.
    asset_prices : DataFrame, optional
        time, asset, price; times of ``marks``.
    funding : DataFrame, optional
        time, market, rate: funding that falls due at its own time. Rows up to the first time of ``marks``, and after
        the last one, are not used.
    venue_changes : DataFrame, optional
        time, market or asset, field, value: changes of the venue at their own times (docs/tables.md). Rows up to the
        first time of ``marks`` are applied there; rows after the last one are not used. A market that is delisted needs
        no mark from then on.
    activity : DataFrame, optional
        Actions of accounts, as of `riskcore.Engine.apply` and each with its time, ascending: `replay` carries out those
        from the time of a tick until that of the next one after it. Rows after the last time are not used.
    volatilities : DataFrame, optional
        time, market, volatility of options; times of ``marks``.
    terms, surface, underlyings : DataFrame, optional
        As of `riskcore.Tick`, with the column time, a time of ``marks``; a table without it is that of every tick.
    unit : {"ns", "us", "ms", "s"}
        Of times that are whole numbers since the epoch.

    Returns
    -------
    TickTable
        The ticks, in time order.

    Raises
    ------
    RiskDataError
        A table breaks a rule, a time is outside the years 2000 to 2200 or unknown to ``marks``, a position or balance
        cannot have a price at some time, or a market has a funding_rate although its funding has times of its own.

    Examples
    --------
    >>> import pandas as pd
    >>> from riskcore.io import read_ticks
    >>> from riskcore.sample import two_accounts
    >>> venue, accounts = two_accounts()
    >>> market = "SOL_USDC_PERP"
    >>> time = ["2025-10-10T21:00Z", "2025-10-10T21:01Z"]
    >>> marks = pd.DataFrame({"time": time, "market": market, "mark_price": [195.0, 194.0]})
    >>> len(read_ticks(venue, accounts, marks))
    2
    """
    must_fit(accounts, venue)
    worthless = _worthless(venue, marks := frames.as_frame("marks", marks))
    if worthless.any():
        marks = marks.assign(mark_price=marks["mark_price"].mask(worthless))
    marks = schemas.checked("marks", marks, unit=unit)
    if not len(marks):
        raise RiskDataError("marks", None, "must have at least one row")
    time, row = np.unique(marks["time"].to_numpy(), return_inverse=True)
    market = schemas.codes("marks", "market", marks["market"], venue.markets.symbol, "a market")
    by_market = {}
    for name in ("mark_price", "index_price", "open_interest", "funding_rate", "last_price", "low_price", "high_price"):
        by_market[name] = np.full((len(time), len(venue.markets.symbol)), np.nan)
        if name in marks.columns:
            by_market[name][row, market] = marks[name].to_numpy()
    by_market["mark_price"][row[worthless], market[worthless]] = 0.0
    mark, index, open_interest, funding_rate, last, low, high = by_market.values()
    none = np.full(len(marks), np.nan)
    bars = (marks[name].to_numpy() if name in marks.columns else none for name in ("mark_price", *_BAR))
    if (bad := first_bad_bar(*bars)) is not None:
        first, of_high, rule = bad
        raise RiskDataError("marks", _BAR[of_high], rule, row=first, value=marks[_BAR[of_high]].iloc[first])
    levels: dict[int, Books] = {}
    if books is not None:
        books = schemas.checked("books", books, unit=unit)
        _row_of_time("books", time, books["time"])
        levels = dict(Books.split(venue, books))
    priced_now = ~np.isnan(mark) | ~np.isnan(index) | ~np.isnan(last) | _two_sided(venue, time, levels, mark)
    # a mark may be carried forward for a while
    last_known = np.maximum.accumulate(np.where(priced_now, time[:, None], _NEVER))
    marked: npt.NDArray[np.bool_] = (last_known != _NEVER) & (
        time[:, None] - last_known <= float(venue.policy.stale_after) * 1e9
    )
    entries = NO_FUNDING if funding is None else FundingEntries.read(venue, funding, unit=unit)
    changes = () if venue_changes is None else read_changes(venue, venue_changes, unit=unit)
    _must_follow_one_table(venue, time, funding_rate, entries)
    delisted = _delisted(venue, time, changes)
    marked[delisted] = True  # what a market that is delisted needs no more
    columns = accounts.columns
    used_markets = columns.market[(columns.lots != 0) | (columns.open_bid != 0) | (columns.open_ask != 0)]
    if not venue.has_scenarios:  # else a sweep finds what is missing: options follow from other data
        _must_have_prices("marks", "mark_price", time, marked, used_markets, venue.markets.symbol)
    asset = np.full((len(time), len(venue.assets.symbol)), np.nan)
    if asset_prices is not None:
        asset_prices = schemas.checked("asset_prices", asset_prices, unit=unit)
        column = schemas.codes(
            "asset_prices", "asset", asset_prices["asset"], venue.assets.symbol, "a collateral asset"
        )
        tick_row = _row_of_time("asset_prices", time, asset_prices["time"])
        asset[tick_row, column] = asset_prices["price"].to_numpy()
    acted = None if activity is None else _read_activity(activity, unit)
    used_assets = columns.asset[(columns.free != 0) | (columns.lent != 0)]
    known = np.where(marked & ~delisted, 1.0, np.nan), np.where(delisted, np.nan, index)
    priced: npt.NDArray[np.bool_] = ~np.isnan(asset_values(venue, *known, asset))
    if not venue.has_scenarios:
        _must_have_prices("asset_prices", "price", time, priced, used_assets, venue.assets.symbol)
    given = {"terms": terms, "surface": surface, "underlyings": underlyings}
    return TickTable(
        venue=venue,
        time=time,
        mark=mark,
        index=index,
        open_interest=open_interest,
        funding_rate=funding_rate,
        last=last,
        low=low,
        high=high,
        asset=asset,
        books=levels,
        funding=entries,
        venue_changes=changes,
        activity=acted,
        volatility=None if volatilities is None else _volatility(venue, time, volatilities, unit),
        scenario_tables={name: _parts(name, time, table, unit) for name, table in given.items() if table is not None},
    )


def _worthless(venue: Venue, marks: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Rows of options with a mark of 0, which no other market may have."""
    if not venue.markets.has_options or not {"market", "mark_price"} <= set(marks.columns):
        return np.zeros(len(marks), bool)
    options = [s for s, is_option in zip(venue.markets.symbol, venue.markets.is_option, strict=True) if is_option]
    return ((marks["mark_price"] == 0) & marks["market"].isin(options)).to_numpy(bool)


def _volatility(venue: Venue, time: npt.NDArray[np.int64], table: pd.DataFrame, unit: str) -> Float:
    """Volatilities by tick and market, NaN for none."""
    table = schemas.checked("volatilities", table, unit=unit)
    market = schemas.codes("volatilities", "market", table["market"], venue.markets.symbol, "a market")
    volatility = np.full((len(time), len(venue.markets.symbol)), np.nan)
    volatility[_row_of_time("volatilities", time, table["time"]), market] = table["volatility"].to_numpy()
    return volatility


def _parts(name: str, time: npt.NDArray[np.int64], table: pd.DataFrame, unit: str) -> dict[int, pd.DataFrame]:
    """Rows of a table by the time of their tick, without the time; a table without times is that of every tick."""
    table = frames.as_frame(name, table)
    if "time" not in table.columns:
        return dict.fromkeys(time.tolist(), table)
    stamps = timestamps.times(name, table["time"], unit=unit)
    _row_of_time(name, time, pd.Series(stamps))
    table = table.drop(columns="time")
    return {int(stamp): table[stamps == stamp] for stamp in np.unique(stamps)}


def _read_activity(activity: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Return the table with its times as whole nanoseconds; what an account may not do is found at its tick."""
    source = frames.as_frame("activity", activity).reset_index(drop=True)
    table = schemas.checked("activity", source, unit=unit)
    given = ~frames.missing(source["time"]) if "time" in source.columns else np.zeros(len(source), bool)
    if not given.all():
        rule = "must not be missing: it tells after which tick a row is carried out"
        raise RiskDataError("activity", "time", rule, row=int(given.argmin()))
    time = table["time"].to_numpy(np.int64)
    if (early := np.diff(time) < 0).any():
        row = int(early.argmax()) + 1
        rule = f"must not be before that of the row before, {timestamps.moment(time[row - 1])}"
        raise RiskDataError("activity", "time", rule, row=row, value=timestamps.moment(time[row]))
    return table.assign(time=time)


def _must_follow_one_table(
    venue: Venue, time: npt.NDArray[np.int64], funding_rate: Float, entries: FundingEntries
) -> None:
    """Refuse funding rates of the marks of a market from its first entry in the table of funding on."""
    used = entries.chosen(entries.time > time[0])
    first = np.full(funding_rate.shape[1], np.iinfo(np.int64).max)
    np.minimum.at(first, used.market, used.time)
    both = np.argwhere(~np.isnan(funding_rate) & (time[:, None] >= first))
    if both.size:
        tick, market = both[0].tolist()
        rule = (
            f"must be left out from the market's first row in the table funding on, {timestamps.moment(first[market])}"
        )
        row = f"time {timestamps.moment(time[tick])}, {venue.markets.symbol[market]}"
        raise RiskDataError("marks", "funding_rate", rule, row=row, value=float(funding_rate[tick, market]))


def _delisted(venue: Venue, time: npt.NDArray[np.int64], changes: tuple[VenueChange, ...]) -> npt.NDArray[np.bool_]:
    """Whether each market is delisted at each tick, shape (T, M)."""
    delisted = np.zeros((len(time), len(venue.markets.symbol)), bool)
    for change in changes:
        if change.delists:
            delisted[:, change.book] |= time >= change.time
    return delisted


_BAR = ("low_price", "high_price")


def _two_sided(
    venue: Venue, time: npt.NDArray[np.int64], levels: dict[int, Books], mark: Float
) -> npt.NDArray[np.bool_]:
    """Where a market has a book with both sides that is not refused; shape of ``mark``."""
    has_both = np.zeros(mark.shape, bool)
    for t in np.flatnonzero(np.isnan(mark).any(axis=1)).tolist():
        if (books := levels.get(int(time[t]))) is not None:
            has_both[t] = two_sided(venue, books, int(time[t]))
    return has_both


def _must_have_prices(
    table: str,
    column: str,
    time: npt.NDArray[np.int64],
    priced: npt.NDArray[np.bool_],
    needed: npt.NDArray[np.integer[Any]],
    names: tuple[str, ...],
) -> None:
    """Refuse ticks that lack a price that an account needs, before a run begins that would meet them half-way."""
    for item in np.unique(needed):
        missing = np.flatnonzero(~priced[:, item])
        if missing.size:
            row = f"time {timestamps.moment(time[missing[0]])}"
            raise RiskDataError(table, column, "an account holds it: a price is needed", row=row, value=names[item])


def _row_of_time(table: str, time: npt.NDArray[np.int64], values: pd.Series[Any]) -> npt.NDArray[np.int64]:
    stamp = values.to_numpy()
    row = np.minimum(np.searchsorted(time, stamp), len(time) - 1)
    bad = np.flatnonzero(time[row] != stamp)
    if bad.size:
        value = timestamps.moment(stamp[bad[0]])
        raise RiskDataError(table, "time", "must be a time of the marks table", row=int(bad[0]), value=value)
    return row
