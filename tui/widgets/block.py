"""Lines of text that are laid out anew for every width, and repainted where they differ."""

from __future__ import annotations

from typing import ClassVar

from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip
from textual.visual import Visual

from tui.widgets.painted import Painted


class Block(Painted):
    """As high as the lines that `build` makes for its width."""

    DEFAULT_CSS = "Block { height: auto; }"
    SPARE: ClassVar[int] = 0
    """How many empty lines it keeps at its end, where it was higher, before it shrinks: each change
    of its height lays out the screen anew, which costs as much as all else that a key does. For
    what scrolls, where they do no harm."""

    def build(self, width: int) -> list[Content]:
        """The lines; what is longer than `width` is cut."""
        raise NotImplementedError

    def update(self) -> None:
        """What `build` reads has changed."""
        if not self.size or self._height(self.size.width) != self.size.height:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self._height(width)

    def _height(self, width: int) -> int:
        lines, now = len(self.build(width)), self.size.height
        return now if lines <= now <= lines + self.SPARE else lines

    def draw(self, size: Size) -> list[Strip]:
        style = self.visual_style
        lines = [
            line.truncate(size.width, ellipsis=True, pad=True) for line in self.build(size.width)
        ]
        return [
            Visual.to_strips(self, line, size.width, 1, style, pad=True)[0]
            for line in lines[: size.height]
        ]
