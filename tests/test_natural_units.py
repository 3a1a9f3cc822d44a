"""What goes in in natural units comes out in them: venues, accounts, events, fills, whole runs, one-line texts."""

import json

import pytest
from typer.testing import CliRunner

import riskcore as rc
from riskcore.cli import app
from riskcore.io import backpack, dydx, hyperliquid
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
