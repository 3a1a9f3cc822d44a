"""Reads a run folder, every file checked against its digest and every table against its schema."""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._limits import INT64_MIN
from .._typing import Float
from ..boundary import RiskDataError
from ..kernels.layouts import OrderColumns
from ..market import FundingEntries, Prices, asset_values
from ..market.guards import SECONDS_OF_SAMPLES, GuardState
from ..state import Accounts, Ledger, Orders, Proposal
from ..venue import Venue, VenueChange, changed_venue, changes_of_table, load_venue
from .events import EVENT, EVENTS, ROW, Rows, check_rows, is_activity
from .journal import follow_orders, has_acted
from .run_folder import LEDGERS, _content, _damaged, _ledger_entries, _venue_content, file_of, read_manifest
from .run_schema import OPTIONAL_STATE, PARTS, START, Table, count_rows, decoded


@dataclass(frozen=True)
class SavedState:
    """The last state of a run folder."""

    venue: Venue
    accounts: Accounts
    ledger: Ledger
    guard_state: GuardState
    prices: Prices | None  # of the last tick
    idle_since: int | None  # time of the last tick, if nothing there or since changed an account
    acted: int | None  # time of the last activity, if no tick came after it
    seed: int
    book: str  # whose the order books are
    ticks: int
    time: int | None
    digest: str  # of the run.json that it was read by


def open_run(path: Path) -> Reader:
    """Return the reader of a run folder, having held every file that it counts to its digest.

    Raises
    ------
    RiskDataError
        As of `read_manifest`, or a file is missing or not as it was written.
    """
    reader = Reader(path)
    for name in reader.manifest["files"]:
        _content(path, reader.manifest, name)
    return reader


class Reader:
    """Tables of a run folder, checked against their digests and declarations.

    Parameters
    ----------
    path
        A run folder.
    venue
        That of the folder, if it is known, or one of the same markets and assets.

    Attributes
    ----------
    manifest : dict
        Content of ``run.json``.
    venue : Venue
    sizes : dict
        Number of ticks, markets, assets, books, accounts and orders.
    """

    def __init__(self, path: Path, venue: Venue | None = None) -> None:
        self.manifest, self._path = read_manifest(path), path
        self.venue = venue or self._venue()
        self.sizes = {
            "tick": self.manifest["ticks"], "market": len(self.venue.markets.symbol),
            "asset": len(self.venue.assets.symbol), "book": len(self.venue.book_symbols),
            "account": self._rows("start/accounts"), "order": self._rows("start/orders"),
        }  # fmt: skip
        self.last = self.manifest["parts"] - 1
        if self.manifest["activity"]:
            for size, table in (("account", "opened"), ("order", "orders")):
                self.sizes[size] += sum(self._rows(table, part) for part in range(self.last + 1))
        providers = self.manifest["providers"]
        fits = (
            len(set(providers)) == len(providers) == len(self.venue.backstop)
            and max(providers, default=-1) < self.sizes["account"]
        )
        if not fits:
            raise _damaged(path, "run.json", "providers must be account rows of the venue's backstop")

    def _venue(self) -> Venue:
        content = _content(self._path, self.manifest, "venue.json")
        try:
            source = json.loads(content, parse_float=str)
        except (ValueError, RecursionError):
            raise _damaged(self._path, "venue.json", "must be JSON") from None
        if not isinstance(source, dict):
            raise _damaged(self._path, "venue.json", "must hold an object")
        return load_venue(source, any_adl_policy=True)

    def has_venue(self, venue: Venue) -> bool:
        """Whether the run is of this venue."""
        return bool(self.manifest["files"]["venue.json"] == sha256(_venue_content(venue)).hexdigest())

    def table(self, table: str, part: int = 0) -> Table:
        """Columns of a table."""
        name = file_of(table, part)
        return decoded(table, name, _content(self._path, self.manifest, name), self.sizes)

    def _rows(self, table: str, part: int = 0) -> int:
        name = file_of(table, part)
        return count_rows(name, _content(self._path, self.manifest, name))

    def _must(self, holds: object, table: str, rule: str, part: int = 0) -> None:
        """Refuse a table that breaks a rule."""
        if not holds:
            raise _damaged(self._path, file_of(table, part), rule)

    def _extend(self, start: dict[str, Table]) -> Rows | None:
        """Add the accounts and orders of activity between ticks to the start's, and the rows that it named.

        Returns the journal, None without activity.
        """
        active, owned = self.manifest["activity"] > 0, _owned(start["accounts"])
        ids = set(start["accounts"]["account"].tolist() if active else ())
        for part in range(self.last + 1):
            opened = self.table("opened", part)
            for column, values in opened.items():
                known = start["accounts"][column]
                self._must(not len(values) or values.dtype == known.dtype, "opened", "ids must be of one kind", part)
                start["accounts"][column] = np.concatenate([known, values]) if len(values) else known
            new = set(opened["account"].tolist())
            self._must(len(new) == len(opened["account"]) and not new & ids, "opened", "accounts must be new", part)
            ids |= new
            for account, owner in zip(opened["account"].tolist(), opened["owner"].tolist(), strict=True):
                self._must(owner not in owned, "opened", _OWNER_RULE, part)
                owned |= {account} - {owner}
            self._must(active or not new, "opened", "must be empty without activity", part)
        placed = [self.table("orders", part) for part in range(self.last + 1)]
        self._must(
            active or not any(len(table["lots"]) for table in placed), "orders", "must be empty without activity"
        )
        if not active:
            return None
        rows, settle = self.journal(), self.venue.settle
        self._extend_orders(start["orders"], placed, rows)
        active_rows = rows[is_activity(rows)]
        traded, moves = (active_rows[active_rows[name] >= 0] for name in ("market", "asset"))
        to_accounts = moves[moves["counterparty"] >= 0]
        new = rows["account"][rows["event"] == EVENT["open"]]
        self._must(np.array_equal(new, np.arange(len(ids) - len(new), len(ids))), "opened", "must have the rows open")
        _insert(start["positions"], "market", traded["account"], traded["market"])
        _insert(
            start["balances"], "asset",
            np.concatenate([traded["account"], moves["account"], to_accounts["counterparty"], new]),
            np.concatenate(
                [self.venue.markets.settle[traded["market"]], moves["asset"], to_accounts["asset"],
                 np.full(len(new), settle)]
            ),
        )  # fmt: skip
        return rows

    def _extend_orders(self, orders: Table, placed: list[Table], rows: Rows) -> None:
        """Add the orders that were placed, closed, to the start's."""
        written, first = rows[rows["event"] == EVENT["place"]], len(orders["lots"])
        price = np.rint(written["price"] / self.venue.markets.tick_size[written["market"]])
        columns = {name: np.concatenate([table[name] for table in placed]) for name in orders}
        same = np.array_equal(written["order"], first + np.arange(len(columns["lots"])))
        same = same and all(np.array_equal(columns[name], written[name]) for name in ("account", "market"))
        same = (
            same and np.array_equal(columns["lots"], written["requested"]) and np.array_equal(columns["price"], price)
        )
        self._must(same, "orders", "must have the orders of the rows place")
        columns["lots"][:] = 0
        for name, values in columns.items():
            orders[name] = np.concatenate([orders[name], values])

    def accounts(self, *, last: bool = False) -> Accounts:
        """Accounts that the run started from, or as they were at its end."""
        start = {table.removeprefix("start/"): self.table(table) for table in START}
        ids = start["accounts"]["account"]
        self._must(all(map(operator.lt, ids.tolist(), ids[1:].tolist())), "start/accounts", "accounts must ascend")
        same_kind = start["accounts"]["owner"].dtype == ids.dtype
        self._must(same_kind, "start/accounts", "account and owner must be of one kind")
        owned = _owned(start["accounts"])
        alone = not owned or owned.isdisjoint(start["accounts"]["owner"].tolist())
        self._must(alone, "start/accounts", _OWNER_RULE)
        opened = -len(ids)
        first, journal = len(start["orders"]["lots"]), self._extend(start)
        ids = start["accounts"]["account"]
        opened += len(ids)
        key = {}
        for name, item in (("positions", "market"), ("balances", "asset")):
            key[name] = start[name]["account"] * self.sizes[item] + start[name][item]
            self._must((np.diff(key[name]) > 0).all(), f"start/{name}", f"must ascend by account and {item}")
        settle = start["balances"]["account"][start["balances"]["asset"] == self.venue.settle]
        rule = "every account must have a row of the settle asset, and a provider rows of all markets and assets"
        for name, item in (("positions", "market"), ("balances", "asset")):
            rows = np.bincount(start[name]["account"], minlength=len(ids))[self.manifest["providers"]]
            self._must((rows == self.sizes[item]).all() and len(settle) == len(ids), f"start/{name}", rule)
        money = start["positions"]["account"] * self.sizes["asset"]
        money += self.venue.markets.settle[start["positions"]["market"]]
        rule = "every position must have a row of the asset that its market settles in"
        self._must(np.isin(money, key["balances"]).all(), "start/balances", rule)
        given = {number: id_ for number, id_ in enumerate(start["orders"]["id"].tolist()) if id_ != str(number)}
        orders = Orders(OrderColumns(**{name: start["orders"][name] for name in OrderColumns._fields}), given, first)
        of_positions = np.isin(orders.account * self.sizes["market"] + orders.market, key["positions"])
        self._must(of_positions.all(), "start/orders", "an order must have a row in positions")
        tables = start
        if last:
            tables = {name: self.table(f"state/{name}", self.last) for name in ("positions", "balances", "orders")}
            for name, item in (("positions", "market"), ("balances", "asset")):
                same = all(np.array_equal(tables[name][column], start[name][column]) for column in ("account", item))
                self._must(same, f"state/{name}", "must have the rows of the start", self.last)
            open_orders = tables["orders"].pop("order")
            if journal is not None:
                follow_orders(orders.lots, orders.price, journal, self.venue.markets.tick_size)
            is_open = np.isin(np.arange(len(orders)), open_orders)
            same = all(
                np.array_equal(values, start["orders"][name][open_orders]) for name, values in tables["orders"].items()
            )
            same = (
                same and bool((np.diff(open_orders) > 0).all()) and (journal is None or not orders.lots[~is_open].any())
            )
            self._must(
                same, "state/orders", "must be orders of the start, or placed ones, as the journal left them", self.last
            )
            orders.lots[~is_open] = 0
            start["accounts"]["leverage_limit"] = self._limits(start["accounts"]["leverage_limit"], journal)
        positions, balances = tables["positions"], tables["balances"]
        only_money = np.isin(balances["asset"][balances["unsettled"] != 0], self.venue.money).all()
        rule = "unsettled must be 0 of an asset that no market settles in"
        self._must(only_money, "state/balances" if last else "start/balances", rule, self.last)
        accounts = Accounts.from_rows(
            self.venue, ids,
            (positions["account"], positions["market"], positions["lots"], positions["cost"], positions["entry"]),
            (balances["account"], balances["asset"], balances["quanta"], balances["lent"], balances["unsettled"]),
            orders, start["accounts"]["leverage_limit"], owner_ids=start["accounts"]["owner"], opened=opened,
        ).frozen()  # fmt: skip
        with suppress(KeyError):
            if [accounts.row_of(p.account) for p in self.venue.backstop] == self.manifest["providers"]:
                return accounts
        raise _damaged(self._path, "run.json", "providers must be account rows of the venue's backstop")

    def _limits(self, limits: Float, journal: Rows | None) -> Float:
        """Leverage limits at the end, from those at the start and the rows that set them."""
        limits = limits.copy()
        if journal is not None:
            rows = journal[journal["event"] == EVENT["leverage"]]
            # of several rows of an account the last one counts: NumPy assigns them in their order
            limits[rows["account"]] = np.where(np.isnan(rows["price"]), np.inf, rows["price"])
        table, limited = self.table("state/limits", self.last), np.flatnonzero(np.isfinite(limits))
        same = np.array_equal(table["account"], limited) and np.array_equal(table["leverage_limit"], limits[limited])
        self._must(same, "state/limits", "must be those of the start, as the journal left them", self.last)
        return limits

    def ticks(self) -> Iterator[tuple[Table, Table, Table]]:
        """Ticks of each part, with a row for every tick and a column for every market; its assets and its books."""
        first, markets, before = 0, self.sizes["market"], INT64_MIN
        for part in range(self.last + 1):
            ticks, assets, books = (self.table(table, part) for table in PARTS[:3])
            count = len(ticks["tick"]) // max(markets, 1)
            number = np.arange(first, first + count)
            stamp = ticks["time"][:: max(markets, 1)]
            fits = np.array_equal(ticks["tick"], np.repeat(number, markets))
            fits = fits and np.array_equal(ticks["market"], np.tile(np.arange(markets), count))
            fits = fits and np.array_equal(ticks["time"], np.repeat(stamp, markets))
            rule = f"must have a row for every tick from {first} on and every market, times ascending"
            later = count == 0 or (stamp[0] > before and np.all(np.diff(stamp) > 0))
            self._must(fits and later, "ticks", rule, part)
            for name, table, key in (
                ("assets", assets, assets["tick"] * self.sizes["asset"] + assets["asset"]),
                ("books", books, (books["tick"] * self.sizes["book"] + books["market"]) * 2 + (books["side"] < 0)),
            ):
                of_part = (table["tick"] >= first) & (table["tick"] < first + count)
                step = np.diff(key)
                worse = (np.diff(books["price"]) * books["side"][1:] < 0) if name == "books" else False
                ascends = np.all((step > 0) | ((step == 0) & worse))
                self._must(of_part.all() and ascends, name, "must be of the part's ticks, in order", part)
            if count:
                before = int(stamp[-1])
            first += count
            yield {name: values.reshape(count, markets) for name, values in ticks.items()}, assets, books
        self._must_count("ticks", first)

    def events(self) -> Iterator[tuple[int, FundingEntries, tuple[VenueChange, ...]]]:
        """Number, funding rates and venue changes of every tick that was given any."""
        for part in range(self.last + 1):
            funding, changes = self.table("funding", part), self.table("venue_changes", part)
            entries = FundingEntries(*(funding[name] for name in FundingEntries._fields))
            step = np.diff(funding["time"])
            ascends = np.all((step > 0) | ((step == 0) & (np.diff(funding["market"]) > 0)))
            ascends = ascends and np.all(np.diff(funding["tick"]) >= 0)
            self._must(ascends, "funding", "must ascend by tick, time and market", part)
            ascends = np.all(np.diff(changes["time"]) >= 0) and np.all(np.diff(changes["tick"]) >= 0)
            self._must(ascends, "venue_changes", "must ascend by tick and time", part)
            try:
                all_changes = changes_of_table(self.venue, changes)
            except RiskDataError as error:
                raise _damaged(self._path, file_of("venue_changes", part), error.rule) from None
            for tick in np.union1d(funding["tick"], changes["tick"]).tolist():
                first, end = np.searchsorted(changes["tick"], [tick, tick + 1])
                yield tick, entries.chosen(funding["tick"] == tick), all_changes[first:end]

    def venues(self) -> list[tuple[int, Venue]]:
        """The venue that the run started from, and those after each tick that changed it, with the number of the tick.

        Raises
        ------
        RiskDataError
            A change is not valid.
        """
        venue = self.venue
        venues = [(0, venue)]
        for tick, _, changes in self.events():
            for _, of_instant in groupby(changes, operator.attrgetter("time")):
                try:
                    venue = changed_venue(venue, of_instant)
                except RiskDataError as error:
                    raise _damaged(self._path, "venue_changes", error.rule) from None
            if changes:
                venues.append((tick, venue))
        return venues

    def prices(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Time, marks, indexes and prices of assets of every tick, as used: shapes (T,), (T, M), (T, M) and (T, K)."""
        time, mark, index, asset = [], [], [], []
        for ticks, prices, _ in self.ticks():
            asset_prices = np.full((len(ticks["tick"]), self.sizes["asset"]), np.nan)
            asset_prices[np.searchsorted(ticks["tick"][:, 0], prices["tick"]), prices["asset"]] = prices["price"]
            time.append(ticks["time"][:, 0])
            mark.append(ticks["mark"])
            index.append(ticks["index"])
            asset.append(asset_values(self.venue, ticks["mark"], ticks["index"], asset_prices))
        return np.concatenate(time), np.concatenate(mark), np.concatenate(index), np.concatenate(asset)

    def _must_count(self, name: str, count: int) -> None:
        if self.manifest[name] != count:
            rule = f"{name} must be the {count} of the parts, not {self.manifest[name]}"
            raise _damaged(self._path, "run.json", rule)

    def journal(self) -> Rows:
        """All journal rows."""
        parts = [self.table("journal", part) for part in range(self.last + 1)]
        rows = np.empty(sum(len(part["tick"]) for part in parts), ROW)
        self._must_count("events", len(rows))
        end = 0
        for number, part in enumerate(parts):
            block = rows[end : end + len(part["tick"])]
            for name, values in part.items():
                block[name] = values
            end += len(block)
            check_rows(file_of("journal", number), part)
        self._must_count("activity", int(is_activity(rows).sum()))
        return rows

    def _last_time(self) -> int | None:
        """Time of the last tick; the number of ticks is held to the parts."""
        markets = max(self.sizes["market"], 1)
        counts = [self._rows("ticks", part) // markets for part in range(self.last + 1)]
        self._must_count("ticks", sum(counts))
        filled = [part for part, count in enumerate(counts) if count]
        return int(self.table("ticks", filled[-1])["time"][-1]) if filled else None

    def _idle_since(self, time: int | None) -> int | None:
        """Time of the last tick, if neither its phases nor activity since changed an account; else None."""
        if time is None:
            return None
        for part in range(self.last, -1, -1):
            table = self.table("journal", part)
            here = (table["time"] >= time) & (table["tick"] == self.manifest["ticks"] - 1)
            rows = np.zeros(int(here.sum()), ROW)
            rows["event"], rows["reason"] = table["event"][here], table["reason"][here]
            if has_acted(rows):
                return None
            if len(here) > len(rows):
                break
        return time

    def _acted(self) -> int | None:
        """Time of the last row, if it is of activity after the last tick."""
        for part in range(self.last, -1, -1):
            table = self.table("journal", part)
            if len(table["tick"]):
                row = np.zeros(1, ROW)
                row["reason"] = table["reason"][-1]
                after = is_activity(row)[0] and table["tick"][-1] == self.manifest["ticks"] - 1
                return int(table["time"][-1]) if after else None
        return None

    def state(self) -> SavedState:
        """Return the last state."""
        venue, policy, last = self.venues()[-1][1], self.venue.policy, self.last
        time = self._last_time()
        self._must_count("events", sum(self._rows("journal", part) for part in range(last + 1)))
        accounts = self.accounts(last=True)
        frames = {name: pd.DataFrame(self.table(f"state/{name}", last)) for name in _GUARDS}
        keeps_books = policy.refill_half_life or policy.liquidation_interval
        figures = (policy.slice_cooldown, policy.account_cap, keeps_books)
        for table, figure in zip(OPTIONAL_STATE, figures, strict=True):
            needed = figure is not None
            if needed != (file_of(table, last) in self.manifest["files"]):
                raise _damaged(self._path, "run.json", f"{table} must exist if the policy requires it, else not")
            if needed:
                frames[table.removeprefix("state/")] = pd.DataFrame(self.table(table, last))
        markets, assets = frames["markets"], frames["assets"]
        for item, of_item in (("market", markets), ("asset", assets)):
            in_order = np.array_equal(of_item[item], np.arange(self.sizes[item]))
            self._must(in_order, f"state/{item}s", f"must have a row for every {item}", last)
        self._must(assets["price"][assets["own"]].notna().all(), "state/assets", "an own price must be known", last)
        counts = pd.concat([frames[name][["second", "count"]] for name in ("samples", "asset_samples")])
        one_count = counts.drop_duplicates()["second"].is_unique
        for name, item in (("samples", "market"), ("asset_samples", "asset")):
            samples = frames[name]
            second = samples["second"].diff()
            ascends = (second > 0) | ((second == 0) & (samples[item].diff() > 0))
            fits = one_count and ascends[1:].all() and (samples["count"] <= SECONDS_OF_SAMPLES).all()
            rule = f"must ascend by second and {item}, each second with one count"
            self._must(fits, f"state/{name}", rule, last)
        if "books" in frames:
            books = frames["books"]
            side = 2 * books["market"] + (books["side"] < 0)
            fits = (side.diff()[1:] >= 0).all() and (books["consumed_lots"] <= books["lots"]).all()
            fits &= books["decay_time"].nunique() <= 1
            self._must(fits, "state/books", "must be in order, consumed_lots at most lots, with one decay_time", last)
        ledger = self._ledger()
        ledger.premium_sum[:], ledger.premium_count[:] = markets["premium_sum"], markets["premium_count"]
        if "slices" in frames:
            ledger.last_slice = {(a, m): t for a, m, t in frames["slices"].to_numpy().tolist()}
        if "sold" in frames:
            ledger.sold = dict(frames["sold"].to_numpy().tolist())
        ledger.funding_scheduled[:], ledger.delisted[:] = markets["funding_scheduled"], markets["delisted"]
        guard_state, prices = GuardState.from_frames(venue, frames, time or 0), None
        if time is not None:
            mark, index, own = guard_state.used(venue.policy.stale_nanoseconds, time)
            open_interest, open_lots = (markets[name].to_numpy() for name in ("open_interest", "open_lots"))
            prices = Prices.used(venue, mark, index, open_interest, own, open_lots)
        ledger.proposals.update(self._proposals())
        seed, book, ticks, digest = (self.manifest[name] for name in ("seed", "book", "ticks", "digest"))
        return SavedState(
            venue=venue,
            accounts=accounts,
            ledger=ledger,
            guard_state=guard_state,
            prices=prices,
            idle_since=self._idle_since(time),
            acted=self._acted(),
            seed=seed,
            book=book,
            ticks=ticks,
            time=time,
            digest=digest,
        )

    def _proposals(self) -> dict[tuple[int, int], Proposal]:
        """Open proposals of the last tick."""
        table = self.table("state/proposals", self.last)
        key = table["account"] * self.sizes["market"] + table["market"]
        fits = (np.diff(key) > 0).all() and table["lots"].all() and (self.manifest["book"] == "host" or not len(key))
        columns = [table[name].tolist() for name in ("account", "market", "lots", "price", "fee_num", "fee_den")]
        events = [EVENTS[event] for event in table["event"].tolist()]
        fits = fits and {"book", "market_close"}.issuperset(events)
        self._must(fits, "state/proposals", "must be slices of the last tick in host mode, in order", self.last)
        return {
            (account, market): Proposal(lots, price or None, num, den, event)
            for *row, event in zip(*columns, events, strict=True)
            for account, market, lots, price, num, den in [row]
        }

    def _ledger(self) -> Ledger:
        table = self.table("state/ledger", self.last)
        ledger = Ledger.opening(self.venue)
        entries = _ledger_entries(ledger, self.manifest["providers"])
        same = [(name, item) for name, item, _ in entries] == list(
            zip(table["ledger"].tolist(), table["item"].tolist(), strict=True)
        )
        self._must(same, "state/ledger", "must have an entry for every ledger and item, in order", self.last)
        values = table["value"]
        start = 0
        for column in (getattr(ledger, name) for name in LEDGERS):
            column[:] = values[start : start + len(column)]
            start += len(column)
        self._must(values[start] in (0, 1), "state/ledger", "adl_on must be 0 or 1", self.last)
        ledger.adl_on = bool(values[start])
        ledger.taken[:] = values[start + 1 :].reshape(-1, 3)
        return ledger


_GUARDS = ("markets", "assets", "samples", "asset_samples")
"""Tables of the state of the guards that every folder has."""

_OWNER_RULE = "an owner that is an account must be its own owner"


def _owned(accounts: Table) -> set[int | str]:
    """Ids of the accounts that are not their own owners."""
    return set(accounts["account"][accounts["owner"] != accounts["account"]].tolist())


def _insert(table: Table, item: str, accounts: npt.NDArray[np.int64], items: npt.NDArray[np.int64]) -> None:
    """Add rows of nothing to positions or balances where accounts have none yet, in order."""
    width = 1 << 16
    known = table["account"] * width + table[item]
    key = np.union1d(known, accounts * width + items)
    place = np.searchsorted(key, known)
    for name, values in table.items():
        table[name] = np.zeros(len(key), values.dtype)
        table[name][place] = values
    table["account"], table[item] = np.divmod(key, width)


def read_accounts(path: Path, venue: Venue) -> Accounts:
    """Read the accounts that a run started from."""
    return Reader(path, venue).accounts()


def read_prices(path: Path, tick: int) -> tuple[Float, Float, Float]:
    """Marks, indexes, and prices of assets of their own (NaN for the others) of a tick, as they were guarded."""
    reader = Reader(path)
    for ticks, assets, _ in reader.ticks():
        for row in np.flatnonzero(ticks["tick"][:, :1] == tick):
            asset, of_tick = np.full(reader.sizes["asset"], np.nan), assets["tick"] == tick
            asset[assets["asset"][of_tick]] = assets["price"][of_tick]
            return ticks["mark"][row], ticks["index"][row], asset
    raise RiskDataError("run", "tick", "must be a tick of the run", value=tick)


def read_journal(path: Path) -> Rows:
    """Return all journal rows of a run folder.

    Parameters
    ----------
    path : Path
        A run folder.

    Returns
    -------
    ndarray of `riskcore.record.ROW`
        The rows, in order.

    Raises
    ------
    RiskDataError
        The folder holds no run, or one that is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from riskcore.record import read_journal
    >>> from riskcore.sample import small_run
    >>> folder = tempfile.mkdtemp()
    >>> small_run(folder)
    >>> read_journal(Path(folder))["tick"].tolist()
    [1, 1]
    """
    return Reader(path).journal()


def read_state(path: Path) -> SavedState:
    """Read the last state of a run folder that is whole.

    While another process writes it, that is the state of its last save.
    """
    while True:
        before = read_manifest(path)["digest"]
        try:
            return open_run(path).state()
        except RiskDataError:
            if read_manifest(path)["digest"] == before:
                raise
