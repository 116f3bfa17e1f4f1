"""One row: its conversation as one reads it, or its tokens as the training sees them."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual

from core.data.encoded import Span, SpanKind
from core.data.rows import RowDetail, RowTokens, TokenSequence
from core.units import count_text
from tui.widgets.painted import set_height

MOST_CHARACTERS = 20_000
MOST_TOKENS = 4_000
# A colour and an attribute each, so that the kinds differ without colour too.
KIND_STYLES: dict[SpanKind, str] = {
    "trained": "bold underline $accent",
    "context": "",
    "special": "reverse $text-muted",
    "truncated": "strike $error",
}


class Pane(VerticalScroll):
    """Scrolls with the arrows or j and k."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("k", "scroll_up", "Up", show=False),
        Binding("j", "scroll_down", "Down", show=False),
        Binding("g", "scroll_home", "Top", show=False),
        Binding("G", "scroll_end", "Bottom", show=False),
    ]


class RowPane(ScrollView, can_focus=True):
    """The row itself. It keeps its lines: a text of every height in a `Static` would have the
    whole screen laid out at every row."""

    BINDINGS: ClassVar[list[BindingType]] = Pane.BINDINGS

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._content = Content("")
        self._strips: list[Strip] = []

    def show(self, content: Content) -> None:
        """Show this from its top."""
        self._content = content
        self._wrap()
        self.scroll_to(y=0, animate=False, immediate=True)

    def _wrap(self) -> None:
        width = self.scrollable_content_region.width
        style = self.visual_style
        self._strips = (
            Visual.to_strips(self, self._content, width, None, style, pad=True) if width else []
        )
        set_height(self, width, len(self._strips))
        self.refresh()

    def on_resize(self) -> None:
        self._wrap()

    def notify_style_update(self) -> None:
        """A new theme: everything is drawn again."""
        super().notify_style_update()
        self.call_after_refresh(self._wrap)

    def render_line(self, y: int) -> Strip:
        line = y + round(self.scroll_y)
        if line < len(self._strips):
            return self._strips[line]
        return Strip.blank(self.size.width, self.visual_style.rich_style)

    def selection_updated(self, selection: Selection | None) -> None:
        self._wrap()

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        return selection.extract(self._content.plain), "\n"


def readable(detail: RowDetail) -> Content:
    """The row's problems, then its turns; its raw text where it has no turns."""
    place = detail.place.rsplit("/", 1)[-1]
    parts = [_title(f"Row {detail.number:,}", place)]
    parts += [
        Content.assemble(("! ", "bold $warning"), (problem.message, "$warning"))
        for problem in detail.problems
    ]
    for turn in detail.turns:
        parts += [Content(""), Content.styled(turn.role, "bold $primary"), _clipped(turn.text)]
    if not detail.turns:
        parts += [Content(""), _clipped(detail.raw)]
    return Content("\n").join(parts)


def tokens(row: RowTokens) -> Content:
    """The row's training sequences, token by token, under a legend."""
    parts = [_title(f"Row {row.number:,}", "as the training sees it"), legend()]
    for number, sequence in enumerate(row.sequences, 1):
        if len(row.sequences) > 1:
            heading = f"Sequence {number} of {len(row.sequences)}"
            parts += [Content(""), Content.styled(heading, "bold $primary")]
        parts += [counts(sequence)]
        parts += [Content.styled(note, "$text-muted") for note in sequence.notes]
        parts += [Content(""), spans(sequence.spans)]
    return Content("\n").join(parts)


LEGEND: dict[SpanKind, str] = {
    "trained": "trained",
    "context": "context: read only",
    "special": "special: read only",
    "truncated": "truncated: never seen",
}


def legend() -> Content:
    """What the styles mean, each in its own style."""
    return Content("   ").join(Content.styled(LEGEND[kind], KIND_STYLES[kind]) for kind in LEGEND)


def counts(sequence: TokenSequence) -> Content:
    """Tokens, how many are trained, how many are cut, and whether the answer learns to end."""
    share = f" ({100 * sequence.trained / sequence.total:.0f} %)" if sequence.total else ""
    text = f"{count_text(sequence.total)} tokens, {count_text(sequence.trained)} trained{share}"
    cut = f", {count_text(sequence.cut)} cut off" if sequence.cut else ""
    last = next((span.text for span in reversed(sequence.spans) if span.kind == "trained"), "")
    last = last.strip() or repr(last)
    if sequence.stop:
        stop = Content.styled(f"✓ learns to stop with {last}", "$success")
    elif sequence.trained:
        words = f"✗ does not learn to stop: {last} is the last trained token"
        stop = Content.styled(words, "$warning")
    else:
        stop = Content.styled("✗ no token is trained", "$warning")
    return Content.assemble((text + cut + "\n", "$text-muted"), stop)


def spans(tokens: tuple[Span, ...]) -> Content:
    """The tokens in the style of their kind; every other one on a lighter ground."""
    shown = tokens[:MOST_TOKENS]
    parts = [
        (_shown(span.text), f"{KIND_STYLES[span.kind]}{' on $panel' if index % 2 else ''}".strip())
        for index, span in enumerate(shown)
    ]
    cut = next((at for at, span in enumerate(shown) if span.kind == "truncated"), None)
    if cut is not None:
        parts.insert(cut, ("\n✂ cut here: what follows is never seen\n", "bold $error"))
    if len(tokens) > MOST_TOKENS:
        parts.append((f"\n… {count_text(len(tokens) - MOST_TOKENS)} more tokens", "$text-muted"))
    return Content.assemble(*parts)


def _shown(text: str) -> str:
    """A token with its line breaks visible, for they are tokens too."""
    return text.replace("\n", "⏎\n")


def _title(what: str, where: str) -> Content:
    return Content.assemble((what, "bold"), (f"  {where}", "$text-muted"))


def _clipped(text: str) -> Content:
    if len(text) <= MOST_CHARACTERS:
        return Content(text)
    more = count_text(len(text) - MOST_CHARACTERS)
    return Content.assemble(text[:MOST_CHARACTERS], (f"\n… {more} more characters", "$text-muted"))
