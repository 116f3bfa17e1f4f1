"""The settings of a candidate, each with the keys that turn it."""

from __future__ import annotations

from textual.content import Content

from core.methods import METHODS
from core.objectives import OBJECTIVES
from core.planning.candidates import Candidate
from core.planning.settings import packing_refusal, settings_of
from core.text import printable
from core.units import count_text

KEY, NAME = 4, 15
Part = str | tuple[str, str]


def setting_lines(candidate: Candidate) -> list[Content]:
    """A line for each knob; what has a key of its own stands after it, key first."""
    hyper = candidate.hyper
    rows = candidate.micro_batch * candidate.gradient_accumulation
    batch = f"{candidate.micro_batch} × {candidate.gradient_accumulation} = {rows} rows  "
    checkpointing = "on" if candidate.gradient_checkpointing else "off"
    return [
        _line("M", "method", METHODS[candidate.method].title, *_bits(candidate)),
        _line("[ ]", "length", f"{count_text(candidate.seq_length)} tokens"),
        _line("- +", "micro-batch", batch, _key(", .")),
        *_gpus(candidate),
        _size_line(candidate),
        _line("e E", "epochs", f"{hyper.epochs:g}, {count_text(candidate.steps)} steps"),
        _line("l L", "learning rate", f"{hyper.learning_rate:g}, {hyper.schedule}"),
        _line("x", "optimiser", candidate.optimizer),
        _line("c", "checkpointing", f"{checkpointing}  ", *_packing(candidate)),
        _line("O", "objective", OBJECTIVES[candidate.basis.objective].title),
    ]


def _line(keys: str, name: str, *value: Part) -> Content:
    return Content.assemble(
        (f"{keys:<{KEY}}", "bold $accent"), (f"{name:<{NAME}}", "$text-muted"), *value
    )


def _key(text: str) -> Part:
    return text, "bold $accent"


def _bits(candidate: Candidate) -> list[Part]:
    """The bits of the base's weights, with their key where there is a choice."""
    method = METHODS[candidate.method]
    bits = f"{candidate.hyper.bits or method.bits[0]}-bit"
    if len(method.bits) > 1:
        return ["  ", _key("b"), f" {bits}"]
    return [] if bits in method.title else [f" {bits}"]


def _size_line(candidate: Candidate) -> Content:
    """How much is trained: a rank, layers, or vectors before the row; and where."""
    hyper, knobs = candidate.hyper, METHODS[candidate.method].knobs
    if "layers" in knobs:
        return _line("r R", "layers", f"the last {hyper.layers}")
    if "virtual_tokens" in knobs:
        return _line("r R", "virtual tokens", f"{hyper.virtual_tokens}")
    places: list[Part] = []
    if "target_modules" in knobs:
        names = hyper.targets if isinstance(hyper.targets, str) else ", ".join(hyper.targets)
        places = [_key("T"), f" {printable(names, single_line=True)}"]
    if "rank" in knobs:
        alpha = f", α {hyper.alpha:g}" if "alpha" in knobs else ""
        return _line("r R", "rank", f"{hyper.rank}{alpha}  ", *places)
    return _line("", "rank", *(places or ["none"]))


def _packing(candidate: Candidate) -> list[Part]:
    """Whether rows stand end to end, where that can be."""
    if packing_refusal(settings_of(candidate)):
        return []
    return [_key("f"), f" packing {'on' if candidate.packed else 'off'}"]


def _gpus(candidate: Candidate) -> list[Content]:
    """How many there are, and what each holds of the model."""
    count, how = candidate.basis.gpus, candidate.sharding
    if count == 1:
        return []
    held = f"parts ({how})" if how in ("fsdp", "zero3") else "copies (ddp)"
    return [_line("w", "GPUs", f"{count}  ", _key("W"), f" {held}")]
