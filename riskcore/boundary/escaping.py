"""Escapes text from outside (ids, symbols, paths, messages), so that a terminal, file or page shows it as text."""

from __future__ import annotations

import html

_MAX_LENGTH = 500
"""Characters of a value that a message holds."""


def escaped(text: str) -> str:
    r"""Return text of printing characters alone: others are escaped, as ``\x1b`` or ``\u202e``.

    Control characters, line breaks, marks that reverse or hide text, and halves of surrogate pairs do not print.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text, escaped.

    Examples
    --------
    >>> from riskcore.boundary import escaped
    >>> print(escaped("SOL\x1b[31m"))
    SOL\x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(count: int, what: str) -> str:
    """Return a count and its noun.

    Parameters
    ----------
    count : int
        The count.
    what : str
        The noun, singular.

    Returns
    -------
    str
        The noun takes an s unless the count is 1.

    Examples
    --------
    >>> from riskcore.boundary import counted
    >>> counted(1, "market"), counted(2_000, "market")
    ('1 market', '2,000 markets')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def as_html(text: str) -> str:
    """Return text for a page, or for a label of plotly, which reads HTML in it too.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        The text, escaped for HTML.

    Examples
    --------
    >>> from riskcore.boundary import as_html
    >>> as_html("<b>SOL</b>")
    '&lt;b&gt;SOL&lt;/b&gt;'
    """
    return html.escape(escaped(text))


def is_unicode(text: str) -> bool:
    """Return whether UTF-8 can hold the text: no half of a surrogate pair is in it.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    bool
        False of text that cannot be written to a file.

    Examples
    --------
    >>> from riskcore.boundary import is_unicode
    >>> is_unicode("zoë"), is_unicode(chr(0xD800))
    (True, False)
    """
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def as_text(value: object) -> str:
    """Return the text of a value, or its type where it has no text: numbers of more digits than Python writes, say.

    Parameters
    ----------
    value : object
        Any value.

    Returns
    -------
    str
        Its text.

    Examples
    --------
    >>> from riskcore.boundary import as_text
    >>> as_text(2.5), as_text(10**5000)
    ('2.5', 'of type int, which cannot be written out')
    """
    try:
        return str(value)
    except Exception:  # a list that contains itself, or any error that a user's class raises
        return f"of type {type(value).__name__}, which cannot be written out"


def describe_value(value: object) -> str:
    """Return one line with any value: text in quotes, the text of other values; cut where it is long.

    Parameters
    ----------
    value : object
        Any value.

    Returns
    -------
    str
        At most 503 characters.

    Examples
    --------
    >>> from riskcore.boundary import describe_value
    >>> describe_value("7"), describe_value(7)
    ("'7'", '7')
    """
    text = repr(str(value)) if isinstance(value, str) else escaped(as_text(value))
    return text if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]}..."
