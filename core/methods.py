"""What can be trained of a model: every method by name, and what each one can and cannot do.

The matrix is what peft 0.21 does with transformers 5 and bitsandbytes 0.50, each cell trained on a
tiny Llama (tests/core/training/test_methods.py): which methods train on a quantised base, and
which can be merged into plain weights afterwards. What is not listed was tried and fails: DoRA and
AdaLoRA on 8 bits, PiSSA on either, LoHa and LoKr on 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

MethodName = Literal[
    "lora",
    "qlora",
    "full",
    "last-layers",
    "lora-8bit",
    "rslora",
    "dora",
    "pissa",
    "lora+",
    "vera",
    "adalora",
    "ia3",
    "oft",
    "loha",
    "lokr",
    "prefix",
    "prompt",
    "p-tuning",
]
Bits = Literal[4, 8, 16]
Kind = Literal["weights", "adapter", "soft-prompt"]
Knob = Literal["rank", "alpha", "dropout", "target_modules", "layers", "virtual_tokens", "lr_ratio"]


@dataclass(frozen=True, slots=True)
class Method:
    """One method. `bits` are the bits of the base's weights it trains on, the usual first (16
    stands for 16 or 32); `knobs` are the keys of a recipe's `method` that mean something to it.

    `kind`: the model's own weights are trained, an adapter beside its linears, or vectors before
    its tokens. `merges`: whether the result can become a plain model; where it cannot, the tuned
    model is the adapter on its base. `rate`: the learning rate where a recipe names none; that
    of LoRA's guides, and of the papers and peft's examples for what moves other numbers.
    """

    name: MethodName
    title: str
    kind: Kind
    about: str
    bits: tuple[Bits, ...]
    merges: bool = True
    rate: float = 2e-4
    knobs: frozenset[Knob] = frozenset()

    @property
    def has_adapter(self) -> bool:
        """Whether what is trained lies beside the base, in adapter/."""
        return self.kind != "weights"

    @property
    def has_own_checkpoints(self) -> bool:
        """Whether a checkpoint holds what is trained and no more: see core.training.trained."""
        return self.name in ("last-layers", "adalora") or self.kind == "soft-prompt"

    @property
    def can_be_split(self) -> bool:
        """Whether several processes can hold the model in parts. Not where the method reads or
        writes single weights by itself, which then are nowhere whole, and not with VeRA's shared
        projections, which are no weights: FSDP cannot deal them out."""
        return not self.has_own_checkpoints and self.name not in ("pissa", "vera")

    @property
    def allows_checkpointing(self) -> bool:
        """Whether activations can be computed twice. A prefix is a cache of keys and values, and
        a layer that is computed again is given none."""
        return self.name != "prefix"


_PLACED: frozenset[Knob] = frozenset({"target_modules"})
_RANKED: frozenset[Knob] = _PLACED | {"rank", "alpha"}
_LORA: frozenset[Knob] = _RANKED | {"dropout"}
_SOFT: frozenset[Knob] = frozenset({"virtual_tokens"})
_ANY_BITS: tuple[Bits, ...] = (16, 8, 4)

_ALL = (
    Method("lora", "LoRA", "adapter", "low-rank updates beside the linears",
           bits=_ANY_BITS, knobs=_LORA),
    Method("qlora", "QLoRA", "adapter", "LoRA on a base in 4 bits (NF4, double quantisation)",
           bits=(4,), knobs=_LORA),
    Method("full", "full fine-tuning", "weights", "every weight of the model",
           bits=(16,), rate=2e-5),
    Method("last-layers", "last layers", "weights", "the last layers alone, the rest frozen",
           bits=(16,), rate=5e-5, knobs=frozenset({"layers"})),
    Method("lora-8bit", "8-bit LoRA", "adapter", "LoRA on a base in 8 bits (LLM.int8)",
           bits=(8,), knobs=_LORA),
    Method("rslora", "rsLoRA", "adapter", "LoRA scaled by alpha/√r, steadier at high rank",
           bits=_ANY_BITS, knobs=_LORA),
    Method("dora", "DoRA", "adapter", "LoRA that learns magnitude and direction apart",
           bits=(16, 4), knobs=_LORA),
    Method("pissa", "PiSSA", "adapter", "LoRA that begins at the weights' largest components",
           bits=(16,), knobs=_LORA),
    Method("lora+", "LoRA+", "adapter", "LoRA whose B matrices learn faster than its A",
           bits=_ANY_BITS, knobs=_LORA | {"lr_ratio"}, rate=1e-4),
    Method("vera", "VeRA", "adapter", "shared random projections, only two vectors a layer learn",
           bits=_ANY_BITS, knobs=_PLACED | {"rank", "dropout"}, rate=4e-3),
    Method("adalora", "AdaLoRA", "adapter", "LoRA that moves its rank to where it helps",
           bits=(16, 4), rate=5e-4, knobs=_LORA),
    Method("ia3", "IA3", "adapter", "three scaling vectors a layer: the fewest parameters",
           bits=_ANY_BITS, rate=3e-3),
    Method("oft", "OFT", "adapter", "rotates the weights, keeping their angles",
           bits=_ANY_BITS, knobs=_PLACED | {"dropout"}),
    Method("loha", "LoHa", "adapter", "Hadamard products of low-rank updates",
           bits=(16, 8), knobs=_LORA),
    Method("lokr", "LoKr", "adapter", "Kronecker products of small updates",
           bits=(16, 8), knobs=_LORA),
    Method("prefix", "prefix tuning", "soft-prompt", "keys and values before every layer's own",
           bits=_ANY_BITS, merges=False, knobs=_SOFT, rate=1e-2),
    Method("prompt", "prompt tuning", "soft-prompt", "vectors before the first token",
           bits=_ANY_BITS, merges=False, knobs=_SOFT, rate=3e-2),
    Method("p-tuning", "P-tuning", "soft-prompt", "vectors before the first token, from a network",
           bits=_ANY_BITS, merges=False, knobs=_SOFT, rate=1e-3),
)  # fmt: skip

METHODS: dict[MethodName, Method] = {method.name: method for method in _ALL}
assert tuple(METHODS) == get_args(MethodName)


def refusal(name: MethodName, bits: Bits | None) -> str | None:
    """Why this method does not train on a base of so many bits; None where it does."""
    method = METHODS[name]
    if bits is None or bits in method.bits:
        return None
    can = " or ".join(f"{each}" for each in method.bits)
    others = ", ".join(other.name for other in _ALL if bits in other.bits)
    return (
        f"{method.title} trains on a base of {can} bits, not of {bits}; leave out method.bits, or "
        f"choose another method.name for {bits} bits ({others})"
    )
