"""The boundary to users: tables in natural units and JSON in, one line for what is wrong with them."""

from . import frames, json_input, schemas, timestamps, units
from .errors import RecordingWarning, RiskDataError
from .escaping import as_html, counted, is_unicode, of_value, shown, text_of
from .frames import frame_as_html
from .json_input import Payload, Row
from .timestamps import moment
from .units import exact, natural

__all__ = [
    "Payload",
    "RecordingWarning",
    "RiskDataError",
    "Row",
    "as_html",
    "counted",
    "exact",
    "frame_as_html",
    "frames",
    "is_unicode",
    "json_input",
    "moment",
    "natural",
    "of_value",
    "schemas",
    "shown",
    "text_of",
    "timestamps",
    "units",
]
