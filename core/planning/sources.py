"""Where each proposed hyper-parameter is from: who found or uses it, or that it is our own choice.

All were looked up in the papers and repositories named; `own choice` stands wherever none of them
gives the number, also where one points the same way.
"""

from __future__ import annotations

from core.methods import METHODS, MethodName
from core.objectives import ObjectiveName
from core.planning.candidates import Candidate
from core.planning.defaults import (
    FEW_ROWS,
    LARGE,
    MANY_ROWS,
    SHORT_RUN_STEPS,
    SMALL,
    TINY,
    defaults,
)

BY_HAND = "chosen by hand"
RATES: dict[MethodName, str] = {
    "rslora": "own choice: LoRA's, since the scale is LoRA's",
    "lora-8bit": "own choice: as for LoRA",
    "dora": "own choice: half of LoRA's; its authors advise a little less than that of LoRA and "
    "take 1e-4 for Llama 3 8B (arXiv 2402.09353, table 8)",
    "pissa": "PiSSA, arXiv 2404.02948: 2e-5",
    "lora+": "LLaMA-Factory's example: 1e-4 for A and 16 times that for B (arXiv 2402.12354)",
    "vera": "VeRA, arXiv 2310.11454, table 9: 4e-3 for tuning Llama on instructions",
    "adalora": "AdaLoRA, arXiv 2303.10512, tables 8 and 13: 5e-4 for MNLI, QQP, CoLA and summaries",
    "ia3": "T-Few, arXiv 2205.05638: 3e-3",
    "oft": "own choice: LoRA's; OFTv2 takes 2e-4 to 8e-4 for Llama 2 (arXiv 2506.19847)",
    "loha": "own choice: LoRA's, as LyCORIS treats them alike (arXiv 2309.14859)",
    "lokr": "own choice: LoRA's, as LyCORIS treats them alike (arXiv 2309.14859)",
    "prefix": "peft's examples: 1e-2 on T5-large and RoBERTa-large, 3e-2 on BLOOMZ-560M",
    "prompt": "peft's example on BLOOMZ-560M: 3e-2; TRL's guide: 1e-2 to 3e-2",
    "p-tuning": "peft's example on RoBERTa-large: 1e-3",
    "last-layers": "own choice: twice that of all weights; upper layers bear more (ULMFiT, arXiv "
    "1801.06146)",
}
PREFERENCE_RATES: dict[ObjectiveName, tuple[str, str]] = {
    "dpo": (
        "TRL's guide, Zephyr's recipe: 5e-6 with an adapter",
        "TRL's guide, Zephyr's recipe: 5e-7 for all weights",
    ),
    "kto": (
        "LLaMA-Factory's example: 5e-6 with an adapter; TRL's guide: 5e-7 to 5e-6",
        "TRL's guide: 5e-7 to 5e-6, and at beta 0.1 no more than 1e-6",
    ),
    "orpo": (
        "own choice: ten times that of all weights, as TRL's guide has it elsewhere",
        "ORPO, arXiv 2403.07691, and its authors' scripts: 5e-6",
    ),
}


def sources(candidate: Candidate) -> dict[str, str]:
    """By the recipe's key: where the value is from. What was turned by hand says so."""
    method, basis, hyper = candidate.method, candidate.basis, candidate.hyper
    parameters, goal = candidate.model.shape.parameters, basis.objective
    usual = defaults(basis.rows, parameters, method, goal, basis.gpus)
    knobs = METHODS[method].knobs
    found = {"learning_rate": _rate(method, parameters, goal), "schedule": SCHEDULE}
    found["epochs"] = _epochs(method, goal, basis.rows)
    steps = basis.rows * usual.epochs / usual.effective_batch
    found["warmup"] = _warmup(steps, goal)
    if "rank" in knobs:
        found["rank"] = _rank(method, goal)
    if "alpha" in knobs:
        found["alpha"] = _alpha(method)
    turned = (key for key in found if getattr(hyper, key) != getattr(usual, key))
    batch = BATCH if hyper.effective_batch == usual.effective_batch else BY_HAND
    return {**found, "batch": batch, **dict.fromkeys(turned, BY_HAND)}


SCHEDULE = "alignment-handbook, LLaMA-Factory, PiSSA: cosine"
BATCH = "own choice by the number of rows; LoRA bears no large ones (LoRA Without Regret: under 32)"


def _rate(method: MethodName, parameters: int, objective: ObjectiveName) -> str:
    if objective in PREFERENCE_RATES:
        with_adapter, whole = PREFERENCE_RATES[objective]
        if method == "full" and SMALL <= parameters <= 9e9:
            return whole
        if method in ("lora", "qlora") and SMALL <= parameters <= LARGE:
            return with_adapter
        return "own choice: the share of the supervised rate that LoRA's has for this objective"
    if method == "full":
        return _full_rate(parameters, objective)
    if method in ("lora", "qlora"):
        return _lora_rate(parameters)
    if method == "lora+" and not SMALL <= parameters <= LARGE:
        return "own choice: half of LoRA's for A, and 16 times that for B (arXiv 2402.12354)"
    return RATES[method]


def _full_rate(parameters: int, objective: ObjectiveName) -> str:
    if objective == "pretrain":
        return "own choice: half of that for supervised training, to forget less"
    if parameters < SMALL:
        return "own choice: small models bear more than the 2e-5 of larger ones"
    if parameters <= 9e9:
        return "Llama 2 (arXiv 2307.09288), Alpaca 7B, TRL's default: 2e-5"
    return "Alpaca 13B: 1e-5"


def _lora_rate(parameters: int) -> str:
    if parameters < TINY:
        return "own choice: 135M learned a narrow job at 1e-3, the rate of SmolLM2's own recipe"
    if parameters < SMALL:
        return "own choice: between 2e-4 of 7B and 1e-3 of 135M"
    if parameters > LARGE:
        return "QLoRA, arXiv 2305.14314: 1e-4 for 33B and 65B"
    return "QLoRA, arXiv 2305.14314: 2e-4 for 7B and 13B; ten times that of all weights"


def _epochs(method: MethodName, objective: ObjectiveName, rows: int) -> str:
    if METHODS[method].kind == "soft-prompt" and rows < MANY_ROWS:
        return "peft's examples on T5-large: 5"
    if objective == "pretrain":
        return "own choice: every text once"
    if objective == "sft":
        fewer = f"2 from {FEW_ROWS:,} rows on, 1 from {MANY_ROWS:,}"
        return f"own choice within Unsloth's 1 to 3: {fewer}"
    return "own choice: Zephyr's recipes take 1 and 2"


def _warmup(steps: float, objective: ObjectiveName) -> str:
    if objective == "dpo":
        return "Zephyr's recipes: 0.1"
    if steps < SHORT_RUN_STEPS:
        return f"own choice: the 0.1 of alignment-handbook under {SHORT_RUN_STEPS} steps"
    return "QLoRA and Alpaca: 0.03"


def _rank(method: MethodName, objective: ObjectiveName) -> str:
    if method == "vera":
        return "peft's default: 256; the paper takes 1024 for Llama (arXiv 2310.11454, table 9)"
    if method == "rslora":
        return "own choice: 64, for rsLoRA is made for high ranks (arXiv 2312.03732)"
    if objective == "pretrain":
        return "own choice: more to learn wants more rank (arXiv 2405.09673 tries 16, 64, 256)"
    return f"Zephyr's QLoRA recipe: 16; own choice: 32 from {MANY_ROWS:,} rows on"


def _alpha(method: MethodName) -> str:
    if method == "rslora":
        return "own choice: alpha/√r = 2, the scale that LoRA has with alpha = 2 r"
    if method == "pissa":
        return "PiSSA, arXiv 2404.02948: alpha = r"
    if method in ("loha", "lokr"):
        return "peft's default: alpha = r"
    return "Biderman et al., arXiv 2405.09673: alpha = 2 r"
