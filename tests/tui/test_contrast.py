"""What is written in a table can be read, on its highlighted row too, whatever the theme."""

from __future__ import annotations

import pytest
from rich.style import Style
from textual.content import Content

from tests.tui.conftest import Open
from tui.theme import DECK, ON_CURSOR, SIXTEEN
from tui.widgets.line_table import Column, LineTable

READABLE = 4.5
"""The least contrast that WCAG 2 asks of text."""
WRITTEN = [name for name in ON_CURSOR if name not in ("border", "foreground-disabled")]


def styles_of(table: LineTable, row: int) -> list[Style]:
    return [style for text, style, _ in table.render_line(row + 1) if text.strip() and style]


def contrast(style: Style) -> float:
    assert style.color is not None
    assert style.bgcolor is not None
    above, below = sorted((luminance(style.color), luminance(style.bgcolor)), reverse=True)
    return (above + 0.05) / (below + 0.05)


def luminance(color: object) -> float:
    triplet = color.get_truecolor()  # type: ignore[attr-defined]
    parts = [
        part / 3294.6 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in triplet
    ]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


@pytest.mark.parametrize("ground", ["background", "surface"])
@pytest.mark.parametrize("theme", [DECK.name, SIXTEEN.name])
async def test_every_colour_can_be_read_on_every_row(opened: Open, theme: str, ground: str) -> None:
    async with opened((120, 36)) as pilot:
        pilot.app.theme = theme
        table = LineTable([Column("", 20)] * len(WRITTEN))
        table.styles.background = pilot.app.theme_variables[ground]
        await pilot.app.screen.mount(table, before=0)
        cells = [Content.styled(name, f"${name}") for name in WRITTEN]
        table.show_rows([cells, cells, ["plain"] * len(WRITTEN)], 0)
        for focused in (True, False):
            pilot.app.screen.set_focus(table if focused else None)
            await pilot.pause()
            highlighted = styles_of(table, 0)
            assert len(highlighted) > 1 or theme == SIXTEEN.name
            if theme == SIXTEEN.name:  # its colours are the terminal's, whatever they are
                assert all(style.reverse for style in highlighted)
                assert {str(style.color and style.color.name) for style in highlighted} == {
                    "default"
                }
                continue
            for style in (*highlighted, *styles_of(table, 1), *styles_of(table, 2)):
                assert contrast(style) >= READABLE, style
