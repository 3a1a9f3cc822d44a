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
    ("prepare", "ticks", "sample"),
    [
        (real_inputs.binance_day, 344, 1.0),
        (lambda out: real_inputs.ftx_month(out, worst_days=2), 2880, 0.05),
    ],
    ids=["books second by second", "the month's worst two days"],
)
def test_replay_and_audit(shared, tmp_path, prepare, ticks, sample):
    files = prepare(tmp_path / "inputs")
    folder = tmp_path / "run"
    result = run("replay", *real_inputs.arguments(files), "--out", folder, "--json")
    assert (result["accounts"], result["ticks"]) == (real_inputs.ACCOUNTS + len(real_inputs.PROVIDERS), ticks)
    assert sum(stage["notional_share"] for stage in result["split"]) == pytest.approx(1)
    assert min(stage["fills"] for stage in result["split"][:2]) > 0

    found = run("audit", folder, "--sample", sample, "--json")
    assert found["ok"]
    # 344 s hold no hour: nothing falls due in them
    assert {check["rule"] for check in found["checks"] if not check["checked"]} <= {"accruals"}

    journal = pd.concat(pd.read_parquet(part) for part in sorted((folder / "journal").iterdir()))
    ids = pd.read_parquet(folder / "start/accounts.parquet")["account"]
    liquidated = int(ids[journal["account"].iloc[0]])
    assert run("explain", folder, "--account", liquidated, "--json")["events"]
