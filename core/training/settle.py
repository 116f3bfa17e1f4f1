"""The choices of `core.training.choices`, made for the loaded model and put into effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from psutil import virtual_memory
from torch import nn

from core.data.prepared import Prepared
from core.errors import describe_os_error
from core.memory.formula import Device
from core.recipe import Recipe
from core.runs.directory import RunDirectory, write_atomically
from core.training import choices
from core.training.choices import Choice, Machine
from core.training.packing import keeps_rows_apart
from core.training.preflight import expected_memory, wants_checkpointing
from core.training.ranks import agreed, answers
from core.training.reporter import Reporter
from core.training.sharding import Sharding
from core.training.together import place

EFFECTIVE = "effective.yaml"
ATTENTION_NAMES = {
    "flash_attention_2": "flash",
    "flash_attention_3": "flash",
    "flex_attention": "flex",
}
DTYPES: dict[torch.dtype, Literal["bf16", "fp16", "fp32"]] = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
}


@dataclass(frozen=True, slots=True)
class Settled:
    """A recipe without anything left to choose, and how it came about."""

    recipe: Recipe
    choices: tuple[Choice, ...]

    @property
    def packed(self) -> bool:
        return self.recipe.training.packing is True

    @property
    def checkpointing(self) -> bool:
        return self.recipe.training.gradient_checkpointing is True


def this_machine(dtype: torch.dtype) -> Machine:
    """What the choices depend on, here and now."""
    if not torch.cuda.is_available():
        return Machine(on_gpu=False, half=dtype is not torch.float32)
    installed = {2: find_spec("flash_attn"), 3: find_spec("flash_attn_interface")}
    return Machine(
        on_gpu=True,
        capability=torch.cuda.get_device_capability(),
        flash=frozenset(version for version, found in installed.items() if found),
        free=torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved(),
        half=dtype is not torch.float32,
        pages=find_spec("bitsandbytes") is not None,
    )


def settle(
    recipe: Recipe,
    base: Path,
    prepared: Prepared,
    model: Any,
    steps: int,
    kernels: Choice,
    parts: Sharding = "ddp",
    begun: str | None = None,
) -> Settled:
    """Choose what the recipe leaves open, and make the model so.

    Several processes agree on what they could see differently. `parts`: where none of them has
    the whole model, nothing can be tried on it. `begun`: the optimiser of the checkpoint to go on
    from.
    """
    machine = this_machine(model.dtype)
    optimizer, optimizer_why = _optimizer(recipe, base, prepared, machine, parts, begun)
    recipe = _with_effective(recipe, optimizer=optimizer)
    size, size_why = choices.micro_batch(recipe, _fits(recipe, base, prepared, machine))
    size = min(answers(size))
    recipe = _with_micro_batch(recipe, size)
    kernel, kernel_why = _set_attention(recipe, machine, model)
    packed, packed_why = choices.packing(
        recipe, kernel, lambda: parts == "ddp" and keeps_rows_apart(model, prepared.train)
    )
    packed = not agreed(not packed)[0]
    compiled, compiled_why = choices.compiles(recipe, machine, steps)
    if compiled:
        compile_layers(model)
    rounded, rounded_why = choices.tf32(recipe, machine)
    if rounded:
        torch.set_float32_matmul_precision("high")
    checkpointing = agreed(wants_checkpointing(recipe, base, prepared, machine.free))[0]
    recipe = _with_effective(
        recipe,
        packing=packed,
        attention=ATTENTION_NAMES.get(kernel, kernel),
        compile=compiled,
        tf32=rounded,
        kernels=kernels.value,
        gradient_checkpointing=checkpointing,
    )
    recipe.model.precision = DTYPES[model.dtype]
    found = [
        Choice("precision", recipe.model.precision, _precision_why(recipe, machine)),
        Choice("micro_batch", _sizes(recipe), size_why),
        Choice("gradient_checkpointing", _on(checkpointing), _memory_why(checkpointing, machine)),
        Choice("attention", ATTENTION_NAMES.get(kernel, kernel), kernel_why),
        Choice("packing", _on(packed), packed_why),
        Choice("optimizer", optimizer, optimizer_why),
        kernels,
        Choice("compile", _on(compiled), compiled_why),
        Choice("tf32", _on(rounded), rounded_why),
    ]
    if (rows := choices.learned_rows(recipe, prepared.ledger.format)) is not None:
        found.append(rows)
    return Settled(recipe, tuple(found))


def tell(run: RunDirectory, settled: Settled, reporter: Reporter) -> None:
    """An event, lines in the log, and the recipe with everything chosen beside the one asked."""
    reporter.tell("choices", choices=[asdict(choice) for choice in settled.choices])
    if not place().writes:
        return
    for choice in settled.choices:
        print(f"{choice.name}: {choice.value} ({choice.why})", flush=True)
    _write(run, settled.recipe)


def with_sizes_of(run: RunDirectory, settled: Settled, smaller: Recipe) -> Settled:
    """After a recovery: the same with another micro-batch, also in the file."""
    sizes = smaller.training
    recipe = _with_effective(
        settled.recipe,
        micro_batch=sizes.micro_batch,
        gradient_accumulation=sizes.gradient_accumulation,
    )
    _write(run, recipe)
    return replace(settled, recipe=recipe)


def _write(run: RunDirectory, recipe: Recipe) -> None:
    try:
        write_atomically(run.path / EFFECTIVE, recipe.to_yaml())
    except OSError as error:
        raise describe_os_error(error, "write to the run directory") from error


def _fits(
    recipe: Recipe, base: Path, prepared: Prepared, machine: Machine
) -> Callable[[int], bool]:
    """Whether a micro-batch is predicted to fit without computing activations twice."""
    free = virtual_memory().available if machine.free is None else machine.free
    device: Device = "cuda" if machine.on_gpu else "cpu"

    def fits(rows: int) -> bool:
        wanted = _with_micro_batch(recipe, rows)
        expected = expected_memory(
            wanted, base, prepared, gradient_checkpointing=False, device=device
        )
        return expected is not None and expected.high <= free

    return fits


def _optimizer(
    recipe: Recipe,
    base: Path,
    prepared: Prepared,
    machine: Machine,
    parts: Sharding,
    begun: str | None,
) -> tuple[str, str]:
    """The same in all processes. Where they share the averages out, those have room in 32 bits."""

    def fits() -> bool:
        """In the leanest way that the recipe leaves open otherwise."""
        if parts != "ddp" or machine.free is None:
            return True
        training = recipe.training
        wanted = _with_micro_batch(recipe, 1 if training.batch else training.micro_batch)
        twice = training.gradient_checkpointing is not False
        expected = expected_memory(
            wanted,
            base,
            prepared,
            gradient_checkpointing=twice and recipe.method.spec.allows_checkpointing,
        )
        return expected is None or expected.high <= machine.free

    found = choices.optimizer(recipe, machine, fits, begun)
    return next((each for each in answers(found) if each[0] == choices.PAGED), found)


def _sizes(recipe: Recipe) -> str:
    return f"{recipe.training.micro_batch} × {recipe.training.gradient_accumulation}"


def _with_micro_batch(recipe: Recipe, size: int) -> Recipe:
    changed = recipe.model_copy(deep=True)
    changed.training.gradient_accumulation = recipe.training.effective_batch // size
    changed.training.micro_batch = size
    return changed


def _with_effective(recipe: Recipe, **values: Any) -> Recipe:
    changed = recipe.model_copy(deep=True)
    changed.training = recipe.training.model_copy(update=values)
    return changed


def _set_attention(recipe: Recipe, machine: Machine, model: Any) -> tuple[choices.Attention, str]:
    kernel, why = choices.attention(recipe, machine)
    current = model.config._attn_implementation
    if current == kernel or (recipe.training.attention == "auto" and kernel == "sdpa"):
        return current, why if current == kernel else "what this architecture is made for"
    try:
        model.set_attn_implementation(kernel)
    except (ValueError, ImportError) as error:
        return current, f"{kernel} cannot be had here: {str(error).splitlines()[0][:120]}"
    return kernel, why


def compile_layers(model: nn.Module, backend: str = "inductor") -> None:
    """The decoder's layers, in place: names and checkpoints stay as they are."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    for layer in max(lists, key=len):
        layer.compile(dynamic=True, backend=backend)


def _precision_why(recipe: Recipe, machine: Machine) -> str:
    if recipe.method.base_bits != 16:
        return f"of all that is not in {recipe.method.base_bits} bits"
    where = "this GPU" if machine.on_gpu else "this CPU"
    reasons = {
        "bf16": f"{where} computes in it",
        "fp16": f"{where} has no bf16",
        "fp32": f"16 bits are slow on {where}",
    }
    return reasons[recipe.model.precision]


def _memory_why(checkpointing: bool, machine: Machine) -> str:
    if not machine.on_gpu:
        return "a CPU has memory enough" if not checkpointing else "asked for"
    return "memory would not suffice without" if checkpointing else "memory suffices"


def _on(value: bool) -> str:
    return "on" if value else "off"
