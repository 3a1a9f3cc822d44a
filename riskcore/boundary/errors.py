"""The error of wrong input, and the warning of unsaved ticks."""

from __future__ import annotations

from .escaping import as_text, describe_value, escaped


class RiskDataError(ValueError):
    """Input that breaks a rule: one line that names table, column, row, value and rule.

    Parameters
    ----------
    table : str
        Name of the table or argument.
    column : str or None
        Column, or path inside it; None if the rule is about the whole table.
    rule : str
        The rule, a text that begins with "must".
    row : object
        Row number from 0, or the key of the row; None if the rule is about the whole column.
    value : object
        The offending value; None if there is none.

    Examples
    --------
    >>> import riskcore as rc
    >>> print(rc.RiskDataError("positions", "quantity", "must be finite", row=3, value=float("inf")))
    positions.quantity, row 3, value inf: must be finite
    """

    def __init__(self, table: str, column: str | None, rule: str, *, row: object = None, value: object = None) -> None:
        self.table, self.column, self.rule, self.row, self.value = table, column, rule, row, value
        where = escaped(as_text(table) if column is None else f"{as_text(table)}.{as_text(column)}")
        if row is not None:
            where += f", row {escaped(as_text(row))}"
        if value is not None:
            where += f", value {describe_value(value)}"
        super().__init__(f"{where}: {escaped(' '.join(rule.split()))}")


class RecordingWarning(UserWarning):
    """Warns of an engine without a run folder that keeps more than 256 MiB of ticks in memory.

    Examples
    --------
    >>> import warnings
    >>> import riskcore as rc
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", rc.RecordingWarning)  # stops a long run that was not saved yet
    """
