"""Where TuneDeck keeps its things. `TUNEDECK_HOME` moves all of it."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


@cache
def _default_home() -> Path:
    from platformdirs import user_data_path

    return user_data_path("tunedeck", appauthor=False)


def expanded(path: str | Path) -> Path:
    """With the home of `~` or `~somebody` put in; as it stands where there is no such user."""
    return Path(os.path.expanduser(path))


def home() -> Path:
    """The folder that holds runs, caches and the user's own presets (not created here)."""
    override = os.environ.get("TUNEDECK_HOME")
    return expanded(override) if override else _default_home()


def runs_root() -> Path:
    """One folder a run lies below it."""
    return home() / "runs"


def models_cache() -> Path:
    """Models that TuneDeck itself converted (hub downloads stay in the Hugging Face cache)."""
    return home() / "models"


def simulations_cache() -> Path:
    """What simulations of memory have found, a file each; may be deleted at any time."""
    return home() / "simulations"


def presets_root() -> Path:
    """The data that ships with TuneDeck: models, GPUs, recipes, the demo."""
    import presets

    return Path(presets.__path__[0])
