"""Distinct account ids of several tables in ascending order, and the rank of each row's id."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from .._limits import INT64_MAX
from .._typing import Bool, Int
from ..kernels import id_encoding as kernels

Row = npt.NDArray[np.int32]

_DENSE = 8  # numbers in a range at most this many times their count are ranked by a table of the range, without sorting
_PLACES = 64  # bytes of a text that its number may encode


def order(key: Int) -> Int:
    """Rows in ascending order of their key; keys are not negative, and the array is overwritten.

    A key that leaves room for the row's number is sorted together with it: NumPy sorts numbers several times faster
    than it sorts rows by numbers.
    """
    bits = len(key).bit_length()
    if int(key.max(initial=0)) >= 1 << (63 - bits):
        return np.argsort(key, kind="stable")
    key <<= bits
    key |= np.arange(len(key))
    key.sort()
    key &= (1 << bits) - 1
    return key


def ranked_numbers(columns: Sequence[Int]) -> tuple[Int, list[Row]]:
    """Distinct numbers of all columns, ascending, and the rank of each row's number."""
    starts = [_starts(column[1:] != column[:-1]) for column in columns]
    runs = [column if start is None else column[start] for column, start in zip(columns, starts, strict=True)]
    low, high = min(int(run.min()) for run in runs), max(int(run.max()) for run in runs)
    if high - low < _DENSE * sum(map(len, runs)):
        is_present = np.zeros(high - low + 1, bool)
        for run in runs:
            is_present[run - low] = True
        distinct = np.flatnonzero(is_present) + low
        rank = np.cumsum(is_present, dtype=np.int32) - np.int32(1)
        ranks = [rank[run - low] for run in runs]
    else:
        numbers = np.concatenate(runs)
        rows = order(numbers - low) if high - low <= INT64_MAX else np.argsort(numbers, kind="stable")
        numbers = numbers[rows]
        is_first = np.append(True, numbers[1:] != numbers[:-1])
        distinct = numbers[is_first]
        rank = np.empty(len(rows), np.int32)
        rank[rows] = np.cumsum(is_first, dtype=np.int32) - np.int32(1)
        ranks = np.split(rank, np.cumsum([len(run) for run in runs])[:-1])
    return distinct, _spread(ranks, starts, columns)


def ranked_texts(columns: Sequence[pd.Series[Any]]) -> tuple[npt.NDArray[np.object_], list[Row]]:
    """Distinct texts of all columns, ascending, and the rank of each row's text.

    Raises
    ------
    UnicodeEncodeError
        A text has half of a surrogate pair, which UTF-8, and so no file of a run, can hold.
    """
    texts = [pa.chunked_array(pa.array(column, pa.large_string())) for column in columns]
    starts = [_starts(pc.not_equal(text[1:], text[:-1]).to_numpy()) for text in texts]
    runs = [text if start is None else text.take(pa.array(start)) for text, start in zip(texts, starts, strict=True)]
    ends = np.cumsum([len(run) for run in runs])[:-1]
    texts_of_runs = pa.chunked_array([chunk for run in runs for chunk in run.chunks])
    numbers, exact = _packed(texts_of_runs)
    rank = ranked_numbers([numbers])[1][0]
    row_of_rank = np.empty(int(rank.max()) + 1, np.int64)
    row_of_rank[rank] = np.arange(len(rank))
    distinct = texts_of_runs.take(pa.array(row_of_rank))
    if not exact and not pc.all(pc.equal(distinct.take(pa.array(rank)), texts_of_runs)).as_py():
        encoded = texts_of_runs.dictionary_encode()
        distinct = encoded.chunk(0).dictionary
        ascending = pc.sort_indices(distinct)
        rank = np.empty(len(distinct), np.int32)
        rank[ascending.to_numpy()] = np.arange(len(distinct))
        rank = rank[np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])]
        distinct = distinct.take(ascending)
    return distinct.to_numpy(zero_copy_only=False), _spread(np.split(rank, ends), starts, texts)


def lookalikes(ids: npt.NDArray[np.object_]) -> tuple[Int, Int]:
    """Pairs of rows whose texts differ only in blanks, invisible characters, accent encoding or leading zeros."""
    try:
        texts = pa.array(ids, pa.large_string())
    except UnicodeEncodeError:  # half of a surrogate pair
        return np.empty(0, np.int64), np.empty(0, np.int64)
    is_odd = np.empty(len(texts), bool)
    kernels.find_ambiguous(*_buffers(texts), is_odd)
    rows = np.flatnonzero(is_odd)
    if not rows.size:
        return rows, rows
    normal_forms = normalized(texts.take(pa.array(rows)))
    # a text that is not odd is in normal form: an odd text may stand for it
    first_row = pc.index_in(normal_forms, texts).fill_null(-1).to_numpy()
    encoded = normal_forms.dictionary_encode().indices.to_numpy()
    first = np.full(len(rows), -1)
    first[encoded[::-1]] = rows[::-1]
    same = np.where(first_row >= 0, first_row, first[encoded])
    differs = same != rows
    return rows[differs], same[differs]


def did_you_mean(id_: object, ids: npt.NDArray[Any]) -> str:
    """Return the end of a message that names the id perhaps meant by one that is not among the ids.

    Parameters
    ----------
    id_ : object
        The id that is not among them.
    ids : ndarray
        The ids.

    Returns
    -------
    str
        Empty where no id differs from it by its writing alone.

    Examples
    --------
    >>> import numpy as np
    >>> from riskcore.state import did_you_mean
    >>> did_you_mean("007", np.array([7, 8]))
    ': did you mean 7, a whole number?'
    """
    texts = [str(known).encode(errors="replace").decode() for known in (*ids.tolist(), id_)]
    *normal_forms, wanted = normalized(pa.array(texts, pa.large_string())).to_pylist()
    match = next((known for known, form in zip(ids.tolist(), normal_forms, strict=True) if form == wanted), None)
    if match is None:
        return ""
    return f": did you mean {match!r}, {'text' if isinstance(match, str) else 'a whole number'}?"


def normalized(texts: pa.Array) -> pa.Array:
    """Normalised texts: those that differ in writing alone become equal."""
    texts = pc.utf8_normalize(texts, "NFC")
    for pattern, kept in (
        (r"^[\pZ\pC]+|[\pZ\pC]+$|[\p{Cf}\p{Cc}]+", ""),
        (r"^\+?(-?)0*([0-9]+)(\.0*)?$", r"\1\2"),
    ):
        texts = pc.replace_substring_regex(texts, pattern, kept)
    return texts


def _starts(changes: Bool) -> Int | None:
    """First rows of the runs of equal rows, None where most runs have one row.

    ``changes`` says whether each row but the first differs from the row before.
    """
    count = np.count_nonzero(changes) + 1
    return np.flatnonzero(np.append(True, changes)) if 2 * count <= len(changes) else None


def _spread(ranks: Sequence[Row], starts: Sequence[Int | None], columns: Sequence[Any]) -> list[Row]:
    """Rank of every row, from the ranks of the runs."""
    return [
        rank if start is None else np.repeat(rank, np.diff(start, append=len(column)))
        for rank, start, column in zip(ranks, starts, columns, strict=True)
    ]


def _buffers(texts: pa.Array) -> tuple[Int, npt.NDArray[np.uint8]]:
    """Offsets of the texts, and their bytes."""
    _, offset, data = texts.buffers()
    ends = np.frombuffer(offset, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return ends, np.frombuffer(data or b"", np.uint8)


def _packed(texts: pa.ChunkedArray) -> tuple[Int, bool]:
    """Numbers in the order of the texts, and whether different texts have different numbers.

    A text is read as a number with a digit per byte. The base of a digit is the number of distinct bytes at that
    position of all texts. Positions from which on the number would pass 63 bits are left out.
    """
    buffers = [_buffers(chunk) for chunk in texts.chunks]
    longest = max(int(np.diff(ends).max(initial=0)) for ends, _ in buffers)
    seen = np.zeros((min(longest, _PLACES), 257), bool)
    for ends, data in buffers:
        kernels.find_symbols(ends, data, seen)
    bases = seen.sum(axis=1).tolist()
    digits = next((position for position in range(len(bases)) if prod(bases[: position + 1]) > INT64_MAX), len(bases))
    weight = np.array([prod(bases[position + 1 : digits]) for position in range(digits)], np.int64)
    value = (np.cumsum(seen[:digits], axis=1) - 1) * weight[:, None]
    number, first = np.empty(len(texts), np.int64), 0
    for ends, data in buffers:
        kernels.encode(ends, data, value, number[first : first + len(ends) - 1])
        first += len(ends) - 1
    return number, digits == longest
