"""The models that TuneDeck knows by name, read from `presets/models.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.paths import expanded, presets_root


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What decides memory and speed. Counts are parameters; the rest is as in config.json.

    `in_linear` counts the parameters that 4-bit quantisation covers (the decoder's nn.Linear).
    `intermediate` is the width of a dense MLP, `expert_width` that of one expert.
    """

    parameters: int
    in_linear: int
    embedding: int
    model_type: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int | None = None
    experts: int | None = None
    active_experts: int | None = None
    expert_width: int | None = None


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as the Plan screen lists it. `id` is a hub id or a local folder.

    `allows` says in words what the licence lets one do. `reasoning` marks models that think at
    length before they answer, which short answers in the training data unteach. `caveat` says what
    of its size is assumed.
    """

    id: str
    shape: ModelShape
    licence: str | None = None
    gated: bool | None = None
    template: str | None = None
    instruct: bool = False
    good_for: str = ""
    cached: bool = False
    allows: str = ""
    languages: str = ""
    year: int | None = None
    reasoning: bool = False
    caveat: str = ""


_SHAPE_KEYS = tuple(field.name for field in fields(ModelShape))
_CARD_KEYS = tuple(f.name for f in fields(ModelCard) if f.name not in ("shape", "cached"))


def load_catalogue() -> list[ModelCard]:
    """All preset models, with those marked that lie complete on this machine."""
    return [replace(card, cached=_is_cached(card.id)) for card in _presets()]


def card_for(model: str) -> ModelCard:
    """The card of a preset id, or of a local or cached folder by its config.json.

    UserError when nothing here knows the model's shape.
    """
    from core.models.folder import check_local
    from core.models.hub_cache import snapshot
    from core.models.locate import is_local

    preset = next((card for card in _presets() if card.id == model), None)
    if preset is not None:
        return replace(preset, cached=_is_cached(model))
    folder = expanded(model) if is_local(model) else snapshot(model)
    if is_local(model) and folder is not None and not (folder / "config.json").is_file():
        check_local(folder, weights=False)  # says what it is instead
    if folder is None or not (folder / "config.json").is_file():
        raise UserError(
            f"The size of {model} is not known here: it is no preset and not on this machine.",
            "Download it first, give a local folder, or add it to presets/models.yaml.",
        )
    return card_of_folder(model, folder)


def card_of_folder(name: str, folder: Path) -> ModelCard:
    """A card from a folder's config.json and, where there are weights, their headers."""
    from core.models.folder import missing
    from core.models.shape import caveat, read_shape

    template = (folder / "chat_template.jinja").is_file()
    shape = read_shape(folder)
    return ModelCard(
        id=name,
        shape=shape,
        template="its own" if template else None,
        instruct=template,
        good_for="your own model" if folder == expanded(name) else "",
        cached=not missing(folder),
        caveat=caveat(shape, folder),
    )


@cache
def _presets() -> tuple[ModelCard, ...]:
    path = presets_root() / "models.yaml"
    entries = _parse(path)["models"]
    by_id: dict[str, dict[str, Any]] = {}
    for entry in entries:
        by_id[entry["id"]] = {**by_id.get(entry.pop("like", ""), {}), **entry}
    return tuple(_card(entry) for entry in by_id.values())


def _parse(path: Path) -> dict[str, Any]:
    """YAML with the C parser where there is one: five times faster."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with path.open("rb") as file:
        tree: dict[str, Any] = yaml.load(file, Loader=loader)
    return tree


def _card(entry: dict[str, Any]) -> ModelCard:
    shape = ModelShape(**{key: entry[key] for key in _SHAPE_KEYS if key in entry})
    return ModelCard(shape=shape, **{key: entry[key] for key in _CARD_KEYS if key in entry})


def _is_cached(model_id: str) -> bool:
    from core.models import embedded
    from core.models.folder import missing
    from core.models.hub_cache import snapshot

    if model_id == embedded.MODEL_ID:
        return embedded.cached() is not None
    folder = snapshot(model_id)
    return folder is not None and not missing(folder)
