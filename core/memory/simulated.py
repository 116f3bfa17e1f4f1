"""The app's side of the simulation: starts the child, waits for it, remembers what it found.

    simulation = Simulation(setup)      # nothing runs yet
    prediction = simulation.run()       # from the cache at once, else some seconds; blocks
    simulation.cancel()                 # from any thread: `run` then raises UserError

Results lie in TuneDeck's folder under a hash of the setup, the versions of the libraries whose
code is run, and the code of the simulation itself.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from threading import Timer
from typing import Any

from core.children import Child
from core.errors import UserError
from core.memory.formula import predict_setup
from core.memory.prediction import CUDA_CONTEXT, Parts, Prediction
from core.memory.setup import Setup, to_json
from core.memory.sharding import NCCL_BUFFERS, check_sharding
from core.paths import simulations_cache
from core.text import clip, printable
from core.units import MIB

WORKER = "core.memory.simulation.worker"
LIBRARIES = ("torch", "transformers", "accelerate", "peft", "trl", "bitsandbytes", "deepspeed")
TIMEOUT = 180.0
PATIENCE = 0.5
LONGEST_REASON = 120  # columns; transformers names every model that there is
LOWER, UPPER = 0.95, 1.05  # what torch reserves, as far as others measured it (published_runs.csv)
SLACK = 400 * MIB  # for the context, which varies by card


class Simulation:
    """The peak of one setup, simulated in a child process."""

    def __init__(self, setup: Setup, timeout: float = TIMEOUT) -> None:
        self._setup = setup
        self._timeout = timeout
        self._child: Child | None = None
        self._ended = ""

    def run(self) -> Prediction:
        """The prediction. UserError when it was cancelled, took too long or cannot be made."""
        check_sharding(self._setup)
        if _runs_deepspeed(self._setup) and find_spec("deepspeed") is None:
            raise UserError(
                "ZeRO-3 is simulated by DeepSpeed itself, which is not installed.",
                "pip install deepspeed; the prediction by formula is there without it.",
            )
        place = simulations_cache() / f"{_key(self._setup)}.json"
        found = _read(place)
        if found is None:
            found = self._ask()
            _write(place, found)
        known = predict_setup(self._setup)
        beside = CUDA_CONTEXT + (NCCL_BUFFERS if self._setup.gpus > 1 else 0)
        return _prediction(found, beside, known.paged, known.note)

    def cancel(self) -> None:
        """End the child, if there is one. May be called from any thread, and more than once."""
        self._end("The simulation was cancelled.")

    def _ask(self) -> dict[str, Any]:
        if self._ended:
            raise UserError(self._ended)
        child = self._child = Child(WORKER, to_json(self._setup))
        if self._ended:  # cancelled while it was started
            child.close(PATIENCE)
        timer = Timer(
            self._timeout, self._end, (f"The simulation took more than {self._timeout:.0f} s.",)
        )
        timer.daemon = True
        timer.start()
        try:
            for message in child:
                if "allocated" in message:
                    return message
        finally:
            timer.cancel()
            child.close()
        raise self._failure(child)

    def _failure(self, child: Child) -> UserError:
        if self._ended:
            return UserError(self._ended)
        lines = child.last_errors.strip().splitlines()
        last = printable(lines[-1]) if lines else "its process ended without a word"
        reason = clip(last, LONGEST_REASON)
        return UserError(
            f"This setup cannot be simulated: {reason}",
            "The prediction by formula is still there.",
        )

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        if self._child is not None:
            self._child.close(PATIENCE)


def simulate(setup: Setup) -> Prediction:
    """The simulated peak of one setup; blocks for some seconds unless it is known already."""
    return Simulation(setup).run()


def _runs_deepspeed(setup: Setup) -> bool:
    return setup.in_parts and setup.sharding == "zero3"


def _prediction(found: dict[str, Any], beside: int, paged: int, note: str) -> Prediction:
    """With the context and NCCL's buffers (`beside`) and the optimiser's pages, which are not
    simulated."""
    allocated, reserved = int(found["allocated"]), int(found["reserved"])
    parts = {name: int(found["parts"].get(name, 0)) for name in Parts.__slots__}
    parts["runtime"] = beside + reserved - allocated
    parts["optimizer"] += paged
    whole = Parts(**parts)
    return Prediction(
        whole,
        low=int(whole.total * LOWER),
        high=int(whole.total * UPPER) + SLACK,
        how="simulated",
        reserved=reserved,
        note=note,
        paged=paged,
    )


def _key(setup: Setup) -> str:
    known = json.dumps([to_json(setup), _stack(), _code()])
    return hashlib.sha256(known.encode()).hexdigest()[:32]


@cache
def _stack() -> dict[str, str]:
    return {name: installed(name) for name in LIBRARIES}


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def _code() -> str:
    """A hash of the code that decides the result."""
    core = Path(__file__).parents[1]
    files = sorted((core / "memory" / "simulation").glob("*.py"))
    files += [
        core / "training" / name for name in ("adapters.py", "loading.py", "loss.py", "sharding.py")
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _read(place: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and {"parts", "allocated", "reserved"} <= set(found)
    return found if whole else None


def _write(place: Path, found: dict[str, Any]) -> None:
    """A cache that cannot be written is no reason to fail."""
    from core.runs.directory import write_atomically

    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, json.dumps(found))
