"""What goes in in natural units comes out in them: venues, accounts, events, fills, whole runs, one-line texts."""

import json
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import riskcore as rc
from riskcore.cli import app
from riskcore.io import backpack, dydx, hyperliquid
from riskcore.state import Orders
from riskcore.venue import PRESETS, shipped
from tests import small_run

MODULES = {"backpack": backpack, "dydx": dydx, "hyperliquid": hyperliquid}


class TestPresets:
    @pytest.mark.parametrize("name", PRESETS)
    def test_a_preset_is_the_venue_of_the_saved_reply(self, name):
        content, module = shipped(name), MODULES[name]
        assert all(row["source"] and row["date"] for row in content["markets"])
        reply = module.preset()
        built = module.load_venue(**reply) if name == "backpack" else module.load_venue(reply)
        found = rc.load_venue(name).source
        bare = [[{k: v for k, v in row.items() if k not in ("source", "date")} for row in source["markets"]]
                for source in (found, built.source)]  # fmt: skip
        assert bare[0] == bare[1]
        assert found | {"markets": 0} == built.source | {"markets": 0}

    def test_a_name_is_never_a_file(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        rc.load_venue("backpack").replace(policy={"fund": 7}).to_json("dydx")
        assert len(rc.load_venue("dydx").markets.symbol) == 33
        assert rc.load_venue("./dydx").policy.fund == 7
        with pytest.raises(
            rc.RiskDataError, match=r"value 'bakpack': must be a preset \(backpack, dydx, hyperliquid\)"
        ):
            rc.load_venue("bakpack")

    def test_the_command_takes_a_name(self, tmp_path):
        frames = small_run.tables()
        frames["balances"] = frames["balances"].query("asset == 'USDC'")
        del frames["asset_prices"], frames["books"]
        files = small_run.write(tmp_path, rc.load_venue("backpack").source, frames)
        outputs = []
        for venue in (files["venue"], "backpack"):
            line = small_run.arguments("sweep", files | {"venue": venue}, tmp_path / "out.csv")
            assert CliRunner().invoke(app, line).exit_code == 0
            outputs.append((tmp_path / "out.csv").read_text())
        assert outputs[0] == outputs[1]
        assert outputs[0].count("\n") > 2
        line = small_run.arguments("sweep", files | {"venue": "binance"}, tmp_path / "out.csv")
        result = CliRunner().invoke(app, line)
        assert result.exit_code == 2
        assert "must be a preset (backpack, dydx, hyperliquid)" in result.stderr


class TestVenue:
    def test_replace_changes_what_is_named_and_nothing_else(self):
        venue = rc.load_venue(small_run.venue_source())
        other = venue.replace(policy={"fund": 5, "adl_policy": "pro_rata"}, backstop=[{"account": 3}])
        assert (other.policy.fund, other.policy.adl_policy, other.backstop[0].account) == (5, "pro_rata", 3)
        assert other.policy.slices_per_tick == venue.policy.slices_per_tick
        assert other.replace(policy=venue.source["policy"], backstop=venue.source["backstop"]).source == venue.source
        assert other.units == venue.units
        assert other.replace(backstop=[]).backstop == ()
        with pytest.raises(rc.RiskDataError, match="acmf_divisors"):
            venue.replace(policy={"acmf_divisors": 2})
        with pytest.raises(rc.RiskDataError, match="must be a mapping"):
            venue.replace(policy=[("fund", 2)])

    @pytest.mark.parametrize("source", [*PRESETS, small_run.venue_source("é\n")])
    def test_a_written_venue_is_the_same_venue(self, source, tmp_path):
        venue = rc.load_venue(source)
        venue.to_json(tmp_path / "venue.json")
        again = rc.load_venue(tmp_path / "venue.json")
        assert again.source == venue.source
        assert (again.policy, again.backstop, again.pools) == (venue.policy, venue.backstop, venue.pools)
        assert again.units == venue.units
        assert json.loads((tmp_path / "venue.json").read_text())["settle_asset"] == "USDC"
        with pytest.raises(rc.RiskDataError, match="cannot be written"):
            venue.to_json(tmp_path / "none" / "venue.json")


def whole_numbers(accounts):
    """Rows of anything, by name, of accounts that were read or liquidated."""
    columns, orders = accounts.columns, accounts.orders
    kept = columns.lots != 0
    found = {
        "positions": (accounts.position_accounts(), columns.market, columns.lots, columns.cost, columns.entry),
        "balances": (accounts.balance_accounts(), columns.asset, columns.free, columns.lent),
        "orders": tuple(getattr(orders, f.name) for f in fields(Orders)),
    }
    keep = {"positions": kept, "balances": (columns.free != 0) | (columns.lent != 0), "orders": orders.lots != 0}
    found = {name: np.array(rows)[:, keep[name]].tolist() for name, rows in found.items()}
    assert not columns.cost[~kept].any()
    return found | {
        "ids": accounts.ids.tolist(),
        "unsettled": columns.unsettled.tolist(),
        "limit": accounts.leverage_limit.tolist(),
        "open": (columns.open_bid[kept].tolist(), columns.open_ask[kept].tolist(), columns.open_orders.tolist()),
    }


class TestToFrames:
    def test_tables_come_back_as_they_were(self):
        frames = small_run.tables()
        frames["positions"]["settle_price"] = [99_000.0, np.nan]
        _, accounts, _ = small_run.read(frames)
        found = accounts.to_frames()
        pd.testing.assert_frame_equal(found.positions, frames["positions"])
        pd.testing.assert_frame_equal(found.orders, frames["orders"])
        pd.testing.assert_frame_equal(found.settings, frames["settings"])
        # the account 2 has no settle asset: it gets a row of it
        wanted = pd.concat(
            [frames["balances"], pd.DataFrame([(2, "USDC", 0.0, 0.0)], columns=frames["balances"].columns)]
        )
        wanted = wanted.sort_values(["account", "asset"], ignore_index=True)
        pd.testing.assert_frame_equal(found.balances, wanted)

    def test_a_run_s_last_state_comes_back_as_the_same_whole_numbers(self):
        venue, accounts, ticks = small_run.crash()
        engine = rc.Engine(accounts, venue)
        for tick in ticks.starting_at(0):
            engine.step(tick)
        assert (engine.accounts.columns.cost != engine.accounts.columns.entry).any()
        for state in (accounts, engine.accounts):
            again = rc.Accounts.from_frames(venue, *state.to_frames())
            assert whole_numbers(again) == whole_numbers(state)
            assert again.rounded < 1e-3

    @pytest.mark.parametrize("name", PRESETS)
    def test_any_amounts_come_back(self, name):
        venue, chance = rc.load_venue(name), np.random.default_rng(3)
        markets, steps, ticks = venue.markets.symbol, venue.markets.step_size, venue.markets.tick_size
        rows = []
        for account in range(200):
            for m in chance.choice(len(markets), 3, replace=False).tolist():
                price = 10 ** chance.uniform(0.5 if name == "backpack" else -3, 3)
                lots = int(10 ** chance.uniform(-2, 6) / price / steps[m] + 1) * chance.choice([-1, 1])
                price = np.rint(price / ticks[m] + 1) * ticks[m] if account % 2 else price
                settle = price * chance.uniform(0.5, 2) if account % 3 else np.nan
                rows.append((f"a{account}", markets[m], lots * steps[m], price, settle))
        names = ["account", "market", "quantity", "entry_price", "settle_price"]
        positions = pd.DataFrame(rows, columns=names)
        money = chance.uniform(-1e6, 1e7, 200)
        balances = pd.DataFrame({"account": [f"a{n}" for n in range(200)], "asset": "USDC", "quantity": money})
        balances["lent"] = chance.uniform(0, 1e3, 200)
        settings = pd.DataFrame({"account": ["a3"], "unsettled": [-12.25]})
        accounts = rc.Accounts.from_frames(venue, positions, balances, None, settings)
        again = rc.Accounts.from_frames(venue, *accounts.to_frames())
        assert whole_numbers(again) == whole_numbers(accounts)
        pd.testing.assert_frame_equal(again.to_frames().positions, accounts.to_frames().positions)

    def test_a_position_of_less_than_half_a_quantum(self):
        venue = rc.load_venue("dydx")
        positions = pd.DataFrame({"account": [1], "market": ["PEPE-USD"], "quantity": [1e7], "entry_price": [4e-14]})
        balances = pd.DataFrame({"account": [1], "asset": ["USDC"], "quantity": [1.0]})
        accounts = rc.Accounts.from_frames(venue, positions, balances)
        assert accounts.columns.lots[0] == 1
        assert accounts.columns.entry[0] == 0
        assert whole_numbers(rc.Accounts.from_frames(venue, *accounts.to_frames())) == whole_numbers(accounts)

    def test_accounts_of_nothing(self):
        venue = rc.load_venue("backpack")
        balances = pd.DataFrame({"account": [5], "asset": ["USDC"], "quantity": [0.0]})
        empty = pd.DataFrame(columns=["account", "market", "quantity", "entry_price"])
        accounts = rc.Accounts.from_frames(venue, empty, balances)
        again = rc.Accounts.from_frames(venue, *accounts.to_frames())
        assert again.ids.tolist() == [5]
        assert [len(frame) for frame in accounts.to_frames()] == [0, 1, 0, 0]


@pytest.fixture(scope="module")
def crash(tmp_path_factory):
    """A run of the generated crash: the results of its ticks, its accounts after each, and its folder."""
    venue, accounts, ticks = small_run.crash()
    engine, results, states = rc.Engine(accounts, venue), [], []
    for tick in ticks.starting_at(0):
        results.append(engine.step(tick, whole_table=True))
        states.append(engine.accounts.copy())
    path = tmp_path_factory.mktemp("runs") / "crash"
    engine.save(path)
    return engine, results, states, path


class TestEvents:
    def test_natural_columns_stand_for_the_whole_numbers(self, crash):
        engine, results, *_ = crash
        venue = engine.venue
        step, quantum = (
            dict(zip(venue.markets.symbol, venue.markets.step, strict=True)),
            dict(zip(venue.assets.symbol, venue.assets.quantum, strict=True)),
        )
        spots = zip(venue.spots.asset.tolist(), venue.spots.step, strict=True)
        spot = {venue.assets.symbol[k]: size for k, size in spots}
        seen = set()
        for result in results:
            events = result.events
            assert set(result.raw_events.columns) <= set(events.columns)
            for row in events.to_dict("records"):
                seen.add(row["event"])
                in_market, in_asset = row["market"] in step, row["asset"] in quantum
                exact = {"quantity": step[row["market"]] * row["lots"] if in_market else None}
                exact["amount"] = quantum[row["asset"]] * row["quanta"] if in_asset else None
                exact["lent_amount"] = quantum[row["asset"]] * row["lent"] if in_asset else None
                for name in ("cash", "fee", "unsettled", "fund"):
                    exact[f"{name}_amount"] = quantum["USDC"] * row[name]
                unit = step[row["market"]] if in_market else quantum[row["asset"]] if in_asset else None
                if not in_market and row["event"] in ("expire", "skip"):
                    unit = spot[row["asset"]]
                exact["requested_quantity"] = None if unit is None else unit * row["requested"]
                for name, value in exact.items():
                    assert np.isnan(row[name]) if value is None else row[name] == float(value), (name, row)
        assert {"book", "backstop", "cancel", "trigger", "realize", "funding"} <= seen

    def test_fills_are_the_rows_that_close_positions(self, crash):
        engine, results, *_ = crash
        every = pd.concat([result.fills for result in results], ignore_index=True)
        assert every.columns.tolist() == [
            "time", "account", "market", "side", "quantity", "price", "notional", "fee", "stage", "reason",
            "counterparty",
        ]  # fmt: skip
        split = rc.run.report.waterfall_split(np.concatenate([r.rows for r in results]), engine.venue).set_index(
            "stage"
        )
        for stage, own in every.groupby("stage"):
            assert len(own) == split.loc[stage, "fills"]
            assert own["notional"].sum() == pytest.approx(split.loc[stage, "notional"], rel=1e-12)
            assert (own["counterparty"] == "book").all() == (stage == "order book")
        for result in results:
            events = result.events
            wanted = events[events["event"].isin(["book", "backstop", "adl"]) & events["market"].notna()]
            assert result.fills["quantity"].tolist() == wanted["quantity"].abs().tolist()
            assert (result.fills["side"] == "sell").tolist() == (wanted["lots"] < 0).tolist()
            assert result.fills["fee"].tolist() == wanted["fee_amount"].tolist()
        assert (every["quantity"] > 0).all()
        assert set(every["side"]) == {"buy", "sell"}

    def test_fees_are_taken_from_what_is_sold(self, crash):
        every = pd.concat([result.fills for result in crash[1]])
        book = every[every["stage"] == "order book"]
        assert (book["fee"] >= 0).all()
        assert book["fee"].sum() > 0
        assert (book["fee"] <= 0.01 * book["notional"] + 1e-6).all()


class TestReadRun:
    def test_tables_of_a_run(self, crash):
        _, results, _, path = crash
        run = rc.read_run(path)
        natural = pd.concat([result.events for result in results], ignore_index=True)[run.events.columns]
        frames = [frame.astype(object).where(frame.notna(), None) for frame in (run.events, natural)]
        pd.testing.assert_frame_equal(*frames)
        fills = pd.concat([result.fills for result in results], ignore_index=True)
        pd.testing.assert_frame_equal(run.fills, fills, check_dtype=False)
        assert run.rows.tobytes() == np.concatenate([result.rows for result in results]).tobytes()
        assert len(run.raw_events) == len(run.events)
        assert (run.ticks, run.complete, run.seed) == (25, True, 0)

    def test_marks_are_the_guarded_ones_and_go_in_again(self, crash):
        _, results, _, path = crash
        run = rc.read_run(path)
        assert run.marks.columns.tolist() == ["time", "market", "mark_price", "index_price"]
        assert len(run.marks) == 25 * len(run.venue.markets.symbol)
        assert run.marks["time"].astype("int64").unique().tolist() == [result.time for result in results]
        ticks = rc.io.read_ticks(run.venue, run.accounts, run.marks)
        assert ticks.mark.ravel().tolist() == run.marks["mark_price"].tolist()
        assert ticks.index.ravel().tolist() == run.marks["index_price"].tolist()
        # the margins of a tick are those of its marks
        prices = run.marks.iloc[-3:].set_index("market")
        found = rc.sweep(run.accounts_at(23), run.venue, prices["mark_price"], indexes=prices["index_price"])
        assert len(found.account) == len(run.accounts)

    def test_accounts_at_a_tick_are_the_engines(self, crash):
        engine, _, states, path = crash
        run = rc.read_run(path)
        for tick, state in enumerate(states):
            assert_same_accounts(run.accounts_at(tick), state)
        assert_same_accounts(run.accounts_at(), engine.accounts)
        assert_same_accounts(run.accounts, small_run.crash()[1])
        for wrong in (25, -1, True, 1.0, "3"):
            with pytest.raises(rc.RiskDataError, match="must be a tick of the run, from 0 to 24"):
                run.accounts_at(wrong)

    def test_the_summary_adds_up(self, crash):
        engine, results, _, path = crash
        found = rc.read_run(path).summary
        assert found.accounts == len(engine.accounts)
        assert found.liquidated == len({n for result in results for n in result.selected.tolist()})
        assert found.fund_start == 1_000_000
        assert found.fund_end == pytest.approx(engine.ledger.fund * 1e-6, abs=1e-6)
        assert found.split["fills"].sum() == sum(len(result.fills) for result in results)
        assert set(found.shortfall) == {"paid_by_fund", "paid_by_others", "left_on_record"}

    def test_no_run(self, tmp_path):
        with pytest.raises(rc.RiskDataError, match=r"must be a run folder with a run\.json"):
            rc.read_run(tmp_path)

    def test_a_run_without_ticks(self, tmp_path):
        venue, accounts, _ = small_run.crash()
        rc.Engine(accounts, venue).save(tmp_path / "run", complete=False)
        run = rc.read_run(tmp_path / "run")
        assert [len(frame) for frame in (run.events, run.fills, run.marks)] == [0, 0, 0]
        assert repr(run) == "Run(run: 0 ticks, 123 accounts, 0 liquidated, not complete)"
        assert_same_accounts(run.accounts_at(), accounts)


def assert_same_accounts(found, wanted):
    for name, column in found.columns._asdict().items():
        np.testing.assert_array_equal(column, getattr(wanted.columns, name), err_msg=name)
    for f in fields(Orders):
        np.testing.assert_array_equal(getattr(found.orders, f.name), getattr(wanted.orders, f.name), err_msg=f.name)
    np.testing.assert_array_equal(found.leverage_limit, wanted.leverage_limit)
