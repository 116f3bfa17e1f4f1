"""Untrusted text made safe to show.

Rows, model output and file names may hold escape sequences, bidi overrides and markup. All of
it passes through `printable` before it reaches a terminal; in Textual it is shown as a
`Content` or `Text` object, never parsed as markup.
"""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls but newline and tab, DEL, bidi overrides and isolates, zero-width and
# line/paragraph separators, interlinear annotations, tag characters, lone surrogates.
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures block: ESC becomes ␛
    return "␡" if code == 0x7F else "�"


def printable(text: str, *, single_line: bool = False, tab: str = "    ") -> str:
    """`text` with nothing in it that a terminal would obey.

    Control characters become their visible pictures. With `single_line`, line breaks become
    `⏎` and tabs a space, so that a table cell stays one row high.
    """
    safe = UNSAFE.sub(_visible, text.replace("\r\n", "\n"))
    if single_line:
        return safe.replace("\n", "⏎").replace("\t", " ")
    return safe.replace("\t", tab)


def clip(text: str, width: int) -> str:
    """`text` cut to at most `width` terminal cells, with an ellipsis where something was cut."""
    if sum(map(cells, text)) <= width:
        return text
    kept, used = "", 1  # the ellipsis takes one
    for char in text:
        used += cells(char)
        if used > width:
            break
        kept += char
    return kept + "…" if width > 0 else ""


def cells(char: str) -> int:
    """The columns that a character takes in a terminal."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
