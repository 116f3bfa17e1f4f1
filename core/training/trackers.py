"""Experiment trackers, through the Trainer's own integrations: TensorBoard, W&B, Trackio, MLflow.

They are guests. Their keys stay in the environment or their own files, what they write locally
lies in the run's folder, and one that fails in the middle is left out while training goes on.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

from core.errors import UserError
from core.recipe import Recipe
from core.runs.directory import RunDirectory

PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
    "mlflow": ("mlflow",),
}
PROJECT = "tunedeck"
OFFLINE = ("offline", "disabled", "dryrun")


def check_trackers(recipe: Recipe) -> None:
    """UserError when a tracker of the recipe is not installed, or cannot log in."""
    for name in recipe.training.trackers:
        if not any(find_spec(package) for package in PACKAGES[name]):
            raise UserError(
                f"training.trackers asks for {name}, which is not installed.",
                f"pip install {PACKAGES[name][0]}, or take it out of training.trackers.",
            )
    if "wandb" in recipe.training.trackers and not _wandb_can_log_in():
        raise UserError(
            "training.trackers asks for wandb, and there is no key for it.",
            "Run `wandb login`, or set WANDB_API_KEY or WANDB_MODE=offline.",
        )


def _wandb_can_log_in() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE", "").lower() in OFFLINE:
        return True
    try:
        host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1]
        return netrc.netrc().authenticators(host.split("/")[0].split(":")[0]) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def prepare_trackers(run: RunDirectory, trackers: Sequence[str]) -> None:
    """Where they write and under which name, unless the environment says otherwise."""
    if not trackers:
        return
    folder = run.path / "trackers"
    folder.mkdir(exist_ok=True)
    settings = {
        "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
        "WANDB_DIR": str(folder),
        "WANDB_PROJECT": PROJECT,
        "WANDB_RUN_ID": run.id,  # a resumed run goes on where it was
        "WANDB_RESUME": "allow",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_EXPERIMENT_NAME": PROJECT,
    }
    for name, value in settings.items():
        os.environ.setdefault(name, value)


class Guest:
    """A tracker's callback. After its first failure it is asked no more."""

    def __init__(self, callback: Any, tell: Callable[[str, Exception], None]) -> None:
        self._callback = callback
        self._tell = tell
        self._failed = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._callback, name)
        return self._guarded(method) if name.startswith("on_") else method

    def _guarded(self, method: Callable[..., Any]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            if self._failed:
                return
            try:
                method(*arguments, **options)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not end a training
                self._failed = True
                self._tell(type(self._callback).__name__.removesuffix("Callback"), error)

        return call


def as_guests(trainer: Any, tell: Callable[[str, Exception], None]) -> None:
    """Put a guard around the trackers' callbacks that the trainer has set up."""
    from transformers.integrations import get_reporting_integration_callbacks

    kinds = tuple(get_reporting_integration_callbacks(trainer.args.report_to))
    callbacks = trainer.callback_handler.callbacks
    callbacks[:] = [Guest(each, tell) if isinstance(each, kinds) else each for each in callbacks]
