"""Measuring this machine with a child process that trains small random models for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.children import Child
from core.errors import UserError, describe_os_error
from core.models.catalogue import ModelShape
from core.planning.calibration import CALIBRATED, Measurement, keep


@dataclass(frozen=True, slots=True)
class Failed:
    """A method that could not be tried here, in the library's own words."""

    method: str
    message: str


def calibrate(tell: Callable[[Measurement | Failed], None]) -> list[Measurement]:
    """Measure and keep. UserError when nothing could be measured or kept."""
    source = f"{CALIBRATED}-{time.strftime('%Y%m%d-%H%M%S')}"
    found: list[Measurement] = []
    child = Child("core.training.calibrate")
    try:
        for message in child:
            point = _point(message, source)
            if point is not None:
                tell(point)
                found += [point] if isinstance(point, Measurement) else []
    finally:
        child.close()
    if not found:
        last = next((line for line in reversed(child.last_errors.splitlines()) if line), "")
        raise UserError(
            f"Nothing could be measured. {last}".strip(), "`tunedeck doctor` checks the machine."
        )
    try:
        keep(found)
    except OSError as error:
        raise describe_os_error(error, "keep the measurements") from error
    return found


def _point(message: dict[str, Any], source: str) -> Measurement | Failed | None:
    kind = message.pop("kind", "")
    if kind == "problem":
        return Failed(str(message["method"]), str(message["message"]))
    if kind != "point":
        return None  # a library printed JSON
    shape = ModelShape(**message.pop("shape"))
    return Measurement(source=source, shape=shape, taken=time.time(), **message)
