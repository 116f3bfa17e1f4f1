"""The card of any model: a preset, a folder, or a hub id, whose small files alone are fetched."""

from __future__ import annotations

from core.errors import UserError
from core.models.catalogue import ModelCard, card_for, card_of_folder
from core.models.download import Progress
from core.models.hub_cache import offline
from core.models.locate import is_local, locate_tokenizer


def card_anywhere(model: str, progress: Progress | None = None) -> ModelCard:
    """The card; for a hub id that nothing here knows, by its config.json from the hub (a few MB
    with the tokenizer, never the weights). UserError when nobody can tell the model's shape."""
    try:
        return card_for(model)
    except UserError:
        if is_local(model) or offline():
            raise
    return card_of_folder(model, locate_tokenizer(model, progress=progress))
