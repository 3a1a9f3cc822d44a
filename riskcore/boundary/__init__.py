"""The boundary to users: reads tables in natural units and JSON; an error is one line."""

from . import frames, json_input, schemas, timestamps, units
from .errors import RecordingWarning, RiskDataError
from .escaping import as_html, as_text, counted, describe_value, escaped, is_unicode
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
    "as_text",
    "counted",
    "describe_value",
    "escaped",
    "exact",
    "frame_as_html",
    "frames",
    "is_unicode",
    "json_input",
    "moment",
    "natural",
    "schemas",
    "timestamps",
    "units",
]
