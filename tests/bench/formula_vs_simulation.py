"""The memory formula against the simulation: `python -m tests.bench.formula_vs_simulation`.

Prints a table and keeps it in formula_vs_simulation.csv beside this file, with the date and the
versions of the stack that was simulated. Rows that are there already are not simulated again, so
a run that was cut short goes on where it ended; `--fresh` forgets them all, `--only WORD` limits
it to configurations with that word. Needs no GPU.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from core.memory.formula import predict_setup
from core.memory.setup import Objective, Setup, Sharding
from core.methods import METHODS, Bits, MethodName
from core.models.catalogue import card_for

TABLE = Path(__file__).with_suffix(".csv")
SMOL, SMOL_2B = "HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-1.7B"
LLAMA_1B, LLAMA_8B = "meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.1-8B"
LLAMA_70B, MISTRAL = "meta-llama/Llama-3.1-70B", "mistralai/Mistral-7B-v0.3"
QWEN2_05B, QWEN2_7B = "Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-7B"
QWEN3_06B, QWEN3_4B, QWEN3_14B = "Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-14B"
GEMMA2, GEMMA2_9B = "google/gemma-2-2b", "google/gemma-2-9b"
GEMMA3_1B, GEMMA3_4B = "google/gemma-3-1b-it", "google/gemma-3-4b-it"
PHI3, PHI4 = "microsoft/Phi-3.5-mini-instruct", "microsoft/phi-4"
LLAMA_4 = "meta-llama/Llama-4-Scout-17B-16E"
MIXTRAL, QWEN3_MOE = "mistralai/Mixtral-8x7B-v0.1", "Qwen/Qwen3-30B-A3B"
FALCON3, FALCON_7B = "tiiuae/Falcon3-3B-Base", "tiiuae/falcon-7b"


@dataclass(frozen=True)
class Row:
    """One configuration; `simulated` and `reserved` are bytes, 0 before they are known."""

    model: str
    method: MethodName
    length: int
    checkpointing: bool
    bits: Bits = 16
    micro_batch: int = 1
    optimizer: str = "adamw"
    rank: int = 16
    targets: str = "all-linear"
    accumulates: bool = False
    objective: Objective = "sft"
    gpus: int = 1
    sharding: Sharding = "auto"
    simulated: int = 0
    reserved: int = 0

    @property
    def key(self) -> tuple[object, ...]:
        return tuple(asdict(self).values())[:-2]

    @property
    def setup(self) -> Setup:
        return Setup(
            card_for(self.model).shape,
            self.method,
            self.rank,
            self.targets,
            self.micro_batch,
            self.length,
            self.checkpointing,
            self.optimizer,
            self.accumulates,
            bits=self.bits,
            objective=self.objective,
            gpus=self.gpus,
            sharding=self.sharding,
        )

    @property
    def error(self) -> float:
        """How far the formula's allocated peak lies from the simulated one, as a share."""
        return predict_setup(self.setup).allocated / self.simulated - 1


def configurations() -> list[Row]:
    """0.1B to 70B, every family, every method, lengths 512 to 16384, both ways of checkpointing."""
    return [
        *_families(), *_methods(), *_long_and_large(), *_optimizers(), *_objectives(), *_experts(),
        *_packed(), *_copies(), *_parts(), *_deepspeed(),
    ]  # fmt: skip


def _families() -> Iterator[Row]:
    for model in (SMOL_2B, LLAMA_1B, MISTRAL, QWEN2_7B, QWEN3_4B, GEMMA2, GEMMA3_4B, PHI3, FALCON3):
        yield Row(model, "lora", 2048, True)
        yield Row(model, "lora", 1024, False)
        yield Row(model, "qlora", 2048, True, bits=4)
    for model in (SMOL, QWEN2_05B, QWEN3_06B, GEMMA3_1B, LLAMA_1B):
        yield Row(model, "full", 1024, True)
        yield Row(model, "full", 512, False, micro_batch=2)
    for model in (PHI4, GEMMA2_9B, FALCON_7B):
        yield Row(model, "qlora", 1024, True, bits=4)
        yield Row(model, "lora", 512, False)


def _methods() -> Iterator[Row]:
    others: tuple[MethodName, ...] = (
        "last-layers", "rslora", "dora", "pissa", "lora+", "vera", "adalora", "ia3", "oft",
        "loha", "lokr", "prefix", "prompt", "p-tuning",
    )  # fmt: skip
    for method in others:
        yield Row(LLAMA_1B, method, 2048, True)
        yield Row(QWEN3_06B, method, 1024, False)
    for checkpointing in (True, False):
        yield Row(LLAMA_8B, "lora-8bit", 2048, checkpointing, bits=8)


def _packed() -> Iterator[Row]:
    """Every method on every number of bits that it trains on, where no row above has it."""
    for name, method in METHODS.items():
        for bits in method.bits:
            if bits < 16 and name not in ("qlora", "lora-8bit"):
                yield Row(LLAMA_1B, name, 2048 if bits == 4 else 1024, bits == 4, bits=bits)


def _copies() -> Iterator[Row]:
    """Each GPU with a model of its own (DDP)."""
    yield Row(SMOL, "full", 512, False, micro_batch=4, gpus=2, sharding="ddp")
    yield Row(QWEN3_06B, "full", 1024, True, accumulates=True, gpus=4, sharding="ddp")
    yield Row(LLAMA_1B, "full", 2048, True, optimizer="adamw-8bit", gpus=8, sharding="ddp")
    yield Row(LLAMA_8B, "lora", 2048, True, gpus=2, sharding="ddp")
    yield Row(MISTRAL, "lora", 1024, False, rank=64, accumulates=True, gpus=4, sharding="ddp")
    yield Row(QWEN3_4B, "qlora", 4096, True, bits=4, gpus=8, sharding="ddp")
    yield Row(LLAMA_8B, "lora-8bit", 1024, True, bits=8, gpus=2, sharding="ddp")
    yield Row(GEMMA2, "dora", 1024, True, gpus=4, sharding="ddp")
    yield Row(QWEN3_06B, "lora", 512, True, micro_batch=2, objective="dpo", gpus=2, sharding="ddp")
    yield Row(LLAMA_70B, "qlora", 2048, True, bits=4, gpus=8, sharding="ddp")


def _parts() -> Iterator[Row]:
    """Each GPU with a part of the model (FSDP2)."""
    yield Row(SMOL, "lora", 512, True, gpus=2, sharding="fsdp")
    yield Row(SMOL_2B, "full", 2048, True, gpus=4, sharding="fsdp")
    yield Row(SMOL_2B, "full", 1024, True, accumulates=True, gpus=2, sharding="fsdp")
    yield Row(QWEN3_06B, "full", 1024, False, gpus=2, sharding="fsdp")
    yield Row(LLAMA_1B, "lora", 1024, False, gpus=2, sharding="fsdp")
    yield Row(GEMMA2, "lora", 1024, True, gpus=4, sharding="fsdp")
    yield Row(GEMMA3_1B, "full", 4096, True, gpus=4, sharding="fsdp")
    yield Row(QWEN2_7B, "full", 2048, True, gpus=8, sharding="fsdp")
    yield Row(PHI3, "lora", 2048, True, gpus=4, sharding="fsdp")
    yield Row(FALCON3, "full", 2048, True, gpus=4, sharding="fsdp")
    yield Row(MISTRAL, "full", 2048, False, gpus=4, sharding="fsdp")
    yield Row(LLAMA_8B, "lora", 4096, True, gpus=8, sharding="fsdp")
    yield Row(LLAMA_8B, "lora", 1024, False, accumulates=True, gpus=4, sharding="fsdp")
    yield Row(LLAMA_8B, "full", 8192, True, gpus=8, sharding="fsdp")
    yield Row(LLAMA_8B, "full", 2048, True, accumulates=True, gpus=8, sharding="fsdp")
    yield Row(LLAMA_8B, "qlora", 4096, True, bits=4, gpus=2, sharding="fsdp")
    yield Row(LLAMA_8B, "qlora", 2048, True, bits=4, micro_batch=8, gpus=8, sharding="fsdp")
    yield Row(QWEN3_4B, "qlora", 8192, True, bits=4, gpus=4, sharding="fsdp")
    yield Row(QWEN3_14B, "lora", 4096, True, rank=64, gpus=8, sharding="fsdp")
    yield Row(LLAMA_8B, "dora", 1024, True, gpus=4, sharding="fsdp")
    yield Row(QWEN3_4B, "rslora", 2048, True, targets="attention", gpus=2, sharding="fsdp")
    yield Row(QWEN3_06B, "lora", 512, True, micro_batch=2, objective="dpo", gpus=2, sharding="fsdp")
    yield Row(LLAMA_70B, "qlora", 8192, True, bits=4, gpus=8, sharding="fsdp")
    yield Row(LLAMA_70B, "lora", 2048, True, gpus=8, sharding="fsdp")
    yield Row(LLAMA_70B, "full", 2048, True, gpus=64, sharding="fsdp")


def _deepspeed() -> Iterator[Row]:
    """Each GPU with a part of the model (ZeRO-3); simulated where DeepSpeed is installed."""
    yield Row(SMOL, "lora", 512, True, gpus=2, sharding="zero3")
    yield Row(SMOL, "full", 512, False, micro_batch=4, gpus=2, sharding="zero3")
    yield Row(SMOL_2B, "full", 2048, True, gpus=4, sharding="zero3")
    yield Row(SMOL_2B, "full", 1024, True, accumulates=True, gpus=2, sharding="zero3")
    yield Row(QWEN3_06B, "full", 1024, False, gpus=2, sharding="zero3")
    yield Row(LLAMA_1B, "lora", 1024, False, gpus=2, sharding="zero3")
    yield Row(LLAMA_1B, "full", 2048, True, optimizer="adamw-8bit", gpus=8, sharding="zero3")
    yield Row(LLAMA_1B, "full", 512, True, optimizer="sgd", gpus=2, sharding="zero3")
    yield Row(GEMMA2, "lora", 1024, True, gpus=4, sharding="zero3")
    yield Row(GEMMA3_1B, "full", 4096, True, gpus=4, sharding="zero3")
    yield Row(QWEN2_7B, "full", 2048, True, gpus=8, sharding="zero3")
    yield Row(PHI3, "lora", 2048, True, gpus=4, sharding="zero3")
    yield Row(FALCON3, "full", 2048, True, micro_batch=4, gpus=4, sharding="zero3")
    yield Row(MISTRAL, "full", 2048, False, gpus=4, sharding="zero3")
    yield Row(LLAMA_8B, "lora", 4096, True, gpus=8, sharding="zero3")
    yield Row(LLAMA_8B, "lora", 1024, False, rank=64, accumulates=True, gpus=4, sharding="zero3")
    yield Row(LLAMA_8B, "full", 8192, True, gpus=8, sharding="zero3")
    yield Row(LLAMA_8B, "full", 2048, True, accumulates=True, gpus=16, sharding="zero3")
    yield Row(QWEN3_14B, "lora", 4096, True, rank=64, gpus=8, sharding="zero3")
    yield Row(QWEN3_4B, "rslora", 2048, True, targets="attention", gpus=2, sharding="zero3")
    yield Row(QWEN3_06B, "lora", 512, True, objective="dpo", gpus=2, sharding="zero3")
    yield Row(MIXTRAL, "lora", 1024, True, gpus=8, sharding="zero3")
    yield Row(QWEN3_MOE, "lora", 2048, True, gpus=8, sharding="zero3")
    yield Row(LLAMA_70B, "lora", 2048, True, gpus=8, sharding="zero3")
    yield Row(LLAMA_70B, "full", 2048, True, gpus=64, sharding="zero3")


def _objectives() -> Iterator[Row]:
    for objective in ("dpo", "kto", "orpo"):
        yield Row(QWEN3_06B, "lora", 512, True, micro_batch=2, objective=objective)


def _experts() -> Iterator[Row]:
    yield Row(MIXTRAL, "lora", 1024, True)
    yield Row(QWEN3_MOE, "qlora", 1024, True, bits=4)
    yield Row(LLAMA_4, "lora", 2048, True)
    yield Row(LLAMA_4, "qlora", 1024, True, bits=4)


def _long_and_large() -> Iterator[Row]:
    for length in (512, 4096, 8192, 16384):
        yield Row(LLAMA_8B, "lora", length, True)
        yield Row(QWEN3_4B, "qlora", length, True, bits=4)
    yield Row(LLAMA_1B, "lora", 8192, False)
    yield Row(GEMMA3_1B, "full", 16384, True)
    yield Row(PHI3, "lora", 16384, True)
    yield Row(QWEN3_14B, "lora", 4096, True)
    yield Row(QWEN3_14B, "lora", 1024, False)
    yield Row(LLAMA_70B, "qlora", 8192, True, bits=4)


def _optimizers() -> Iterator[Row]:
    for optimizer in ("adamw-8bit", "paged-adamw-8bit", "sgd"):
        yield Row(LLAMA_1B, "full", 2048, True, optimizer=optimizer)
    yield Row(LLAMA_8B, "full", 1024, True, optimizer="adamw-8bit")
    yield Row(LLAMA_8B, "qlora", 1024, True, bits=4, optimizer="paged-adamw-8bit", rank=64)
    yield Row(LLAMA_8B, "lora", 2048, True, micro_batch=4, targets="attention")
    yield Row(MISTRAL, "qlora", 512, True, bits=4, micro_batch=8, targets="attention-all")
    yield Row(QWEN2_05B, "full", 1024, True, micro_batch=4, accumulates=True)


def known_rows(place: Path = TABLE) -> list[Row]:
    """The rows of the committed table."""
    if not place.exists():
        return []
    with place.open(newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        return [_row(fields) for fields in csv.DictReader(lines)]


def _row(fields: dict[str, str]) -> Row:
    return Row(
        fields["model"],
        fields["method"],  # type: ignore[arg-type]
        int(fields["length"]),
        fields["checkpointing"] == "True",
        int(fields["bits"]),  # type: ignore[arg-type]
        int(fields["micro_batch"]),
        fields["optimizer"],
        int(fields["rank"]),
        fields["targets"],
        fields["accumulates"] == "True",
        fields["objective"],  # type: ignore[arg-type]
        int(fields["gpus"]),
        fields["sharding"],  # type: ignore[arg-type]
        int(fields["simulated"]),
        int(fields["reserved"]),
    )


def simulated(row: Row) -> Row:
    """The row with what the simulation says. DeepSpeed begins anew only in a new process."""
    if row.sharding == "zero3":
        from core.memory.simulated import simulate as in_a_child

        found = in_a_child(row.setup)
        return replace(row, simulated=found.allocated, reserved=found.reserved)
    from core.memory.simulation.worker import simulate

    here = simulate(row.setup)
    return replace(row, simulated=here["allocated"], reserved=here["reserved"])


def write(rows: list[Row], place: Path = TABLE) -> None:
    """The table with its date and stack, the formula's numbers beside the simulation's."""
    from core.memory.simulated import LIBRARIES, installed

    stack = ", ".join(f"{name} {installed(name)}" for name in LIBRARIES)
    with place.open("w", newline="") as file:
        file.write(f"# simulated {time.strftime('%Y-%m-%d')} with {stack}; bytes\n")
        writer = csv.DictWriter(file, [*asdict(rows[0]), "formula", "error"])
        writer.writeheader()
        for row in rows:
            formula = predict_setup(row.setup).allocated
            writer.writerow({**asdict(row), "formula": formula, "error": f"{row.error:+.4f}"})


def summary(rows: list[Row]) -> str:
    errors = sorted(abs(row.error) for row in rows)
    return (
        f"{len(rows)} configurations: formula off by {statistics.median(errors):.2%} in the "
        f"median, {errors[-1]:.2%} at worst"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--only", default="", help="configurations that name this")
    parser.add_argument(
        "--seconds", type=float, default=500, help="stop after the row that ends so late"
    )
    options = parser.parse_args()
    known = {} if options.fresh else {row.key: row for row in known_rows()}
    wanted = configurations()
    started = time.monotonic()
    for row in wanted:
        if row.key not in known and options.only in " ".join(map(str, row.key)):
            if time.monotonic() - started > options.seconds:
                print("Not all are done; run again to go on.")
                break
            known[row.key] = simulated(row)
            write([known[each.key] for each in wanted if each.key in known])
        if row.key in known and options.only in " ".join(map(str, row.key)):
            print(f"{known[row.key].error:+7.2%}  {' '.join(map(str, row.key))}", flush=True)
    rows = [known[each.key] for each in wanted if each.key in known]
    write(rows)
    print(summary(rows))


if __name__ == "__main__":
    from core.memory.simulation.worker import as_if_alone

    as_if_alone()
    main()
