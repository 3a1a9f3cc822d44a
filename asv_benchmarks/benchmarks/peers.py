"""What a user would pick instead of riskcore: the same four outputs, from the same numbers, on one thread.

Each peer prepares its layout outside the timing (integer codes instead of names, sorted rows, compiled queries) and
gives equity, exposure, initial and maintenance margin by account.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import numpy as np
import pandas as pd

from .textbook import Array, Textbook


class Peer(Protocol):
    def __init__(self, book: Textbook) -> None: ...

    def sweep(self) -> tuple[Array, ...]: ...


class Numpy:
    """Whole columns, and a bincount of each."""

    def __init__(self, book: Textbook) -> None:
        self.book = book

    def sweep(self) -> tuple[Array, ...]:
        b = self.book
        price = b.price[b.market]
        notional = np.abs(b.quantity * price)
        root = np.sqrt(notional)
        initial = notional * np.maximum(b.initial[b.market], b.initial_root[b.market] * root)
        maintenance = notional * np.maximum(b.maintenance[b.market], b.maintenance_root[b.market] * root)
        value = b.balance * b.asset_price[b.asset]
        held, owed = np.maximum(value, 0), np.maximum(-value, 0)
        return (
            self.total(b.quantity * (price - b.entry), held * b.weight[b.asset] - owed),
            self.total(notional, owed),
            self.total(initial, owed * b.asset_initial[b.asset]),
            self.total(maintenance, owed * b.asset_maintenance[b.asset]),
        )

    def total(self, of_positions: Array, of_balances: Array) -> Array:
        b = self.book
        return np.bincount(b.account, of_positions, b.accounts) + np.bincount(b.holder, of_balances, b.accounts)


class PandasMerge:
    """Tables of markets and assets merged, groupby and sum."""

    def __init__(self, book: Textbook) -> None:
        self.positions, self.balances, self.markets, self.assets = frames(book)

    def positions_and_balances(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        return self.positions.merge(self.markets, on="market"), self.balances.merge(self.assets, on="asset")

    def sweep(self) -> tuple[Array, ...]:
        p, b = self.positions_and_balances()
        notional = (p["quantity"] * p["price"]).abs()
        root = np.sqrt(notional)
        margins = pd.DataFrame(
            {
                "equity": p["quantity"] * (p["price"] - p["entry"]),
                "exposure": notional,
                "initial": notional * np.maximum(p["initial"], p["initial_root"] * root),
                "maintenance": notional * np.maximum(p["maintenance"], p["maintenance_root"] * root),
            }
        )
        value = b["balance"] * b["price"]
        held, owed = value.clip(lower=0), (-value).clip(lower=0)
        collateral = pd.DataFrame(
            {
                "equity": held * b["weight"] - owed,
                "exposure": owed,
                "initial": owed * b["initial"],
                "maintenance": owed * b["maintenance"],
            }
        )
        table = margins.groupby(p["account"]).sum().add(collateral.groupby(b["account"]).sum(), fill_value=0)
        return tuple(table[name].to_numpy() for name in margins)


class PandasTake(PandasMerge):
    """Figures of a market taken by its row number instead of merged."""

    def positions_and_balances(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        markets = {name: self.markets[name].to_numpy()[self.positions["market"]] for name in self.markets}
        assets = {name: self.assets[name].to_numpy()[self.balances["asset"]] for name in self.assets}
        return self.positions.assign(**markets), self.balances.assign(**assets)


class Polars:
    """Lazy joins and group_by."""

    def __init__(self, book: Textbook) -> None:
        os.environ["POLARS_MAX_THREADS"] = "1"
        pl = self.pl = optional("polars")
        assert pl.thread_pool_size() == 1
        positions, balances, markets, assets = (pl.from_pandas(frame).lazy() for frame in frames(book))
        quantity, price, column = pl.col("quantity"), pl.col("price"), pl.col
        notional = (quantity * price).abs()
        margins = (
            positions.join(markets, on="market")
            .with_columns(notional=notional, root=notional.sqrt())
            .group_by("account")
            .agg(
                equity=(quantity * (price - column("entry"))).sum(),
                exposure=column("notional").sum(),
                initial=self.required("initial").sum(),
                maintenance=self.required("maintenance").sum(),
            )
        )
        value = column("balance") * price
        collateral = (
            balances.join(assets, on="asset")
            .with_columns(held=value.clip(lower_bound=0), owed=(-value).clip(lower_bound=0))
            .group_by("account")
            .agg(
                equity=(column("held") * column("weight") - column("owed")).sum(),
                exposure=column("owed").sum(),
                initial=(column("owed") * column("initial")).sum(),
                maintenance=(column("owed") * column("maintenance")).sum(),
            )
        )
        both = margins.join(collateral, on="account", suffix="_of_balances").sort("account")
        names = ("equity", "exposure", "initial", "maintenance")
        self.query = both.select(*(column(name) + column(f"{name}_of_balances") for name in names))

    def required(self, name: str) -> Any:
        pl = self.pl
        return pl.col("notional") * pl.max_horizontal(pl.col(name), pl.col(f"{name}_root") * pl.col("root"))

    def sweep(self) -> tuple[Array, ...]:
        table = self.query.collect()
        return tuple(table[name].to_numpy() for name in table.columns)


class DuckDB:
    """SQL over tables of its own."""

    QUERY = """
        with p as (
            select account, sum(quantity * (price - entry)) as equity, sum(notional) as exposure,
                sum(notional * greatest(initial, initial_root * sqrt(notional))) as initial,
                sum(notional * greatest(maintenance, maintenance_root * sqrt(notional))) as maintenance
            from (select *, abs(quantity * price) as notional from positions join markets using (market))
            group by account
        ), b as (
            select account, sum(greatest(value, 0) * weight - owed) as equity, sum(owed) as exposure,
                sum(owed * initial) as initial, sum(owed * maintenance) as maintenance
            from (select *, balance * price as value, greatest(-balance * price, 0) as owed
                  from balances join assets using (asset))
            group by account
        )
        select p.equity + b.equity as equity, p.exposure + b.exposure as exposure, p.initial + b.initial as initial,
            p.maintenance + b.maintenance as maintenance
        from p join b using (account) order by account
    """

    def __init__(self, book: Textbook) -> None:
        self.connection = optional("duckdb").connect(config={"threads": 1})
        for name, frame in zip(("positions", "balances", "markets", "assets"), frames(book), strict=True):
            self.connection.register("frame", frame)
            self.connection.execute(f"create table {name} as select * from frame")
            self.connection.unregister("frame")

    def sweep(self) -> tuple[Array, ...]:
        return tuple(self.connection.execute(self.QUERY).fetchnumpy().values())


class Scipy:
    """Sparse matrices of accounts by positions and by balances: the sums are products."""

    def __init__(self, book: Textbook) -> None:
        sparse = optional("scipy.sparse")
        self.numpy = Numpy(book)
        self.of_positions = sparse.csr_array(
            (np.ones(len(book.account)), np.arange(len(book.account), dtype=np.int32), _offsets(book.account, book)),
            shape=(book.accounts, len(book.account)),
        )
        self.of_balances = sparse.csr_array(
            (np.ones(len(book.holder)), np.arange(len(book.holder), dtype=np.int32), _offsets(book.holder, book)),
            shape=(book.accounts, len(book.holder)),
        )
        self.numpy.total = lambda p, b: self.of_positions @ p + self.of_balances @ b

    def sweep(self) -> tuple[Array, ...]:
        return self.numpy.sweep()


class Jax:
    """One jit of takes and sorted segment sums, in float64 on the CPU."""

    def __init__(self, book: Textbook) -> None:
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        jax = optional("jax")
        with jax.enable_x64(True):
            jnp = jax.numpy
            self.jax, self.price = jax, jnp.asarray(book.price)
            self.arguments = [jnp.asarray(column) for column in (
                book.account.astype(np.int32), book.market, book.quantity, book.entry,
                book.holder.astype(np.int32), book.asset, book.balance, book.asset_price,
            )]  # fmt: skip

            def sweep(price: Any, account: Any, market: Any, quantity: Any, entry: Any, holder: Any, asset: Any,
                      balance: Any, asset_price: Any) -> Any:  # fmt: skip
                def total(of_positions: Any, of_balances: Any) -> Any:
                    positions = jax.ops.segment_sum(of_positions, account, book.accounts, indices_are_sorted=True)
                    return positions + jax.ops.segment_sum(of_balances, holder, book.accounts, indices_are_sorted=True)

                here = price[market]
                notional = jnp.abs(quantity * here)
                root = jnp.sqrt(notional)
                rates = [jnp.asarray(r) for r in (book.initial, book.initial_root, book.maintenance)]
                rates.append(jnp.asarray(book.maintenance_root))
                initial, initial_root, maintenance, maintenance_root = (rate[market] for rate in rates)
                value = balance * asset_price[asset]
                held, owed = jnp.maximum(value, 0), jnp.maximum(-value, 0)
                return (
                    total(quantity * (here - entry), held * jnp.asarray(book.weight)[asset] - owed),
                    total(notional, owed),
                    total(notional * jnp.maximum(initial, initial_root * root),
                          owed * jnp.asarray(book.asset_initial)[asset]),
                    total(notional * jnp.maximum(maintenance, maintenance_root * root),
                          owed * jnp.asarray(book.asset_maintenance)[asset]),
                )  # fmt: skip

            self.function = jax.jit(sweep)

    def sweep(self) -> tuple[Array, ...]:
        with self.jax.enable_x64(True):
            found = self.jax.block_until_ready(self.function(self.price, *self.arguments))
        return tuple(np.asarray(column) for column in found)


PEERS: dict[str, type[Peer]] = {
    "pandas merge": PandasMerge, "pandas take": PandasTake, "NumPy bincount": Numpy, "Polars": Polars,
    "DuckDB": DuckDB, "scipy.sparse": Scipy, "JAX": Jax,
}  # fmt: skip


def optional(name: str) -> Any:
    """Module of the ``bench`` extra; NotImplementedError, which skips the benchmark, without it."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotImplementedError(f"{name} is not installed: pip install 'riskcore[bench]'") from error


def frames(book: Textbook) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Positions, balances, markets and assets."""
    positions = {name: getattr(book, name) for name in ("account", "market", "quantity", "entry")}
    markets = {name: getattr(book, name) for name in ("price", "initial", "initial_root", "maintenance")}
    markets |= {"maintenance_root": book.maintenance_root, "market": np.arange(len(book.price), dtype=np.int32)}
    assets = {
        "price": book.asset_price, "weight": book.weight, "initial": book.asset_initial,
        "maintenance": book.asset_maintenance, "asset": np.arange(len(book.weight), dtype=np.int32),
    }  # fmt: skip
    balances = {"account": book.holder, "asset": book.asset, "balance": book.balance}
    return pd.DataFrame(positions), pd.DataFrame(balances), pd.DataFrame(markets), pd.DataFrame(assets)


def _offsets(owner: Array, book: Textbook) -> Array:
    return np.r_[0, np.bincount(owner, minlength=book.accounts).cumsum()].astype(np.int32)
