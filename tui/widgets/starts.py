"""Sources that are worth a look, for someone who has not opened one yet."""

from __future__ import annotations

import os
from pathlib import Path

from textual.content import Content

from core.paths import presets_root
from core.text import printable
from core.units import bytes_text
from tui.widgets.line_table import Column, LineTable, Row
from tui.widgets.path_input import DATA_ENDINGS

COLUMNS = (Column("Source", 24, grow=1, most=64), Column("Size", 8, right=True))
MOST = 200


class StartsTable(LineTable):
    """The demo's rows, and the data files of the folder one stands in."""

    def __init__(self, *, id: str) -> None:
        super().__init__(COLUMNS, id=id)
        self._paths: list[Path] = []

    def look(self) -> None:
        """Look what lies here."""
        demo = presets_root() / "demo" / "train.jsonl"
        self._paths = [path for path in (demo, *data_files(Path.cwd())) if path.is_file()]
        self.show_rows([_row(path, path == demo) for path in self._paths])

    @property
    def chosen(self) -> str | None:
        """The highlighted source."""
        return str(self._paths[self.cursor]) if self._paths else None


def data_files(folder: Path) -> list[Path]:
    """The data files in a folder, by name."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if name.lower().endswith(DATA_ENDINGS)][:MOST]


def _row(path: Path, is_demo: bool) -> Row:
    name = (
        Content("the demo's rows") if is_demo else Content(printable(path.name, single_line=True))
    )
    try:
        size = bytes_text(path.stat().st_size)
    except OSError:
        size = "–"
    return name, size
