"""What riskcore raises when its input is wrong, and what it warns of."""

from __future__ import annotations

from .escaping import of_value, shown, text_of


class RiskDataError(ValueError):
    """Input that breaks a rule: one line that names table, column, row, value and rule.

    Parameters
    ----------
    table, column
        Where the value stands.
    rule
        What it must be.
    row
        Row number from 0, or the key of the row; None if the rule is about the whole column.
    value
        The offending value.
    """

    def __init__(self, table: str, column: str | None, rule: str, *, row: object = None, value: object = None) -> None:
        self.table, self.column, self.rule, self.row, self.value = table, column, rule, row, value
        where = shown(text_of(table) if column is None else f"{text_of(table)}.{text_of(column)}")
        if row is not None:
            where += f", row {shown(text_of(row))}"
        if value is not None:
            where += f", value {of_value(value)}"
        super().__init__(f"{where}: {shown(' '.join(rule.split()))}")


class RecordingWarning(UserWarning):
    """An engine without a run folder keeps a lot of ticks in memory."""
