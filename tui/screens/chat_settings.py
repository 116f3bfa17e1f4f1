"""How the chat generates: a small form. Enter keeps it, Escape leaves things as they were."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from core.chat.session import ChatSettings

FIELDS = {
    "temperature": "0 is greedy: always the likeliest token",
    "max_new_tokens": "an answer ends there at the latest",
    "seed": "the same seed and prompt give the same answer",
    "system": "empty: the template's own system prompt",
}
NAMES = {"max_new_tokens": "longest answer", "system": "system prompt"}


class ChatSettingsScreen(ModalScreen[ChatSettings | None]):
    """Ends with new settings, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Leave as it was"),
        Binding("down", "app.focus_next", "Next field", show=False),
        Binding("up", "app.focus_previous", "Previous field", show=False),
    ]

    def __init__(self, settings: ChatSettings) -> None:
        super().__init__()
        self._settings = settings

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled("How the chat generates", "bold"))
            for name, about in FIELDS.items():
                value = getattr(self._settings, name)
                with Horizontal():
                    yield Static(f"{NAMES.get(name, name):<15}", classes="name")
                    field = Input("" if value is None else f"{value}", id=name, compact=True)
                    field.cursor_blink = False
                    yield field
                yield Static(Content.styled(f"{'':<15} {about}", "$foreground-muted"))
            yield Static("", id="problem", markup=False)
            yield Static(Content.styled("↑↓ fields   ⏎ keep   esc leave", "$foreground-muted"))

    def on_input_submitted(self, message: Input.Submitted) -> None:
        values = {name: self.query_one(f"#{name}", Input).value for name in FIELDS}
        try:
            self.dismiss(read_settings(values))
        except ValueError as error:
            self.query_one("#problem", Static).update(str(error))


def read_settings(values: dict[str, str]) -> ChatSettings:
    """The form's texts as settings. ValueError with a sentence for the person."""
    temperature = _read(values["temperature"], float, "The temperature is a number, 0 to 5.")
    tokens = _read(values["max_new_tokens"], int, "The longest answer is a whole number.")
    seed = _read(values["seed"], int, "The seed is a whole number.")
    if not 0 <= temperature <= 5:
        raise ValueError("The temperature is a number, 0 to 5.")
    if tokens < 1:
        raise ValueError("The longest answer is at least 1 token.")
    if not 0 <= seed < 2**63:
        raise ValueError("The seed is a whole number from 0.")
    return ChatSettings(temperature, int(tokens), int(seed), values["system"].strip() or None)


def _read(text: str, kind: type[int] | type[float], sentence: str) -> float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(sentence) from None
