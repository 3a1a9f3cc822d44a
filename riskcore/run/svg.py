"""Parts of a picture in plain SVG, dark where the reader's system is."""

from __future__ import annotations

from xml.sax.saxutils import escape

import numpy as np

from .._typing import Float
from ..boundary import escaped

WIDTH = 860
"""Of a picture, pixels."""

_STYLE = """
text{font:13px system-ui,sans-serif;fill:#1c2733}.quiet{fill:#5b6875}.end{text-anchor:end}.middle{text-anchor:middle}
.title{font-size:15px;font-weight:600}.value{font-size:19px;font-weight:600}
.back{fill:#f5f7f9}.card{fill:#fff;stroke:#dde3e9}.grid{stroke:#dde3e9}
@media(prefers-color-scheme:dark){text{fill:#e4e9ee}.quiet{fill:#9aa7b4}
.back{fill:#12171d}.card{fill:#1b222a;stroke:#323c47}.grid{stroke:#323c47}}
"""


def text(x: float, y: float, content: str, style: str = "") -> str:
    """Return a line of text; ``style`` has classes of `picture`: quiet, end, middle, title, value.

    Examples
    --------
    >>> from riskcore.run.svg import text
    >>> text(10, 20, "P & L", "quiet")
    '<text x="10.0" y="20.0" class="quiet">P &amp; L</text>'
    """
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style.strip()}">{escape(escaped(content))}</text>'


def picture(parts: list[str], height: int) -> str:
    """Return a picture of `WIDTH` times ``height`` pixels with these parts.

    Examples
    --------
    >>> from riskcore.run.svg import picture, text
    >>> picture([text(10, 20, "nothing")], 40).splitlines()[-1]
    '</svg>'
    """
    body = "\n".join([f'<rect class="back" width="{WIDTH}" height="{height}" rx="8"/>', *parts])
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>\n{body}\n</svg>\n'


def round_numbers(low: float, high: float) -> Float:
    """Return three to six round numbers from low to high.

    Examples
    --------
    >>> from riskcore.run.svg import round_numbers
    >>> round_numbers(-120.0, 310.0)
    array([-100.,    0.,  100.,  200.,  300.])
    """
    power = 10.0 ** np.floor(np.log10(high - low))
    step = next(step for step in (2 * power, power, power / 2, power / 5) if (high - low) / step >= 2.5)
    return np.asarray(np.arange(np.ceil(low / step), high / step + 1e-9) * step)
