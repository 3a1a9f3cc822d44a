"""Losses of all accounts in all scenarios, written while they are computed."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from ..boundary import RiskDataError
from ..margin import LossBlock, ScenarioLosses
from .files import TABLES, output_file, write_atomically
from .sweeps import csv_writer, parquet_writer


def write_scenario_losses(path: str | Path, losses: ScenarioLosses) -> int:
    """Write the loss of every account in every scenario, Parquet or CSV by the suffix.

    A block is written before the next one is computed: memory does not grow with the number of accounts. The file
    appears whole or not at all; texts in a CSV file are written as of `write_table`.

    Parameters
    ----------
    path : str or Path
        The file to write, or to replace.
    losses : ScenarioLosses
        As of `riskcore.scenario_losses`.

    Returns
    -------
    int
        Rows written: one per account and group of underlyings that it holds. The columns are account, group, and a
        scenario each by its name, losses in units of the requirement, a gain negative.

    Raises
    ------
    RiskDataError
        The file cannot be written, or the name of a scenario is that of another column.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> import riskcore as rc
    >>> from riskcore.sample import options_sample
    >>> sample = options_sample(100)
    >>> losses = rc.scenario_losses(sample.accounts, sample.venue, sample.tick)
    >>> path = Path(tempfile.mkdtemp()) / "losses.parquet"
    >>> rc.io.write_scenario_losses(path, losses), pd.read_parquet(path).columns[:4].tolist()
    (103, ['account', 'group', '+18 % up', '+13.5 % down'])
    """
    parquet = output_file(path, TABLES).suffix.lower() == ".parquet"
    names, written = ["account", "group", *losses.scenarios["name"]], 0
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise RiskDataError("scenario_model", "scenarios", "must not have the name of another column", value=twice[0])

    def fill(file: BinaryIO) -> None:
        nonlocal written
        empty = LossBlock(losses.account[:0], np.empty(0, object), np.empty((0, len(losses.scenarios))))
        like = _frame(losses, empty).astype({"group": str})
        with parquet_writer(file, like, ["group"]) if parquet else csv_writer(file) as write:
            for block in losses.blocks():
                write(_frame(losses, block))
                written += len(block.account)
            if not written:
                write(like)

    write_atomically(path, fill, TABLES)
    return written


def _frame(losses: ScenarioLosses, block: LossBlock) -> pd.DataFrame:
    columns = dict(zip(losses.scenarios["name"], block.loss.T, strict=True))
    return pd.DataFrame({"account": block.account, "group": block.group} | columns)
