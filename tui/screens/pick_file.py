"""A tree of folders to pick a data file from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import DirectoryTree, Static
from textual.widgets._directory_tree import DirEntry
from textual.widgets.tree import TreeNode

from core.text import printable
from tui.widgets.path_input import DATA_ENDINGS


class DataTree(DirectoryTree):
    """Folders, and the files that may hold rows."""

    ICON_NODE = "▸ "
    ICON_NODE_EXPANDED = "▾ "
    ICON_FILE = "  "
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Down", show=False),
        Binding("k", "cursor_up", "Up", show=False),
        Binding("backspace,h", "parent_folder", "Parent folder", key_display="h"),
    ]

    def filter_paths(self, paths: Iterable[Path]) -> Iterable[Path]:
        return [path for path in paths if not path.name.startswith(".") and _may_hold_rows(path)]

    def render_label(self, node: TreeNode[DirEntry], base_style: Style, style: Style) -> Text:
        """File names are somebody else's text."""
        label = super().render_label(node, base_style, style)
        label.plain = printable(label.plain, single_line=True)
        return label

    def action_parent_folder(self) -> None:
        self.path = Path(self.path).resolve().parent


class PickFileScreen(ModalScreen[str]):
    """Ends with a path, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+t,q", "dismiss(None)", "Cancel"),
        Binding("o", "take_folder", "Open the folder"),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__(classes="dialogue")
        self._folder = folder

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled("Pick a file", "bold"))
            yield DataTree(self._folder)
            yield Static(
                Content.assemble(
                    ("⏎", "bold $accent"), " open   ", ("h", "bold $accent"), " folder above   ",
                    ("o", "bold $accent"), " all files of a folder   ",
                    ("Esc", "bold $accent"), " leave it",
                ),
                classes="muted",
            )  # fmt: skip

    @on(DirectoryTree.FileSelected)
    def _chosen(self, event: DirectoryTree.FileSelected) -> None:
        self.dismiss(str(event.path))

    def action_take_folder(self) -> None:
        node = self.query_one(DataTree).cursor_node
        if node is not None and node.data is not None and node.data.path.is_dir():
            self.dismiss(str(node.data.path))


def _may_hold_rows(path: Path) -> bool:
    try:
        return path.is_dir() or path.name.lower().endswith(DATA_ENDINGS)
    except OSError:
        return False
