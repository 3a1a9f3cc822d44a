"""The engine on real order books and prices: replayed, audited, and split by who took what."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from riskcore.cli import app
from tests import real_inputs


def run(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.mark.parametrize(
    ("prepare", "accounts", "ticks", "sample", "past_the_book"),
    [
        (real_inputs.binance_day, real_inputs.ACCOUNTS, 344, 1.0, False),
        (lambda out: real_inputs.ftx_month(out, worst_days=1, accounts=3_000), 3_000, 1440, 0.05, True),
    ],
    ids=["books second by second", "the month's worst day"],
)
def test_replay_and_audit(shared, tmp_path, prepare, accounts, ticks, sample, past_the_book):
    """On the calm day's books everything is sold there; a month of falls minute by minute needs the backstop."""
    files = prepare(tmp_path / "inputs")
    folder = tmp_path / "run"
    result = run("replay", *real_inputs.arguments(files), "--out", folder, "--json")
    assert (result["accounts"], result["ticks"]) == (accounts + len(real_inputs.PROVIDERS), ticks)
    assert sum(stage["notional_share"] for stage in result["split"]) == pytest.approx(1)
    book, backstop, _ = (stage["fills"] for stage in result["split"])
    assert book > 0
    assert (backstop > 0) == past_the_book

    found = run("audit", folder, "--sample", sample, "--json")
    assert found["ok"]
    # 344 calm seconds hold no hour, in which something falls due, liquidate no debtor, and hand nothing over
    idle = {"activity"} if past_the_book else {"activity", "accruals", "repay", "touched"}
    assert {check["rule"] for check in found["checks"] if not check["checked"]} <= idle

    journal = pd.concat(pd.read_parquet(part) for part in sorted((folder / "journal").iterdir()))
    ids = pd.read_parquet(folder / "start/accounts.parquet")["account"]
    liquidated = int(ids[journal.loc[journal["event"] == "trigger", "account"].iloc[0]])
    assert run("explain", folder, "--account", liquidated, "--json")["events"]
