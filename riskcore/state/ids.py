"""Account ids of several tables: which there are, in ascending order, and which of them each row has."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from ..kernels import id_encoding as kernels

Int = npt.NDArray[np.int64]
Row = npt.NDArray[np.int32]

_DENSE = 8  # numbers that lie this close together are told apart in a table of their range, without sorting
_PLACES = 64  # bytes of a text that are looked at before the rest of it


def order(key: Int) -> Int:
    """Rows in ascending order of their key, which is not negative and is spoilt.

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
    """Distinct numbers of all columns, ascending, and the place of each row's among them."""
    starts = [_starts(column[1:] != column[:-1]) for column in columns]
    runs = [column if start is None else column[start] for column, start in zip(columns, starts, strict=True)]
    low, high = min(int(run.min()) for run in runs), max(int(run.max()) for run in runs)
    if high - low < _DENSE * sum(map(len, runs)):
        there = np.zeros(high - low + 1, bool)
        for run in runs:
            there[run - low] = True
        distinct = np.flatnonzero(there) + low
        place = np.cumsum(there, dtype=np.int32) - np.int32(1)
        ranks = [place[run - low] for run in runs]
    else:
        together = np.concatenate(runs)
        rows = order(together - low) if high - low < 2**63 else np.argsort(together, kind="stable")
        together = together[rows]
        fresh = np.append(True, together[1:] != together[:-1])
        distinct = together[fresh]
        rank = np.empty(len(rows), np.int32)
        rank[rows] = np.cumsum(fresh, dtype=np.int32) - np.int32(1)
        ranks = np.split(rank, np.cumsum([len(run) for run in runs])[:-1])
    return distinct, _spread(ranks, starts, columns)


def ranked_texts(columns: Sequence[pd.Series[Any]]) -> tuple[npt.NDArray[np.object_], list[Row]]:
    """Distinct texts of all columns, ascending, and the place of each row's among them.

    Raises
    ------
    UnicodeEncodeError
        A text has half of a surrogate pair, which UTF-8, and so no file of a run, can hold.
    """
    texts = [pa.chunked_array(pa.array(column, pa.large_string())) for column in columns]
    starts = [_starts(pc.not_equal(text[1:], text[:-1]).to_numpy()) for text in texts]
    runs = [text if start is None else text.take(pa.array(start)) for text, start in zip(texts, starts, strict=True)]
    ends = np.cumsum([len(run) for run in runs])[:-1]
    every = pa.chunked_array([chunk for run in runs for chunk in run.chunks])
    numbers, exact = _packed(every)
    rank = ranked_numbers([numbers])[1][0]
    some = np.empty(int(rank.max()) + 1, np.int64)
    some[rank] = np.arange(len(rank))
    distinct = every.take(pa.array(some))
    if not exact and not pc.all(pc.equal(distinct.take(pa.array(rank)), every)).as_py():
        encoded = every.dictionary_encode()
        distinct = encoded.chunk(0).dictionary
        ascending = pc.sort_indices(distinct)
        place = np.empty(len(distinct), np.int32)
        place[ascending.to_numpy()] = np.arange(len(distinct))
        rank = place[np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])]
        distinct = distinct.take(ascending)
    return distinct.to_numpy(zero_copy_only=False), _spread(np.split(rank, ends), starts, texts)


def likenesses(ids: npt.NDArray[np.object_]) -> tuple[Int, Int]:
    """Places of texts that say the same as the text beside them but for blanks, invisible marks, accents or zeros."""
    try:
        texts = pa.array(ids, pa.large_string())
    except UnicodeEncodeError:  # half of a surrogate pair
        return np.empty(0, np.int64), np.empty(0, np.int64)
    is_odd = np.empty(len(texts), bool)
    kernels.odd(*_buffers(texts), is_odd)
    rows = np.flatnonzero(is_odd)
    if not rows.size:
        return rows, rows
    written = plain(texts.take(pa.array(rows)))
    # a text that is not odd is written plainly: it is the one that an odd text may stand for
    found = pc.index_in(written, texts).fill_null(-1).to_numpy()
    encoded = written.dictionary_encode().indices.to_numpy()
    first = np.full(len(rows), -1)
    first[encoded[::-1]] = rows[::-1]
    same = np.where(found >= 0, found, first[encoded])
    other = same != rows
    return rows[other], same[other]


def nearest(given: object, ids: npt.NDArray[Any]) -> str:
    """Return the end of a message that names the id perhaps meant by one that is not among the ids.

    Parameters
    ----------
    given : object
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
    >>> from riskcore.state import nearest
    >>> nearest("007", np.array([7, 8]))
    ': is it 7, a whole number?'
    """
    written = [str(known).encode(errors="replace").decode() for known in (*ids.tolist(), given)]
    texts = plain(pa.array(written, pa.large_string())).to_pylist()
    found = next((known for known, text in zip(ids.tolist(), texts, strict=False) if text == texts[-1]), None)
    if found is None:
        return ""
    return f": is it {found!r}, {'text' if isinstance(found, str) else 'a whole number'}?"


def plain(texts: pa.Array) -> pa.Array:
    """The texts in the form in which those that differ by their writing alone are equal."""
    texts = pc.utf8_normalize(texts, "NFC")
    for pattern, kept in (
        (r"^[\pZ\pC]+|[\pZ\pC]+$|[\p{Cf}\p{Cc}]+", ""),
        (r"^\+?(-?)0*([0-9]+)(\.0*)?$", r"\1\2"),
    ):
        texts = pc.replace_substring_regex(texts, pattern, kept)
    return texts


def _starts(changes: npt.NDArray[np.bool_]) -> Int | None:
    """First rows of the runs of equal rows, None where most runs are of one row.

    From whether each row but the first is another than the one before.
    """
    count = np.count_nonzero(changes) + 1
    return np.flatnonzero(np.append(True, changes)) if 2 * count <= len(changes) else None


def _spread(ranks: Sequence[Row], starts: Sequence[Int | None], columns: Sequence[Any]) -> list[Row]:
    """Rank of every row, from those of the runs."""
    return [
        rank if start is None else np.repeat(rank, np.diff(start, append=len(column)))
        for rank, start, column in zip(ranks, starts, columns, strict=True)
    ]


def _buffers(texts: pa.Array) -> tuple[Int, npt.NDArray[np.uint8]]:
    """Where each text begins and the last one ends, and all of their bytes."""
    _, offset, data = texts.buffers()
    ends = np.frombuffer(offset, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return ends, np.frombuffer(data or b"", np.uint8)


def _packed(texts: pa.ChunkedArray) -> tuple[Int, bool]:
    """Numbers that ascend as the texts do, and whether texts that differ have numbers that differ.

    A text is read as a number with as many digits as there are texts' bytes, each in a base of its own: as many as
    bytes are met at the place. What does not fit 63 bits is left out, from the end.
    """
    buffers = [_buffers(chunk) for chunk in texts.chunks]
    longest = max(int(np.diff(ends).max(initial=0)) for ends, _ in buffers)
    seen = np.zeros((min(longest, _PLACES), 257), bool)
    for ends, data in buffers:
        kernels.symbols(ends, data, seen)
    bases = seen.sum(axis=1).tolist()
    places = next((p for p in range(len(bases)) if prod(bases[: p + 1]) >= 2**63), len(bases))
    weight = np.array([prod(bases[p + 1 : places]) for p in range(places)], np.int64)
    worth = (np.cumsum(seen[:places], axis=1) - 1) * weight[:, None]
    number, first = np.empty(len(texts), np.int64), 0
    for ends, data in buffers:
        kernels.packed(ends, data, worth, number[first : first + len(ends) - 1])
        first += len(ends) - 1
    return number, places == longest
