"""The memory that steps on this machine's GPU have needed, where any have been measured."""

from __future__ import annotations

from core.hardware.readings import read_machine
from core.memory.measured import NOTHING_SEEN, Correction, Seen, correction_for, kept
from core.memory.prediction import Prediction
from core.memory.setup import Setup
from core.planning.calibration import gpu_device, installed_stack


def as_measured_here(setup: Setup, prediction: Prediction) -> Prediction:
    """The prediction corrected for the best GPU of this machine."""
    seen = kept()
    if not seen:
        return prediction
    gpu = read_machine().best_gpu()
    if gpu is None or not gpu.name:
        return prediction
    return correction_of(gpu_device(gpu.name, gpu.total), seen).apply(setup, prediction)


def correction_of(device: str, seen: list[Seen]) -> Correction:
    """What is known of a device with the stack that is installed."""
    return correction_for(device, installed_stack(), seen) if device else NOTHING_SEEN
