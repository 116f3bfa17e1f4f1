"""What a fast expert would choose for this recipe on this machine, and why: chosen and shown.

Every choice can be made in the recipe instead. Functions here are plain: facts in, a choice out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from core.methods import Method
from core.objectives import Objective
from core.recipe import Recipe, Switch

AMPERE, HOPPER = (8, 0), (9, 0)
PAGED = "paged-adamw-8bit"
COMPILE_STEPS = 2000  # compiling takes minutes, which so many steps win back
Attention = Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choices depend on. `flash` are the versions of flash attention that are installed;
    `free` are the bytes of the GPU that this process has or can get (None on a CPU); `pages`:
    bitsandbytes, which can keep an optimiser's averages in RAM, is installed."""

    on_gpu: bool
    capability: tuple[int, int] = (0, 0)
    flash: frozenset[int] = frozenset()
    free: int | None = None
    half: bool = True
    pages: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """One of them: `value` in the recipe's words, and the reason."""

    name: str
    value: str
    why: str


def attention(recipe: Recipe, machine: Machine) -> tuple[Attention, str]:
    """The kernel that computes attention."""
    wanted = recipe.training.attention
    if wanted in ("eager", "sdpa"):
        return wanted, "asked for"
    if wanted == "flex":
        if machine.on_gpu:
            return "flex_attention", "asked for"
        return "sdpa", "flex attention trains on GPUs only"
    lack = _no_flash(machine)
    if lack is None:
        best: Attention = "flash_attention_2"
        if 3 in machine.flash and machine.capability[0] == HOPPER[0]:
            best = "flash_attention_3"
        elif 2 not in machine.flash:
            return "sdpa", "flash attention 3 runs on Hopper GPUs only"
        return best, "asked for" if wanted == "flash" else "installed, and the fastest here"
    return "sdpa", lack if wanted == "flash" else "PyTorch's own"


def _no_flash(machine: Machine) -> str | None:
    """Why flash attention cannot be had; None where it can."""
    if not machine.on_gpu:
        return "flash attention needs a GPU"
    if not machine.flash:
        return "flash attention is not installed (package flash-attn)"
    if machine.capability < AMPERE:
        return "flash attention needs an Ampere GPU or a newer one"
    return None if machine.half else "flash attention computes in 16 bits only"


def packing(
    recipe: Recipe, attention: Attention, keeps_apart: Callable[[], bool]
) -> tuple[bool, str]:
    """Whether the rows of a micro-batch stand end to end. `keeps_apart` tries it on the model."""
    unmasked = attention.startswith("fl")
    spec, method = recipe.objective.spec, recipe.method.spec
    return packs(recipe.training.packing, spec, method, unmasked, keeps_apart)


def packs(
    wanted: Switch,
    objective: Objective,
    method: Method,
    unmasked: bool,
    keeps_apart: Callable[[], bool],
) -> tuple[bool, str]:
    """Whether it can be, and is worth it: also asked by the planner, before there is a model.
    `unmasked`: the attention keeps rows apart without a mask of all tokens by all tokens."""
    if wanted is False:
        return False, "asked for"
    if not objective.is_of_tokens:
        return False, f"{objective.title} compares whole rows"
    if method.kind == "soft-prompt":
        return False, "a soft prompt stands before every row"
    if wanted == "auto" and not unmasked:
        return False, "rows of like length are batched together, which wastes as little here"
    if not keeps_apart():
        return False, "this model does not keep packed rows apart; rows of like length instead"
    return True, "no padding at all, and this model keeps packed rows apart (tried)"


def micro_batch(recipe: Recipe, fits: Callable[[int], bool]) -> tuple[int, str]:
    """Rows in one forward pass. `fits` predicts it for a number of rows."""
    training = recipe.training
    if training.batch is None:
        return training.micro_batch, "asked for"
    sizes = [size for size in range(training.batch, 0, -1) if training.batch % size == 0]
    size = next((size for size in sizes if fits(size)), 1)
    return size, f"the largest part of {training.batch} rows that fits, as predicted"


def optimizer(
    recipe: Recipe, machine: Machine, fits: Callable[[], bool], begun: str | None
) -> tuple[str, str]:
    """`fits`: whether AdamW with its averages in 32 bits is predicted to. `begun`: what the run
    began with, whose averages the checkpoint to go on from holds."""
    wanted = recipe.training.optimizer
    if wanted != "auto":
        return wanted, _optimizer_why(wanted)
    if begun is not None:
        return begun, "as the run began"
    if not machine.on_gpu or fits():
        return "adamw", _optimizer_why("adamw")
    if not machine.pages:
        return "adamw", "its memory may not suffice, and bitsandbytes is not installed"
    return PAGED, "memory would not suffice for averages in 32 bits"


def _optimizer_why(name: str) -> str:
    reasons = {
        "adamw": "fused: one pass over all weights",
        "adamw-8bit": "a quarter of the memory for its averages",
        PAGED: "a quarter of the memory, and room in RAM when it runs short",
    }
    return reasons.get(name, "asked for")


def compiles(recipe: Recipe, machine: Machine, steps: int) -> tuple[bool, str]:
    """Whether the decoder's layers are compiled."""
    wanted = recipe.training.compile
    if wanted != "auto":
        return wanted, "asked for"
    if not machine.on_gpu:
        return False, "on a CPU it does not pay"
    if recipe.method.base_bits != 16:
        return False, "a quantised base cannot be compiled whole"
    if steps < COMPILE_STEPS:
        return False, f"it takes minutes, which {steps} steps do not win back"
    return True, f"{steps} steps win back the minutes that it takes"


def tf32(recipe: Recipe, machine: Machine) -> tuple[bool, str]:
    """Whether products of 32-bit matrices are rounded to TF32."""
    wanted = recipe.training.tf32
    if not machine.on_gpu or machine.capability < AMPERE:
        return False, "this device has no TF32"
    if wanted != "auto":
        return wanted, "asked for"
    return True, "eight times faster where weights are in 32 bits, and precise enough"


def learned_rows(recipe: Recipe, data_format: str) -> Choice | None:
    """What supervised training takes of rows that hold more than one answer."""
    if recipe.objective.name != "sft":
        return None
    if data_format == "preference":
        return Choice("rows", "chosen answers", "sft learns them; dpo or orpo learn from both")
    if data_format == "kto":
        return Choice("rows", "good answers", "sft learns them; kto learns from bad ones, too")
    return None
