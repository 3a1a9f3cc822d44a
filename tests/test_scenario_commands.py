"""The commands scenario-losses and compare-models, from files to files."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import riskcore as rc
from riskcore.cli import app
from riskcore.sample import options_sample


@pytest.fixture(scope="module")
def sample():
    return options_sample(60, seed=4)


@pytest.fixture(scope="module")
def files(sample, tmp_path_factory):
    return sample.write(tmp_path_factory.mktemp("inputs") / "in")


def call(command, files, *arguments, code=0):
    inputs = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    result = CliRunner().invoke(app, [command, *inputs, *map(str, arguments)])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    return result


def test_losses_in_files(sample, files, tmp_path):
    out, matrix, picture = (tmp_path / name for name in ("worst.csv", "all.parquet", "binding.svg"))
    said = call("scenario-losses", files, "--out", out, "--matrix", matrix, "--picture", picture).stdout
    losses = rc.scenario_losses(sample.accounts, sample.venue, sample.tick)
    table = pd.read_csv(out)
    assert table["account"].tolist() == losses.account.tolist()
    assert table["requirement"].tolist() == losses.requirement.tolist()
    assert pd.read_parquet(matrix).iloc[:, 2:].to_numpy().tolist() == next(losses.blocks()).loss.tolist()
    assert picture.read_text() == rc.run.binding_picture(losses)
    largest = losses.to_frame().sort_values("requirement", ascending=False).iloc[0]
    assert f"{largest['requirement']:,.2f}" in said


def test_one_account(sample, files, tmp_path):
    out, picture = tmp_path / "positions.parquet", tmp_path / "payoff.svg"
    said = call("scenario-losses", files, "--account", 9, "--out", out, "--picture", picture).stdout
    split = rc.attribution(sample.accounts, sample.venue, sample.tick, account=9)
    pd.testing.assert_frame_equal(pd.read_parquet(out), split.to_frame(), check_dtype=False)
    assert picture.read_text() == rc.run.payoff_picture(sample.accounts, sample.venue, sample.tick, 9)
    assert all(name in said for name in ("Binding scenario", f"{split.requirement[0]:,.2f}"))
    answer = json.loads(call("scenario-losses", files, "--account", 9, "--json").stdout)
    assert [line["item"] for line in answer["positions"]] == split.item.tolist()
    assert answer["largest"][0]["requirement"] == split.requirement[0]


def test_models_side_by_side(sample, files, tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"scenarios": [{"move": "-0.1"}, {"move": "0.1"}]}))
    out = tmp_path / "models.csv"
    models = ["--model", "derive", "--model", path]
    said = call("compare-models", files, *models, "--out", out).stdout
    table = rc.compare_models(sample.accounts, sample.venue, sample.tick, ["derive", str(path)])
    written = pd.read_csv(out)
    assert written["requirement"].tolist() == table["requirement"].tolist()
    assert written["model"].tolist() == table["model"].tolist()
    assert "derive" in said
    totals = json.loads(call("compare-models", files, *models, "--json").stdout)["models"]
    sums = table.groupby("model", sort=False)["requirement"].sum()
    assert [model["model"] for model in totals] == ["derive", str(path)]
    assert np.allclose([model["requirement"] for model in totals], sums)


def test_another_model_than_that_of_the_venue(sample, files, tmp_path):
    out = tmp_path / "worst.csv"
    call("scenario-losses", files, "--margin-model", "buckets", "--out", out)
    venue = sample.venue.replace(scenario_model="buckets")
    losses = rc.scenario_losses(sample.accounts, venue, sample.tick)
    assert pd.read_csv(out)["scenario"].tolist() == losses.scenario.tolist()


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("scenario-losses", ["--account", "nobody"], "must be an account of the state"),
        ("scenario-losses", ["--picture", "binding.png"], "must end in .svg"),
        ("scenario-losses", ["--matrix", "all.txt"], "must end in .parquet or .csv"),
        ("scenario-losses", ["--margin-model", "none such"], "none such"),
        ("scenario-losses", ["--margin-model", "separable"], "Function"),
        ("compare-models", ["--model", "derive", "--model", "derive"], "must not have the same model twice"),
        ("compare-models", ["--model", "none such"], "none such"),
    ],
)
def test_wrong_input_is_one_line(files, command, arguments, message):
    error = call(command, files, *arguments, code=2).stderr
    assert message in error
    assert error.count("\n") == 1
