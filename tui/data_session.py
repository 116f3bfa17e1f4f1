"""A source that is open on the Data screen: the helper process, and whose tokenizer counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from core.data.client import DataClient
from core.data.report import Report
from core.data.rows import Opened, Progress
from core.errors import UserError
from core.units import bytes_text

if TYPE_CHECKING:
    from core.data.encoding import TrainOn


@dataclass(slots=True)
class Source:
    """One opening of a source: what was asked, and what is known by now."""

    name: str
    mapping: dict[str, str]
    model: str
    max_length: int
    train_on: TrainOn = "assistant"
    opened: Opened | None = None
    progress: Progress = field(default_factory=Progress)
    report: Report | None = None
    counts_tokens: bool = False


class DataSession:
    """Opens sources. `open` and `fetch_tokenizer` block: call them from threads."""

    def __init__(
        self, on_progress: Callable[[Progress], None], on_report: Callable[[Report], None]
    ) -> None:
        self.client = DataClient(on_progress=on_progress, on_report=on_report)
        self.source: Source | None = None
        self.note = ""
        """Why no tokens are counted, or that the tokenizer is being fetched."""
        self._tokenizers: dict[str, Path] = {}
        self._fetching: set[str] = set()

    def open(self, source: Source) -> None:
        """Open it, with its model's tokenizer if that lies on this machine."""
        self.source, self.note = source, ""
        folder = self._at_hand(source.model)
        source.counts_tokens = folder is not None
        source.opened = self.client.open(
            [source.name],
            tokenizer=folder,
            max_length=source.max_length,
            train_on=source.train_on,
            mapping=source.mapping,
        )

    def _at_hand(self, model: str) -> Path | None:
        known = self._tokenizers.get(model)
        if known is not None:
            return known
        from core.models import embedded
        from core.models.folder import missing
        from core.models.hub_cache import snapshot
        from core.models.locate import is_local, locate_tokenizer

        try:
            if is_local(model):
                found: Path | None = locate_tokenizer(model)
            else:
                found = embedded.cached() if model == embedded.MODEL_ID else snapshot(model)
        except UserError as error:
            self.note = f"No tokens are counted: {error}"
            return None
        if found is not None and not missing(found, weights=False):
            self._tokenizers[model] = found
        return self._tokenizers.get(model)

    def lacks_tokenizer(self, model: str) -> bool:
        """Whether the tokenizer could be fetched, and nobody does it yet."""
        return not self.note and model not in self._tokenizers and model not in self._fetching

    def fetch_tokenizer(self, model: str, tell: Callable[[], None]) -> None:
        """Fetch it; `tell` is called when there is something new to say about that."""
        from core.models.locate import locate_tokenizer

        def fetching(what: str, done: int, total: int | None) -> None:
            amount = f", {bytes_text(done)} of {bytes_text(total)}" if total else ""
            self.note = f"Tokens are counted when the tokenizer is here: {what}{amount}"
            tell()

        self._fetching.add(model)
        try:
            self._tokenizers[model] = locate_tokenizer(model, progress=fetching)
            self.note = ""
        except UserError as error:
            self.note = f"No tokens are counted: {error}"
        self._fetching.discard(model)
        tell()

    @property
    def can_count_now(self) -> bool:
        """Whether the tokenizer has come that the source was opened without."""
        source = self.source
        return (
            source is not None
            and source.opened is not None
            and not source.counts_tokens
            and source.model in self._tokenizers
        )

    def close(self) -> None:
        self.client.close()
