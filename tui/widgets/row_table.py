"""The rows of a source, fetched a page at a time when they come into view."""

from __future__ import annotations

from textual.content import Content
from textual.message import Message

from core.data.rows import Page, RowPreview
from tui.widgets.line_table import Column, LineTable, Row

PAGE = 100
MOST_PAGES = 40


def columns(highest: int) -> tuple[Column, ...]:
    """The columns, the first as wide as the highest number of a row."""
    return (
        Column("Row", max(3, len(f"{highest:,}")), right=True),
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
        self._highest = 0
        self.generation = 0
        """Counts up when what is shown changes as a whole; rows of an older one are not taken."""

    def reset(self, total: int = 0) -> None:
        """Forget all rows: another source, or another filter."""
        self.generation += 1
        for known in (self._pages, self._asked, self._stale):
            known.clear()
        self._show_rows(total)

    def renew(self, total: int) -> None:
        """All rows are known now, with their problems: show the old until the new are here."""
        self.generation += 1
        self._asked.clear()
        self._stale = set(self._pages)
        self._show_rows(total)

    def ask(self, start: int) -> None:
        """Ask for a page, which also tells how many rows there are."""
        number = start // PAGE
        self._asked.add(number)
        self.post_message(self.PageNeeded(number * PAGE, self.generation))

    def grow(self, total: int) -> None:
        """More rows are known by now; the last page may have been a part."""
        if total == self.count:
            return
        last = self.count // PAGE
        if len(self._pages.get(last, ())) < PAGE:
            self._stale.add(last)
            self._asked.discard(last)
        if self.columns != columns(max(total, self._highest)):
            self._show_rows(total)
        else:
            self.grow_to(total)

    def ask_for_more(self) -> None:
        """Ask for the last page again: more rows match by now."""
        self.ask(self.count)

    def go_to(self, index: int) -> None:
        """Highlight a row, in the middle of the view if it was not in view."""
        if index not in self.in_view:
            self.scroll_to(y=max(0, index - self.page_height // 2), animate=False, immediate=True)
        self.cursor = index

    def receive(self, page: Page) -> None:
        """Take the rows that `PageNeeded` asked for."""
        number, before = page.start // PAGE, self.selected
        self._pages[number] = page.rows
        self._asked.discard(number)
        self._stale.discard(number)
        if page.rows:
            self._highest = max(self._highest, page.rows[-1].number)
            self.columns = columns(max(page.total, self._highest))
        while len(self._pages) > MOST_PAGES:
            here = self.cursor // PAGE
            self._pages.pop(max(self._pages, key=lambda other: abs(other - here)))
        if page.total != self.count:
            self._show_rows(page.total)
        else:
            self.refresh_rows(range(page.start, page.start + len(page.rows)))
        if self.selected != before:
            self.post_message(self.Highlighted(self, self.cursor))

    def _show_rows(self, total: int) -> None:
        self.columns = columns(max(total, self._highest))
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
            self.ask(index)
        if preview is None:
            return None
        mark = Content.styled("!", "$warning") if preview.problems else Content("")
        return (f"{preview.number:,}", mark, f"{preview.turns}", preview.prompt, preview.answer)
