"""The C of ../baseline, compiled for this machine when a suite asks for it."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from .textbook import Array, Textbook

SOURCES = Path(__file__).parents[1] / "baseline"
CHUNK = 4096  # as in sell.c


def compiled(name: str) -> ctypes.CDLL:
    """Library of one source file; NotImplementedError, which skips a benchmark, where this machine cannot have it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NotImplementedError("no C compiler (gcc or cc) on this machine")
    folder = Path(tempfile.mkdtemp(prefix="riskcore-bench-"))
    library = folder / f"{name}.so"
    flags = ["-O3", "-march=native", "-shared", "-fPIC", "-o", str(library)]
    done = subprocess.run([compiler, *flags, str(SOURCES / f"{name}.c"), "-lm"], capture_output=True, text=True)
    if done.returncode and "no AVX-512" in done.stderr:
        raise NotImplementedError(f"no AVX-512 on this machine ({platform.processor() or platform.machine()})")
    if done.returncode:
        raise NotImplementedError(f"{compiler} does not compile {name}.c here: {done.stderr[-500:]}")
    loaded = ctypes.CDLL(str(library))
    shutil.rmtree(folder)
    return loaded


def pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def pointers(arrays: list[Array]) -> ctypes.Array[ctypes.c_void_p]:
    """Of a struct of pointers."""
    return (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))


def aligned(shape: tuple[int, ...], dtype: type = float) -> Array:
    """Uninitialised, at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def offsets(owner: Array, accounts: int, dtype: type) -> Array:
    return np.r_[0, np.bincount(owner, minlength=accounts).cumsum()].astype(dtype)


def lots(book: Textbook) -> Array:
    return np.rint(book.quantity / book.lot[book.market]).astype(np.int32)


def limits(book: Textbook) -> Array:
    """Notional of each market up to which both rates are flat, shaved by a rounding or two."""
    roots = (book.initial / book.initial_root, book.maintenance / book.maintenance_root)
    return np.minimum(*roots) ** 2 * (1 - 1e-9)


class Compact:
    """The compact layout: what `touch` reads, and plain C."""

    def __init__(self, book: Textbook) -> None:
        self.accounts = ctypes.c_int64(book.accounts)
        self.inputs = [
            offsets(book.account, book.accounts, np.uint32), book.market.astype(np.uint16), lots(book),
            offsets(book.holder, book.accounts, np.uint32), book.asset.astype(np.uint8), book.balance,
            np.bincount(book.account, book.quantity * book.entry, book.accounts),
        ]  # fmt: skip
        self.tables = [
            book.price * book.lot, limits(book), book.initial, book.maintenance, book.initial_root,
            book.maintenance_root, book.asset_price, book.weight, book.asset_initial, book.asset_maintenance,
        ]  # fmt: skip
        self.tables = [np.ascontiguousarray(table) for table in self.tables]
        self.outputs = tuple(aligned((book.accounts,)) for _ in range(4))
        for out in self.outputs:
            out.fill(0)


class Touch(Compact):
    """Reading the inputs and writing the outputs, without a thought."""

    def __init__(self, book: Textbook) -> None:
        super().__init__(book)
        self.c = compiled("touch")

    def full(self) -> None:
        self.c.touch(self.accounts, *map(pointer, self.inputs), *map(pointer, self.outputs))

    def inputs_only(self) -> None:
        self.c.touch_inputs(self.accounts, *map(pointer, self.inputs))


class PlainCompact(Compact):
    """C on the compact layout."""

    def __init__(self, book: Textbook) -> None:
        super().__init__(book)
        self.function = compiled("csr").compact

    def full(self) -> tuple[Array, ...]:
        tables = pointers(self.tables)
        self.function(self.accounts, *map(pointer, self.inputs), tables, *map(pointer, self.outputs))
        return self.outputs


class PlainTextbook(PlainCompact):
    """C on 64-bit offsets, 32-bit ids and float64."""

    def __init__(self, book: Textbook) -> None:
        super().__init__(book)
        self.inputs = [
            offsets(book.account, book.accounts, np.int64), book.market, book.quantity, book.entry,
            offsets(book.holder, book.accounts, np.int64), book.asset, book.balance,
        ]  # fmt: skip
        self.tables[0] = np.ascontiguousarray(book.price)
        self.function = compiled("csr").textbook


class Sell:
    """AVX-512 by hand; sell.c says how."""

    def __init__(self, book: Textbook) -> None:
        self.c = compiled("sell")
        self.c.sell_select.restype = ctypes.c_int64
        accounts = book.accounts
        positions, balances = (np.bincount(owner, minlength=accounts) for owner in (book.account, book.holder))
        assert positions.min() >= 1
        assert max(positions.max(), balances.max()) <= 255
        first = np.r_[0, balances.cumsum()[:-1]]
        assert np.all(book.asset[first] == 0), "everyone has a balance of the settle asset"
        order = np.lexsort((balances, positions, np.arange(accounts) // CHUNK))
        pad = -accounts % 8  # lanes of nobody: their place is past the window, their cost no liquidation
        groups = np.r_[order, np.full(pad, accounts)].reshape(-1, 8)
        place = np.r_[order % CHUNK, accounts % CHUNK + np.arange(pad)]
        cost = np.r_[np.bincount(book.account, book.quantity * book.entry, accounts), -1.0]
        wide, market, count = _columns(groups, positions, book.market.astype(np.uint16), lots(book))
        deep, asset, balance = _columns(groups, balances, book.asset.astype(np.uint8), book.balance)
        self.layout = [wide, deep, place.astype(np.uint16), market, count, asset, balance, cost[groups.ravel()]]
        self.accounts, self.count = ctypes.c_int64(accounts), accounts
        self.tables = [
            _table(book.price * book.lot, limits(book), book.initial, book.maintenance),
            _table(
                book.asset_price * book.weight, book.asset_price, book.asset_price * book.asset_initial,
                book.asset_price * book.asset_maintenance,
            ),
            np.ascontiguousarray(book.initial_root), np.ascontiguousarray(book.maintenance_root),
        ]  # fmt: skip
        self.outputs = tuple(aligned((accounts,)) for _ in range(4))
        self.selected = np.zeros(accounts, np.uint32)

    def full(self) -> tuple[Array, ...]:
        layout, tables = pointers(self.layout), pointers(self.tables)
        self.c.sell_full(self.accounts, layout, tables, *map(pointer, self.outputs))
        return self.outputs

    def select(self) -> Array:
        layout, tables = pointers(self.layout), pointers(self.tables)
        return self.selected[: self.c.sell_select(self.accounts, layout, tables, pointer(self.selected))]


def _columns(groups: Array, count: Array, *columns: Array) -> list[Array]:
    """Rows of each group of eight accounts, and its columns, eight abreast, padded with zeros."""
    first, count = np.r_[0, count.cumsum()], np.r_[count, 0]
    widths = count[groups].max(axis=1)
    step = np.arange(widths.sum()) - np.repeat(widths.cumsum() - widths, widths)
    lanes = groups[np.repeat(np.arange(len(groups)), widths)]
    there = step[:, None] < count[lanes]
    row = np.where(there, first[lanes] + step[:, None], 0)
    return [widths.astype(np.uint8), *(np.where(there, column[row], 0).astype(column.dtype) for column in columns)]


def _table(*figures: Array) -> Array:
    table = aligned((len(figures[0]), 4))
    table[:] = np.stack(figures, axis=1)
    return table
