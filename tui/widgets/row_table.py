"""The rows of a source, fetched a page at a time when they come into view."""

from __future__ import annotations

from textual.content import Content
from textual.message import Message

from core.data.rows import Page, RowPreview
from tui.widgets.line_table import Column, LineTable, Row

PAGE = 100
MOST_PAGES = 40


def columns(rows: int) -> tuple[Column, ...]:
    """The columns, the first as wide as the number of the last row."""
    return (
        Column("Row", max(3, len(f"{rows:,}")), right=True),
        Column("", 1),
        Column("Turns", 5, right=True, needs=70),
        Column("Prompt", 16, grow=1),
        Column("Answer", 16, grow=1),
    )


class RowTable(LineTable):
    """A million rows scroll: only the pages near the view are kept."""

    class PageNeeded(Message):
        """Rows came into view that are not known; answer with `receive`."""

        def __init__(self, start: int, generation: int) -> None:
            super().__init__()
            self.start, self.generation = start, generation

    def __init__(self, *, id: str) -> None:
        super().__init__(columns(0), id=id)
        self._pages: dict[int, tuple[RowPreview, ...]] = {}
        self._asked: set[int] = set()
        self._stale: set[int] = set()
        self._generation = 0

    def reset(self, total: int = 0) -> None:
        """Forget all rows: another source, or another filter."""
        self._generation += 1
        for known in (self._pages, self._asked, self._stale):
            known.clear()
        self._show_rows(total)

    def renew(self, total: int) -> None:
        """All rows are known now, with their problems: show the old until the new are here."""
        self._generation += 1
        self._asked.clear()
        self._stale = set(self._pages)
        self._show_rows(total)

    def ask(self, start: int) -> None:
        """Ask for a page, which also tells how many rows there are."""
        self._asked.add(start // PAGE)
        self.post_message(self.PageNeeded(start, self._generation))

    def grow(self, total: int) -> None:
        """More rows are known by now; the last page may have been a part."""
        if total == self.count:
            return
        last = self.count // PAGE
        if len(self._pages.get(last, ())) < PAGE:
            self._pages.pop(last, None)
            self._asked.discard(last)
        self._show_rows(total)

    def receive(self, page: Page, generation: int) -> None:
        """Take the rows that `PageNeeded` asked for."""
        if generation != self._generation:
            return
        number = page.start // PAGE
        self._pages[number] = page.rows
        self._asked.discard(number)
        self._stale.discard(number)
        while len(self._pages) > MOST_PAGES:
            here = self.cursor // PAGE
            self._pages.pop(max(self._pages, key=lambda other: abs(other - here)))
        if page.total != self.count:
            self._show_rows(page.total)
        else:
            self.refresh_rows(range(page.start, page.start + len(page.rows)))
        if page.start <= self.cursor < page.start + PAGE:
            self.post_message(self.Highlighted(self, self.cursor))

    def _show_rows(self, total: int) -> None:
        self.columns = columns(total)
        self.show_source(total, self._known)

    @property
    def selected(self) -> RowPreview | None:
        """The highlighted row, once it is known."""
        return self._preview(self.cursor) if self.count else None

    def _preview(self, index: int) -> RowPreview | None:
        page = self._pages.get(index // PAGE, ())
        return page[index % PAGE] if index % PAGE < len(page) else None

    def _known(self, index: int) -> Row | None:
        preview, number = self._preview(index), index // PAGE
        if (preview is None or number in self._stale) and number not in self._asked:
            self.ask(number * PAGE)
        if preview is None:
            return None
        mark = Content.styled("!", "$warning") if preview.problems else Content("")
        return (f"{preview.number:,}", mark, f"{preview.turns}", preview.prompt, preview.answer)
