"""Lines of text that are laid out anew for every width, and repainted where they differ."""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Size
from textual.strip import Strip
from textual.visual import Visual

from tui.widgets.painted import Painted


class Block(Painted):
    """As high as the lines that `build` makes for its width."""

    DEFAULT_CSS = "Block { height: auto; }"

    def build(self, width: int) -> list[Content]:
        """The lines; what is longer than `width` is cut."""
        raise NotImplementedError

    def update(self) -> None:
        """What `build` reads has changed."""
        if not self.size or len(self.build(self.size.width)) != self.size.height:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self.build(width))

    def draw(self, size: Size) -> list[Strip]:
        style = self.visual_style
        lines = [
            line.truncate(size.width, ellipsis=True, pad=True) for line in self.build(size.width)
        ]
        return [
            Visual.to_strips(self, line, size.width, 1, style, pad=True)[0]
            for line in lines[: size.height]
        ]
