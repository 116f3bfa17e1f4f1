"""A quick look at many rows at once, for which of them need a closer one.

The closer look (control characters, wrong decodings, secrets, personal data, refusals) costs
more than all the rest of judging a row. One regular expression, which RE2 runs over the raw
lines in a single pass, tells most rows clear of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from core.data.sensitive import NUMBER, SIGNS

_ESCAPES = r"\\[ubf/]"
_CONTROL = r"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\xaa-\xae]|\xe2\x81[\xa6-\xa9]|\xef\xbf\xbd"
_GARBLED = r"\xc3[\x82\x83][\xc2\xc5\xc6\xcb\xe2]|\xc3\xa2\xe2\x82\xac"
_PERSONAL = rf"@|\+|{NUMBER}"
_REFUSAL = (
    r"(?i:sorry|afraid|unable|not able|can't|can\xe2\x80\x99t|cannot|language model|as an? a)"
)
_PATTERN = "|".join([_ESCAPES, _CONTROL, _GARBLED, _PERSONAL, _REFUSAL, *map(re.escape, SIGNS)])


def clear_lines(lines: Sequence[bytes]) -> list[bool]:
    """For each line of JSON whether no text in it can hold what is looked for."""
    import pyarrow as pa
    from pyarrow import compute

    suspicious = compute.match_substring_regex(pa.array(lines, pa.binary()), _PATTERN)
    clear: list[bool] = compute.invert(suspicious).to_pylist()
    return clear
