"""Chat: talk to the tuned model, alone or beside the base it comes from."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static

from core.chat.client import chat_with_run
from core.chat.events import Loading, Notice, Piece, Turn
from core.chat.session import Answered, ChatSession, ChatSettings, Failed, News, Question
from core.chat.transcript import Transcript, load_transcript, new_transcript
from core.chat.trials import Trial, trials
from core.errors import UserError
from core.runs.directory import RunDirectory
from core.text import printable
from tui.screens.place import Place
from tui.widgets.chat_lines import (
    closing_line,
    entries_of,
    error_line,
    loading_line,
    ready_line,
    settings_line,
    welcome,
)
from tui.widgets.conversation import Conversation, Entry
from tui.widgets.painted import LiveLines
from tui.widgets.phrases import spread
from tui.widgets.prompt import Prompt

POLL_SECONDS = 0.125
"""Eight looks a second: what streams in between is written at once."""
NOTHING = (
    "No run is open.\n\nPress 1 for Home and open a run that has finished: its model answers here."
)


class ChatScreen(Place):
    """A conversation with the model of the deck's run. The model loads when one arrives."""

    PLACE = "chat"
    CSS_PATH = "../styles/chat.tcss"
    AUTO_FOCUS = "#prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i,enter", "type", "Type", key_display="i", tooltip="Into the input line"),
        Binding("escape", "stop", "Stop", show=False, tooltip="Stop the answer"),
        Binding("ctrl+b", "compare", "Base", tooltip="The base model beside it, or alone again"),
        Binding("ctrl+t", "settings", "Settings", tooltip="Temperature, length, seed, system"),
        Binding("ctrl+n", "fresh", "New", tooltip="A new conversation"),
        Binding("ctrl+l", "load", "Load", tooltip="Load an earlier conversation"),
        Binding("ctrl+r", "reload", "Load the model again", show=False),
        Binding("ctrl+y", "copy", "Copy the last answer", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._run: RunDirectory | None = None
        self._session: ChatSession | None = None
        self._transcript: Transcript | None = None
        self._entries: list[Entry] = []
        self._trials: list[Trial] = []
        self._settings = ChatSettings()
        self._compare = False
        self._loading: Loading | None = None
        self._loading_since = 0.0
        self._ready: Loading | None = None
        self._failed = False
        self._asked_at: float | None = None
        self._timer: Timer | None = None

    def body(self) -> ComposeResult:
        yield Static(NOTHING, id="nothing", markup=False)
        with Vertical(id="chat"):
            yield Conversation(id="conversation")
            yield LiveLines(id="status")
            yield Prompt(id="prompt", placeholder="Ask something. ↑ brings a held-out prompt.")
            yield LiveLines(id="settings")

    # The way in and out

    def arrive(self) -> None:
        run = self.deck.run
        self.set_class(run is None, "-nothing")
        self.query_one(Prompt).disabled = run is None  # else it would swallow the digits
        if run != self._run:
            self._leave_run()
            self._run = run
            if run is not None:
                self._settings = ChatSettings()
                self._take_trials(run)
                self.action_fresh()
        if run is not None and (self._session is None or self._failed):
            self.action_reload()
        if self._timer is None:
            self._timer = self.set_interval(POLL_SECONDS, self._poll, pause=True)
        self._wake()

    def on_screen_suspend(self) -> None:
        """Nobody sees this place now. An answer goes on, and is shown on return."""
        if self._timer is not None:
            self._timer.pause()

    def on_unmount(self) -> None:
        self._leave_run()

    def _leave_run(self) -> None:
        if self._session is not None:
            self._session.close()
        self._session = self._ready = self._loading = self._asked_at = None

    def _take_trials(self, run: RunDirectory) -> None:
        """Offer held-out prompts; if they share a system message, it is the default here."""
        self._trials = trials(run)
        self.query_one(Prompt).offer([trial.prompt for trial in self._trials])
        systems = {trial.system for trial in self._trials}
        if len(systems) == 1:
            self._settings = ChatSettings(system=systems.pop())

    # The session

    def action_reload(self) -> None:
        """Start the model anew: after a failure, or with or without the base."""
        if self._session is not None:
            self._session.close()
        run, compare = self._run, self._compare
        if run is None:
            return
        self._ready = self._loading = self._asked_at = None
        self._failed = False
        self._session = ChatSession(lambda: chat_with_run(run, compare=compare))
        self._say(loading_line(None, 0.0))
        self._show_settings()
        self._wake()

    def _wake(self) -> None:
        """Poll while something is going on."""
        if self._timer is not None and self._busy:
            self._timer.resume()

    @property
    def _busy(self) -> bool:
        loading = self._session is not None and self._ready is None and not self._failed
        return loading or self._asked_at is not None

    def _poll(self) -> None:
        """Take what has come, and write it in one go."""
        session = self._session
        if session is None:
            return
        grown = False
        for news in session.news():
            grown = self._take(news) or grown
        if grown:
            self.query_one(Conversation).grew()
        if self._asked_at is not None and self._ready is not None:
            self._say(self._answering())
        elif self._loading is not None:
            self._say(loading_line(self._loading, time.monotonic() - self._loading_since))
        if not self._busy and self._timer is not None:
            self._timer.pause()

    def _take(self, news: News) -> bool:
        """Whether the last entry of the conversation has changed."""
        match news:
            case Loading():
                self._note_loading(news)
            case Piece():
                texts = self._entries[-1].texts
                texts[news.who] = texts.get(news.who, "") + news.text
                return True
            case Turn():
                self._finish(news)
                return True
            case Notice():
                self.notify(printable(news.message), markup=False, timeout=8)
            case Failed():
                self._fail(news)
            case Answered():
                self._end_answer()
        return False

    def _note_loading(self, news: Loading) -> None:
        self._loading, self._loading_since = news, time.monotonic() - news.seconds
        if news.stage == "ready":
            self._ready, self._loading = news, None
            self._say(ready_line(news, self._compare))

    def _finish(self, turn: Turn) -> None:
        entry = self._entries[-1]
        entry.texts[turn.who] = turn.text
        entry.closings[turn.who] = closing_line(turn, self._expected())
        if self._transcript is not None:
            self._save(lambda transcript: transcript.answer(turn))

    def _expected(self) -> str | None:
        """The answer that the held-out row has, if the last question is one of them."""
        question = self._entries[-2].texts.get("you") if len(self._entries) > 1 else None
        found = (trial.reference for trial in self._trials if trial.prompt.strip() == question)
        return next(found, None)

    def _fail(self, failed: Failed) -> None:
        self._failed, self._loading = failed.fatal, None
        if self._asked_at is not None:
            self._asked_at = None
            self._close_entry()
        self._say(error_line(failed.error, again=failed.fatal))
        self.refresh_bindings()

    def _end_answer(self) -> None:
        if self._asked_at is not None:
            self._asked_at = None
            self._close_entry()
            if self._ready is not None:
                self._say(ready_line(self._ready, self._compare))
        self.refresh_bindings()

    def _close_entry(self) -> None:
        """Say of an answer that never came, or came in part, that no more will come."""
        entry = self._entries[-1]
        for who in entry.texts if entry.kind == "answer" else ():
            words = "broken off" if entry.texts[who] else "not answered"
            entry.closings.setdefault(who, Content.styled(words, "$foreground-muted"))
        self.query_one(Conversation).grew()

    def _answering(self) -> list[Content]:
        seconds = time.monotonic() - (self._asked_at or 0.0)
        return [
            Content.assemble(
                ("▸ answering", "$accent"),
                (f"  {seconds:.0f} s", "$foreground-muted"),
                ("   esc", "$accent"),
                (" stops it", "$foreground-muted"),
            )
        ]

    # What one can do

    def on_prompt_sent(self, message: Prompt.Sent) -> None:
        session, transcript = self._session, self._transcript
        if self._asked_at is not None:
            self.notify("It is still answering; esc stops it.", timeout=4)
            return
        if session is None or transcript is None or self._failed:
            self.notify("There is no model to ask; ctrl+r loads it again.", timeout=4)
            return
        self._save(lambda transcript: transcript.ask(message.text))
        self.query_one(Prompt).said(message.text)
        self._add(Entry("you", {"you": message.text}))
        self._add(Entry("answer", {"base": "", "tuned": ""} if self._compare else {"tuned": ""}))
        base = transcript.messages("base") if self._compare else None
        session.ask(Question(transcript.messages(), base, self._settings))
        self._asked_at = time.monotonic()
        self._wake()
        self.refresh_bindings()

    def _add(self, entry: Entry) -> None:
        if len(self._entries) == 1 and self._entries[0].kind == "note":
            self._entries.clear()
            self.query_one(Conversation).show(self._entries)
        self._entries.append(entry)
        self.query_one(Conversation).grew(new=True)

    def _save(self, write: object) -> None:
        """Keep the turn on the disk; a full disk must not end the conversation."""
        assert self._transcript is not None
        try:
            write(self._transcript)  # type: ignore[operator]
        except UserError as error:
            self.deck_app.report(error)

    def on_prompt_left(self) -> None:
        """Escape: stops an answer first; the second leaves the input, so that digits switch."""
        if self._asked_at is not None:
            self.action_stop()
        else:
            self.query_one(Conversation).focus()

    def on_prompt_paged(self, message: Prompt.Paged) -> None:
        conversation = self.query_one(Conversation)
        conversation.scroll_relative(y=message.pages * conversation.size.height, animate=False)

    def action_type(self) -> None:
        self.query_one(Prompt).focus()

    def action_stop(self) -> None:
        if self._session is not None and self._asked_at is not None:
            self._session.stop()

    def interrupt(self) -> bool:
        """ctrl+c ends an answer before it ends the app."""
        answering = self._asked_at is not None
        self.action_stop()
        return answering

    def action_compare(self) -> None:
        self._compare = not self._compare
        self.action_reload()

    def action_fresh(self) -> None:
        """A new conversation; the old one lies in the run's chat folder."""
        if self._run is None:
            return
        self._transcript = new_transcript(self._run.chat, self._settings.system)
        self._entries = [Entry("note", {"note": welcome(self._run, self._trials)})]
        self.query_one(Conversation).show(self._entries)
        self._show_settings()

    def action_settings(self) -> None:
        from tui.screens.chat_settings import ChatSettingsScreen

        self.app.push_screen(ChatSettingsScreen(self._settings), self._set)

    def _set(self, settings: ChatSettings | None) -> None:
        if settings is not None:
            self._settings = settings
            if self._transcript is not None and not self._transcript.lines:
                self._transcript.system = settings.system  # it is written with the first turn
            self._show_settings()

    def action_load(self) -> None:
        from tui.screens.transcripts import TranscriptsScreen

        if self._run is not None:
            self.app.push_screen(TranscriptsScreen(self._run.chat), self._load)

    def _load(self, path: Path | None) -> None:
        if path is None:
            return
        try:
            self._transcript = load_transcript(path)
        except UserError as error:
            self.deck_app.report(error)
            return
        self._settings = replace(self._settings, system=self._transcript.system)
        self._entries = entries_of(self._transcript)
        self.query_one(Conversation).show(self._entries)
        self._show_settings()

    def action_copy(self) -> None:
        """Through the terminal (OSC 52), so that it works over SSH."""
        answers = [entry for entry in self._entries if entry.texts.get("tuned")]
        if answers:
            self.app.copy_to_clipboard(printable(answers[-1].texts["tuned"]))
            self.notify("The last answer is in the clipboard, if the terminal allows it.")

    def why_not(self, action: str) -> str | None:
        if action not in ("type", "compare", "settings", "fresh", "load", "reload", "copy"):
            return None
        if self._run is None:
            return "No run is open: press 1 and choose one."
        if self._asked_at is not None and action in ("compare", "fresh", "load", "reload"):
            return "It is still answering; esc stops it."
        return None

    # What one sees

    def _say(self, lines: list[Content]) -> None:
        """How things stand; where one line is enough, with the run's name at its right end."""
        width = max(1, self.size.width - 2)
        if len(lines) == 1:
            name = "" if self._run is None else printable(self._run.id, single_line=True)
            lines = [spread(lines[0], Content.styled(name, "$foreground-muted"), width)]
        wrapped = [part for line in lines for part in line.wrap(width)]
        self.query_one("#status", LiveLines).show(wrapped)

    def _show_settings(self) -> None:
        line = settings_line(self._settings, self._compare)
        self.query_one("#settings", LiveLines).show([line])
