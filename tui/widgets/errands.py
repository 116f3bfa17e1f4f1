"""What takes a while beside the pass (a cleaned copy, a comparison), and what came of it."""

from __future__ import annotations

from pathlib import Path

from textual import work
from textual.content import Content

from core.errors import UserError
from tui.data_session import DataSession
from tui.threads import hand_over
from tui.widgets.data_lines import copy_line, error_lines, leakage_line
from tui.widgets.painted import LiveLines


class Errands(LiveLines):
    """Runs them in threads, one of a kind at a time, and shows the latest outcome."""

    def __init__(self, session: DataSession, *, id: str) -> None:
        super().__init__(id=id)
        self._session = session

    @property
    def writing(self) -> bool:
        """Whether a copy is being written."""
        return any(worker.group == "write" and worker.is_running for worker in self.workers)

    def write(self, path: Path) -> None:
        """Write a cleaned copy."""
        self.say("Writing the cleaned copy …")
        self._write(path)

    def compare(self, names: list[str]) -> None:
        """See what of the rows held out in these sources is in the open ones too."""
        self.say("Comparing with the rows held out …")
        self._compare(names)

    def say(self, words: str = "") -> None:
        """Show this, or nothing."""
        self.show([Content.styled(words, "$text-muted")] if words else [])

    @work(thread=True, exclusive=True, group="write")
    def _write(self, path: Path) -> None:
        try:
            lines = [copy_line(self._session.client.write_clean(path))]
        except UserError as error:
            lines = error_lines(error, self.screen.size.width - 2)
        hand_over(self.screen, self.show, lines)

    @work(thread=True, exclusive=True, group="compare")
    def _compare(self, names: list[str]) -> None:
        try:
            lines = [leakage_line(self._session.client.compare(names))]
        except UserError as error:
            lines = error_lines(error, self.screen.size.width - 2)
        hand_over(self.screen, self.show, lines)
