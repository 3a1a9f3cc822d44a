"""Escapes text from outside (ids, symbols, paths, messages), so that a terminal, file or page shows it as text."""

from __future__ import annotations

import html

_LONGEST = 500
"""Characters of a value that a message holds."""


def shown(text: str) -> str:
    r"""Return the text with every character escaped that does not print, as ``\x1b`` or ``\u202e``.

    Control characters, line breaks, marks that reverse or hide text, and halves of surrogate pairs do not print.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, what: str) -> str:
    """Return a count and its noun: ``1 market``, ``2,000 markets``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def as_html(text: str) -> str:
    """Return the text for a page, or for a label of plotly, which reads HTML in it too."""
    return html.escape(shown(text))


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold the text: no half of a surrogate pair is in it."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def text_of(value: object) -> str:
    """Return the text of a value, or its type where it has none, as a number of more digits than Python writes."""
    try:
        return str(value)
    except Exception:  # a list that contains itself, or any error that a user's class raises
        return f"of type {type(value).__name__}, which cannot be written out"


def of_value(value: object) -> str:
    """Return any value on one line: text quoted, other values as they print, cut at the length limit."""
    text = repr(str(value)) if isinstance(value, str) else shown(text_of(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
