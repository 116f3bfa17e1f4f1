"""A canvas of braille characters: two dots wide and four high a cell."""

from __future__ import annotations

BLANK = 0x2800
# The bit of each dot, by row within the cell, left column then right.
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


class Canvas:
    """Dots in cells. `y` grows downwards; what lies outside is left out."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [bytearray(width) for _ in range(height)]

    def column(self, x: int, top: int, bottom: int) -> None:
        """Set the dots of column `x` from `top` to `bottom`, both included."""
        if not 0 <= x < self.width * 2:
            return
        for y in range(max(0, top), min(self.height * 4 - 1, bottom) + 1):
            self._cells[y // 4][x // 2] |= _BITS[y % 4][x % 2]

    def line(self, x0: int, y0: int, x1: int, y1: int, every: int = 1) -> None:
        """A line from one dot to another, x0 <= x1; whole, or dotted with one in `every` dots."""
        if every > 1:
            for x in range(x0 - x0 % every + every, x1, every):
                y = round(y0 + (y1 - y0) * (x - x0) / (x1 - x0))
                self.column(x, y, y)
            return
        if x1 <= x0:
            self.column(x0, min(y0, y1), max(y0, y1))
            return
        slope = (y1 - y0) / (x1 - x0)
        edge = y0
        for x in range(x0, x1 + 1):
            until = y1 if x == x1 else round(y0 + slope * (x - x0 + 0.5))
            self.column(x, min(edge, until), max(edge, until))
            edge = until

    def bits(self, column: int, row: int) -> int:
        """The dots of a cell as the low byte of its braille character; 0 is none."""
        return self._cells[row][column]
